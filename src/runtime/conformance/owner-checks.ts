/** Checks of what is between a worker and the owner of a run: control, repetition, and another owner. */
import { type Check, type CheckBench, giveSlow, noOutcomeAfter, outcomeAt, takenAt } from "./check.ts";
import { CheckFailure } from "./check-failure.ts";
import { type Given, type Heard, isOutcome, type Place, wordsOf } from "./probe-owner.ts";
import { quietFor } from "./task-checks.ts";

/** How long a worker that stops a task by mistake may take to say so. */
const STOPPING_MS = 300;

export const ownerChecks: readonly Check[] = [
  {
    id: "repeated",
    sentence: "A task that comes again after its outcome was made is answered with that, and is not done twice.",
    place: { heading: "Tasks", says: "or whose outcome it has" },
    run: (bench) => repeat(bench, (given, place) => given.again(place, 2)),
  },
  {
    id: "owners-outcome",
    sentence: "A new owner that asks for a task is told its outcome, where that was made.",
    place: { heading: "Tasks", says: "A worker that has one of these tasks sends" },
    run: (bench) => repeat(bench, (given, place) => given.askFor(place)),
  },
  {
    id: "owners-none",
    sentence: "A worker that does not have the task an owner asks for says `unknown`, or nothing.",
    place: { heading: "Tasks", says: "One that has not may be silent" },
    async run(bench) {
      const place = bench.askForNone();
      await quietFor(bench.limits.acceptMs);
      const wrong = place.heard.filter(({ type }) => type !== "unknown");
      if (wrong.length > 0) throw new CheckFailure(`expected unknown or nothing, got ${wordsOf(wrong)}`);
      return undefined;
    },
  },
  {
    id: "working",
    sentence: "A task at work gives signs of life.",
    place: { heading: "Tasks", says: "is due every few seconds" },
    async run(bench) {
      const slow = await giveSlow(bench);
      if ("skipped" in slow) return slow;
      const wanted = (said: Heard) => said.type === "working" || isOutcome(said);
      const said = await slow.given.first.hears("working", wanted, bench.limits.silenceMs);
      if (!isOutcome(said)) return undefined;
      const took = Math.round(said.at - slow.given.sentAt);
      return { skipped: `the slow input was done within ${took} ms, before it was time to say so (--slow-input)` };
    },
  },
  {
    id: "rejoined",
    sentence:
      "A task that comes again while it is at work is accepted, and its one outcome goes to the new reply subject.",
    place: { heading: "Tasks", says: "the same task again only moves where its answers go" },
    async run(bench) {
      const slow = await giveSlow(bench);
      if ("skipped" in slow) return slow;
      const { given } = slow;
      const place = given.place();
      given.again(place, 2);
      const said = await takenAt(bench, place, "accepted on the new reply subject");
      if (said.type === "accepted" && said.body.delivery !== 2) {
        throw new CheckFailure(`accepted.delivery: expected 2, got ${JSON.stringify(said.body.delivery)}`);
      }
      const old = given.first.hears("an outcome", isOutcome, bench.limits.outcomeMs);
      const { at } = await Promise.race([outcomeAt(bench, given, place), old.then(onOldSubject, () => hangs())]);
      return { afterwards: () => noOutcomeAfter(given, at, "beside the first") };
    },
  },
  {
    id: "owners-at-work",
    sentence: "A new owner that asks for a task at work hears `accepted`, and from then on all that is said about it.",
    place: { heading: "Tasks", says: "A worker that has one of these tasks sends" },
    async run(bench) {
      const slow = await giveSlow(bench);
      if ("skipped" in slow) return slow;
      const place = slow.given.place();
      slow.given.askFor(place);
      await takenAt(bench, place, "accepted at <reply>.<taskId>");
      slow.given.tell({ type: "cancel", taskId: slow.given.task.taskId, reason: "conformance" });
      const wanted = (said: Heard) => isOutcome(said);
      await place.hears("the outcome where the new owner listens", wanted, bench.limits.outcomeMs);
      return undefined;
    },
  },
  {
    id: "known",
    sentence: "A task whose worker hears `known` goes on.",
    place: { heading: "Tasks", says: "on the control subject: the journal knows this task" },
    async run(bench) {
      const slow = await giveSlow(bench);
      if ("skipped" in slow) return slow;
      const { given } = slow;
      tell(given, "known");
      const place = given.place();
      given.again(place, 2);
      await takenAt(bench, place, "the task to be still at work");
      await quietFor(STOPPING_MS);
      const stopped = given.heard.filter(({ type }) => type === "failed");
      if (stopped.length > 0) throw new CheckFailure(`expected the task to go on, got ${wordsOf(stopped)}`);
      return undefined;
    },
  },
  {
    id: "cancel",
    sentence: "A task that is cancelled stops, and its outcome is `failed` with the code `cancelled`.",
    place: { heading: "Tasks", says: "with the code `cancelled`" },
    async run(bench) {
      const slow = await giveSlow(bench);
      if ("skipped" in slow) return slow;
      const { given } = slow;
      tell(given, "cancel");
      const said = await given.first.hears("an outcome after the cancel", isOutcome, bench.limits.cancelMs);
      const { code } = (said.body.error ?? {}) as { code?: unknown };
      if (said.type === "failed" && code === "cancelled") return undefined;
      throw new CheckFailure(`expected failed with the code cancelled, got ${said.text.slice(0, 200)}`);
    },
  },
];

/** An outcome that has no answer yet, and somebody else who wants it. */
async function repeat(bench: CheckBench, ask: (given: Given, place: Place) => void) {
  const given = bench.give({ input: bench.inputs.input }, "silence");
  const first = await outcomeAt(bench, given);
  const place = given.place();
  ask(given, place);
  await takenAt(bench, place, "accepted or the outcome on the new reply subject");
  const again = await outcomeAt(bench, given, place);
  if (again.text !== first.text) {
    throw new CheckFailure(`expected the same outcome, byte for byte, got ${wordsOf([first, again])}`);
  }
  return { afterwards: () => noOutcomeAfter(given, again.at, "after it was recorded") };
}

function tell(given: Given, type: "cancel" | "known"): void {
  const { taskId } = given.task;
  if (given.tell(type === "cancel" ? { type, taskId, reason: "conformance" } : { type, taskId })) return;
  throw new CheckFailure(`expected accepted with a reply subject, which takes ${type}, got none`);
}

function onOldSubject(said: Heard): never {
  throw new CheckFailure(`expected the outcome on the new reply subject, got it on the old one: ${wordsOf([said])}`);
}

/** Nothing on the old subject is what is right. */
function hangs(): Promise<never> {
  return new Promise(() => {});
}
