/** One daemon in a process of its own, put together as `troupe serve` does it, with one work's definitions. */
import { Session } from "node:inspector/promises";
import { pino } from "pino";
import { resolveOptions } from "../src/runtime/config/resolve-options.ts";
import { startDaemon } from "../src/runtime/edges/daemon.ts";
import { openProviders } from "../src/runtime/models/providers.ts";
import { startMetrics } from "../src/tracing/start-metrics.ts";
import { startTracing } from "../src/tracing/start-tracing.ts";
import { answerParent, settingsFromParent } from "./answer-parent.ts";
import type { ModelName, WorkName } from "./cases.ts";
import type { CpuProfile } from "./read-profile.ts";
import { makeWork, PROVIDER } from "./works.ts";

export type DaemonSettings = {
  nats: string;
  /** Where it keeps its index. */
  data: string;
  work: WorkName;
  model: ModelName;
  modelUrl: string;
};

// A sample each 0.2 ms shows functions of a few microseconds in a window of seconds, and costs a few per cent.
const SAMPLE_US = 200;

const settings = settingsFromParent<DaemonSettings>();
const { agents, workflow } = makeWork(settings.work);
const { options } = resolveOptions({
  file: { nats: settings.nats, data: settings.data, httpPort: 0, logLevel: "warn" },
});
const logger = pino({ level: options.logLevel }, pino.destination(2));
const metrics = startMetrics();
const modelOf = await openProviders(
  {
    [PROVIDER]:
      settings.model === "lean"
        ? { module: "./lean-model.ts", options: { url: settings.modelUrl } }
        : { baseURL: `${settings.modelUrl}/v1` },
  },
  { directory: import.meta.dirname },
);
const daemon = await startDaemon({
  options,
  agents,
  workflows: [workflow],
  modelFor: modelOf,
  logger,
  tracing: startTracing({ logger, onDropped: (spans) => metrics.spansDropped(spans) }),
  metrics,
  version: "0.0.0",
});
const session = new Session();
answerParent({ host: daemon.host }, { stop: () => daemon.drain(), startProfile, stopProfile });

async function startProfile(): Promise<void> {
  session.connect();
  await session.post("Profiler.enable");
  await session.post("Profiler.setSamplingInterval", { interval: SAMPLE_US });
  await session.post("Profiler.start");
}

async function stopProfile(): Promise<CpuProfile> {
  const { profile } = await session.post("Profiler.stop");
  session.disconnect();
  return profile as CpuProfile;
}
