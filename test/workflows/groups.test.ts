/** Steps that hold others: groups, lists, repetitions, and how many tasks they may open. */
import { describe, expect, test } from "vitest";
import { defineWorkflow, type StepOptions } from "../../src/workflows/define-workflow.ts";
import type { RunEvent } from "../../src/workflows/run-events.ts";
import { applyEvents } from "../../src/workflows/run-record.ts";
import { fold, foldOn, restore, save } from "../../src/workflows/supervisor.ts";
import { type SupervisedRun, superviseRun } from "../helpers/supervised-run.ts";

const graph = (...steps: StepOptions[]) => defineWorkflow({ name: "graph", steps });
const output = (run: SupervisedRun) => (run.end()?.data as { output?: unknown } | undefined)?.output;
const events = <T extends RunEvent["type"]>(run: SupervisedRun, type: T) =>
  run.journal.flat().filter((event): event is Extract<RunEvent, { type: T }> => event.type === type);

/** The record of a run of a workflow of so many steps. */
function record(run: SupervisedRun, steps: number) {
  const told = run.journal.flat();
  const [accepted] = told;
  if (accepted?.type !== "run.accepted") throw new Error("no beginning");
  return applyEvents(undefined, [{ ...accepted, data: { ...accepted.data, steps } }, ...told.slice(1)]);
}

const no = { code: "refused", message: "no", retryable: false };

/** Completes what is open, oldest first, with what `give` makes of the task's id and input, until the run ends. */
function completeAll(run: SupervisedRun, give: (taskId: string, input: unknown) => unknown): string[] {
  const asked: string[] = [];
  for (;;) {
    const [taskId] = run.open();
    const [timer] = Object.keys(run.snapshot.context.timers);
    if (run.end()) return asked;
    if (taskId === undefined && timer !== undefined) run.fires(timer);
    else if (taskId === undefined) throw new Error("the run stands still");
    else {
      asked.push(taskId);
      run.completes(taskId, give(taskId, run.task(taskId).input));
    }
  }
}

describe("a group", () => {
  const grouped = graph(
    { id: "facts", agent: "x" },
    {
      id: "check",
      after: "facts",
      steps: [
        { id: "law", agent: "x", input: "law of {{ steps.facts.output }}" },
        { id: "tax", agent: "x", input: "tax of {{ steps.facts.output }}" },
        { id: "sum", agent: "x", after: ["law", "tax"], input: "{{ steps.law.output }}, {{ steps.tax.output }}" },
      ],
    },
    { id: "end", agent: "x", after: "check", input: "{{ steps.check.output }} {{ steps.facts.output }}" },
  );

  test("is a step that is a graph: its steps see what ended before it and each other, and its output is its last step's", () => {
    const run = superviseRun(grouped);
    run.completes("facts-1", "bees");
    expect(run.open()).toEqual(["check/law-1", "check/tax-1"]);
    expect(run.task("check/law-1").input).toBe("law of bees");
    run.completes("check/law-1", "L");
    run.completes("check/tax-1", "T");
    expect(run.task("check/sum-1").input).toBe("L, T");
    run.completes("check/sum-1", "S");
    expect(run.task("end-1").input).toBe("S bees");
    run.completes("end-1", "E");
    expect(output(run)).toBe("E");
    expect(run.told()).toEqual([
      "step.started facts",
      "task.sent facts-1",
      "step.completed facts-1",
      "step.started check",
      "step.started check/law",
      "task.sent check/law-1",
      "step.started check/tax",
      "task.sent check/tax-1",
      "step.completed check/law-1",
      "step.completed check/tax-1",
      "step.started check/sum",
      "task.sent check/sum-1",
      "step.completed check/sum-1",
      "step.completed check",
      "step.started end",
      "task.sent end-1",
      "step.completed end-1",
      "run.completed",
    ]);
  });

  test("with several last steps gives an output by step, those that failed with their errors", () => {
    const run = superviseRun(
      graph({
        id: "g",
        steps: [
          { id: "a", agent: "x" },
          { id: "b", agent: "x", onError: "continue" },
          { id: "c", agent: "x", when: "false" },
        ],
      }),
    );
    run.completes("g/a-1", "A");
    run.fails("g/b-1", no);
    expect(output(run)).toEqual({ a: "A", b: { error: { code: "refused", message: "no" } } });
  });

  test("gives its first steps what a step in its place would be given, or what its `input` says", () => {
    const steps: StepOptions[] = [
      { id: "in", agent: "x" },
      { id: "next", agent: "x", after: "in" },
    ];
    const run = superviseRun(
      graph({ id: "a", agent: "x" }, { id: "g", after: "a", steps }, { id: "h", input: { n: 1 }, steps }),
    );
    expect(run.task("h/in-1").input).toEqual({ n: 1 });
    run.completes("a-1", "A");
    const given = '<request>\nbees\n</request>\n\n<output step="a">\nA\n</output>';
    expect(run.task("g/in-1").input).toBe(given);
    run.completes("g/in-1", "I");
    expect(run.task("g/next-1").input).toBe(`<request>\n${given}\n</request>\n\n<output step="in">\nI\n</output>`);
  });

  test("is skipped as one, with its condition and its needs", () => {
    const run = superviseRun(
      graph(
        { id: "g", when: "input == 'wasps'", steps: [{ id: "a", agent: "x" }] },
        { id: "h", after: "g", steps: [{ id: "a", agent: "x" }] },
      ),
    );
    expect(run.told()).toEqual(["step.skipped g", "step.skipped h", "run.completed"]);
  });

  test("takes conditions, switches and handlers inside as a workflow does", () => {
    const run = superviseRun(
      graph({
        id: "g",
        steps: [
          { id: "kind", agent: "x", switch: { on: "steps.kind.output", cases: { good: "praise", bad: "blame" } } },
          { id: "praise", agent: "x", onError: "rescue" },
          { id: "blame", agent: "x" },
          { id: "rescue", agent: "x", input: "{{ steps.praise.error.code }}" },
        ],
      }),
    );
    run.completes("g/kind-1", "good");
    expect(run.told()).toContain("step.skipped g/blame");
    run.fails("g/praise-1", no);
    expect(run.task("g/rescue-1").input).toBe("refused");
    run.completes("g/rescue-1", "R");
    expect(output(run)).toEqual({ praise: { error: { code: "refused", message: "no" } }, rescue: "R" });
  });

  test("that fails fails the run, with the path of the step that failed", () => {
    const run = superviseRun(graph({ id: "g", steps: [{ id: "h", steps: [{ id: "a", agent: "x" }] }] }));
    run.fails("g/h/a-1", no);
    expect(run.told().slice(-4)).toEqual(["step.failed g/h/a-1", "step.failed g/h", "step.failed g", "run.failed"]);
    expect(run.end()?.data).toEqual({ error: { ...no, message: "step g/h/a: no" } });
  });

  test("that fails where the run goes on calls off what is at work in it, tasks and retries", () => {
    const run = superviseRun(
      graph(
        {
          id: "g",
          onError: "continue",
          steps: [
            { id: "a", agent: "x" },
            { id: "b", agent: "x" },
            { id: "c", agent: "x", retry: { maxAttempts: 2 } },
            { id: "d", agent: "x", after: "a" },
            { id: "inner", steps: [{ id: "e", agent: "x" }] },
          ],
        },
        { id: "beside", agent: "x" },
        { id: "end", agent: "x", after: "g", needs: "always", input: "{{ steps.g.error.message }}" },
      ),
    );
    run.fails("g/c-1");
    run.fails("g/b-1", no);
    expect(events(run, "step.cancelled").map(({ data }) => data)).toEqual([
      { step: "g/a", agent: "x", taskId: "g/a-1" },
      { step: "g/c", agent: "x", timer: "retry.g/c" },
      { step: "g/inner" },
      { step: "g/inner/e", agent: "x", taskId: "g/inner/e-1" },
    ]);
    expect(run.effects).toEqual(
      expect.arrayContaining([
        { type: "stop", child: "g/a-1" },
        { type: "stop", child: "timer.retry.g/c" },
      ]),
    );
    expect(run.open()).toEqual(["beside-1", "end-1"]);
    expect(run.snapshot.context.timers).toEqual({});
    expect(run.task("end-1").input).toBe("step g/b: no");
    const before = run.journal.length;
    run.completes("g/a-1", "late");
    expect(run.journal[before]).toHaveLength(1);
    const { steps, progress, current, timers } = record(run, 3);
    expect(Object.fromEntries(steps.map(({ id, status }) => [id, status]))).toEqual({
      g: "failed",
      "g/a": "cancelled",
      "g/b": "failed",
      "g/c": "cancelled",
      "g/inner": "cancelled",
      "g/inner/e": "cancelled",
      beside: "running",
      end: "running",
    });
    expect(current.map(({ taskId }) => taskId)).toEqual(["beside-1", "end-1"]);
    expect(timers).toEqual([]);
    // Three steps, five in the group, one in the group in it: `g` and all in it are done with.
    expect(progress).toEqual({ completed: 7, total: 9, percent: 78 });
  });
});

describe("the time of a group", () => {
  const timed = graph(
    {
      id: "each",
      forEach: "input",
      onError: "continue",
      timeoutMs: 60_000,
      steps: [
        { id: "a", agent: "x" },
        { id: "inner", timeoutMs: 90_000, steps: [{ id: "b", agent: "x", retry: { maxAttempts: 2 } }] },
      ],
    },
    { id: "end", agent: "x", after: "each", input: "{{ steps.each.output }}" },
  );

  test("is that of each instance, and over with it", () => {
    const run = superviseRun(timed, { input: [1, 2] });
    expect(Object.keys(run.snapshot.context.timers)).toEqual([
      "timeout.each/0",
      "timeout.each/1",
      "timeout.each/0/inner",
      "timeout.each/1/inner",
    ]);
    run.completes("each/0/a-1", "A");
    run.completes("each/0/inner/b-1", "B");
    expect(Object.keys(run.snapshot.context.timers)).toEqual(["timeout.each/1", "timeout.each/1/inner"]);
    expect(run.effects).toContainEqual({ type: "stop", child: "timer.timeout.each/0" });
    run.fails("each/1/inner/b-1");
    run.fires("timeout.each/1");
    expect(run.snapshot.context.timers).toEqual({});
    expect(run.open()).toEqual(["end-1"]);
    expect(events(run, "step.cancelled").map(({ data }) => data)).toEqual([
      { step: "each/1/a", agent: "x", taskId: "each/1/a-1" },
      { step: "each/1/inner", timer: "timeout.each/1/inner" },
      { step: "each/1/inner/b", agent: "x", timer: "retry.each/1/inner/b" },
    ]);
    expect(run.task("end-1").input).toEqual([
      { a: "A", inner: "B" },
      { error: { code: "timeout", message: "the group took longer than 60000 ms" } },
    ]);
    const { timers, current } = record(run, 2);
    expect({ timers, current: current.map(({ taskId }) => taskId) }).toEqual({ timers: [], current: ["end-1"] });
  });

  test("is over with one that fails, and fails the run where nothing goes on", () => {
    const run = superviseRun(graph({ id: "g", timeoutMs: 1_000, steps: [{ id: "a", agent: "x" }] }));
    run.fires("timeout.g");
    expect(run.end()?.data).toEqual({
      error: { code: "timeout", message: "step g: the group took longer than 1000 ms" },
    });
    const failed = superviseRun(
      graph(
        { id: "g", onError: "continue", timeoutMs: 1_000, steps: [{ id: "a", agent: "x" }] },
        { id: "b", agent: "x" },
      ),
    );
    failed.fails("g/a-1", no);
    expect(failed.snapshot.context.timers).toEqual({});
    expect(record(failed, 2).timers).toEqual([]);
  });
});

describe("forEach", () => {
  const reviews = (more: Partial<StepOptions> = {}) =>
    graph(
      { id: "split", agent: "x" },
      { id: "review", agent: "x", after: "split", forEach: "steps.split.output.clauses", ...more } as StepOptions,
      { id: "sum", agent: "x", after: "review", input: "{{ steps.review.output }}" },
    );

  test("does a step once for each item and gives the outputs in the order of the items, whoever is first", () => {
    const run = superviseRun(reviews({ input: "{{ index + 1 }}: {{ item.text }}" }));
    run.completes("split-1", { clauses: [{ text: "a" }, { text: "b" }, { text: "c" }] });
    expect(run.open()).toEqual(["review/0-1", "review/1-1", "review/2-1"]);
    expect(run.task("review/1-1").input).toBe("2: b");
    run.completes("review/2-1", "C");
    run.completes("review/0-1", "A");
    expect(run.open()).toEqual(["review/1-1"]);
    run.completes("review/1-1", "B");
    expect(run.task("sum-1").input).toEqual(["A", "B", "C"]);
    expect(events(run, "step.started").find(({ data }) => data.step === "review")?.data).toEqual({
      step: "review",
      group: { type: "forEach", size: 3 },
    });
  });

  test("gives the item itself where there is no `input`", () => {
    const run = superviseRun(reviews());
    run.completes("split-1", { clauses: [{ text: "a" }, 7] });
    expect(run.task("review/0-1").input).toEqual({ text: "a" });
    expect(run.task("review/1-1").input).toBe(7);
  });

  test("of an empty list completes at once with an empty list", () => {
    const run = superviseRun(reviews());
    run.completes("split-1", { clauses: [] });
    expect(run.task("sum-1").input).toEqual([]);
    expect(record(run, 3).progress).toEqual({ completed: 2, total: 3, percent: 67 });
  });

  test.each([
    ["text", { clauses: "a, b" }, '"a, b"'],
    ["a map", { clauses: { a: 1 } }, '{"a":1}'],
    ["nothing", {}, "No such key: clauses"],
  ])("of %s fails with bad_list and says where and what came", (_, given, got) => {
    const run = superviseRun(reviews());
    run.completes("split-1", given);
    const message = `workflows.graph.steps[1].forEach: expected steps.split.output.clauses to be a list, got: ${got}`;
    expect(events(run, "step.failed")[0]?.data).toEqual({ step: "review", error: { code: "bad_list", message } });
    expect(run.end()?.data).toMatchObject({ error: { code: "bad_list", message: `step review: ${message}` } });
  });

  test("has as many items at work as its concurrency says, in order", () => {
    const run = superviseRun(reviews({ concurrency: 2 }));
    run.completes("split-1", { clauses: [1, 2, 3, 4] });
    expect(run.open()).toEqual(["review/0-1", "review/1-1"]);
    run.completes("review/1-1");
    expect(run.open()).toEqual(["review/0-1", "review/2-1"]);
    run.completes("review/2-1");
    expect(run.open()).toEqual(["review/0-1", "review/3-1"]);
  });

  test("has 32 at work where nothing is said", () => {
    const run = superviseRun(reviews());
    run.completes("split-1", { clauses: Array.from({ length: 40 }, (_, i) => i) });
    expect(run.open()).toHaveLength(32);
    expect(completeAll(run, (taskId) => taskId)).toHaveLength(41);
  });

  test("whose item fails for good fails, and what is at work on others is over with the run", () => {
    const run = superviseRun(reviews());
    run.completes("split-1", { clauses: [1, 2] });
    run.fails("review/1-1", no);
    expect(run.told().slice(-3)).toEqual(["step.failed review/1-1", "step.failed review", "run.failed"]);
    expect(run.effects).toContainEqual({ type: "stop", child: "review/0-1" });
    expect(run.end()?.data).toMatchObject({ error: { message: "step review/1: no" } });
  });

  test("with `onError: continue` has errors in the places of items that failed", () => {
    const run = superviseRun(reviews({ onError: "continue", retry: { maxAttempts: 2 } }));
    run.completes("split-1", { clauses: [1, 2] });
    run.fails("review/0-1");
    run.fires("retry.review/0");
    run.fails("review/0-2");
    run.completes("review/1-1", "B");
    expect(run.task("sum-1").input).toEqual([{ error: { code: "model_error", message: "no" } }, "B"]);
    expect(record(run, 3).steps.find(({ id }) => id === "review/0")).toMatchObject({
      status: "failed",
      continued: true,
    });
  });

  test("with a handler goes on with that when an item fails, and calls the others off", () => {
    const run = superviseRun(
      graph(
        { id: "each", agent: "x", forEach: "input", onError: "help" },
        { id: "help", agent: "x", input: "{{ steps.each.error.message }}" },
      ),
      { input: [1, 2, 3] },
    );
    run.fails("each/1-1", no);
    expect(run.open()).toEqual(["help-1"]);
    expect(run.task("help-1").input).toBe("step each/1: no");
    expect(events(run, "step.cancelled").map(({ data }) => data.taskId)).toEqual(["each/0-1", "each/2-1"]);
  });

  test("of a group does all of it for each item; items that wait for nothing go ahead", () => {
    const run = superviseRun(
      graph({
        id: "each",
        forEach: "input",
        steps: [
          { id: "a", agent: "x", when: "item != 2", input: "{{ item }} at {{ index }}" },
          { id: "b", agent: "x", after: "a", needs: "always", input: "{{ steps.a.status }} {{ item }}" },
        ],
      }),
      { input: [1, 2] },
    );
    expect(run.open()).toEqual(["each/0/a-1", "each/1/b-1"]);
    expect(run.task("each/0/a-1").input).toBe("1 at 0");
    expect(run.task("each/1/b-1").input).toBe("skipped 2");
    run.completes("each/1/b-1", "second");
    run.completes("each/0/a-1", "A");
    run.completes("each/0/b-1", "first");
    expect(output(run)).toEqual(["first", "second"]);
  });

  test("of a group with `onError: continue` calls off the rest of an item that fails, and no other item", () => {
    const run = superviseRun(
      graph({
        id: "each",
        forEach: "input",
        onError: "continue",
        steps: [
          { id: "a", agent: "x" },
          { id: "b", agent: "x" },
        ],
      }),
      { input: [1, 2] },
    );
    run.fails("each/0/a-1", no);
    expect(run.open()).toEqual(["each/1/a-1", "each/1/b-1"]);
    run.completes("each/1/a-1", "A");
    run.completes("each/1/b-1", "B");
    expect(output(run)).toEqual([{ error: { code: "refused", message: "step each/0/a: no" } }, { a: "A", b: "B" }]);
    expect(record(run, 1).progress).toEqual({ completed: 7, total: 7, percent: 100 });
  });

  test("whose only last step goes on after an error has that error in its place", () => {
    const run = superviseRun(
      graph({ id: "each", forEach: "input", steps: [{ id: "a", agent: "x", onError: "continue" }] }),
      { input: [1] },
    );
    run.fails("each/0/a-1", no);
    expect(output(run)).toEqual([{ error: { code: "refused", message: "no" } }]);
  });

  test("in forEach goes through the lists of its items", () => {
    const run = superviseRun(
      graph({
        id: "docs",
        forEach: "input",
        steps: [{ id: "clauses", agent: "x", forEach: "item.map(c, {'doc': index, 'text': c})", input: "{{ item }}" }],
      }),
      { input: [["a", "b"], [], ["c"]] },
    );
    const asked = completeAll(run, (_, input) => input);
    expect(asked).toEqual(["docs/0/clauses/0-1", "docs/0/clauses/1-1", "docs/2/clauses/0-1"]);
    expect(output(run)).toEqual([
      [
        { doc: 0, text: "a" },
        { doc: 0, text: "b" },
      ],
      [],
      [{ doc: 2, text: "c" }],
    ]);
  });
});

describe("repeat", () => {
  const refine = (max: number) =>
    graph(
      {
        id: "refine",
        repeat: { until: "steps.score.output.value >= 0.8", max },
        steps: [
          { id: "write", agent: "x", input: "{{ index }}: {{ last == null ? input : last.advice }}" },
          { id: "score", agent: "x", after: "write" },
        ],
      },
      { id: "end", agent: "x", after: "refine", input: "{{ steps.refine.output.value }} {{ steps.refine.exhausted }}" },
    );

  test("does a group again, with what it gave before, until the condition holds", () => {
    const run = superviseRun(refine(5));
    expect(run.task("refine/0/write-1").input).toBe("0: bees");
    run.completes("refine/0/write-1", "draft");
    run.completes("refine/0/score-1", { value: 0.5, advice: "shorter" });
    expect(run.task("refine/1/write-1").input).toBe("1: shorter");
    run.completes("refine/1/write-1", "draft 2");
    run.completes("refine/1/score-1", { value: 0.9, advice: "" });
    expect(run.task("end-1").input).toBe("0.9 false");
    expect(events(run, "step.completed").map(({ data }) => data)).toContainEqual({ step: "refine" });
  });

  test("gives up after the last iteration it may, and says so", () => {
    const run = superviseRun(refine(2));
    for (const i of [0, 1]) {
      run.completes(`refine/${i}/write-1`);
      run.completes(`refine/${i}/score-1`, { value: 0.1, advice: "again" });
    }
    expect(run.task("end-1").input).toBe("0.1 true");
    expect(events(run, "step.completed").map(({ data }) => data)).toContainEqual({ step: "refine", exhausted: true });
    expect(record(run, 2).steps.find(({ id }) => id === "refine")).toMatchObject({
      status: "completed",
      exhausted: true,
    });
    // refine and end, two iterations, two steps in each.
    expect(record(run, 2).progress).toEqual({ completed: 7, total: 8, percent: 88 });
  });

  test("of one agent gives it the request and its last answer", () => {
    const run = superviseRun(graph({ id: "draft", agent: "x", repeat: { until: "output.done", max: 3 } }));
    expect(run.task("draft/0-1").input).toBe("bees");
    run.completes("draft/0-1", { done: false, text: "one" });
    expect(run.task("draft/1-1").input).toBe(
      '<request>\nbees\n</request>\n\n<output step="draft">\n{"done":false,"text":"one"}\n</output>',
    );
    run.completes("draft/1-1", { done: true, text: "two" });
    expect(output(run)).toEqual({ done: true, text: "two" });
  });

  test("may ask in its condition for any step of the iteration, also for those that others come after", () => {
    const run = superviseRun(
      graph({
        id: "r",
        repeat: { until: "steps.a.output == 7", max: 3 },
        steps: [
          { id: "a", agent: "x" },
          { id: "b", agent: "x", after: "a", input: "b" },
        ],
      }),
    );
    run.completes("r/0/a-1", 6);
    run.completes("r/0/b-1", "B");
    run.completes("r/1/a-1", 7);
    run.completes("r/1/b-1", "C");
    expect(output(run)).toBe("C");
  });

  test("whose condition cannot be told fails the step, not the iteration", () => {
    const run = superviseRun(graph({ id: "a", agent: "x", repeat: { until: "output.done", max: 3 } }));
    run.completes("a/0-1", "text");
    expect(run.told().slice(-3)).toEqual(["step.completed a/0-1", "step.failed a", "run.failed"]);
    expect(run.end()?.data).toMatchObject({ error: { code: "condition_failed" } });
  });

  test("whose iteration fails goes on where the step says, without another iteration", () => {
    const run = superviseRun(
      graph(
        { id: "a", agent: "x", repeat: { until: "false", max: 3 }, onError: "continue" },
        { id: "b", agent: "x", after: "a", needs: "always", input: "{{ steps.a.error.message }}" },
      ),
    );
    run.completes("a/0-1");
    run.fails("a/1-1", no);
    expect(run.open()).toEqual(["b-1"]);
    expect(run.task("b-1").input).toBe("step a/1: no");
  });

  test("in forEach in repeat keeps each one's own item, index and last", () => {
    const run = superviseRun(
      graph({
        id: "rounds",
        repeat: { until: "output.all(text, text.contains('r1'))", max: 3 },
        steps: [
          {
            id: "each",
            forEach: "input",
            steps: [
              {
                id: "polish",
                agent: "x",
                repeat: { until: "output.endsWith('!')", max: 4 },
                input: "{{ item }} {{ index }} {{ last }}",
              },
            ],
          },
        ],
      }),
      { input: ["a", "b"] },
    );
    const seen: string[] = [];
    completeAll(run, (taskId, input) => {
      seen.push(`${taskId} ${input}`);
      const round = taskId.split("/")[1];
      return /polish\/1-/.test(taskId) ? `r${round}!` : "more";
    });
    expect(seen).toEqual([
      "rounds/0/each/0/polish/0-1 a 0 null",
      "rounds/0/each/1/polish/0-1 b 0 null",
      "rounds/0/each/0/polish/1-1 a 1 more",
      "rounds/0/each/1/polish/1-1 b 1 more",
      "rounds/1/each/0/polish/0-1 a 0 null",
      "rounds/1/each/1/polish/0-1 b 0 null",
      "rounds/1/each/0/polish/1-1 a 1 more",
      "rounds/1/each/1/polish/1-1 b 1 more",
    ]);
    expect(output(run)).toEqual(["r1!", "r1!"]);
  });
});

describe("the concurrency of a workflow", () => {
  const narrow = (concurrency: number, ...steps: StepOptions[]) =>
    defineWorkflow({ name: "narrow", concurrency, steps });

  test("bounds the tasks that are open; what waits goes in the order it became ready", () => {
    const run = superviseRun(
      narrow(
        2,
        { id: "a", agent: "x" },
        { id: "b", agent: "x" },
        { id: "c", agent: "x" },
        { id: "a2", agent: "x", after: "a" },
        { id: "d", agent: "x" },
      ),
    );
    expect(run.open()).toEqual(["a-1", "b-1"]);
    expect(run.told()).not.toContain("step.started c");
    run.completes("a-1");
    expect(run.open()).toEqual(["b-1", "c-1"]);
    run.completes("b-1");
    expect(run.open()).toEqual(["c-1", "d-1"]);
    run.completes("c-1");
    expect(run.open()).toEqual(["d-1", "a2-1"]);
  });

  test("counts no step that waits for its next attempt, which then waits for room like others", () => {
    const run = superviseRun(
      narrow(1, { id: "a", agent: "x", retry: { maxAttempts: 2 } }, { id: "b", agent: "x" }, { id: "c", agent: "x" }),
    );
    run.fails("a-1");
    expect(run.open()).toEqual(["b-1"]);
    run.fires("retry.a");
    expect(run.open()).toEqual(["b-1"]);
    run.completes("b-1");
    expect(run.open()).toEqual(["c-1"]);
    run.completes("c-1");
    expect(run.open()).toEqual(["a-2"]);
  });

  test("passes over what was called off while it waited", () => {
    const run = superviseRun(
      narrow(
        2,
        {
          id: "g",
          onError: "continue",
          steps: [
            { id: "a", agent: "x" },
            { id: "b", agent: "x" },
            { id: "c", agent: "x" },
          ],
        },
        { id: "d", agent: "x" },
      ),
    );
    expect(run.open()).toEqual(["d-1", "g/a-1"]);
    run.fails("g/a-1", no);
    expect(run.open()).toEqual(["d-1"]);
    expect(run.told().filter((words) => words.startsWith("step.cancelled"))).toEqual([]);
    run.completes("d-1", "D");
    expect(output(run)).toMatchObject({ d: "D" });
  });

  test("is 500 where nothing is said, so that what a fact makes due fits into an entry", { timeout: 120_000 }, () => {
    const each = { id: "each", forEach: "input", concurrency: 500 } as const;
    const run = superviseRun(graph({ ...each, steps: [{ id: "of", agent: "x", forEach: "item", concurrency: 500 }] }), {
      input: Array.from({ length: 100 }, () => Array.from({ length: 10 }, (_, i) => i)),
    });
    while (run.snapshot.context.timers["go-on"]) run.fires("go-on");
    expect(run.open()).toHaveLength(500);
    for (const entry of run.journal.slice(1)) expect(JSON.stringify(entry).length).toBeLessThan(700_000);
    expect(completeAll(run, (taskId) => taskId)).toHaveLength(1_000);
    expect((output(run) as string[][])[99]?.[9]).toBe("each/99/of/9-1");
  });
});

describe("what is kept", () => {
  test("a saved run goes on in the midst of everything, and makes its lists again", () => {
    const definition = graph(
      { id: "split", agent: "x" },
      {
        id: "each",
        after: "split",
        forEach: "steps.split.output",
        concurrency: 2,
        steps: [
          { id: "loop", agent: "x", repeat: { until: "index == 1", max: 9 }, input: "{{ item }} {{ last }}" },
          { id: "b", agent: "x", after: "loop", input: "{{ item }} {{ steps.split.output }}" },
        ],
      },
    );
    const run = superviseRun(definition);
    const started = run.journal[0]?.[0];
    if (started?.type !== "run.accepted") throw new Error("no beginning");
    const setup = { runId: "r1", request: started.data, acceptedAt: started.at };
    run.completes("split-1", ["a", "b", "c"]);
    const states: [number, unknown][] = [];
    completeAll(run, (taskId, input) => {
      states.push([run.journal.length, JSON.parse(JSON.stringify(save(run.snapshot)))]);
      return `${taskId}: ${JSON.stringify(input)}`;
    });
    const plain = ({ context: { plan: _plan, ...rest }, value }: SupervisedRun["snapshot"]) =>
      JSON.parse(JSON.stringify({ rest, value }));
    for (const [entries, state] of states) {
      const restored = restore(definition, setup, state as Parameters<typeof restore>[2]);
      expect(plain(foldOn(restored, run.journal.slice(entries).flat()))).toEqual(plain(run.snapshot));
    }
    expect(plain(fold(definition, run.journal.flat()))).toEqual(plain(run.snapshot));
    expect(output(run)).toEqual(
      ["a", "b", "c"].map((item, i) => `each/${i}/b-1: ${JSON.stringify(`${item} ["a","b","c"]`)}`),
    );
  });
});
