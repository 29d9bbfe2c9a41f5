import { existsSync, mkdirSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { defineAgent } from "../../../src/actors/define-agent.ts";
import { resolveOptions } from "../../../src/runtime/config/resolve-options.ts";
import { connect } from "../../../src/runtime/edges/client.ts";
import { type DaemonOptions, startDaemon } from "../../../src/runtime/edges/daemon.ts";
import { takeHostSlot } from "../../../src/runtime/hosts/host-slot.ts";
import { findRunningNatsServer } from "../../../src/runtime/nats/server.ts";
import { ScriptedModel, say } from "../../../src/testing/index.ts";
import { noMetrics } from "../../../src/tracing/metrics.ts";
import { noTracing } from "../../../src/tracing/no-tracing.ts";
import { defineWorkflow } from "../../../src/workflows/define-workflow.ts";
import { startTestNats } from "../../helpers/nats-server.ts";
import { until } from "../../helpers/until.ts";

const writer = defineAgent({ name: "writer", instructions: "Write.", model: "m" });
const article = defineWorkflow({ name: "article", agents: [writer] });
const HOST = "here";

let data: string;
let neighbour: Server;
/** A port that somebody else has. */
let takenPort: number;
/** What of the caller's was stopped with the daemon. */
let stopped: string[];

beforeEach(async () => {
  data = await mkdtemp(join(tmpdir(), "troupe-daemon-"));
  stopped = [];
  neighbour = createServer();
  await new Promise<void>((resolve) => neighbour.listen(0, "127.0.0.1", resolve));
  takenPort = (neighbour.address() as AddressInfo).port;
});
afterEach(async () => {
  neighbour.close();
  await rm(data, { recursive: true, force: true });
});

function daemonWith(flags: { [option: string]: unknown } = {}, changes: Partial<DaemonOptions> = {}): DaemonOptions {
  const { options } = resolveOptions({ flags: { data, hostName: HOST, httpPort: 0, ...flags }, env: {} });
  return {
    options,
    agents: [writer],
    workflows: [article],
    modelFor: () => new ScriptedModel([say("It is about tea.")]),
    logger: pino({ level: "silent" }),
    tracing: { ...noTracing, stop: async () => void stopped.push("tracing") },
    metrics: { ...noMetrics, stop: async () => void stopped.push("metrics") },
    version: "1.0.0",
    ...changes,
  };
}

function sockets(): number {
  return process.getActiveResourcesInfo().filter((resource) => resource.startsWith("TCP")).length;
}

/** The folder is free, no server runs on it, no socket is open, and what the caller gave is stopped. */
async function expectNothingLeft(socketsBefore: number) {
  takeHostSlot(data, HOST).release();
  expect(await findRunningNatsServer(join(data, "nats"))).toBeUndefined();
  await until("every socket is closed", () => sockets() <= socketsBefore);
  expect(stopped.sort()).toEqual(["metrics", "tracing"]);
}

describe("a daemon that cannot start leaves nothing running", () => {
  test.each([
    ["its HTTP port is taken", () => daemonWith({ httpPort: takenPort }), /--http-port: expected a free port/],
    ["its credentials are missing", () => daemonWith({ creds: join(data, "none.creds") }), /none\.creds/],
    ["its index cannot be opened", withoutIndex, /unable to open database/],
    ["its API is refused", () => daemonWith({}, { version: "one" }), /semver|version/i],
  ])("when %s", async (_, options, problem) => {
    const before = sockets();
    await expect(startDaemon(options())).rejects.toThrow(problem);
    await expectNothingLeft(before);
  });

  function withoutIndex(): DaemonOptions {
    mkdirSync(join(data, "hosts", HOST, "index.sqlite"), { recursive: true });
    return daemonWith();
  }

  test("nor a connection to a broker that goes on, nor a beat on it", async () => {
    await using nats = await startTestNats();
    const before = sockets();
    await expect(startDaemon(daemonWith({ nats: [nats.url] }, { version: "one" }))).rejects.toThrow();
    await expectNothingLeft(before);
  });

  test("and the next one on its folder works", async () => {
    await expect(startDaemon(daemonWith({}, { version: "one" }))).rejects.toThrow();
    await using daemon = await startDaemon(daemonWith());
    await using client = await connect({ servers: daemon.natsUrl });
    expect(await client.run("article", "tea")).toBe("It is about tea.");
  });
});

test("an agent to host that is not defined is said before anything is made", async () => {
  const unused = join(data, "unused");
  const failure = startDaemon(daemonWith({ agents: ["writer", "wirter"], data: unused }));
  await expect(failure).rejects.toThrow("agents: expected names of defined agents (writer), got wirter");
  expect(existsSync(unused)).toBe(false);
  expect(stopped.sort()).toEqual(["metrics", "tracing"]);
});

test("a daemon is refused the folder of one that runs under its name, and that one runs on", async () => {
  await using first = await startDaemon(daemonWith());
  const before = sockets();
  await expect(startDaemon(daemonWith())).rejects.toThrow(/another daemon named here is running on this folder/);
  await until("every socket is closed", () => sockets() <= before);
  await using client = await connect({ servers: first.natsUrl });
  expect(await client.run("article", "tea")).toBe("It is about tea.");
});

test("a drained daemon leaves nothing running either, whoever asks how often", async () => {
  const before = sockets();
  const daemon = await startDaemon(daemonWith());
  expect((await fetch(`${daemon.httpUrl}/readyz`, { headers: { connection: "close" } })).status).toBe(200);
  await Promise.all([daemon.drain(), daemon.drain()]);
  await expectNothingLeft(before);
});
