import { expect, test } from "vitest";
import { runTeller } from "../../src/cli/run-lines.ts";
import type { RunEvent, RunEventBody } from "../../src/workflows/run-events.ts";

const trace = { traceId: "0".repeat(32), sampled: true };
const usage = { inputTokens: 10, outputTokens: 5, modelCalls: 1 };

/** Tells a story about one run, without its times. */
function tell(bodies: readonly RunEventBody[], named = false): (string | undefined)[] {
  const teller = runTeller({ named });
  return bodies.map((body, index) => {
    const at = new Date(Date.UTC(2026, 0, 1, 0, 0, index)).toISOString();
    const event: RunEvent = { v: 1, id: "x", runId: "r1", n: index + 1, at, epoch: 1, ...body };
    return teller(event)?.slice(14).replaceAll(/ {2,}/g, "  ");
  });
}

const accepted: RunEventBody = {
  type: "run.accepted",
  data: { input: { a: 1 }, workflow: "w", kind: "deterministic", trace },
};

test("a run that is lost, found, retried and fails is told in words", () => {
  const error = { code: "x", message: "no\nluck" };
  const lines = tell([
    accepted,
    { type: "task.sent", data: { taskId: "t", agent: "a", step: "s", attempt: 1, delivery: 1 } },
    { type: "task.waiting", data: { taskId: "t", agent: "a", reason: "nobody hosts it" } },
    { type: "run.claimed", data: { host: "h2", incarnation: "i", reason: "takeover" } },
    {
      type: "task.sent",
      data: { taskId: "t", agent: "a", step: "s", attempt: 1, delivery: 2, lost: { reason: "gone" } },
    },
    { type: "task.settled", data: { taskId: "t", agent: "a", outcome: { type: "failed", error, usage } } },
    { type: "run.failed", data: { error } },
  ]);
  expect(lines).toEqual([
    'accepted  w: {"a":1}',
    "started  a (step s)",
    "waiting  a: nobody hosts it",
    "taken over  by h2 (takeover)",
    "sent again  a (step s): gone",
    "failed  a: no luck",
    "failed  in 6.0 s, 1 model call, 10→5 tokens: no luck",
  ]);
});

test("steps that are skipped, or without which the run goes on, are told", () => {
  const error = { code: "x", message: "no\nluck" };
  const lines = tell([
    accepted,
    { type: "step.failed", data: { step: "a", taskId: "a-1", error, continued: true } },
    { type: "step.failed", data: { step: "b", taskId: "b-1", error } },
    { type: "step.skipped", data: { step: "c", agent: "x", reason: "needs all: a failed" } },
  ]);
  expect(lines.slice(1)).toEqual(["goes on  without a: no luck", undefined, "skipped  c: needs all: a failed"]);
});

test("several runs are told apart by their ids, and what matters to nobody is left out", () => {
  const lines = tell([accepted, { type: "step.started", data: { step: "s", agent: "a" } }], true);
  expect(lines).toEqual(['r1  accepted  w: {"a":1}', undefined]);
});

test("a run that is joined in the middle is told as far as it is known", () => {
  const teller = runTeller();
  const at = "2026-01-01T00:00:00.000Z";
  const line = teller({ v: 1, id: "x", runId: "r", n: 9, at, epoch: 1, type: "run.completed", data: { output: 1 } });
  expect(line?.slice(14).trim()).toBe("completed");
});

test("what holds steps is told when it is begun, and a long list now and then, not item by item", () => {
  const error = { code: "x", message: "no" };
  const item = (i: number): RunEventBody[] => [
    { type: "step.started", data: { step: `all/${i}`, agent: "a" } },
    { type: "task.sent", data: { taskId: `all/${i}-1`, agent: "a", step: `all/${i}`, attempt: 1, delivery: 1 } },
    { type: "step.completed", data: { step: `all/${i}`, taskId: `all/${i}-1` } },
  ];
  const lines = tell([
    accepted,
    { type: "step.started", data: { step: "g", group: { type: "steps", size: 2 } } },
    { type: "step.started", data: { step: "r", group: { type: "repeat", size: 3 } } },
    { type: "step.completed", data: { step: "r", exhausted: true } },
    { type: "step.cancelled", data: { step: "g/a", agent: "a", taskId: "g/a-1" } },
    { type: "step.started", data: { step: "all", group: { type: "forEach", size: 5_000 } } },
    ...Array.from({ length: 1_000 }, (_, i) => item(i)).flat(),
    { type: "step.failed", data: { step: "all/1000", taskId: "all/1000-1", error, continued: true } },
  ]);
  expect(lines.slice(1).filter((line) => line !== undefined)).toEqual([
    "begun  g: 2 steps",
    "begun  r: up to 3 times",
    "gives up  r: repeated as often as it may be",
    "called off  g/a",
    "begun  all: 5000 items",
    "progress  all 500/5,000",
    "progress  all 1,000/5,000",
    "goes on  without all/1000: no",
  ]);
});

test("a run that is undone, and one that takes over what another has done, are told in words", () => {
  const error = { code: "x", message: "no\nluck" };
  const dueAt = "2026-01-01T00:00:09.000Z";
  const lines = tell([
    accepted,
    { type: "step.reused", data: { step: "a", agent: "x", output: "as before" } },
    { type: "run.failing", data: { error } },
    { type: "compensation.started", data: { step: "b", agent: "x" } },
    { type: "compensation.retrying", data: { step: "b", attempt: 2, dueAt, error } },
    { type: "compensation.failed", data: { step: "b", taskId: "b/compensate-2", error } },
    { type: "compensation.completed", data: { step: "c", taskId: "c/compensate-1" } },
    { type: "compensation.abandoned", data: { steps: ["d", "e"] } },
  ]);
  expect(lines.slice(1)).toEqual([
    'reused  a: "as before"',
    "failing  no luck",
    undefined,
    expect.stringMatching(/^retrying {2}undoing b: attempt 2 at .*, after no luck$/),
    "not undone  b: no luck",
    "undone  c",
    "not undone  d, e",
  ]);
});
