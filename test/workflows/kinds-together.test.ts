/** Steps of all kinds inside of groups, lists and repetitions, and where runs fail, are undone, and are tried again. */
import { describe, expect, it } from "vitest";
import { childRunIdOf } from "../../src/workflows/child-run-id.ts";
import { defineWorkflow, type StepOptions, type WorkflowOptions } from "../../src/workflows/define-workflow.ts";
import { parseWorkflow } from "../../src/workflows/parse-definition.ts";
import { reusedSteps } from "../../src/workflows/reused-steps.ts";
import { applyEvents } from "../../src/workflows/run-record.ts";
import { advanceStanding, initialStanding } from "../../src/workflows/run-status.ts";
import { fold, foldOn, restore, save } from "../../src/workflows/supervisor.ts";
import { RUN_START, type SupervisedRun, superviseRun } from "../helpers/supervised-run.ts";

type Rest = Partial<Omit<Extract<WorkflowOptions, { steps: unknown }>, "name" | "steps">>;
const define = (steps: StepOptions[], rest: Rest = {}) =>
  defineWorkflow({ name: "flow", steps, ...rest } as WorkflowOptions);

let seq = 0;
function signal(run: SupervisedRun, name: string, payload?: unknown) {
  seq += 1;
  run.fact({ type: "signal.received", data: { seq, kind: "signal", id: `s${seq}`, name, payload } });
}
const approve = (run: SupervisedRun, step: string, choice = "approve") => signal(run, "approval", { step, choice });
const record = (run: SupervisedRun) => applyEvents(undefined, run.journal.flat());
const row = (run: SupervisedRun, id: string) => record(run).steps.find((step) => step.id === id);
const output = (run: SupervisedRun) => (run.end()?.data as { output?: unknown } | undefined)?.output;
const instant = (entry: number) => new Date(RUN_START + entry * 1_000).toISOString();
const decided = (run: SupervisedRun) => run.decisions.map(({ type }) => type);

/** Whoever folds the journal, whole or from a saved state, stands where the run does. */
function expectFolds(definition: ReturnType<typeof define>, run: SupervisedRun) {
  expect(fold(definition, run.journal.flat()).context).toEqual(run.snapshot.context);
  for (let at = 1; at < run.journal.length; at += 1) {
    const before = fold(definition, run.journal.slice(0, at).flat());
    if (before.status === "done") continue;
    const saved = JSON.parse(JSON.stringify(save(before)));
    const after = foldOn(restore(definition, before.context.setup, saved), run.journal.slice(at).flat());
    expect(after.context).toEqual(run.snapshot.context);
  }
}

describe("approvals in a list", () => {
  const definition = define([
    {
      id: "sign",
      forEach: "input",
      concurrency: 2,
      approval: { title: "{{ index }}: {{ item.name }}?", timeoutMs: 9_000, onTimeout: "reject" },
    },
  ]);
  const begun = () => superviseRun(definition, { input: ["a", "b", "c"].map((name) => ({ name })) });

  it("are asked for item by item, as many at once as may be, and give a list of decisions", () => {
    const run = begun();
    expect(record(run)).toMatchObject({ status: "waiting", progress: { total: 3 } });
    expect(record(run).current).toMatchObject([
      { step: "sign/0", title: "0: a?", kind: "approval" },
      { step: "sign/1", title: "1: b?" },
    ]);
    approve(run, "sign/1", "reject");
    expect(record(run).current.map(({ step }) => step)).toEqual(["sign/0", "sign/2"]);
    expect(row(run, "sign/1")).toMatchObject({ kind: "approval", status: "completed" });
    run.fires("expiry.sign/2");
    approve(run, "sign/0");
    expect(output(run)).toMatchObject([
      { choice: "approve", at: instant(3) },
      { choice: "reject", at: instant(1) },
      { choice: "reject", at: instant(2) },
    ]);
    expect(record(run)).toMatchObject({ status: "completed", timers: [] });
    expectFolds(definition, run);
  });

  it("say for which items there is one to decide where nobody says which", () => {
    const run = begun();
    signal(run, "approval", { choice: "approve" });
    expect(run.decisions).toMatchObject([
      { type: "signal.refused", data: { message: "payload.step: expected one of sign/0, sign/1, got none" } },
    ]);
  });

  it("take no room of the run's", () => {
    const both = define(
      [
        { id: "ok", forEach: "[1, 2, 3]", approval: { title: "?" } },
        { id: "pause", wait: { forMs: 5 } },
        { id: "a", agent: "x" },
        { id: "b", agent: "x" },
      ],
      { concurrency: 1 },
    );
    const run = superviseRun(both);
    expect(record(run).current.map(({ step }) => step)).toEqual(["pause", "a", "ok/0", "ok/1", "ok/2"]);
    expect(run.open()).toEqual(["a-1"]);
    run.completes("a-1");
    expect(run.open()).toEqual(["b-1"]);
    run.fires("wait.pause");
    expect(run.open()).toEqual(["b-1"]);
    expectFolds(both, run);
  });
});

describe("waits in a repetition", () => {
  it("begin anew with every iteration, each with a timer of its own", () => {
    const definition = define([
      {
        id: "poll",
        repeat: { until: "steps.look.output.ready", max: 5 },
        steps: [
          { id: "look", tool: "look", input: { n: "{{ index }}" } },
          { id: "pause", after: "look", when: "!steps.look.output.ready", wait: { forMs: 60_000 } },
        ],
      },
    ]);
    const run = superviseRun(definition);
    expect(run.task("poll/0/look-1")).toMatchObject({ agent: "look", kind: "tool", input: { n: 0 } });
    run.completes("poll/0/look-1", { ready: false });
    expect(record(run)).toMatchObject({ status: "waiting", timers: [{ id: "wait.poll/0/pause", dueAt: instant(61) }] });
    run.fires("wait.poll/0/pause");
    expect(run.open()).toEqual(["poll/1/look-1"]);
    run.completes("poll/1/look-1", { ready: true });
    expect(record(run)).toMatchObject({ status: "completed", progress: { percent: 100 } });
    expectFolds(definition, run);
  });

  it("take signals that came before their iteration, one each", () => {
    const definition = define([{ id: "count", repeat: { until: "output.last", max: 5 }, wait: { signal: "tick" } }]);
    const run = superviseRun(definition);
    signal(run, "tick", { last: false });
    expect(record(run).current).toMatchObject([{ step: "count/1", kind: "wait", signal: "tick" }]);
    signal(run, "tick", { last: true });
    expect(output(run)).toEqual({ last: true });
    expectFolds(definition, run);
  });
});

describe("what a step gives that waited", () => {
  const definition = define([
    { id: "paid", wait: { signal: "paid" }, output: { type: "object", required: ["amount"] }, onError: "continue" },
    { id: "next", agent: "x", after: "paid", needs: "always", input: "{{ steps.paid.status }}" },
  ]);

  it("is held to its schema, and not waited for again", () => {
    const run = superviseRun(definition, {}, []);
    signal(run, "paid", { sum: 1 });
    expect(run.decisions[0]).toMatchObject({ type: "step.failed", data: { error: { code: "bad_output" } } });
    expect(run.task("next-1").input).toBe("failed");
    expectFolds(definition, run);
  });

  it("has no retries, also where the workflow's other steps have", () => {
    const { steps } = define(
      [
        { id: "w", wait: { forMs: 5 }, compensate: { tool: "undo" } },
        { id: "t", tool: "x" },
      ],
      { defaults: { retry: { maxAttempts: 4 }, timeoutMs: 7 } },
    ) as { steps: readonly object[] };
    expect(steps).toMatchObject([
      { retry: { maxAttempts: 1 }, compensate: { tool: "undo", retry: { maxAttempts: 4 }, timeoutMs: 7 } },
      { retry: { maxAttempts: 4 }, timeoutMs: 7 },
    ]);
    expect(steps[0]).not.toHaveProperty("timeoutMs");
  });
});

describe("the input of tools and child runs", () => {
  it("is a value, also the first one's in a group and that of each item", () => {
    const definition = define([
      { id: "load", tool: "load", input: { from: "{{ input }}" } },
      {
        id: "group",
        after: "load",
        steps: [
          { id: "first", tool: "t" },
          { id: "words", agent: "x" },
        ],
      },
      { id: "each", after: "load", forEach: "steps.load.output", workflow: "child" },
    ]);
    const run = superviseRun(definition);
    run.completes("load-1", [{ n: 1 }, { n: 2 }]);
    expect(run.task("group/first-1").input).toEqual([{ n: 1 }, { n: 2 }]);
    expect(run.task("group/words-1").input).toMatch(/^<request>/);
    expect(run.task("each/1-1").input).toEqual({ n: 2 });
    expect(run.task("each/1-1").childId).toBe(childRunIdOf("r1", "each/1-1"));
    expect(run.task("each/1-1").childId).toMatch(/^[A-Za-z0-9_-]{1,128}$/);
  });

  it("is what the iteration before gave", () => {
    const definition = define([
      { id: "a", tool: "a", input: {} },
      { id: "loop", after: "a", tool: "t", repeat: { until: "output.n > 1", max: 3 } },
    ]);
    const run = superviseRun(definition);
    run.completes("a-1", { n: 0 });
    expect(run.task("loop/0-1").input).toEqual({ n: 0 });
    run.completes("loop/0-1", { n: 1 });
    expect(run.task("loop/1-1").input).toEqual({ n: 1 });
  });
});

describe("a group that is called off", () => {
  const definition = define(
    [
      {
        id: "group",
        onError: "continue",
        steps: [
          { id: "ok", approval: { title: "?", timeoutMs: 9_000 } },
          { id: "named", wait: { signal: "go" } },
          { id: "pause", wait: { forMs: 60_000 } },
          { id: "child", workflow: "other" },
          { id: "bad", agent: "x" },
        ],
      },
      { id: "after", after: "group", needs: "always", wait: { signal: "go" } },
    ],
    { concurrency: 2 },
  );

  it("withdraws its approvals and waits, and lets go of its child runs", () => {
    const run = superviseRun(definition);
    expect(record(run).current).toHaveLength(5);
    run.fails("group/bad-1");
    const cancelled = run.decisions.flatMap((event) => (event.type === "step.cancelled" ? [event.data] : []));
    expect(cancelled).toEqual([
      { step: "group/ok", kind: "approval", timer: "expiry.group/ok" },
      { step: "group/named", kind: "wait" },
      { step: "group/pause", kind: "wait", timer: "wait.group/pause" },
      { step: "group/child", agent: "other", kind: "workflow", taskId: "group/child-1" },
    ]);
    expect(run.effects).toContainEqual({ type: "stop", child: "group/child-1" });
    expect(run.open()).toEqual([]);
    const { current, timers, steps, progress } = record(run);
    expect(current).toMatchObject([{ step: "after", signal: "go" }]);
    expect(timers).toEqual([]);
    expect(steps.filter(({ status }) => status === "cancelled")).toHaveLength(4);
    // The two steps of the workflow are not among the total: its host says how many there are.
    expect(progress).toMatchObject({ completed: 6, total: 5 });
    const standing = initialStanding();
    advanceStanding(standing, run.journal.flat());
    expect(standing).toMatchObject({ status: "waiting", current, timers: [] });
    expectFolds(definition, run);
  });

  it("takes no decision any more, and gives its signals to who still waits", () => {
    const run = superviseRun(definition);
    run.fails("group/bad-1");
    approve(run, "group/ok");
    expect(run.decisions).toMatchObject([{ type: "signal.refused", data: { code: "not_waiting" } }]);
    signal(run, "go", 7);
    expect(run.end()?.type).toBe("run.completed");
    expectFolds(definition, run);
  });
});

describe("steps that are undone", () => {
  const definition = define([
    { id: "book", tool: "book", input: {}, compensate: { tool: "unbook" } },
    {
      id: "ok",
      after: "book",
      approval: { title: "?" },
      compensate: { tool: "retract", input: { by: "{{ output.by }}" } },
    },
    { id: "child", after: "ok", workflow: "other", compensate: { agent: "undoer" } },
    {
      id: "items",
      after: "child",
      forEach: "[1, 2]",
      tool: "t",
      compensate: { tool: "undo", input: { n: "{{ item }}" } },
    },
    { id: "end", after: "items", agent: "x" },
  ]);

  it("may be of any kind, by a tool as well as by an agent", () => {
    const run = superviseRun(definition);
    run.completes("book-1", { ref: "B7" });
    signal(run, "approval", { choice: "approve", by: "ada" });
    run.completes("child-1", { done: true });
    run.completes("items/0-1");
    run.completes("items/1-1");
    run.fails("end-1");
    expect(run.task("items/1/compensate-1")).toMatchObject({ agent: "undo", kind: "tool", input: { n: 2 } });
    run.completes("items/1/compensate-1");
    run.completes("items/0/compensate-1");
    expect(run.task("child/compensate-1")).toMatchObject({ agent: "undoer" });
    expect(run.task("child/compensate-1")).not.toHaveProperty("kind");
    run.completes("child/compensate-1");
    expect(run.task("ok/compensate-1")).toMatchObject({ agent: "retract", kind: "tool", input: { by: "ada" } });
    run.completes("ok/compensate-1");
    // Without an input a tool is given the step's output.
    expect(run.task("book/compensate-1")).toMatchObject({ agent: "unbook", kind: "tool", input: { ref: "B7" } });
    run.completes("book/compensate-1");
    expect(run.end()?.type).toBe("run.failed");
    expect(record(run).compensations).toMatchObject([
      { step: "items/1", agent: "undo", kind: "tool", status: "completed" },
      { step: "items/0" },
      { step: "child", agent: "undoer" },
      { step: "ok" },
      { step: "book" },
    ]);
    expectFolds(definition, run);
  });

  it.each([
    [{ agent: "x", tool: "y" }, "workflows.flow.steps[0].compensate: expected either `agent` or `tool`, got both"],
    [{ input: 1 }, "workflows.flow.steps[0].compensate: expected either `agent` or `tool`, got neither"],
  ])("are undone by one: %j", (compensate, expected) => {
    const raw = { steps: [{ id: "a", approval: { title: "?" }, compensate }] };
    const { problems } = parseWorkflow("flow", raw, { agents: new Map(), open: true });
    expect(problems.map(({ path, expected, got }) => `${path}: expected ${expected}, got ${got}`)).toEqual([expected]);
  });
});

describe("a run that fails or is cancelled while it waits", () => {
  const definition = define(
    [
      { id: "ok", approval: { title: "?", timeoutMs: 9_000 } },
      { id: "slow", workflow: "other" },
      { id: "bad", agent: "x" },
    ],
    {
      onFailure: [
        { id: "tell", wait: { signal: "heard" } },
        { id: "again", after: "tell", approval: { title: "Again?", timeoutMs: 9_000 } },
        { id: "child", after: "again", workflow: "cleanup" },
        { id: "pause", after: "child", wait: { forMs: 5_000 } },
      ],
    },
  );

  it("withdraws what waits at once, while its child runs are called off", () => {
    const run = superviseRun(definition);
    run.fails("bad-1");
    expect(run.snapshot.value).toBe("failing");
    expect(record(run)).toMatchObject({ status: "failing", current: [{ taskId: "slow-1" }] });
    expect(row(run, "ok")).toMatchObject({ status: "cancelled", endedAt: instant(1) });
    expect(run.effects).toContainEqual({ type: "stop", child: "slow-1" });
    const cancelled = superviseRun(definition);
    cancelled.cancel();
    expect(record(cancelled).current.map(({ step }) => step)).toEqual(["slow", "bad"]);
  });

  it("goes on with steps of every kind that wait because it failed, each under its own name", () => {
    const run = superviseRun(definition);
    signal(run, "heard", "early");
    expect(decided(run)).toEqual([]);
    run.fails("bad-1");
    run.fails("slow-1", { code: "cancelled", message: "as asked" });
    // The signal came before the run failed, and was kept for the step that asks for it now.
    expect(row(run, "onFailure/tell")).toMatchObject({ status: "completed", output: "early" });
    expect(record(run).current).toMatchObject([{ step: "onFailure/again", kind: "approval", title: "Again?" }]);
    expect(Object.keys(run.snapshot.context.timers)).toEqual(["expiry.onFailure/again"]);
    approve(run, "onFailure/again");
    expect(Object.keys(run.snapshot.context.timers)).toEqual([]);
    expect(record(run).timers).toEqual([]);
    const task = run.task("onFailure/child-1");
    expect(task.childId).toBe(childRunIdOf("r1", "onFailure/child-1"));
    run.completes("onFailure/child-1");
    expect(record(run).timers).toMatchObject([{ id: "wait.onFailure/pause", dueAt: instant(run.journal.length + 4) }]);
    run.fires("wait.onFailure/pause");
    expect(run.end()).toMatchObject({ type: "run.failed", data: { error: { message: "step bad: no" } } });
    expectFolds(definition, run);
  });

  it("keeps a signal that comes while its tasks are called off", () => {
    const run = superviseRun(definition);
    run.fails("bad-1");
    signal(run, "heard", 7);
    run.fails("slow-1", { code: "cancelled", message: "as asked" });
    expect(row(run, "onFailure/tell")).toMatchObject({ output: 7 });
    signal(run, "approval", { choice: "reject" });
    expect(row(run, "onFailure/again")).toMatchObject({ output: { choice: "reject" } });
    expectFolds(definition, run);
  });

  it("gives its steps that run because it failed a time that begins with them", () => {
    const late = define([{ id: "a", agent: "x" }], { onFailure: [{ id: "pause", wait: { forMs: 5_000 } }] });
    const run = superviseRun(late);
    run.fails("a-1");
    expect(record(run).timers).toEqual([{ id: "wait.onFailure/pause", dueAt: instant(6) }]);
    expectFolds(late, run);
  });
});

describe("a run that is tried again", () => {
  const definition = define([
    { id: "find", tool: "find", input: {} },
    { id: "ok", after: "find", forEach: "[1, 2]", approval: { title: "?" } },
    {
      id: "group",
      after: "ok",
      steps: [
        { id: "paid", wait: { signal: "paid" } },
        { id: "pause", after: "paid", wait: { forMs: 5 } },
        { id: "child", after: "paid", workflow: "other" },
      ],
    },
    { id: "end", after: "group", agent: "x", input: "{{ steps.ok.output[1].choice }} {{ steps.group.output.child }}" },
  ]);

  it("asks nobody again, waits for no signal twice, and starts no child run that completed", () => {
    const run = superviseRun(definition);
    run.completes("find-1", { n: 1 });
    approve(run, "ok/1", "reject");
    approve(run, "ok/0");
    signal(run, "paid", 12);
    run.fires("wait.group/pause");
    run.completes("group/child-1", "done");
    run.fails("end-1");
    const reused = reusedSteps(definition, run.journal.flat());
    expect(reused.map(({ data }) => data)).toMatchObject([
      { step: "find", agent: "find", kind: "tool", output: { n: 1 } },
      { step: "ok", kind: "approval", output: [{ choice: "approve" }, { choice: "reject" }] },
      { step: "group", output: { pause: null, child: "done" } },
    ]);
    const again = superviseRun(definition, {}, reused);
    expect(again.open()).toEqual(["end-1"]);
    expect(again.task("end-1").input).toBe("reject done");
    expect(row(again, "ok")).toMatchObject({ kind: "approval", reused: true, status: "completed" });
    expectFolds(definition, again);
  });

  it("asks again for what was not decided", () => {
    const run = superviseRun(definition);
    run.completes("find-1");
    approve(run, "ok/0");
    run.cancel();
    const again = superviseRun(definition, {}, reusedSteps(definition, run.journal.flat()));
    expect(record(again).current.map(({ step }) => step)).toEqual(["ok/0", "ok/1"]);
  });
});

describe("definitions", () => {
  const complaints = (step: object, list: "steps" | "onFailure" = "steps") => {
    const raw = { steps: [{ id: "first", agent: "x" }], [list]: [step] };
    const { problems } = parseWorkflow("flow", raw, { agents: new Map(), open: true });
    return problems.map(({ path, expected, got }) => `${path}: expected ${expected}, got ${got}`);
  };

  it.each([
    [
      { id: "a", steps: [{ id: "b", approval: { title: "{{ item }}" } }] },
      "steps[0].steps[0].approval.title: expected `item` only inside of `forEach`",
    ],
    [
      { id: "a", forEach: "[1]", wait: { forMs: 1 }, retry: {} },
      "steps[0].retry: expected no `retry` on a step with `wait`",
    ],
    [
      { id: "a", repeat: { until: "true", max: 2 }, wait: { signal: "approval" } },
      "steps[0].wait.signal: expected another name",
    ],
  ])("say what is wrong inside of groups: %j", (step, expected) => {
    expect(complaints(step).join("\n")).toContain(expected);
  });

  it("may speak of items in the texts of an approval, and of the error in `onFailure`", () => {
    expect(complaints({ id: "a", forEach: "input", approval: { title: "{{ item }} {{ index }}" } })).toEqual([]);
    expect(complaints({ id: "a", approval: { title: "{{ error.code }}" } }, "onFailure")).toEqual([]);
  });
});
