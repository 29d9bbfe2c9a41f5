import { expect, test } from "vitest";
import { afterBroker, afterLeaving } from "../../bench/recovery-times.ts";
import type { RunEvent } from "../../src/workflows/run-events.ts";
import type { NumberedCall } from "../helpers/numbered-model-server.ts";
import type { Stored } from "../helpers/raw-journals.ts";

const KILLED = { at: 1_000, incarnation: "dead", pid: 7 };

/** Entries of one run, by when they were stored. */
function journal(runId: string, entries: { [at: number]: object[] }): Stored<RunEvent[]>[] {
  return Object.entries(entries).map(([at, value], seq) => ({
    seq,
    subject: `troupe.runs.${runId}`,
    at: Number(at),
    value: value as RunEvent[],
  }));
}

const claimedBy = (incarnation: string) => ({ type: "run.claimed", data: { incarnation } });
const sent = (taskId: string, lost?: object) => ({ type: "task.sent", data: { taskId, ...(lost && { lost }) } });
const settled = (taskId: string) => ({ type: "task.settled", data: { taskId } });
const call = (runId: string, taskId: string, more: Partial<NumberedCall>): NumberedCall => ({
  ...{ n: 1, runId, taskId, agent: "a", turn: 1, pid: 7, at: 500, state: "open" },
  ...more,
});
const msOf = (still: { runId: string; ms: number }[]) => Object.fromEntries(still.map(({ runId, ms }) => [runId, ms]));

test("a run of a lost daemon stands still until its claim and its lost tasks are on record, whichever is later", () => {
  const runs = [
    ...journal("owned", { 100: [claimedBy("dead"), sent("t")], 3000: [claimedBy("b")] }),
    ...journal("both", { 100: [claimedBy("dead"), sent("t")], 3000: [claimedBy("b")], 3200: [sent("t", {})] }),
    ...journal("worked", { 100: [claimedBy("b"), sent("t")], 2900: [sent("t", {})] }),
    ...journal("other", { 100: [claimedBy("b"), sent("t")], 2000: [settled("t")] }),
    ...journal("over", { 100: [claimedBy("dead"), { type: "run.completed", data: {} }] }),
  ];
  expect(msOf(afterLeaving(KILLED, runs, []))).toEqual({ owned: 2_000, both: 2_200, worked: 1_900 });
  expect(msOf(afterLeaving({ ...KILLED, from: 2_800 }, runs, []))).toEqual({ owned: 200, both: 400, worked: 100 });
});

test("a task that was in the hands of a lost daemon and is never sent again stands still for ever, one that was settled does not", () => {
  const runs = [
    ...journal("left", { 100: [claimedBy("b"), sent("t")] }),
    ...journal("settled", { 100: [claimedBy("b"), sent("t")], 1010: [settled("t")] }),
  ];
  expect(msOf(afterLeaving(KILLED, runs, [call("left", "t", {}), call("settled", "t", {})]))).toEqual({
    left: Number.POSITIVE_INFINITY,
  });
});

test("an answer that came while the broker was away waits from its return, a later one from itself", () => {
  const answered = (runId: string, endedAt: number) => call(runId, "t", { state: "answered", endedAt });
  const entries = [...journal("away", { 3100: [settled("t")] }), ...journal("later", { 3900: [settled("t")] })];
  const calls = [
    answered("away", 2_000),
    answered("later", 3_600),
    answered("before", 500),
    answered("long after", 9_000),
  ];
  expect(msOf(afterBroker({ goneAt: 1_000, backAt: 3_000, soonMs: 3_000 }, entries, calls))).toEqual({
    away: 100,
    later: 300,
  });
});
