import { pino } from "pino";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { startPayloadSweep } from "../../../src/runtime/hosts/payload-sweep.ts";
import type { Beat, Presence } from "../../../src/runtime/hosts/presence.ts";
import { startRetention } from "../../../src/runtime/hosts/retention.ts";
import { openRunIndex, type RunIndex } from "../../../src/runtime/hosts/run-index.ts";
import { openJournals } from "../../../src/runtime/nats/journal.ts";
import { openPayloadAreas } from "../../../src/runtime/nats/payload-areas.ts";
import { LARGE, openPayloads } from "../../../src/runtime/nats/payloads.ts";
import { eventsOf, finishedRun } from "../../helpers/run-events.ts";
import { type RunBench, startRunBench } from "../../helpers/run-host-bench.ts";
import { until } from "../../helpers/until.ts";

const HOUR_MS = 3_600_000;
const logger = pino({ level: "silent" });
let bench: RunBench;
let index: RunIndex;

beforeAll(async () => {
  bench = await startRunBench();
  index = openRunIndex({ file: ":memory:", bus: bench.bus, subjects: bench.subjects, logger });
  await index.whenCaughtUp();
});
afterEach(() => {
  vi.useRealTimers();
});
afterAll(async () => {
  await index?.close();
  await bench[Symbol.asyncDispose]();
});

const beat = (host: string): Beat => ({
  v: 1,
  host,
  incarnation: host,
  agents: [],
  workflows: [],
  load: { runs: 0, tasks: 0 },
});

/** Only who is alive matters here; everything else of presence is not asked. */
const among = (...hosts: string[]) => ({ living: () => hosts.map(beat) }) as unknown as Presence;

/** A run with a task's journal and a signal, which ended some hours ago unless it is unfinished. */
async function store(hoursAgo: number, { unfinished = false } = {}): Promise<string> {
  const make = eventsOf(undefined, Date.now() - hoursAgo * HOUR_MS);
  const entries = finishedRun(make);
  let last = 0;
  for (const events of unfinished ? entries.slice(0, 1) : entries) {
    const body = Buffer.from(JSON.stringify(events));
    last = await bench.journals.append(bench.subjects.run(make.runId), body, {
      expected: last,
      id: events[0]?.id ?? "",
    });
  }
  await bench.bus.js.publish(bench.subjects.task(make.runId, "write-1"), '{"id":"x"}');
  await bench.bus.js.publish(bench.subjects.signal(make.runId), '{"kind":"cancel"}');
  await until("the index knows the run", () => index.get(make.runId));
  await storeLarge(make.runId);
  return make.runId;
}

/** Two large values of a run. */
async function storeLarge(runId: string): Promise<void> {
  const payloads = openPayloads(bench.bus.objects, bench.subjects);
  const message = { output: "x".repeat(700_000), input: "y".repeat(700_000) };
  const [left] = await payloads.detach([message], {
    what: "it",
    fields: LARGE.outcome,
    bytes: 1_400_040,
    room: 1_000,
    runId,
  });
  expect(left?.refs).toHaveLength(2);
}

/** The names of the objects of all runs. */
async function objects(): Promise<string[]> {
  const { buckets, streams } = bench.subjects;
  const about = `$O.${buckets.payloads}.M.`;
  const { state } = await (await bench.bus.jsm()).streams.info(streams.payloads, { subjects_filter: `${about}*` });
  const tokens = Object.keys(state.subjects ?? {}).map((subject) => subject.slice(about.length));
  return tokens.map((token) => Buffer.from(token, "base64url").toString("utf8"));
}

const hasObjects = async (runId: string) => (await objects()).some((name) => name.startsWith(`${runId}/`));

/** Goes through one round of the slow clock. */
function sweep(incarnation: string, presence: Presence): { stop(): void } {
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
  const retention = startRetention({
    index,
    subjects: bench.subjects,
    runs: bench.journals as never,
    tasks: bench.taskJournals as never,
    signals: openJournals<unknown>(bench.bus, bench.subjects.streams.signals),
    payloads: openPayloadAreas(bench.bus, bench.subjects),
    presence,
    incarnation,
    logger,
    retentionMs: 2 * HOUR_MS,
  });
  vi.advanceTimersByTime(61_000);
  vi.useRealTimers();
  return retention;
}

async function stored(runId: string): Promise<number> {
  const jsm = await bench.bus.jsm();
  const { subjects } = bench;
  let count = 0;
  for (const [stream, subject] of [
    [subjects.streams.runs, subjects.run(runId)],
    [subjects.streams.tasks, subjects.task(runId, "write-1")],
    [subjects.streams.signals, subjects.signal(runId)],
  ] as const) {
    const { state } = await jsm.streams.info(stream, { subjects_filter: subject });
    count += Object.values(state.subjects ?? {}).reduce((sum, messages) => sum + messages, 0);
  }
  return count;
}

test("runs that ended long ago are deleted with all that belongs to them; newer and unfinished ones are not", async () => {
  const old = await store(5);
  const recent = await store(1);
  const unfinished = await store(9, { unfinished: true });
  const retention = sweep("here", among("here"));
  await until("the old one is gone", async () => (await stored(old)) === 0);
  expect(await hasObjects(old)).toBe(false);
  expect((await openPayloadAreas(bench.bus, bench.subjects).list()).has(old)).toBe(false);
  expect(await hasObjects(recent)).toBe(true);
  expect(await hasObjects(unfinished)).toBe(true);
  expect(await stored(recent)).toBe(4);
  expect(await stored(unfinished)).toBe(3);
  expect(index.get(old)).toBeUndefined();
  expect(index.known(old)).toBe(true);
  expect(index.get(recent)).toBeDefined();
  retention.stop();
});

test("of several daemons one deletes a run, and all forget it", async () => {
  const runIds: string[] = [];
  for (let i = 0; i < 8; i += 1) runIds.push(await store(5));
  const first = sweep("a", among("a", "b"));
  await until("all are forgotten here", () => runIds.every((runId) => index.get(runId) === undefined));
  first.stop();
  const left: string[] = [];
  for (const runId of runIds) if ((await stored(runId)) > 0) left.push(runId);
  expect(left.length).toBeGreaterThan(0);
  expect(left.length).toBeLessThan(8);
});

describe("large values that belong to no run", () => {
  function sweepObjects(more: { ageMs?: number; maySweep?: () => boolean } = {}) {
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    const sweeping = startPayloadSweep({
      areas: openPayloadAreas(bench.bus, bench.subjects),
      index,
      presence: among("here"),
      incarnation: "here",
      logger,
      maySweep: () => true,
      ...more,
    });
    vi.advanceTimersByTime(3_600_001);
    vi.useRealTimers();
    return sweeping;
  }

  test("are deleted when they are old; those of a run are not", async () => {
    const orphan = `orphan-${Date.now()}`;
    await storeLarge(orphan);
    const alive = await store(1);
    const sweeping = sweepObjects({ ageMs: 0 });
    await until("they are gone", async () => !(await hasObjects(orphan)));
    expect(await hasObjects(alive)).toBe(true);
    sweeping.stop();
  });

  test("are kept while they are young, and while what is stored cannot be believed", async () => {
    const young = `young-${Date.now()}`;
    await storeLarge(young);
    const old = `old-${Date.now()}`;
    await storeLarge(old);
    const asked: string[] = [];
    const doubting = sweepObjects({ ageMs: 0, maySweep: () => asked.push("may it?") < 0 });
    await until("it was asked", () => asked.length > 0);
    const patient = sweepObjects();
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect([await hasObjects(young), await hasObjects(old)]).toEqual([true, true]);
    doubting.stop();
    patient.stop();
  });
});
