/** Checks of tasks that come, are done, and are answered. */
import { type Check, type CheckBench, giveSlow, mustComplete, noOutcomeAfter, outcomeAt, takenAt } from "./check.ts";
import { CheckFailure } from "./check-failure.ts";
import { isOutcome, wordsOf } from "./probe-owner.ts";

/** A machine may be slow for a moment; one that is too slow always is. */
const TRIES = 3;
const AT_ONCE = 8;
const UNICODE = 'žluťoučký 茶 🍵 e\u0301 \u202eright to left\u202c "quoted" \\ \t';

export const taskChecks: readonly Check[] = [
  {
    id: "accepted",
    sentence: "A task is accepted, or its outcome is there, in time.",
    place: { heading: "Tasks", says: "comes within a second" },
    async run(bench) {
      for (let attempt = 1; ; attempt++) {
        try {
          await takenAt(bench, bench.give({ input: bench.inputs.input }).first);
          return undefined;
        } catch (error) {
          if (attempt === TRIES || (error instanceof CheckFailure && error.code === "no_worker")) throw error;
        }
      }
    },
  },
  {
    id: "outcome",
    sentence: "The outcome of a task comes as a request and is well-formed.",
    place: { heading: "Tasks", says: "sent as a request to the reply subject" },
    async run(bench) {
      const said = await outcomeAt(bench, bench.give({ input: bench.inputs.input }));
      if (said.type !== "failed") return undefined;
      throw new CheckFailure(
        `expected the agent to do ${JSON.stringify(bench.inputs.input)}, got ${said.text.slice(0, 200)}; give it what it can do (--input)`,
      );
    },
  },
  {
    id: "control",
    sentence: "`accepted` names the task and its delivery, and says where control messages go.",
    place: { heading: "Tasks", says: '"worker"}, reply subject: control' },
    async run(bench) {
      const slow = await giveSlow(bench);
      const given = "given" in slow ? slow.given : bench.give({ input: bench.inputs.input });
      const said = await takenAt(bench, given.first);
      if (isOutcome(said)) return { skipped: "its outcome came first (--slow-input)" };
      const { taskId, delivery, worker } = said.body;
      if (taskId !== given.task.taskId)
        throw new CheckFailure(`accepted.taskId: expected "t1", got ${JSON.stringify(taskId)}`);
      if (delivery !== 1) throw new CheckFailure(`accepted.delivery: expected 1, got ${JSON.stringify(delivery)}`);
      if (typeof worker !== "string")
        throw new CheckFailure(`accepted.worker: expected text, got ${JSON.stringify(worker)}`);
      if (said.reply === undefined) throw new CheckFailure("expected accepted with a reply subject, got none");
      return undefined;
    },
  },
  {
    id: "resend",
    sentence: "An outcome that nobody answers is sent again with the same bytes, and not any more once it is recorded.",
    place: { heading: "Tasks", says: "No answer: ask again." },
    async run(bench) {
      const given = bench.give({ input: bench.inputs.input }, "silence");
      const first = await outcomeAt(bench, given);
      given.first.receipt = "recorded";
      const second = await given.first.hears(
        "the outcome again, as it has no answer,",
        (said) => isOutcome(said) && said !== first,
        bench.limits.quietMs,
      );
      if (second.text !== first.text) {
        throw new CheckFailure(`expected the same bytes again, got ${wordsOf([first, second])}`);
      }
      return { afterwards: () => noOutcomeAfter(given, second.at, "after it was recorded") };
    },
  },
  {
    id: "superseded",
    sentence: "An outcome that is superseded is not sent again.",
    place: { heading: "Tasks", says: "the run does not want it any more" },
    async run(bench) {
      const given = bench.give({ input: bench.inputs.input }, "superseded");
      const { at } = await outcomeAt(bench, given);
      return { afterwards: () => noOutcomeAfter(given, at, "after it was superseded") };
    },
  },
  {
    id: "unknown-fields",
    sentence: "Fields that are not known are ignored.",
    place: { heading: "The NATS contract, version 1", says: "ignore fields they do not know" },
    async run(bench) {
      const given = bench.give({ input: bench.inputs.input, later: { deep: [1] }, limits: { later: 1 } });
      mustComplete(await outcomeAt(bench, given), "a task with an unknown field");
      return undefined;
    },
  },
  {
    id: "unicode",
    sentence: "Any text may be in an input.",
    place: { heading: "The NATS contract, version 1", says: "Bodies are JSON in UTF-8" },
    async run(bench) {
      const { input } = bench.inputs;
      if (typeof input !== "string") return { skipped: "needs an input that is text (--input)" };
      const given = bench.give({ input: `${input} ${UNICODE}` });
      mustComplete(await outcomeAt(bench, given), "a text in many scripts");
      return undefined;
    },
  },
  {
    id: "large",
    sentence: "A task nearly as long as the broker allows has an outcome.",
    place: { heading: "Large values", says: "The broker takes messages up to its `max_payload`" },
    async run(bench) {
      const { input } = bench.inputs;
      if (typeof input !== "string") return { skipped: "needs an input that is text (--input)" };
      const { max_payload: most = 1_048_576 } = bench.bus.nc.info ?? {};
      // Room for what surrounds it, and for an answer that is somewhat longer.
      await outcomeAt(bench, bench.give({ input: `${input} ${"x".repeat(Math.floor(most * 0.75))}` }));
      return undefined;
    },
  },
  {
    id: "later-reference",
    sentence: "A task with a reference that cannot be followed fails; it is not done without its value.",
    place: { heading: "Large values", says: "is from a later version: refuse it" },
    async run(bench) {
      const refs = [{ at: "/input", ref: "later:somewhere/else", bytes: 12, sha256: "0".repeat(64) }];
      const said = await outcomeAt(bench, bench.give({ input: undefined, refs }));
      if (said.type === "failed") return undefined;
      throw new CheckFailure(`expected failed, since the input cannot be read, got ${said.text.slice(0, 200)}`);
    },
  },
  {
    id: "concurrent",
    sentence: "Several tasks at once each have their own outcome on their own reply subject.",
    place: { heading: "Tasks", says: "A task is one execution of one agent" },
    async run(bench) {
      const given = Array.from({ length: AT_ONCE }, (_, i) =>
        bench.give({ input: bench.inputs.input, taskId: `t${i + 1}` }),
      );
      for (const one of given) mustComplete(await outcomeAt(bench, one), "each of several tasks");
      return undefined;
    },
  },
  {
    id: "malformed",
    sentence: "What is no task is answered with `bad_task` or not at all, and does no harm.",
    place: { heading: "Tasks", says: "with `failed` and the code `bad_task`, or not at all" },
    async run(bench) {
      const places = malformed(bench).map((text) => ({ text, place: bench.giveText(text) }));
      const given = bench.give({ input: bench.inputs.input });
      mustComplete(await outcomeAt(bench, given), "the task after them");
      await quietFor(bench.limits.acceptMs);
      for (const { text, place } of places) {
        const wrong = place.heard.filter(({ type, body }) => {
          return type !== "failed" || (body.error as { code?: unknown } | undefined)?.code !== "bad_task";
        });
        if (wrong.length > 0) {
          throw new CheckFailure(`expected bad_task or nothing for ${text.slice(0, 60)}, got ${wordsOf(wrong)}`);
        }
      }
      return undefined;
    },
  },
];

/** Resolves after `ms` milliseconds. */
export function quietFor(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function malformed({ agent }: CheckBench): string[] {
  const task = {
    v: 1,
    taskId: "t1",
    runId: "none",
    workflow: "conformance",
    agent,
    attempt: 1,
    delivery: 1,
    input: "",
  };
  const { runId: _run, ...withoutRun } = task;
  const { input: _input, ...withoutInput } = task;
  return [
    "this is no JSON",
    "[]",
    "{}",
    JSON.stringify(withoutRun),
    JSON.stringify(withoutInput),
    JSON.stringify({ ...task, agent: `not_${agent}`.slice(0, 64) }),
    JSON.stringify({ ...task, v: 2 }),
  ];
}
