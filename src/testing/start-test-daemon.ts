/**
 * A whole Troupe for one test: a nats-server of its own, a daemon in this process, a client. Real in every part but the
 * model, which you script.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pino from "pino";
import type { Agent } from "../actors/agent.ts";
import type { Model } from "../actors/model.ts";
import type { TroupeConfig } from "../runtime/config/define-config.ts";
import { checkConfig } from "../runtime/config/load-config.ts";
import { resolveOptions } from "../runtime/config/resolve-options.ts";
import { type Client, connect } from "../runtime/edges/client.ts";
import type { Daemon } from "../runtime/edges/daemon.ts";
import { serveConfig } from "../runtime/edges/serve.ts";
import { withPrices } from "../runtime/models/prices.ts";
import type { WorkflowDefinition } from "../workflows/definition.ts";

export type TestDaemonOptions = {
  agents: readonly Agent[];
  workflows: readonly WorkflowDefinition[];
  /** Speaks for every agent, whatever provider it names. */
  model?: Model;
  /** As in `troupe.ts`, where agents shall have models of their own. */
  providers?: NonNullable<TroupeConfig["providers"]>;
  /** As in `troupe.ts`. */
  mcpServers?: NonNullable<TroupeConfig["mcpServers"]>;
  /** What models cost, as in `troupe.ts`; the one in `model` too. */
  prices?: NonNullable<TroupeConfig["prices"]>;
  /** A NATS to use instead of an own server; it keeps what the test wrote. */
  nats?: string;
  /** Options of the daemon. @default as documented, but for a free HTTP port, no log, and a second to drain */
  options?: NonNullable<TroupeConfig["daemon"]>;
};

export type TestDaemon = {
  readonly client: Client;
  readonly daemon: Daemon;
  readonly natsUrl: string;
  /** Stops all of it and removes its files. */
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
};

const QUIET = { httpPort: 0, logLevel: "silent", drainTimeoutMs: 1_000 } as const;

/**
 * Starts agents and workflows for a test. Variables of the environment are not read, and no spans are exported.
 *
 * ```ts
 * const model = new ScriptedModel([say("It is about tea.")]);
 * const troupe = await startTestDaemon({ agents: [writer], workflows: [article], model });
 * try {
 *   expect(await troupe.client.run("article", "tea")).toBe("It is about tea.");
 *   model.assertComplete();
 * } finally {
 *   await troupe.stop();
 * }
 * ```
 *
 * @throws DefinitionError with everything that is wrong; UsageError when there is no nats-server to run.
 */
export async function startTestDaemon(test: TestDaemonOptions): Promise<TestDaemon> {
  const { agents, workflows, model, providers = {}, mcpServers = {}, prices = {}, nats } = test;
  const data = await mkdtemp(join(tmpdir(), "troupe-test-"));
  const discard = () => rm(data, { recursive: true, force: true });
  try {
    const daemon = { ...QUIET, data, ...(nats !== undefined && { nats: [nats] }), ...test.options };
    const config = await checkConfig(
      { agents, workflows, providers, mcpServers, prices, daemon },
      { fileName: "startTestDaemon", dir: process.cwd() },
    );
    const { options } = resolveOptions({ file: config.daemon, fileName: config.fileName });
    const spoken = model && withPrices(model, model.provider, prices);
    const running = await serveConfig({
      config: spoken ? { ...config, modelOf: () => spoken } : config,
      options,
      logger: pino({ level: options.logLevel }),
      telemetry: false,
    });
    const client = await connect({ servers: running.natsUrl, prefix: options.prefix }).catch(async (error: unknown) => {
      await running.drain();
      throw error;
    });
    return assemble(running, client, discard);
  } catch (error) {
    await discard();
    throw error;
  }
}

function assemble(daemon: Daemon, client: Client, discard: () => Promise<void>): TestDaemon {
  const stop = async () => {
    await client.close();
    await daemon.drain();
    await discard();
  };
  return { client, daemon, natsUrl: daemon.natsUrl, stop, [Symbol.asyncDispose]: stop };
}
