import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { noFigures } from "../../soak/figures.ts";
import { type Ledger, openLedger } from "../../soak/ledger.ts";
import { STUCK_SECONDS } from "../../soak/stuck.ts";
import type { TrackedRun } from "../../soak/tracked-run.ts";
import { BEGAN_AT, RUN_ID, rightRun } from "./right-run.ts";

// The oracle's own clock; nothing else runs here.
beforeEach(() => void vi.useFakeTimers({ now: BEGAN_AT }));
afterEach(() => void vi.useRealTimers());

test("a run that has ended is checked once late writers had their chance, and counted", () => {
  const { ledger, figures, problems } = open();
  follow(ledger, rightRun());
  expect(ledger.goingOn()).toBe(0);
  tick(ledger, 8);
  expect(ledger.unchecked()).toBe(1);
  tick(ledger, 8);
  expect(ledger.unchecked()).toBe(0);
  expect(problems).toEqual([]);
  expect(figures).toMatchObject({ runs: { chain: { completed: 1 } }, calls: 3, recorded: 3, repeated: 0 });
});

test("a run that stands still for half a minute without a reason is stuck", () => {
  const { ledger, problems } = open();
  follow(ledger, rightRun(), 2);
  tick(ledger, STUCK_SECONDS - 1);
  expect(problems).toEqual([]);
  tick(ledger, 2);
  expect(problems).toEqual([`${RUN_ID}: stuck, ${STUCK_SECONDS} s without progress`]);
});

test("a run that never got a journal is lost", () => {
  const { ledger, problems } = open();
  ledger.add(rightRun().plan).storedAt = BEGAN_AT;
  tick(ledger, STUCK_SECONDS + 1);
  expect(problems).toEqual([`${RUN_ID}: lost, ${STUCK_SECONDS} s without progress`]);
});

test("a run that waits for its time, or for a system that is not whole, is not stuck", () => {
  const { ledger, problems } = open();
  const run = rightRun();
  const first = run.journal[0]?.value[0];
  const dueAt = new Date(BEGAN_AT + 120_000).toISOString();
  if (first) run.journal[0]?.value.push({ ...first, n: 5, type: "timer.set", data: { id: "retry.one", dueAt } });
  follow(ledger, run, 1);
  tick(ledger, 100);
  tick(ledger, 100, false);
  expect(problems).toEqual([]);
  tick(ledger, STUCK_SECONDS);
  expect(problems).toHaveLength(1);
});

test("whatever comes for a run that is over and checked is a problem", () => {
  const { ledger, problems } = open();
  const run = rightRun();
  follow(ledger, run);
  tick(ledger, 16);
  const [call] = run.calls;
  if (call) ledger.call(call);
  expect(problems).toEqual([`${RUN_ID}: call 1 long after its end`]);
});

function open() {
  const figures = noFigures();
  const problems: string[] = [];
  const onProblem = (problem: string) => void problems.push(problem);
  return { figures, problems, ledger: openLedger({ figures, losses: [], onProblem, onChecked: () => {} }) };
}

/** Tells the ledger of a run as it would hear of it, up to so many entries. */
function follow(ledger: Ledger, run: TrackedRun, entries = run.journal.length): void {
  ledger.add(run.plan).storedAt = BEGAN_AT;
  for (const call of run.calls.slice(0, entries)) ledger.call(call);
  for (const entry of run.journal.slice(0, entries)) ledger.runEntry(entry);
}

function tick(ledger: Ledger, seconds: number, isWhole = true): void {
  for (let i = 0; i < seconds; i += 1) {
    vi.advanceTimersByTime(1_000);
    ledger.tick(isWhole);
  }
}
