/** A daemon as a process of its own; its parent talks to it over IPC. See `daemon-process.ts`. */
import pino from "pino";
import { resolveOptions } from "../../src/runtime/config/resolve-options.ts";
import { startDaemon } from "../../src/runtime/edges/daemon.ts";
import { noMetrics } from "../../src/tracing/metrics.ts";
import { noTracing } from "../../src/tracing/no-tracing.ts";
import { startTracing } from "../../src/tracing/start-tracing.ts";
import type { DaemonAnswer, DaemonQuestion, DaemonSetup } from "./daemon-process.ts";
import { numberedAgents, numberedWorkflowsNamed } from "./numbered-fleet.ts";
import { numberedModel } from "./numbered-model.ts";
import { shiftClock } from "./shift-clock.ts";

// Its parent is gone: nobody else would end it.
process.on("disconnect", () => process.exit(1));
const setup = JSON.parse(process.argv[2] ?? "") as DaemonSetup;
const { options } = resolveOptions({ flags: { httpPort: 0, ...setup.options } });
const model = numberedModel(setup.modelUrl);

const daemon = await startDaemon({
  options,
  agents: setup.bare ? [] : numberedAgents,
  workflows: setup.bare ? [] : numberedWorkflowsNamed(setup.workflows),
  modelFor: () => model,
  logger: pino({ level: setup.logLevel ?? "debug" }, pino.destination({ dest: 1, sync: true })),
  tracing: setup.otlpUrl === undefined ? noTracing : await startTracing({ url: setup.otlpUrl }),
  metrics: noMetrics,
  version: "0.0.0",
});

process.on("SIGTERM", () => {
  void daemon.drain().then(() => process.exit(0));
});
process.on("message", (question: DaemonQuestion) => {
  if (question === "memory") return say({ type: "memory", ...memoryAfterCollection() });
  shiftClock(question.shiftClockMs);
  say({ type: "shifted" });
});
say({ type: "ready", host: daemon.host, incarnation: daemon.incarnation, at: Date.now() });

function say(answer: DaemonAnswer) {
  process.send?.(answer);
}

function memoryAfterCollection() {
  // What a first collection finalizes, a second one frees.
  for (let i = 0; i < 3; i += 1) globalThis.gc?.();
  const { heapUsed, external, rss } = process.memoryUsage();
  return { heapUsed, external, rss };
}
