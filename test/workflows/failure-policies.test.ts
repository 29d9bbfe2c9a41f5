/** What a step's failure leads to, as far as the step itself says: which errors it is tried again after, what its output must be. */
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { defineWorkflow, type StepOptions, type WorkflowOptions } from "../../src/workflows/define-workflow.ts";
import type { DeterministicDefinition } from "../../src/workflows/definition.ts";
import { parseWorkflow } from "../../src/workflows/parse-definition.ts";
import { applyEvents } from "../../src/workflows/run-record.ts";
import { superviseRun } from "../helpers/supervised-run.ts";

type Rest = Partial<Extract<WorkflowOptions, { steps: unknown }>>;

const defined = (step: Partial<StepOptions>, rest: Rest = {}) =>
  defineWorkflow({ name: "w", ...rest, steps: [{ id: "a", agent: "x", ...step }] } as WorkflowOptions);
const complaints = (raw: object) =>
  parseWorkflow("w", raw, { agents: new Map(), open: true }).problems.map(
    ({ path, expected, got }) => `${path}: expected ${expected}, got ${got}`,
  );

describe("a step that is tried again only after some errors", () => {
  const retry = { maxAttempts: 3, on: ["rate_limited", "model_refused"] };

  test("is after those, also where they say that it will not help", () => {
    const run = superviseRun(defined({ retry }));
    run.fails("a-1", { code: "model_refused", message: "no", retryable: false });
    expect(run.told().slice(-2)).toEqual(["step.retrying a", "timer.set retry.a"]);
  });

  test("is not after others, whatever they say", () => {
    const run = superviseRun(defined({ retry }));
    run.fails("a-1", { code: "timeout", message: "late", retryable: true });
    expect(run.told().slice(-2)).toEqual(["step.failed a-1", "run.failed"]);
  });

  test("is no more often than it may be", () => {
    const run = superviseRun(defined({ retry: { ...retry, maxAttempts: 1 } }));
    run.fails("a-1", { code: "rate_limited", message: "wait" });
    expect(run.end()?.type).toBe("run.failed");
  });
});

describe("the defaults of a workflow", () => {
  const stepsOf = (options: object) => (defineWorkflow(options as WorkflowOptions) as DeterministicDefinition).steps;

  test("are those of every step, and a step's own words replace them part by part", () => {
    const defaults = { retry: { maxAttempts: 4, delayMs: 100, on: ["timeout"] }, timeoutMs: 9_000 };
    const steps = [
      { id: "a", agent: "x" },
      { id: "b", agent: "x", retry: { maxAttempts: 2, maxDelayMs: 200 }, timeoutMs: 1_000 },
    ];
    expect(stepsOf({ name: "w", defaults, steps })).toMatchObject([
      { retry: { maxAttempts: 4, backoff: "exponential", delayMs: 100, maxDelayMs: 30_000, on: ["timeout"] } },
      { retry: { maxAttempts: 2, backoff: "exponential", delayMs: 100, maxDelayMs: 200, on: ["timeout"] } },
    ]);
    expect(stepsOf({ name: "w", defaults, steps }).map(({ timeoutMs }) => timeoutMs)).toEqual([9_000, 1_000]);
  });

  test("are those of a chain of agents too", () => {
    const defaults = { retry: { maxAttempts: 2 }, timeoutMs: 5_000 };
    expect(stepsOf({ name: "w", defaults, agents: ["x", "y"] })).toMatchObject([
      { retry: { maxAttempts: 2 }, timeoutMs: 5_000 },
      { retry: { maxAttempts: 2 }, timeoutMs: 5_000 },
    ]);
  });

  test("make the hash they would make at the steps", () => {
    const step = { id: "a", agent: "x" };
    const own = defineWorkflow({ name: "w", steps: [{ ...step, retry: { maxAttempts: 2 }, timeoutMs: 7 }] });
    const shared = defineWorkflow({ name: "w", defaults: { retry: { maxAttempts: 2 }, timeoutMs: 7 }, steps: [step] });
    expect(shared.hash).toBe(own.hash);
  });

  test("that do not go together with a step's own are told where the step stands", () => {
    const steps = [{ id: "a", agent: "x", retry: { maxDelayMs: 100 } }];
    expect(complaints({ defaults: { retry: { delayMs: 300 } }, steps })).toEqual([
      "workflows.w.steps[0].retry.maxDelayMs: expected at least delayMs (300), got 100",
    ]);
    expect(complaints({ defaults: { retry: { delayMs: 300, maxDelayMs: 1 } }, agents: ["x"] })).toEqual([
      "workflows.w.defaults.retry.maxDelayMs: expected at least delayMs (300), got 1",
    ]);
  });
});

describe("a step with a schema for its output", () => {
  const output = z.object({ score: z.number(), notes: z.array(z.object({ text: z.string() })) });
  const wrong = { score: 1, notes: [{ text: "fine" }, { text: 7 }] };

  test("gives what fits, also where there is more than it names", () => {
    const run = superviseRun(defined({ output }));
    run.completes("a-1", { score: 1, notes: [], more: true });
    expect(run.end()?.data).toEqual({ output: { score: 1, notes: [], more: true } });
  });

  test("fails where it gives something else, and says where in the value", () => {
    const run = superviseRun(defined({ output }));
    run.completes("a-1", wrong);
    const message = "output: notes[1].text: expected text, got 7";
    expect(run.decisions).toMatchObject([
      { type: "step.failed", data: { step: "a", taskId: "a-1", error: { code: "bad_output", message } } },
      { type: "run.failed", data: { error: { code: "bad_output", message: `step a: ${message}` } } },
    ]);
    const record = applyEvents(undefined, run.journal.flat());
    expect(record.steps).toMatchObject([{ id: "a", status: "failed", error: { code: "bad_output" } }]);
    expect(record.steps[0]).not.toHaveProperty("output");
  });

  test("is tried again as its policy says", () => {
    const run = superviseRun(defined({ output, retry: { maxAttempts: 2 } }));
    run.completes("a-1", wrong);
    expect(run.told().slice(-2)).toEqual(["step.retrying a", "timer.set retry.a"]);
    expect(applyEvents(undefined, run.journal.flat()).steps[0]).not.toHaveProperty("output");
    run.fires("retry.a");
    run.completes("a-2", { score: 2, notes: [] });
    expect(run.end()?.type).toBe("run.completed");
  });

  test("that cannot be checked is told when it is defined", () => {
    expect(complaints({ steps: [{ id: "a", agent: "x", output: { if: {} } }] })[0]).toContain(
      "workflows.w.steps[0].output: expected a JSON Schema that can be checked",
    );
  });
});

describe("a workflow with a schema for its output", () => {
  const output = { type: "object", properties: { title: { type: "string" } }, required: ["title"] };

  test("fails where the run gives something else, and says where in the value", () => {
    const run = superviseRun(defined({}, { output }));
    run.completes("a-1", { title: 3 });
    expect(run.end()).toMatchObject({
      type: "run.failed",
      data: { error: { code: "bad_output", message: "output: title: expected text, got 3" } },
    });
    expect(applyEvents(undefined, run.journal.flat()).steps).toMatchObject([{ id: "a", output: { title: 3 } }]);
  });

  test("holds also where agents hand over to each other", () => {
    const agent = { name: "x", instructions: "i", model: "m", tools: [], handoffs: [] };
    const definition = defineWorkflow({ name: "w", entry: "x", agents: [agent], output } as never);
    const run = superviseRun(definition);
    run.completes("h0", "just text");
    expect(run.end()).toMatchObject({ type: "run.failed", data: { error: { code: "bad_output" } } });
    const fine = superviseRun(definition);
    fine.completes("h0", { title: "t" });
    expect(fine.end()?.type).toBe("run.completed");
  });

  test("that cannot be checked is told when it is defined", () => {
    expect(complaints({ agents: ["x"], output: { if: {} } })[0]).toContain("workflows.w.output: expected");
  });
});
