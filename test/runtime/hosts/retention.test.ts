import { mkdtemp, open as openFile, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { startPayloadSweep } from "../../../src/runtime/hosts/payload-sweep.ts";
import { type Beat, chooseOwner, type Presence } from "../../../src/runtime/hosts/presence.ts";
import { type RetentionOptions, startRetention } from "../../../src/runtime/hosts/retention.ts";
import { openRunIndex, type RunIndex } from "../../../src/runtime/hosts/run-index.ts";
import { openJournals } from "../../../src/runtime/nats/journal.ts";
import { openNewest } from "../../../src/runtime/nats/newest.ts";
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
  tools: [],
  workflows: [],
  load: { runs: 0, tasks: 0 },
});

/** Only who is alive matters here; everything else of presence is not asked. */
const among = (...hosts: string[]) => ({ living: () => hosts.map(beat) }) as unknown as Presence;

type StoreOptions = { unfinished?: boolean; bytes?: number; tookHours?: number; large?: boolean };

/** A run with a task's journal, a signal, a snapshot and a log, which ended some hours ago unless it is unfinished. */
async function store(hoursAgo: number, options: StoreOptions = {}) {
  const { unfinished = false, bytes = 4, tookHours = 0, large = false } = options;
  const make = eventsOf(undefined, Date.now() - hoursAgo * HOUR_MS);
  const entries = finishedRun(make, "x".repeat(bytes));
  for (const event of entries[0] ?? []) event.at = new Date(Date.parse(event.at) - tookHours * HOUR_MS).toISOString();
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
  await bench.bus.js.publish(bench.subjects.snapshot(make.runId), "x");
  await bench.bus.js.publish(bench.subjects.log(make.runId), "{}");
  await until("the index knows the run", () => index.get(make.runId));
  if (large) await storeLarge(make.runId);
  return make.runId;
}

/** Overwrites all of a database but its beginning, as a disk that fails does. */
async function rot(file: string): Promise<void> {
  const { size } = await stat(file);
  await using handle = await openFile(file, "r+");
  await handle.write(Buffer.alloc(size - 8_192, "rot"), 0, size - 8_192, 8_192);
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
function sweep(incarnation: string, presence: Presence, more: Partial<RetentionOptions> = {}): { stop(): void } {
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
  const retention = startRetention({
    bus: bench.bus,
    index,
    subjects: bench.subjects,
    runs: bench.journals as never,
    tasks: bench.taskJournals as never,
    signals: openJournals<unknown>(bench.bus, bench.subjects.streams.signals),
    payloads: openPayloadAreas(bench.bus, bench.subjects),
    snapshots: openNewest(bench.bus, bench.subjects.streams.snapshots),
    logs: openNewest(bench.bus, bench.subjects.streams.logs),
    presence,
    incarnation,
    logger,
    retentionMs: 2 * HOUR_MS,
    retentionBytes: Number.MAX_SAFE_INTEGER,
    ...more,
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
    [subjects.streams.snapshots, subjects.snapshot(runId)],
    [subjects.streams.logs, subjects.log(runId)],
  ] as const) {
    const { state } = await jsm.streams.info(stream, { subjects_filter: subject });
    count += Object.values(state.subjects ?? {}).reduce((sum, messages) => sum + messages, 0);
  }
  return count;
}

test("runs that ended long ago are deleted with all that belongs to them; newer and unfinished ones are not", async () => {
  const old = await store(5, { large: true });
  const recent = await store(1, { large: true });
  const unfinished = await store(9, { unfinished: true, large: true });
  const retention = sweep("here", among("here"));
  await until("the old one is gone", async () => (await stored(old)) === 0);
  expect(await hasObjects(old)).toBe(false);
  expect((await openPayloadAreas(bench.bus, bench.subjects).list()).has(old)).toBe(false);
  expect(await hasObjects(recent)).toBe(true);
  expect(await hasObjects(unfinished)).toBe(true);
  expect(await stored(recent)).toBe(6);
  expect(await stored(unfinished)).toBe(5);
  expect(index.get(old)).toBeUndefined();
  expect(index.known(old)).toBe(true);
  expect(index.get(recent)).toBeDefined();
  retention.stop();
});

test("of several daemons one deletes a run, and all forget it", async () => {
  const presence = among("a", "b");
  const owners = new Map<string, string | undefined>();
  // Until each of the two has some to delete.
  while (owners.size < 4 || new Set(owners.values()).size < 2) {
    const runId = await store(5);
    owners.set(runId, chooseOwner(runId, presence.living())?.host);
  }
  const first = sweep("a", presence);
  await until("all are forgotten here", () => [...owners.keys()].every((runId) => index.get(runId) === undefined));
  first.stop();
  for (const [runId, owner] of owners) expect(await stored(runId)).toBe(owner === "a" ? 0 : 6);
});

describe("runs that take more room than they may", () => {
  const KEPT_MS = 100 * HOUR_MS;
  let own: RunBench;

  // A broker without the runs of other tests: all of them count.
  beforeEach(async () => {
    own = await startRunBench();
    [bench, own] = [own, bench];
    await index.close();
    index = openRunIndex({ file: ":memory:", bus: bench.bus, subjects: bench.subjects, logger });
    await index.whenCaughtUp();
  });
  afterEach(async () => {
    await index.close();
    [bench, own] = [own, bench];
    await own[Symbol.asyncDispose]();
    index = openRunIndex({ file: ":memory:", bus: bench.bus, subjects: bench.subjects, logger });
  });

  const held = async () => {
    const jsm = await bench.bus.jsm();
    const { runs, tasks, signals, snapshots, logs, payloads } = bench.subjects.streams;
    const infos = await Promise.all(
      [runs, tasks, signals, snapshots, logs, payloads].map((name) => jsm.streams.info(name)),
    );
    return infos.reduce((sum, { state }) => sum + state.bytes, 0);
  };

  test("are deleted until they fit, those first that ended first, and none that has not ended or has just", async () => {
    const unfinished = await store(90, { unfinished: true, bytes: 50_000 });
    const late = await store(1, { bytes: 50_000, tookHours: 80 });
    const old: string[] = [];
    for (let age = 30; age > 5; age -= 1) old.push(await store(age, { bytes: 50_000, large: age > 28 }));
    const fresh = await store(0, { bytes: 50_000 });
    const retentionBytes = 600_000;
    const retention = sweep("here", among("here"), { retentionMs: KEPT_MS, retentionBytes });
    await until("room", async () => (await held()) <= retentionBytes);
    retention.stop();
    const left: string[] = [];
    for (const runId of old) if ((await stored(runId)) > 0) left.push(runId);
    // The last ones, and not many fewer than there is room for.
    expect(left).toEqual(old.slice(old.length - left.length));
    expect(await held()).toBeGreaterThan(0);
    expect(left.length).toBeLessThan(old.length - 10);
    for (const runId of [late, fresh]) expect(await stored(runId)).toBe(6);
    expect(await stored(unfinished)).toBe(5);
    for (const runId of old) expect(index.get(runId) === undefined).toBe(!left.includes(runId));
  });

  test("are left alone while they fit", async () => {
    const runIds = [await store(30), await store(20)];
    const retentionBytes = (await held()) + 1;
    let measured = 0;
    const bus = {
      ...bench.bus,
      jsm() {
        measured += 1;
        return bench.bus.jsm();
      },
    };
    const retention = sweep("here", among("here"), { bus, retentionMs: KEPT_MS, retentionBytes });
    await until("a look at what is held", () => measured > 0);
    // What it asked before is answered before.
    await held();
    retention.stop();
    for (const runId of runIds) expect(await stored(runId)).toBe(6);
  });

  test("are deleted by one daemon, and forgotten by the others once they are gone", async () => {
    const runIds: string[] = [];
    for (let age = 30; age > 20; age -= 1) runIds.push(await store(age, { bytes: 20_000 }));
    const left = await store(3);
    const presence = among("a", "b", "c");
    const [chosen = ""] = ["a", "b", "c"].filter(
      (name) => chooseOwner("retention.bytes", presence.living())?.host === name,
    );
    const [other = ""] = ["a", "b", "c"].filter((name) => name !== chosen);
    const limits = { retentionMs: KEPT_MS, retentionBytes: 20_000 };
    // An index of its own, as every daemon has.
    await using theirs = openRunIndex({ file: ":memory:", bus: bench.bus, subjects: bench.subjects, logger });
    await theirs.whenCaughtUp();
    const idle = sweep(other, presence, { ...limits, index: theirs });
    const busy = sweep(chosen, presence, limits);
    await until("they are gone", async () => (await held()) <= 20_000);
    busy.stop();
    idle.stop();
    const late = sweep(other, presence, { ...limits, index: theirs });
    await until("they are forgotten there", () => runIds.every((runId) => theirs.get(runId) === undefined));
    late.stop();
    expect(runIds.every((runId) => theirs.known(runId))).toBe(true);
    expect(await stored(left)).toBe(6);
    expect(theirs.get(left)).toBeDefined();
  });

  test("that have not ended are said once, and kept", async () => {
    const runIds = [await store(30, { unfinished: true }), await store(20, { unfinished: true })];
    const warnings: string[] = [];
    const heard = pino({ level: "warn" }, { write: (line: string) => void warnings.push(JSON.parse(line).msg) });
    const retention = sweep("here", among("here"), { retentionMs: KEPT_MS, retentionBytes: 1, logger: heard });
    await until("a word about it", () => warnings.length > 0);
    retention.stop();
    expect(warnings).toEqual(["runs that have not ended take more than retentionBytes; nothing is left to delete"]);
    for (const runId of runIds) expect(await stored(runId)).toBe(5);
  });
});

describe("large values that belong to no run", () => {
  function sweepObjects(more: { ageMs?: number; maySweep?: () => boolean; index?: RunIndex } = {}) {
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
    const alive = await store(1, { large: true });
    const sweeping = sweepObjects({ ageMs: 0 });
    await until("they are gone", async () => !(await hasObjects(orphan)));
    expect(await hasObjects(alive)).toBe(true);
    sweeping.stop();
  });

  test("are kept where the index turns out to be damaged by being asked: it knows no run any more", async () => {
    // So many that the index is still being built again when the run is looked for.
    for (const runId of Array.from({ length: 3_000 }, (_, i) => `before-${i}`)) {
      bench.bus.nc.publish(bench.subjects.run(runId), JSON.stringify(finishedRun(eventsOf(runId)).flat()));
    }
    const alive = await store(1, { large: true });
    const file = join(await mkdtemp(join(tmpdir(), "troupe-sweep-")), "index.db");
    const words: string[] = [];
    const heard = pino({ level: "warn" }, { write: (line: string) => void words.push(JSON.parse(line).msg) });
    const reopen = () => openRunIndex({ file, bus: bench.bus, subjects: bench.subjects, logger: heard });
    const first = reopen();
    await until("all are indexed", () => first.get(alive));
    await first.close();
    await using rotten = reopen();
    await rotten.whenCaughtUp();
    await rot(file);
    const areas = openPayloadAreas(bench.bus, bench.subjects);
    const before = await areas.list();
    const sweeping = sweepObjects({ ageMs: 0, index: rotten });
    await until("it is found out", () => words.length > 0);
    await until("it is built again", () => rotten.caughtUp() && rotten.get(alive));
    expect(words).toEqual(["the run index is damaged; building it again"]);
    expect(before).toContain(alive);
    expect(await areas.list()).toEqual(before);
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
