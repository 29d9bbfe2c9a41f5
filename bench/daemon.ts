/** One daemon in a process of its own, started as `troupe serve` does it, with one work's definitions. */
import { Session } from "node:inspector/promises";
import { serve } from "../src/runtime/edges/serve.ts";
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

const { nats, data, work, model, modelUrl } = settingsFromParent<DaemonSettings>();
const { agents, workflow } = makeWork(work);
const provider =
  model === "lean" ? { module: "./lean-model.ts", options: { url: modelUrl } } : { baseURL: `${modelUrl}/v1` };
const daemon = await serve(
  {
    agents,
    workflows: [workflow],
    providers: { [PROVIDER]: provider },
    daemon: { nats: [nats], data, httpPort: 0, logLevel: "warn" },
  },
  // What this shell says about daemons is not what is measured.
  { env: {}, dir: import.meta.dirname },
);
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
