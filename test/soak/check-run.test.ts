import { expect, test } from "vitest";
import type { ModelCall } from "../../soak/calls.ts";
import { checkRun } from "../../soak/check-run.ts";
import type { TrackedRun } from "../../soak/tracked-run.ts";
import type { RunEvent } from "../../src/workflows/run-events.ts";
import type { Stored } from "../helpers/raw-journals.ts";
import { BEGAN_AT, RUN_ID, rightRun } from "./right-run.ts";

test("a run that went as it should has no problems", () => {
  expect(checkRun(rightRun())).toEqual([]);
});

test("a second terminal event is a problem", () => {
  const run = rightRun();
  const end = lastEvent(run);
  lastEntry(run).value.push({ ...end, n: end.n + 1 });
  expect(checkRun(run)).toContain(`${RUN_ID}: run.completed after run.completed`);
});

test("a run without an end is a problem", () => {
  const run = rightRun();
  lastEntry(run).value.pop();
  expect(checkRun(run).join()).toContain("expected an end, got step.completed");
});

test("a call that is made again after its reply was recorded is a problem", () => {
  const repeated = rightRun();
  repeated.calls.push({ ...firstCall(repeated), n: 9, pid: 7, begunAt: BEGAN_AT + 1_600, state: "aborted" });
  expect(checkRun(repeated).join()).toContain("process 7 made call 9 600 ms after reply 1 was recorded");
  const atOnce = rightRun();
  atOnce.calls.push({ ...firstCall(atOnce), n: 9, begunAt: BEGAN_AT + 1_020, state: "aborted" });
  expect(checkRun(atOnce).join()).toContain("process 1 made call 9 20 ms after reply 1 was recorded");
});

test("one that was in flight is none, nor is one of another process that the news could not have reached", () => {
  const inFlight = rightRun();
  inFlight.calls.push({ ...firstCall(inFlight), n: 9, begunAt: BEGAN_AT + 900, state: "aborted" });
  expect(checkRun(inFlight)).toEqual([]);
  const crossed = rightRun();
  crossed.calls.push({ ...firstCall(crossed), n: 9, pid: 7, begunAt: BEGAN_AT + 1_020, state: "aborted" });
  expect(checkRun(crossed)).toEqual([]);
});

test("a reply on record that nobody gave is a problem, so is one that was given to another call", () => {
  const faulted = rightRun();
  firstCall(faulted).state = "faulted";
  expect(checkRun(faulted)).toEqual([`${RUN_ID}: one-1 turn 1: reply 1 is on record, and its call was faulted`]);
  const swapped = rightRun();
  firstCall(swapped).taskId = "two-1";
  expect(checkRun(swapped)).toContain(`${RUN_ID}: one-1 turn 1: reply 1 is on record, which was for two-1 turn 1`);
});

test("an output that is not what the last task said is a problem", () => {
  const run = rightRun();
  const end = lastEvent(run);
  if (end.type === "run.completed") end.data.output = "critic says #n2# and no more";
  expect(checkRun(run).join()).toContain("expected the output");
});

test("an answer made from other answers than those of the steps before is a problem", () => {
  const run = rightRun();
  run.calls.at(-1)?.saw.answers.push(1);
  expect(checkRun(run).join()).toContain("three-1 turn 1: expected reply 3 to be made from");
});

test("two outcomes of one task are a problem", () => {
  const run = rightRun();
  const [settled] = lastEntry(run).value;
  if (settled) run.journal[2]?.value.push({ ...settled, n: 0 });
  expect(checkRun(run).join()).toContain("three-1: a second outcome");
});

test("a step that begins before the one it comes after has completed is a problem", () => {
  const run = rightRun();
  const entry = run.journal[1] as Stored<RunEvent[]>;
  entry.value = entry.value.filter(({ type }) => type !== "step.completed");
  expect(checkRun(run)).toContain(`${RUN_ID}: step two: started while one is settled`);
});

test("a cancel that nobody asked for is a problem", () => {
  const run = rightRun();
  const entry = lastEntry(run);
  entry.value.pop();
  entry.value.push({ ...lastEvent(rightRun()), type: "run.cancelled", data: {} } as RunEvent);
  expect(checkRun(run).join()).toContain("cancelled, and nobody asked for it");
});

test("work before its time, and work long after the end, is a problem", () => {
  const early = { ...rightRun(), notBefore: new Date(BEGAN_AT + 600).toISOString() };
  expect(checkRun(early).join()).toContain("a model was called 100 ms before notBefore");
  const late = rightRun();
  late.calls.push({ ...firstCall(late), taskId: "four-1", n: 9, pid: 7, begunAt: BEGAN_AT + 6_000, state: "aborted" });
  expect(checkRun(late)).toEqual([`${RUN_ID}: four-1: process 7 made call 9 3000 ms after the run's end`]);
});

test("a result that was told otherwise than the journal has it is a problem", () => {
  const run = rightRun();
  run.told.push({ runId: RUN_ID, status: "completed", output: "critic says #n3# and no more" });
  expect(checkRun(run)).toEqual([]);
  run.told.push({ runId: RUN_ID, status: "failed", error: { code: "timeout" } });
  expect(checkRun(run).join()).toContain("and the journal says");
});

test("a tool that runs again after its result was recorded is a problem", () => {
  const run = rightRun();
  const id = { v: 1, id: "1", at: "", type: "tool", turn: 1, callId: "call_1_0", failed: false } as const;
  const stored = { seq: 1, subject: "", at: BEGAN_AT + 600, value: { ...id, content: "#t1# about fine" } };
  run.tasks.set("one-1", [stored]);
  const made = {
    pid: 1,
    runId: RUN_ID,
    taskId: "one-1",
    key: `${RUN_ID}.one-1.1.call_1_0`,
    at: 0,
    begunAt: BEGAN_AT + 550,
  };
  run.tools.push({ ...made, n: 1, text: "#t1# about fine" });
  expect(checkRun(run)).toEqual([]);
  run.tools.push({ ...made, n: 2, pid: 7, begunAt: BEGAN_AT + 700, text: "#t2# about fine" });
  expect(checkRun(run).join()).toContain("process 7 ran the tool 100 ms after its result was recorded");
});

function lastEntry(run: TrackedRun): Stored<RunEvent[]> {
  return run.journal.at(-1) as Stored<RunEvent[]>;
}

function lastEvent(run: TrackedRun): RunEvent {
  return lastEntry(run).value.at(-1) as RunEvent;
}

function firstCall(run: TrackedRun): ModelCall {
  return run.calls[0] as ModelCall;
}
