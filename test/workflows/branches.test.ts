/** What becomes of steps that have a condition, that follow skipped or failed ones, or that handle errors. */
import { describe, expect, test } from "vitest";
import { defineWorkflow, type StepOptions } from "../../src/workflows/define-workflow.ts";
import type { RunEvent } from "../../src/workflows/run-events.ts";
import { fold, foldOn, restore, save } from "../../src/workflows/supervisor.ts";
import { expectWithin } from "../helpers/measured-bound.ts";
import { type SupervisedRun, superviseRun } from "../helpers/supervised-run.ts";

const graph = (...steps: StepOptions[]) => defineWorkflow({ name: "graph", steps });
type More = Partial<Omit<StepOptions, "id" | "agent" | "tool" | "approval" | "wait" | "workflow" | "steps">>;
const step = (id: string, more: More = {}): StepOptions => ({ id, agent: "x", ...more });

function skipped(run: SupervisedRun): { [step: string]: string } {
  const events = run.journal.flat().flatMap((event) => (event.type === "step.skipped" ? [event.data] : []));
  return Object.fromEntries(events.map((data) => [data.step, data.reason]));
}

function failure(run: SupervisedRun): Extract<RunEvent, { type: "step.failed" }>["data"] | undefined {
  return run.journal.flat().find((event) => event.type === "step.failed")?.data;
}

const output = (run: SupervisedRun) => (run.end()?.data as { output?: unknown } | undefined)?.output;

describe("a condition", () => {
  const validation = graph(
    step("check"),
    step("accept", { after: "check", when: "steps.check.output.valid" }),
    step("reject", { after: "check", when: "!previous.output.valid" }),
  );

  test.each([
    [true, "accept", "reject", "!previous.output.valid"],
    [false, "reject", "accept", "steps.check.output.valid"],
  ])("%s takes its branch and skips the other", (valid, taken, other, condition) => {
    const run = superviseRun(validation);
    run.completes("check-1", { valid });
    expect(run.open()).toEqual([`${taken}-1`]);
    expect(skipped(run)).toEqual({ [other]: `when: ${condition} is false` });
    run.completes(`${taken}-1`, "done");
    expect(run.end()?.type).toBe("run.completed");
    expect(output(run)).toEqual({ [taken]: "done" });
  });

  test("speaks of the input, the run and steps far before", () => {
    const run = superviseRun(
      graph(
        step("first", { when: "input.amount > 100 && run.workflow == 'graph' && run.id == 'r1'" }),
        step("second", { after: "first" }),
        step("third", { after: "second", when: "steps.first.output == 'yes'" }),
      ),
      { input: { amount: 101 } },
    );
    run.completes("first-1", "yes");
    run.completes("second-1", "no");
    expect(run.open()).toEqual(["third-1"]);
  });

  test.each([
    ["it has another value", { valid: 1 }, "got: 1"],
    ["what it speaks of is missing", {}, "got: No such key: valid"],
  ])("fails its step where %s", (_, given, got) => {
    const run = superviseRun(validation);
    run.completes("check-1", given);
    expect(failure(run)).toEqual({
      step: "accept",
      taskId: "accept-1",
      error: {
        code: "condition_failed",
        message: `workflows.graph.steps[1].when: expected steps.check.output.valid to be true or false, ${got}`,
      },
    });
    expect(run.end()).toMatchObject({ type: "run.failed", data: { error: { code: "condition_failed" } } });
    expect(run.told()).not.toContain("task.sent accept-1");
  });

  test("that fails leads where its step's `onError` says", () => {
    const run = superviseRun(graph(step("a", { when: "input.missing", onError: "help" }), step("help")));
    expect(failure(run)).toMatchObject({ continued: true, error: { code: "condition_failed" } });
    expect(run.task("help-1").input).toContain('<error step="a">\ncondition_failed: workflows.graph.steps[0].when');
  });

  test("that is long is quoted in short where it skips", () => {
    const run = superviseRun(graph(step("a", { when: `input == '${"x".repeat(1_000)}'` })));
    expect(skipped(run)).toEqual({ a: `when: input == '${"x".repeat(110)}… is false` });
  });

  test("that holds for no step completes the run at once, with null", () => {
    const run = superviseRun(graph(step("a", { when: "false" }), step("b", { after: "a" })));
    expect(run.told()).toEqual(["step.skipped a", "step.skipped b", "run.completed"]);
    expect(output(run)).toBeNull();
    expect(skipped(run)).toEqual({ a: "when: false is false", b: "needs all: a was skipped" });
    const two = superviseRun(graph(step("a", { when: "false" }), step("b", { when: "false" })));
    expect(output(two)).toBeNull();
  });
});

describe("needs", () => {
  /** `a` and `b`, side by side, before `join`. */
  const joined = (needs: StepOptions["needs"], a: More, b: More) =>
    superviseRun(graph(step("a", a), step("b", b), step("join", { after: ["a", "b"], ...(needs && { needs }) })));
  const off = { when: "false" };
  const lenient = { onError: "continue" };

  test("all is the default: a step before that was skipped or failed makes it skipped", () => {
    for (const needs of ["all", undefined] as const) {
      const one = joined(needs, off, {});
      expect(one.open()).toEqual(["b-1"]);
      expect(one.told()).not.toContain("step.skipped join");
      one.completes("b-1");
      expect(skipped(one)).toMatchObject({ join: "needs all: a was skipped" });
      const other = joined(needs, lenient, {});
      other.fails("a-1");
      other.completes("b-1");
      expect(skipped(other)).toEqual({ join: "needs all: a failed" });
      expect(output(other)).toBeNull();
    }
  });

  test("any runs where one completed, once all have ended", () => {
    const one = joined("any", lenient, {});
    one.completes("b-1", "B");
    expect(one.open()).toEqual(["a-1"]);
    one.fails("a-1");
    expect(one.open()).toEqual(["join-1"]);
    const none = joined("any", lenient, off);
    none.fails("a-1");
    expect(skipped(none).join).toBe("needs any: none of the steps before completed");
  });

  test("always runs once all have ended, whatever became of them", () => {
    const run = joined("always", lenient, off);
    expect(run.open()).toEqual(["a-1"]);
    run.fails("a-1");
    expect(run.open()).toEqual(["join-1"]);
    run.completes("join-1", "made the best of it");
    expect(output(run)).toBe("made the best of it");
  });

  test("a step that is ready for its condition is still asked it", () => {
    const run = superviseRun(
      graph(
        step("a", { onError: "continue" }),
        step("b", { after: "a", needs: "always", when: "steps.a.status == 'completed'" }),
      ),
    );
    run.fails("a-1");
    expect(skipped(run)).toEqual({ b: "when: steps.a.status == 'completed' is false" });
  });
});

describe("onError", () => {
  test("fail is the default and ends the run", () => {
    const run = superviseRun(graph(step("a", { onError: "fail" }), step("b", { after: "a", needs: "always" })));
    run.fails("a-1");
    expect(failure(run)).not.toHaveProperty("continued");
    expect(run.end()?.type).toBe("run.failed");
  });

  test("continue is for failures for good, and shows them to later steps", () => {
    const run = superviseRun(
      graph(
        step("a", { onError: "continue", retry: { maxAttempts: 2, delayMs: 5 } }),
        step("b"),
        step("sum", {
          after: ["a", "b"],
          needs: "any",
          input: "{{ steps.a.status }} {{ steps.a.error.code }} {{ steps.a.error.message }} {{ previous.output }}",
        }),
      ),
    );
    run.completes("b-1", "B");
    run.fails("a-1");
    expect(run.open()).toEqual([]);
    expect(failure(run)).toBeUndefined();
    run.fires("retry.a");
    run.fails("a-2", { code: "too_bad", message: "for good", retryable: false });
    expect(failure(run)).toMatchObject({ step: "a", taskId: "a-2", continued: true });
    expect(run.task("sum-1").input).toBe('failed too_bad for good {"b":"B"}');
    run.completes("sum-1", "fine");
    expect(output(run)).toBe("fine");
  });

  test("nothing goes on after an outcome whose consequences fit into no entry", () => {
    const run = superviseRun(graph(step("a", { onError: "continue" })));
    run.fails("a-1", { code: "entry_too_large", message: "too much", retryable: false });
    expect(run.end()).toMatchObject({ type: "run.failed", data: { error: { code: "entry_too_large" } } });
  });

  test("continue also goes for an input that cannot be made", () => {
    const run = superviseRun(graph(step("a", { input: "{{ input.missing }}", onError: "continue" }), step("b")));
    expect(failure(run)).toMatchObject({ continued: true, error: { code: "template_failed" } });
    run.completes("b-1", "B");
    expect(output(run)).toEqual({ b: "B" });
  });

  const booking = graph(
    step("charge", { onError: "refund" }),
    step("ship", { after: "charge" }),
    step("refund", { retry: { maxAttempts: 2, delayMs: 5 } }),
  );

  test("a step that handles the error is started with it in scope, and what needs the output is skipped", () => {
    const run = superviseRun(booking);
    expect(run.open()).toEqual(["charge-1"]);
    run.fails("charge-1", { code: "declined", message: "no money", retryable: false });
    expect(run.open()).toEqual(["refund-1"]);
    expect(run.task("refund-1").input).toBe(
      '<request>\nbees\n</request>\n\n<error step="charge">\ndeclined: no money\n</error>',
    );
    expect(skipped(run)).toEqual({ ship: "needs all: charge failed" });
    run.fails("refund-1");
    run.fires("retry.refund");
    expect(run.task("refund-2").input).toContain("no money");
    run.completes("refund-2", "paid back");
    expect(output(run)).toEqual({ refund: "paid back" });
  });

  test("a step that handles errors is skipped where there is none", () => {
    const run = superviseRun(booking);
    run.completes("charge-1", "paid");
    expect(skipped(run)).toEqual({ refund: "nothing to handle: charge did not fail" });
    run.completes("ship-1", "on its way");
    expect(output(run)).toEqual({ ship: "on its way" });
  });

  test("what a handler follows is a last step nonetheless, also when it is named in `after`", () => {
    for (const after of [[], ["charge"]]) {
      const run = superviseRun(graph(step("charge", { onError: "refund" }), step("refund", { after })));
      run.completes("charge-1", "paid");
      expect(output(run)).toEqual({ charge: "paid" });
      const other = superviseRun(graph(step("charge", { onError: "refund" }), step("refund", { after })));
      other.fails("charge-1");
      expect(other.open()).toEqual(["refund-1"]);
    }
  });

  test("one step may handle the errors of several, once these have ended", () => {
    const run = superviseRun(
      graph(
        step("a", { onError: "help" }),
        step("b", { onError: "help" }),
        step("help", { input: "{{ steps.a.error.code }}, b {{ steps.b.status }}" }),
      ),
    );
    run.fails("a-1");
    expect(run.open()).toEqual(["b-1"]);
    run.completes("b-1");
    expect(run.task("help-1").input).toBe("model_error, b completed");
    const well = superviseRun(graph(step("a", { onError: "c" }), step("b", { onError: "c" }), step("c")));
    well.completes("a-1");
    well.completes("b-1");
    expect(skipped(well)).toEqual({ c: "nothing to handle: none failed" });
    const off = superviseRun(
      graph(
        step("a", { onError: "c" }),
        step("b", { when: "false" }),
        step("c", { after: "b", when: "input.missing" }),
      ),
    );
    off.completes("a-1");
    expect(skipped(off)).toMatchObject({ c: "nothing to handle: a did not fail" });
  });

  test("a handler that fails for good fails the run", () => {
    const run = superviseRun(booking);
    run.fails("charge-1");
    run.fails("refund-1", { code: "x", message: "no", retryable: false });
    expect(run.end()).toMatchObject({ type: "run.failed", data: { error: { message: "step refund: no" } } });
  });
});

describe("switch", () => {
  const routed = graph(
    step("classify", {
      switch: {
        on: "steps.classify.output.kind",
        cases: { bug: "fix", crash: "fix", 'a "question"': "answer" },
        default: "other",
      },
    }),
    step("fix"),
    step("answer", { when: "input == 'bees'" }),
    step("other"),
  );

  test.each([
    ["bug", "fix"],
    ["crash", "fix"],
    ['a "question"', "answer"],
    ["praise", "other"],
    [7, "other"],
  ])("leads %s to %s alone", (kind, taken) => {
    const run = superviseRun(routed);
    expect(run.open()).toEqual(["classify-1"]);
    run.completes("classify-1", { kind });
    expect(run.open()).toEqual([`${taken}-1`]);
    run.completes(`${taken}-1`, "done");
    expect(output(run)).toEqual({ [taken]: "done" });
  });

  test("leaves a step's own condition as it is", () => {
    const run = superviseRun(routed, { input: "wasps" });
    run.completes("classify-1", { kind: 'a "question"' });
    expect(output(run)).toBeNull();
  });

  test("without a default may lead nowhere", () => {
    const run = superviseRun(graph(step("a", { switch: { on: "steps.a.output", cases: { x: "b" } } }), step("b")));
    run.completes("a-1", "y");
    expect(Object.keys(skipped(run))).toEqual(["b"]);
  });
});

describe("what is kept", () => {
  test("a saved run goes on with what had been skipped and had failed", () => {
    const definition = graph(
      step("a", { onError: "continue" }),
      step("b", { when: "false" }),
      step("c", { after: ["a", "b"], needs: "always" }),
      step("d", {
        after: "c",
        input: "{{ steps.a.error.message }}, b {{ steps.b.status }}, {{ steps.?b.?output.orValue(0) }}",
      }),
    );
    const run = superviseRun(definition);
    run.fails("a-1", { code: "e", message: "a went wrong", retryable: false });
    const [accepted] = run.journal[0] ?? [];
    if (accepted?.type !== "run.accepted") throw new Error("no beginning");
    const saved = JSON.parse(JSON.stringify(save(fold(definition, run.journal.flat()))));
    const restored = restore(definition, { runId: "r1", request: accepted.data, acceptedAt: accepted.at }, saved);
    const entries = run.journal.length;
    run.completes("c-1", "C");
    const on = foldOn(restored, run.journal.slice(entries).flat());
    expect(on.context.open["d-1"]?.task.input).toBe("a went wrong, b skipped, 0");
    expect(run.task("d-1").input).toBe("a went wrong, b skipped, 0");
  });

  test("of errors and outputs it is what steps to come can ask for", () => {
    const steps = Array.from({ length: 200 }, (_, i) =>
      step(`s${i}`, { onError: "continue", ...(i > 0 && { after: `s${i - 1}`, needs: "always" as const }) }),
    );
    const run = superviseRun(graph(...steps));
    for (let i = 0; i < 199; i += 1) {
      run.fails(`s${i}-1`, { code: "e", message: "x".repeat(1_000), retryable: false });
    }
    const { open: _open, ...saved } = save(run.snapshot);
    expect(JSON.stringify(saved).match(/x{1000}/g)).toHaveLength(1);
  });

  test("10,000 steps that are skipped one after the other take no stack and no long", () => {
    const steps = Array.from({ length: 10_000 }, (_, i) => step(`s${i}`, i > 0 ? { after: `s${i - 1}` } : {}));
    const definition = graph(step("gate", { switch: { on: "steps.gate.output", cases: { go: "s0" } } }), ...steps);
    const run = superviseRun(definition);
    const since = performance.now();
    run.completes("gate-1", "stay");
    // So much at once does not fit into one entry.
    let more = 0;
    for (; run.end() === undefined; more += 1) run.fires("go-on");
    expect(more).toBe(10);
    for (const entry of run.journal) expect(JSON.stringify(entry).length).toBeLessThan(500_000);
    expect(run.told()).toHaveLength(3 + 10_000 + more + 1);
    expect(output(run)).toBeNull();
    fold(definition, run.journal.flat());
    expectWithin(3_000, "skipped and folded", performance.now() - since);
  });
});
