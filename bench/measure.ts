/** Measures one case, on a broker and daemons of its own. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Bus, connectBus } from "../src/runtime/nats/connection.ts";
import { startNatsServer } from "../src/runtime/nats/server.ts";
import { subjectsFor } from "../src/runtime/subjects.ts";
import type { Case } from "./cases.ts";
import { type CleanUp, withCleanUp } from "./clean-up.ts";
import type { DaemonSettings } from "./daemon.ts";
import { measureFloor } from "./floor.ts";
import { type Load, openLoad } from "./load.ts";
import { machineTime, processorTimeOf } from "./processor-time.ts";
import type { CpuProfile } from "./read-profile.ts";
import { type BenchProcess, startProcess } from "./start-process.ts";
import { storedIn, storedPer } from "./stored.ts";

export type Effort = {
  /** How long the load lasts, after the warm-up. @default 5 */
  seconds: number;
  /** @default 2 */
  warmUpSeconds: number;
  /** Runs one at a time. @default 200 */
  single: number;
  /** Runs at once under load. @default 64 */
  inFlight: number;
  /** Whether the first daemon is profiled under load, which slows it down. @default false */
  profile: boolean;
};

export type Measured = Case & {
  /** One run at a time, in milliseconds. */
  p50Ms: number;
  p99Ms: number;
  /** With `inFlight` runs at once. */
  runsPerSecond: number;
  /** What JetStream does when asked only to store as much. */
  floorRunsPerSecond: number;
  /** `runsPerSecond` as a part of the floor. */
  ofFloor: number;
  /** Processor time of one run under load, in milliseconds; the broker's is absent where it cannot be read. */
  cpuMsPerRun: { daemons: number; broker?: number; modelServer: number; client: number };
  /** The most memory one daemon held, in MB. */
  peakMb: number;
  /** What a finished run leaves in the streams of journals. */
  storedPerRun: { messages: number; bytes: number };
  /** Spans the collector got for each run; absent with telemetry off. */
  spansPerRun?: number;
  /** The part of the machine's processors that other programs took under load, from 0 to 1; absent where it cannot be told. */
  otherLoad?: number;
  profile?: CpuProfile;
};

export const USUAL_EFFORT: Effort = { seconds: 5, warmUpSeconds: 2, single: 200, inFlight: 64, profile: false };

// What a run stores for good goes to these; its request is stored as well, and gone when the run is there.
const MESSAGES_OF_REQUEST = 1;
// The collector gets spans in batches, twice a second.
const SPANS_WITHIN_MS = 1_500;

type Parts = {
  bus: Bus;
  load: Load;
  daemons: BenchProcess[];
  model: BenchProcess<{ url: string }>;
  sink: BenchProcess<{ url: string }> | undefined;
  brokerPid: number;
  streams: string[];
};

/** Measures a case; everything it starts is gone afterwards. */
export function measure(one: Case, effort: Effort): Promise<Measured> {
  return withCleanUp(async (cleanUp) => measureParts(one, effort, await startParts(one, cleanUp)));
}

async function measureParts(one: Case, effort: Effort, parts: Parts): Promise<Measured> {
  const { bus, load, daemons, sink, streams } = parts;
  await load.run();
  await load.keepUp(effort.inFlight, sleep(effort.warmUpSeconds * 1_000));
  const before = { stored: await storedIn(bus, streams), runs: load.ended() };
  const underLoad = await measureLoad(parts, effort);
  const singles = [];
  for (let i = 0; i < effort.single; i += 1) singles.push(await load.run());
  singles.sort((a, b) => a - b);
  const storedPerRun = storedPer(before.stored, await storedIn(bus, streams), load.ended() - before.runs);
  const usages = await Promise.all(daemons.map((daemon) => daemon.usage()));
  const spansPerRun = sink && (await countSpans(sink)) / load.ended();
  // The floor is of the broker alone.
  await Promise.all(daemons.map((daemon) => daemon.stop()));
  const perRun = { ...storedPerRun, messages: storedPerRun.messages + MESSAGES_OF_REQUEST };
  perRun.bytes *= perRun.messages / storedPerRun.messages;
  const floorRunsPerSecond = await measureFloor(bus, { ...effort, perRun, seconds: Math.min(effort.seconds, 3) });
  return {
    ...one,
    p50Ms: percentile(singles, 0.5),
    p99Ms: percentile(singles, 0.99),
    ...underLoad,
    floorRunsPerSecond,
    ofFloor: underLoad.runsPerSecond / floorRunsPerSecond,
    peakMb: Math.max(...usages.map(({ peakMb }) => peakMb)),
    storedPerRun,
    ...(spansPerRun !== undefined && { spansPerRun }),
  };
}

async function startParts({ work, model: name, telemetry, daemons: count }: Case, { after }: CleanUp) {
  const dir = after(mkdtempSync(join(tmpdir(), "troupe-bench-")), remove);
  // Also when the benchmark is interrupted.
  const removeAtExit = () => remove(dir);
  process.once("exit", removeAtExit);
  after(removeAtExit, () => process.off("exit", removeAtExit));
  const stop = (part: { stop(): unknown }) => part.stop();
  const broker = after(await startNatsServer({ storeDir: join(dir, "nats") }), stop);
  const model = after(await startProcess<{ url: string }>("model-server.ts", {}), stop);
  const sink = telemetry ? after(await startProcess<{ url: string }>("span-sink.ts", {}), stop) : undefined;
  const env = {
    ...withoutTelemetryVariables(),
    ...(sink ? { OTEL_EXPORTER_OTLP_ENDPOINT: sink.ready.url } : { OTEL_SDK_DISABLED: "true" }),
  };
  const daemons: BenchProcess[] = [];
  for (let i = 0; i < count; i += 1) {
    const data = join(dir, `daemon-${i}`);
    const settings: DaemonSettings = { nats: broker.url, data, work, model: name, modelUrl: model.ready.url };
    daemons.push(after(await startProcess("daemon.ts", settings, { env }), stop));
  }
  const servers = { servers: broker.url, name: "bench", inboxPrefix: "_INBOX_bench" };
  const bus = after(await connectBus(servers), (opened) => opened.close());
  const subjects = subjectsFor();
  const load = after(openLoad(bus, subjects, work), stop);
  const streams = [subjects.streams.runs, subjects.streams.tasks];
  return { bus, load, daemons, model, sink, brokerPid: broker.pid, streams } satisfies Parts;
}

function remove(dir: string): void {
  rmSync(dir, { recursive: true, force: true });
}

/** What this shell says about telemetry is not what is measured. */
function withoutTelemetryVariables(): { [variable: string]: undefined } {
  const names = Object.keys(process.env).filter((name) => name.startsWith("OTEL_"));
  return Object.fromEntries(names.map((name) => [name, undefined]));
}

async function measureLoad(parts: Parts, { inFlight, seconds, profile }: Effort) {
  const { load, daemons } = parts;
  const [first] = daemons;
  const over = Promise.withResolvers<void>();
  const loading = load.keepUp(inFlight, over.promise);
  if (profile) await first?.ask("startProfile");
  const before = await look(parts);
  await Promise.race([sleep(seconds * 1_000), loading]);
  const after = await look(parts);
  const taken = profile ? await first?.ask<CpuProfile>("stopProfile") : undefined;
  over.resolve();
  await loading;
  const runs = after.runs - before.runs;
  const per = (key: "daemons" | "modelServer" | "client") => (after[key] - before[key]) / runs;
  const broker = difference(after.broker, before.broker);
  const ours = broker === undefined ? undefined : broker + sum(after) - sum(before);
  const machine = { busy: after.busyMs - before.busyMs, total: after.totalMs - before.totalMs };
  return {
    runsPerSecond: runs / ((after.at - before.at) / 1_000),
    cpuMsPerRun: {
      daemons: per("daemons"),
      ...(broker !== undefined && { broker: broker / runs }),
      modelServer: per("modelServer"),
      client: per("client"),
    },
    ...(ours !== undefined && machine.total > 0 && { otherLoad: Math.max(0, (machine.busy - ours) / machine.total) }),
    ...(taken && { profile: taken }),
  };
}

type Look = Awaited<ReturnType<typeof look>>;

async function look({ load, daemons, model, sink, brokerPid }: Parts) {
  const cpuOf = async (some: readonly BenchProcess[]) =>
    (await Promise.all(some.map((each) => each.usage()))).reduce((total, { cpuMs }) => total + cpuMs, 0);
  const [ofDaemons, modelServer, sinkMs] = await Promise.all([
    cpuOf(daemons),
    cpuOf([model]),
    cpuOf(sink ? [sink] : []),
  ]);
  const { user, system } = process.cpuUsage();
  return {
    at: performance.now(),
    runs: load.ended(),
    daemons: ofDaemons,
    modelServer,
    sink: sinkMs,
    client: (user + system) / 1_000,
    broker: processorTimeOf(brokerPid),
    ...machineTime(),
  };
}

function sum({ daemons, modelServer, sink, client }: Look): number {
  return daemons + modelServer + sink + client;
}

function difference(after: number | undefined, before: number | undefined): number | undefined {
  return after === undefined || before === undefined ? undefined : after - before;
}

/** The spans the collector got, once no more come. */
async function countSpans(sink: BenchProcess): Promise<number> {
  for (let last = -1; ; await sleep(SPANS_WITHIN_MS)) {
    const spans = await sink.ask<number>("spans");
    if (spans === last) return spans;
    last = spans;
  }
}

/** The value that a part of sorted values does not exceed. */
function percentile(sorted: readonly number[], part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * part) - 1)] ?? Number.NaN;
}
