/** A daemon of the soak as a process of its own; its parent reads its log and hears over IPC when it is ready. */
import pino from "pino";
import type { Model } from "../src/actors/model.ts";
import type { ToolContext } from "../src/actors/tool.ts";
import { resolveOptions } from "../src/runtime/config/resolve-options.ts";
import { startDaemon } from "../src/runtime/edges/daemon.ts";
import { openaiModel } from "../src/runtime/models/openai.ts";
import { noMetrics } from "../src/tracing/metrics.ts";
import { startTracing } from "../src/tracing/start-tracing.ts";
import { type Asker, keyText } from "./calls.ts";
import type { DaemonReady, DaemonSetup } from "./daemon-process.ts";
import { fleetWith } from "./fleet.ts";
import type { ToolAsk, ToolSays } from "./model-server.ts";

// Its parent is gone: nobody else would end it.
process.on("disconnect", () => process.exit(1));

const setup = JSON.parse(process.argv[2] ?? "") as DaemonSetup;
const { options } = resolveOptions({ flags: { httpPort: 0, ...setup.options } });
const model = withKeys(openaiModel({ baseURL: setup.modelUrl, provider: "soak", timeoutMs: 20_000 }));
const daemon = await startDaemon({
  options,
  ...fleetWith(lookUp),
  modelFor: () => model,
  logger: pino({ level: "debug" }, pino.destination({ dest: 1, sync: true })),
  tracing: await startTracing({ url: setup.otlpUrl }),
  metrics: noMetrics,
  version: "0.0.0",
});

process.on("SIGTERM", () => {
  void daemon.drain().then(() => process.exit(0));
});
process.send?.({ type: "ready", host: daemon.host, incarnation: daemon.incarnation } satisfies DaemonReady);

/** The provider's own client, with the key of the call in the system message. */
function withKeys(inner: Model): Model {
  return {
    ...inner,
    call(request, context) {
      const { runId, taskId, agent, turn } = context;
      const instructions = `${request.instructions}\n${keyText({ ...asker(), runId, taskId, agent, turn })}`;
      return inner.call({ ...request, instructions }, context);
    },
  };
}

function asker(): Asker {
  return { pid: process.pid, begunAt: Date.now() };
}

async function lookUp(topic: string, { runId, taskId, idempotencyKey, signal }: ToolContext): Promise<string> {
  const ask: ToolAsk = { ...asker(), runId, taskId, key: idempotencyKey, topic };
  const response = await fetch(setup.toolUrl, { method: "POST", body: JSON.stringify(ask), signal });
  const { text, failed } = (await response.json()) as ToolSays;
  if (failed) throw new Error(text);
  return text;
}
