import { expect, test } from "vitest";
import { stepRows } from "../../src/cli/step-rows.ts";
import { defineWorkflow } from "../../src/workflows/define-workflow.ts";
import { applyEvents, type RunRecord } from "../../src/workflows/run-record.ts";
import { superviseRun } from "../helpers/supervised-run.ts";

/** Draws the rows as text. */
function drawn(record: RunRecord): string[] {
  return stepRows(record).map(({ step, depth, done }) =>
    [`${"  ".repeat(depth)}${step.id}`, step.status, done].filter((part) => part !== undefined).join(" "),
  );
}

test("steps stand under what holds them, and lists and repetitions say how far they are", () => {
  const definition = defineWorkflow({
    name: "w",
    steps: [
      {
        id: "loop",
        repeat: { until: "false", max: 2 },
        steps: [{ id: "each", agent: "x", forEach: "input", concurrency: 1 }],
      },
    ],
  });
  const run = superviseRun(definition, { input: [1, 2] });
  run.completes("loop/0/each/0-1");
  const record = () => applyEvents(undefined, run.journal.flat());
  expect(drawn(record())).toEqual([
    "loop running 1×",
    "  loop/0 running",
    "    loop/0/each running 1/2",
    "      loop/0/each/0 completed",
    "      loop/0/each/1 running",
  ]);
  run.completes("loop/0/each/1-1");
  run.completes("loop/1/each/0-1");
  run.completes("loop/1/each/1-1");
  expect(drawn(record())[0]).toBe("loop completed 2 of at most 2, given up");
});

test("of a long list there are what failed and what is at work, and of both not many", () => {
  const definition = defineWorkflow({
    name: "w",
    steps: [{ id: "reviews", agent: "x", forEach: "input", concurrency: 20, onError: "continue" }],
  });
  const run = superviseRun(definition, { input: Array.from({ length: 5_000 }, (_, i) => i) });
  for (let i = 0; i < 3_000; i += 1) {
    if (i % 500 === 7) run.fails(`reviews/${i}-1`, { code: "e", message: "no", retryable: false });
    else run.completes(`reviews/${i}-1`, i);
  }
  expect(drawn(applyEvents(undefined, run.journal.flat()))).toEqual([
    "reviews running 3,000/5,000",
    "  reviews/7 failed",
    "  reviews/507 failed",
    "  reviews/1007 failed",
    "  reviews/1507 failed",
    "  reviews/3000 running",
    "  reviews/3001 running",
    "  reviews/3002 running",
    "  reviews/3003 running",
  ]);
});

test("what waits for somebody has not ended", () => {
  const definition = defineWorkflow({ name: "w", steps: [{ id: "ok", forEach: "input", approval: { title: "?" } }] });
  const run = superviseRun(definition, { input: [1, 2] });
  const payload = { step: "ok/1", choice: "approve" };
  run.fact({ type: "signal.received", data: { seq: 1, kind: "signal", id: "s", name: "approval", payload } });
  const record = applyEvents(undefined, run.journal.flat());
  expect(drawn(record)).toEqual(["ok running 1/2", "  ok/0 waiting", "  ok/1 completed"]);
});
