import { expect, test } from "vitest";
import { connect } from "../../src/runtime/edges/client.ts";
import type { RunEvent } from "../../src/workflows/run-events.ts";
import { LONG } from "../helpers/long-tests.ts";
import { expectWithin } from "../helpers/measured-bound.ts";
import { byRun, type RawJournals, type Stored } from "../helpers/raw-journals.ts";
import { problemsOfJournal } from "../helpers/run-audit.ts";
import { openStage } from "../helpers/stage.ts";
import { numberedIds, requestRuns, runsEnded } from "../helpers/start-runs.ts";
import { checkTraces } from "../helpers/trace-checker.ts";
import { until } from "../helpers/until.ts";

const MiB = 1_048_576;
const HOUR = 3_600_000;
/** Runs that rest at once, and how much of a daemon's memory all of them may take. */
const RESTING = LONG ? 10_000 : 2_000;
const ROOM = LONG ? 20 * MiB : 8 * MiB;
/** Until the first of them is due: by then all have been accepted. */
const AHEAD_MS = LONG ? 45_000 : 15_000;

/** Asks for a run of `single` that starts at an instant. */
async function schedule({ nc }: RawJournals, runId: string, atMs: number) {
  const request = { input: { topic: runId }, runId, notBefore: new Date(atMs).toISOString() };
  await nc.jetstream().publish("troupe.requests.single", JSON.stringify(request));
}

async function scheduleAll(journals: RawJournals, dueMs: ReadonlyMap<string, number>) {
  const all = [...dueMs];
  for (let i = 0; i < all.length; i += 500) {
    await Promise.all(all.slice(i, i + 500).map(([runId, due]) => schedule(journals, runId, due)));
  }
}

/** Waits until so many runs are in the journals. */
async function accepted({ nc }: RawJournals, count: number) {
  const jsm = await nc.jetstreamManager();
  const runs = async () => (await jsm.streams.info("TROUPE_RUNS")).state.num_subjects ?? 0;
  await until(`${count} runs`, async () => (await runs()) >= count, { withinMs: 120_000 });
}

/** By how much each run's first task was stored after its time, in milliseconds, ascending. */
async function lateness(journals: RawJournals, dueMs: ReadonlyMap<string, number>): Promise<number[]> {
  const runs = byRun(await journals.runs());
  return [...dueMs]
    .map(([runId, due]) => {
      const first = runs.get(runId)?.find(({ value }) => value.some(({ type }) => type === "task.sent"));
      return (first?.at ?? Number.NaN) - due;
    })
    .sort((a, b) => a - b);
}

test(`${RESTING} runs that wait for their time cost a daemon less than ${ROOM / MiB} MiB, and go on within a second of it`, {
  timeout: 300_000,
}, async () => {
  await using stage = await openStage({ logLevel: "warn", model: { delayMs: () => 0 } });
  const { daemon, journals } = stage;
  const warm = numberedIds(500);
  await requestRuns(journals, warm, ["single"]);
  await runsEnded(journals, warm, 60_000);
  const before = await daemon.life.memory();

  const ids = Array.from({ length: RESTING }, (_, i) => `resting-${i}`);
  const start = Date.now() + AHEAD_MS;
  const due = new Map(ids.map((runId, i) => [runId, start + HOUR + i * 1_000]));
  const few = new Map(ids.slice(0, 200).map((runId, i) => [runId, start + i * 50]));
  const together = new Map(ids.slice(200, 1_200).map((runId) => [runId, start + 15_000]));
  await scheduleAll(journals, new Map([...due, ...few, ...together]));
  await accepted(journals, warm.length + ids.length);
  const after = await daemon.life.memory();
  expect(Date.now()).toBeLessThan(start);
  const grown = after.heapUsed + after.external - before.heapUsed - before.external;

  await runsEnded(journals, [...few.keys(), ...together.keys()], 120_000);
  const late = await lateness(journals, few);
  const batch = await lateness(journals, together);
  const p99 = late[Math.ceil(late.length * 0.99) - 1] ?? Number.NaN;
  console.log(
    `${RESTING} runs at rest: ${(grown / MiB).toFixed(1)} MiB (whole process ${((after.rss - before.rss) / MiB).toFixed(1)}); first task after its time: p50 ${ms(late[100])}, p99 ${ms(p99)}; 1,000 at once: the last after ${ms(batch.at(-1))}`,
  );
  expect(grown).toBeLessThan(ROOM);
  expect(late[0]).toBeGreaterThanOrEqual(0);
  expectWithin(1_000, "99 of 100 runs' first tasks", p99);
  const untouched = byRun(await journals.runs()).get(`resting-${RESTING - 1}`);
  expect(untouched).toHaveLength(1);
});

test("runs at rest whose owner is killed or told to stop wake on another daemon in time, their traces begun, and nothing is written for them before", {
  timeout: 120_000,
}, async () => {
  await using stage = await openStage({ daemons: 3, traced: true, model: { delayMs: () => 0 } });
  const { daemons, journals, collector } = stage;
  const runIds = numberedIds(90);
  const start = Date.now() + 20_000;
  const due = new Map(runIds.map((runId, i) => [runId, start + i * 50]));
  await scheduleAll(journals, due);
  await accepted(journals, runIds.length);
  const [killed, stopped, left] = daemons;
  await killed?.kill();
  const toldAt = Date.now();
  stopped?.life.signal("SIGTERM");
  expect(await stopped?.life.exited).toEqual({ code: 0, signal: null });
  const stopMs = Date.now() - toldAt;
  await until("the survivor to keep them", async () => /silent/.test((await left?.log()) ?? ""));
  await until(
    "the root of every run's trace",
    () => new Set(collector.spans.map(({ traceId }) => traceId)).size === 90,
  );
  const owners = new Set([...byRun(await journals.runs()).values()].map(ownerOf));
  expect(owners.size).toBeGreaterThan(1);
  for (const entries of byRun(await journals.runs()).values()) expect(entries).toHaveLength(1);
  expect(Date.now()).toBeLessThan(start);

  await runsEnded(journals, runIds, 60_000);
  const late = await lateness(journals, due);
  console.log(`stopped after ${stopMs} ms; first task after its time: p50 ${ms(late[45])}, last ${ms(late.at(-1))}`);
  expect(late[0]).toBeGreaterThanOrEqual(0);
  expectWithin(1_000, "the last run's first task", late.at(-1) ?? Number.NaN);
  for (const [runId, entries] of byRun(await journals.runs())) {
    expect(problemsOfJournal(runId, entries)).toEqual([]);
    expect(ownerOf(entries)).toBe(left?.life.incarnation);
  }
  await until("whole traces", () => checkTraces(collector.spans, { runIds }).length === 0).catch(() => {});
  expect(checkTraces(collector.spans, { runIds }).slice(0, 20)).toEqual([]);
});

test("a lone daemon that is restarted wakes its runs in time, those at once whose time came while it was away", {
  timeout: 120_000,
}, async () => {
  await using stage = await openStage({ traced: true, model: { delayMs: () => 0 } });
  const { daemon, journals, collector } = stage;
  const start = Date.now() + 10_000;
  const missed = new Map(numberedIds(50).map((runId) => [runId, start]));
  const ahead = new Map(numberedIds(50).map((runId, i) => [`ahead-${runId}`, start + 12_000 + i * 50]));
  await scheduleAll(journals, new Map([...missed, ...ahead]));
  await accepted(journals, 100);
  await daemon.kill();
  await until("their time", () => Date.now() > start + 1_000, { withinMs: 20_000 });
  const { readyAt } = await daemon.start();
  await runsEnded(journals, [...missed.keys()], 30_000);
  const afterReady = (await lateness(journals, missed)).map((late) => late + start - readyAt);
  for (const runId of ahead.keys()) expect(byRun(await journals.runs()).get(runId)).toHaveLength(1);
  await runsEnded(journals, [...ahead.keys()], 60_000);
  const late = await lateness(journals, ahead);
  expectWithin(1_000, "the last run's first task after the daemon was ready", afterReady.at(-1) ?? Number.NaN);
  expect(late[0]).toBeGreaterThanOrEqual(0);
  expectWithin(1_000, "the last run's first task", late.at(-1) ?? Number.NaN);
  const runIds = [...missed.keys(), ...ahead.keys()];
  for (const [runId, entries] of byRun(await journals.runs())) expect(problemsOfJournal(runId, entries)).toEqual([]);
  await until("whole traces", () => checkTraces(collector.spans, { runIds }).length === 0).catch(() => {});
  expect(checkTraces(collector.spans, { runIds }).slice(0, 20)).toEqual([]);
});

test("runs whose time came while their daemon was away wait for room as those of any other day", {
  timeout: 120_000,
}, async () => {
  const maxRuns = 3;
  await using stage = await openStage({ options: { maxRuns }, model: { delayMs: () => 200 } });
  const { daemon, journals } = stage;
  const runIds = numberedIds(24);
  const start = Date.now() + 8_000;
  await scheduleAll(journals, new Map(runIds.map((runId) => [runId, start])));
  await accepted(journals, runIds.length);
  await daemon.kill();
  await until("their time", () => Date.now() > start, { withinMs: 20_000 });
  await daemon.start();
  await runsEnded(journals, runIds, 60_000);
  const marks: { at: number; by: number }[] = [];
  for (const entries of byRun(await journals.runs()).values()) {
    marks.push({ at: entries.find(({ value }) => value.some(({ type }) => type === "task.sent"))?.at ?? 0, by: 1 });
    marks.push({ at: entries.at(-1)?.at ?? 0, by: -1 });
  }
  let atWork = 0;
  const most = Math.max(...marks.sort((a, b) => a.at - b.at || a.by - b.by).map(({ by }) => (atWork += by)));
  expect(most).toBeLessThanOrEqual(maxRuns);
});

test("a run at rest is listed and cancelled as any other, also when its owner is gone", {
  timeout: 60_000,
}, async () => {
  await using stage = await openStage({ daemons: 2, traced: true });
  const { nats, journals, daemons, collector, model } = stage;
  await using client = await connect({ servers: nats.url });
  const runIds = numberedIds(40);
  const notBefore = new Date(Date.now() + HOUR);
  for (const runId of runIds) await schedule(journals, runId, notBefore.getTime());
  await accepted(journals, runIds.length);
  await until("all to be listed", async () => (await client.list({ status: "pending" })).runs.length === 40);
  expect(await client.get("run-1")).toMatchObject({ status: "pending", notBefore: notBefore.toISOString() });

  const cancel = async (some: readonly string[]) => {
    const since = Date.now();
    await Promise.all(some.map((runId) => client.cancel(runId, { reason: "changed my mind" })));
    await runsEnded(journals, some, 10_000);
    return Date.now() - since;
  };
  expectWithin(1_000, "the last of 20 cancelled", await cancel(runIds.slice(0, 20)));
  const [gone, left] = daemons;
  await gone?.kill();
  await until("it to be missed", async () => /silent/.test((await left?.log()) ?? ""));
  expectWithin(1_000, "the last of 20 cancelled", await cancel(runIds.slice(20)));

  for (const [runId, entries] of byRun(await journals.runs())) {
    expect(problemsOfJournal(runId, entries)).toEqual([]);
    expect(entries.at(-1)?.value.at(-1)).toMatchObject({ type: "run.cancelled", data: { reason: "changed my mind" } });
  }
  expect(model.calls).toEqual([]);
  await until("whole traces", () => checkTraces(collector.spans, { runIds }).length === 0).catch(() => {});
  expect(checkTraces(collector.spans, { runIds }).slice(0, 20)).toEqual([]);
});

function ms(time = Number.NaN): string {
  return `${Math.round(time)} ms`;
}

/** The incarnation that claimed a run last. */
function ownerOf(entries: readonly Stored<RunEvent[]>[]): string | undefined {
  const claim = entries.flatMap(({ value }) => value).findLast((event) => event.type === "run.claimed");
  return claim?.type === "run.claimed" ? claim.data.incarnation : undefined;
}
