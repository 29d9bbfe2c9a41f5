import { describe, expect, test } from "vitest";
import { defineWorkflow, type StepOptions } from "../../src/workflows/define-workflow.ts";
import { RUN_START, superviseRun } from "../helpers/supervised-run.ts";

const secondsIn = (seconds: number) => new Date(RUN_START + seconds * 1_000).toISOString();
const graph = (...steps: StepOptions[]) => defineWorkflow({ name: "graph", steps });

describe("a chain", () => {
  const article = defineWorkflow({ name: "article", agents: ["researcher", "writer", "editor"] });

  test("asks one agent after the other and completes with the last one's output", () => {
    const run = superviseRun(article);
    expect(run.open()).toEqual(["researcher-1"]);
    run.completes("researcher-1", "facts");
    expect(run.open()).toEqual(["writer-1"]);
    run.completes("writer-1", "text");
    run.completes("editor-1", { text: "better" });
    expect(run.told()).toEqual([
      "step.started researcher",
      "task.sent researcher-1",
      "step.completed researcher-1",
      "step.started writer",
      "task.sent writer-1",
      "step.completed writer-1",
      "step.started editor",
      "task.sent editor-1",
      "step.completed editor-1",
      "run.completed",
    ]);
    expect(run.end()?.data).toEqual({ output: { text: "better" } });
    expect(run.snapshot.status).toBe("done");
  });

  test("gives the first agent the input as it is and each next one the request and the output before", () => {
    const run = superviseRun(article, { input: { topic: "bees" }, sessionId: "s1" });
    expect(run.task("researcher-1")).toEqual({
      v: 1,
      taskId: "researcher-1",
      runId: "r1",
      workflow: "article",
      definition: article.hash,
      agent: "researcher",
      attempt: 1,
      delivery: 1,
      input: { topic: "bees" },
      sessionId: "s1",
      handoffs: [],
      hops: [],
      limits: {},
    });
    run.completes("researcher-1", "six legs");
    expect(run.task("writer-1").input).toBe(
      '<request>\n{"topic":"bees"}\n</request>\n\n<output step="researcher">\nsix legs\n</output>',
    );
  });

  test("an output of null, false or nothing counts as an output", () => {
    for (const output of [null, false, 0, ""]) {
      const run = superviseRun(defineWorkflow({ name: "two", agents: ["a", "b"] }));
      run.completes("a-1", output);
      run.completes("b-1", output);
      expect(run.end()).toMatchObject({ type: "run.completed", data: { output } });
    }
  });
});

describe("branches", () => {
  const joined = graph(
    { id: "a", agent: "x" },
    { id: "b", agent: "x", after: "a" },
    { id: "c", agent: "x", after: "a" },
    { id: "d", agent: "x", after: ["b", "c"] },
  );

  test("run in parallel and join only when all have completed, whichever is first", () => {
    for (const [first, second] of [
      ["b-1", "c-1"],
      ["c-1", "b-1"],
    ] as const) {
      const run = superviseRun(joined);
      run.completes("a-1");
      expect(run.open()).toEqual(["b-1", "c-1"]);
      run.completes(first);
      expect(run.open()).toEqual([second]);
      run.completes(second);
      expect(run.open()).toEqual(["d-1"]);
      run.completes("d-1", "joined");
      expect(run.end()?.data).toEqual({ output: "joined" });
    }
  });

  test("a join is given every branch's output in the order it names them", () => {
    const run = superviseRun(joined);
    run.completes("a-1");
    run.completes("c-1", "C");
    run.completes("b-1", "B");
    expect(run.task("d-1").input).toBe(
      '<request>\nbees\n</request>\n\n<output step="b">\nB\n</output>\n\n<output step="c">\nC\n</output>',
    );
  });

  test("several last steps give the run an output by step", () => {
    const run = superviseRun(graph({ id: "a", agent: "x" }, { id: "b", agent: "y" }));
    expect(run.open()).toEqual(["a-1", "b-1"]);
    run.completes("b-1", 2);
    expect(run.end()).toBeUndefined();
    run.completes("a-1", 1);
    expect(run.end()?.data).toEqual({ output: { a: 1, b: 2 } });
  });

  test("one that fails stops the others and keeps what was finished on record", () => {
    const run = superviseRun(joined);
    run.completes("a-1", "kept");
    run.fails("b-1", { code: "model_refused", message: "no", retryable: false });
    expect(run.end()).toMatchObject({
      type: "run.failed",
      data: { error: { code: "model_refused", message: "step b: no" } },
    });
    expect(run.effects).toContainEqual({ type: "stop", child: "c-1" });
    expect(run.told()).toContain("step.completed a-1");
    const settled = run.journal.flat().find(({ type }) => type === "task.settled");
    expect(settled?.data).toMatchObject({ taskId: "a-1", outcome: { output: "kept" } });
  });

  test("the second failure of two that come together changes nothing", () => {
    const run = superviseRun(graph({ id: "a", agent: "x" }, { id: "b", agent: "y" }));
    run.fails("a-1");
    run.fails("b-1");
    expect(run.told().filter((words) => words.startsWith("run."))).toEqual(["run.failed"]);
    expect(run.decisions).toEqual([]);
  });
});

describe("retries", () => {
  const retry = { maxAttempts: 3, delayMs: 1_000 };
  const tried = graph({ id: "a", agent: "x", retry, timeoutMs: 700 }, { id: "b", agent: "y", after: "a" });

  test("ask again after a delay under a new task id, until it works", () => {
    const run = superviseRun(tried);
    run.fails("a-1");
    expect(run.open()).toEqual([]);
    expect(run.decisions.map(({ type }) => type)).toEqual(["step.retrying", "timer.set"]);
    expect(run.effects).toContainEqual(expect.objectContaining({ type: "timer", id: "retry.a" }));
    run.fires("retry.a");
    expect(run.task("a-2")).toMatchObject({ taskId: "a-2", attempt: 2, delivery: 1, input: "bees", timeoutMs: 700 });
    run.completes("a-2");
    expect(run.open()).toEqual(["b-1"]);
  });

  test("end with the last attempt's error", () => {
    const run = superviseRun(tried);
    for (const attempt of [1, 2, 3]) {
      run.fails(`a-${attempt}`, { code: `error_${attempt}`, message: "no" });
      if (attempt < 3) run.fires("retry.a");
    }
    expect(run.end()?.data).toEqual({ error: { code: "error_3", message: "step a: no" } });
  });

  test("are not made of an error that another attempt would meet again", () => {
    const run = superviseRun(tried);
    run.fails("a-1", { code: "unauthorized", message: "no key", retryable: false });
    expect(run.end()?.type).toBe("run.failed");
  });

  test("wait longer each time, within half and the whole of the doubled delay, and never longer than the longest", () => {
    const run = superviseRun(
      graph({ id: "a", agent: "x", retry: { maxAttempts: 6, delayMs: 1_000, maxDelayMs: 3_000 } }),
    );
    const waits = [1, 2, 3, 4, 5].map((attempt) => {
      run.fails(`a-${attempt}`);
      const set = run.decisions.find(({ type }) => type === "timer.set");
      const dueAt = set?.type === "timer.set" ? Date.parse(set.data.dueAt) : 0;
      const waited = dueAt - Date.parse(run.journal.at(-1)?.[0]?.at ?? "");
      run.fires("retry.a");
      return waited;
    });
    const full = [1_000, 2_000, 3_000, 3_000, 3_000];
    waits.forEach((wait, i) => {
      expect(wait).toBeGreaterThanOrEqual((full[i] as number) / 2);
      expect(wait).toBeLessThanOrEqual(full[i] as number);
    });
    expect(new Set(waits.slice(2)).size).toBe(3);
  });

  test("with a fixed delay always wait the same", () => {
    const run = superviseRun(
      graph({ id: "a", agent: "x", retry: { maxAttempts: 3, backoff: "fixed", delayMs: 1_500 } }),
    );
    run.fails("a-1");
    expect(run.decisions).toContainEqual({ type: "timer.set", data: { id: "retry.a", dueAt: secondsIn(2.5) } });
    run.fires("retry.a");
    run.fails("a-2");
    expect(run.decisions).toContainEqual({ type: "timer.set", data: { id: "retry.a", dueAt: secondsIn(4.5) } });
  });

  test("of one branch leave the other alone", () => {
    const run = superviseRun(graph({ id: "a", agent: "x", retry }, { id: "b", agent: "y" }));
    run.fails("a-1");
    expect(run.open()).toEqual(["b-1"]);
    run.completes("b-1", "B");
    expect(run.end()).toBeUndefined();
    run.fires("retry.a");
    run.completes("a-2", "A");
    expect(run.end()?.data).toEqual({ output: { a: "A", b: "B" } });
  });
});

describe("a template", () => {
  test("gives a step what it names, as a value where it is nothing else", () => {
    const run = superviseRun(
      graph(
        { id: "a", agent: "x", input: { topic: "{{ input.topic }}", run: "run {{ run.id }} of {{ run.workflow }}" } },
        { id: "b", agent: "y", after: "a", input: "{{ steps.a.output.list }}" },
        { id: "c", agent: "y", after: "b", input: "{{ steps.a.output.list[0] }} and {{ previous.output }}" },
      ),
      { input: { topic: "bees" } },
    );
    expect(run.task("a-1").input).toEqual({ topic: "bees", run: "run r1 of graph" });
    run.completes("a-1", { list: ["one", "two"] });
    expect(run.task("b-1").input).toEqual(["one", "two"]);
    run.completes("b-1", "B");
    expect(run.task("c-1").input).toBe("one and B");
  });

  test("that finds nothing fails the step and the run at once, however many retries there are", () => {
    const run = superviseRun(
      graph(
        { id: "a", agent: "x" },
        { id: "b", agent: "y", after: "a", input: "{{ steps.a.output.missing }}", retry: { maxAttempts: 5 } },
      ),
    );
    run.completes("a-1", { there: 1 });
    expect(run.told().slice(-4)).toEqual(["step.completed a-1", "step.started b", "step.failed b-1", "run.failed"]);
    expect(run.end()?.data).toMatchObject({
      error: { code: "template_failed", message: expect.stringMatching(/^step b: .*missing/) },
    });
  });

  test("that finds nothing in a first step fails the run from the start, and stops the step beside it", () => {
    const run = superviseRun(graph({ id: "a", agent: "x" }, { id: "b", agent: "y", input: "{{ input.topic }}" }));
    expect(run.end()).toMatchObject({ type: "run.failed", data: { error: { code: "template_failed" } } });
    expect(run.effects).toContainEqual({ type: "stop", child: "a-1" });
  });
});

test("a handoff in a deterministic workflow fails its step with the reason", () => {
  const run = superviseRun(defineWorkflow({ name: "two", agents: ["a", "b"] }));
  run.handsOff("a-1", { to: "b" });
  expect(run.end()?.data).toEqual({
    error: { code: "handoff_not_allowed", message: "step a: a deterministic workflow has no handoffs" },
  });
});

test("steps with the names of what every object has are steps like others", () => {
  const ids = ["constructor", "toString", "hasOwnProperty", "valueOf"];
  const run = superviseRun(
    graph(...ids.map((id, i) => ({ id, agent: "x", ...(i > 0 && { after: ids.slice(i - 1, i) }) }))),
  );
  for (const id of ids) run.completes(`${id}-1`, id);
  expect(run.end()?.data).toEqual({ output: "valueOf" });
});

test("steps whose ids end in numbers do not mix up their tasks", () => {
  const retry = { maxAttempts: 2 };
  const run = superviseRun(graph({ id: "a", agent: "x", retry }, { id: "a-2", agent: "y", retry }));
  run.fails("a-1");
  run.fires("retry.a");
  expect(run.open()).toEqual(["a-2-1", "a-2"]);
  run.completes("a-2", "first");
  run.completes("a-2-1", "second");
  expect(run.end()?.data).toEqual({ output: { a: "first", "a-2": "second" } });
});
