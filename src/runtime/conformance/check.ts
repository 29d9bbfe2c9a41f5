/** What a check is, and what all of them use. */
import { checkOutcome } from "../../actors/check-outcome.ts";
import type { OutcomeMessage } from "../../actors/task.ts";
import { isReferred } from "../../actors/value-ref.ts";
import type { Bus } from "../nats/connection.ts";
import type { Subjects } from "../subjects.ts";
import { CheckFailure } from "./check-failure.ts";
import { type Given, type Heard, isOutcome, type Place, type Receipt, wordsOf } from "./probe-owner.ts";

/** One thing the contract asks of a worker. */
export type Check = {
  id: string;
  /** What is expected, as a sentence about the worker. */
  sentence: string;
  /** Where `docs/protocol.md` says so: a heading, and the words under it. */
  place: { heading: string; says: string };
  /** @throws CheckFailure */
  run(bench: CheckBench): Promise<Passed>;
};

/** A check that has nothing more to say; one that could not be made, and why; one that has a last look when it has been quiet. */
export type Passed = undefined | { skipped: string } | { afterwards: () => void };

export type ConformanceInputs = {
  /** A piece of work the agent can do. */
  input: unknown;
  /** One that keeps it busy for some seconds. */
  slowInput?: unknown;
  /** One that makes it hand over. */
  handoffInput?: unknown;
};

/** How long things may take, in milliseconds. */
export type ConformanceLimits = {
  /** Until a task is accepted. @default 1000 */
  acceptMs: number;
  /** Between signs of life of a task at work. @default 15000 */
  silenceMs: number;
  /** Until a task has its outcome, also the slow one. @default 60000 */
  outcomeMs: number;
  /** Until a cancelled task has its outcome. @default 10000 */
  cancelMs: number;
  /** How long is listened for what must not be said; outcomes without a receipt come again within it. @default 4000 */
  quietMs: number;
};

export type CheckBench = {
  bus: Bus;
  subjects: Subjects;
  agent: string;
  inputs: ConformanceInputs;
  limits: ConformanceLimits;
  give(changes: object, receipt?: Receipt): Given;
  giveText(text: string): Place;
  askForNone(): Place;
};

/** Waits for a task's outcome and checks that it is one. */
export async function outcomeAt(bench: CheckBench, given: Given, place: Place = given.first): Promise<Heard> {
  const said = await place.hears("an outcome", isOutcome, bench.limits.outcomeMs);
  const problem = problemOfOutcome(said, given);
  if (problem) throw new CheckFailure(problem);
  return said;
}

/** Waits until a worker has a task: gives what it said first, `accepted` or the outcome. */
export async function takenAt(
  { limits }: CheckBench,
  place: Place,
  expected = "accepted or an outcome",
): Promise<Heard> {
  const isTaken = (said: Heard) => said.type === "accepted" || isOutcome(said);
  const said = await place.hears(expected, (one) => isTaken(one) || one.type === "busy", limits.acceptMs);
  // It has no room now, and is asked again.
  return isTaken(said) ? said : place.hears(expected, isTaken, limits.outcomeMs);
}

/** Gives a task that is at work for a while, or says why there is none. */
export async function giveSlow(bench: CheckBench): Promise<{ given: Given } | { skipped: string }> {
  const { slowInput } = bench.inputs;
  if (slowInput === undefined) return { skipped: "needs an input that takes a while (--slow-input)" };
  const given = bench.give({ input: slowInput });
  const said = await takenAt(bench, given.first);
  if (!isOutcome(said)) return { given };
  const took = Math.round(said.at - given.sentAt);
  return { skipped: `the slow input was done within ${took} ms; it has to take longer (--slow-input)` };
}

/** Fails where the agent could not do what it was given, though it can do the plain input. */
export function mustComplete(said: Heard, what: string): void {
  if (said.type !== "failed") return;
  throw new CheckFailure(`expected ${what} to be done like any other, got ${said.text.slice(0, 200)}`);
}

/** Fails where another outcome came after `since`. */
export function noOutcomeAfter(given: Given, since: number, why: string): void {
  const more = given.heard.filter((said) => isOutcome(said) && said.at > since);
  if (more.length > 0) throw new CheckFailure(`expected no outcome ${why}, got ${wordsOf(more)}`);
}

function problemOfOutcome({ body, reply }: Heard, { task }: Given): string | undefined {
  if (reply === undefined) return "expected the outcome as a request, got it without a reply subject";
  if (body.v !== 1) return `outcome.v: expected 1, got ${JSON.stringify(body.v)}`;
  if (body.taskId !== task.taskId) {
    return `outcome.taskId: expected ${JSON.stringify(task.taskId)}, got ${JSON.stringify(body.taskId)}`;
  }
  if (body.attempt !== task.attempt)
    return `outcome.attempt: expected ${task.attempt}, got ${JSON.stringify(body.attempt)}`;
  // What is elsewhere is not looked at.
  if (isReferred(body, "/output")) return undefined;
  const checked = checkOutcome(body as unknown as OutcomeMessage);
  return checked.type === "failed" && checked.error.code === "bad_outcome" ? checked.error.message : undefined;
}
