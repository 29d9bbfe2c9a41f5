/** Groups, lists and repetitions in a run that fails, is undone, or is tried again. */
import { describe, expect, test } from "vitest";
import { defineWorkflow, type StepOptions } from "../../src/workflows/define-workflow.ts";
import { reusedSteps } from "../../src/workflows/reused-steps.ts";
import { applyEvents } from "../../src/workflows/run-record.ts";
import { decide, fold, restore, save } from "../../src/workflows/supervisor.ts";
import { RUN_START, type SupervisedRun, superviseRun } from "../helpers/supervised-run.ts";

const graph = (...steps: StepOptions[]) => defineWorkflow({ name: "w", steps });
const secondsIn = (seconds: number) => new Date(RUN_START + seconds * 1_000).toISOString();
const undo = { compensate: { agent: "undoer", input: "{{ output }}" } };
const timersOf = (run: SupervisedRun) => run.snapshot.context.timers;

describe("a group", () => {
  test("whose name ends in onFailure is undone as any other", () => {
    const run = superviseRun(
      graph(
        { id: "my-onFailure", steps: [{ id: "a", agent: "x", compensate: { agent: "u", retry: { maxAttempts: 2 } } }] },
        { id: "b", agent: "x" },
      ),
    );
    run.completes("my-onFailure/a-1");
    run.fails("b-1");
    run.fails("my-onFailure/a/compensate-1");
    run.fires("retry.my-onFailure/a/compensate");
    run.completes("my-onFailure/a/compensate-2");
    expect(run.end()?.type).toBe("run.failed");
  });

  test("in onFailure has its time from when it begins", () => {
    const definition = defineWorkflow({
      name: "w",
      steps: [{ id: "a", agent: "x" }],
      onFailure: [{ id: "tell", timeoutMs: 1_500, steps: [{ id: "mail", agent: "x" }] }],
    });
    const run = superviseRun(definition);
    run.fact({ type: "timer.fired", data: { id: "nothing" } });
    run.fails("a-1");
    expect(timersOf(run)).toEqual({ "timeout.onFailure/tell": secondsIn(3.5) });
  });

  test("in onFailure has its time from when everything is undone, also after a takeover", () => {
    const definition = defineWorkflow({
      name: "w",
      steps: [
        { id: "a", agent: "x", ...undo },
        { id: "b", agent: "x", after: "a" },
      ],
      onFailure: [{ id: "tell", timeoutMs: 1_500, steps: [{ id: "mail", agent: "x" }] }],
    });
    const run = superviseRun(definition);
    run.completes("a-1");
    run.fails("b-1");
    run.completes("a/compensate-1");
    expect(timersOf(run)).toEqual({ "timeout.onFailure/tell": secondsIn(4.5) });
    expect(fold(definition, run.journal.flat()).context.timers).toEqual(timersOf(run));
  });

  test("of a run that had to wait for its time has its own from when the run begins", () => {
    const definition = graph({ id: "g", timeoutMs: 1_000, steps: [{ id: "a", agent: "x" }] });
    const run = superviseRun(definition, { notBefore: secondsIn(3_600) });
    const fired = { type: "timer.fired", data: { id: "start" }, at: secondsIn(3_601) } as const;
    expect(decide(run.snapshot, fired).snapshot.context.timers).toEqual({ "timeout.g": secondsIn(3_602) });
  });
});

describe("the steps in onFailure", () => {
  test("are no part of the progress of what failed, whatever groups and items they have", () => {
    const definition = defineWorkflow({
      name: "w",
      steps: [
        { id: "a", agent: "x" },
        { id: "b", agent: "x", after: "a" },
      ],
      onFailure: [
        {
          id: "tell",
          onError: "continue",
          steps: [
            { id: "each", agent: "x", forEach: "[1, 2, 3]" },
            { id: "again", steps: [{ id: "c", agent: "x" }], repeat: { until: "false", max: 2 } },
          ],
        },
        { id: "end", agent: "x", after: "tell", needs: "always" },
      ],
    });
    const run = superviseRun(definition);
    const progress = () => applyEvents(undefined, run.journal.flat()).progress;
    run.completes("a-1");
    run.fails("b-1");
    const before = progress();
    run.completes("onFailure/tell/again/0/c-1");
    run.fails("onFailure/tell/each/1-1");
    run.completes("onFailure/end-1");
    expect(run.end()?.type).toBe("run.failed");
    expect(progress()).toEqual({ ...before, completed: 1 });
  });
});

describe("a group of which so much is called off that the entry has no room for more", () => {
  test("leaves what waits for room to be asked at once", () => {
    const many = 600;
    const definition = graph(
      { id: "a", agent: "x" },
      {
        id: "g",
        onError: "continue",
        steps: [
          { id: "boom", agent: "x" },
          { id: "each", agent: "x", forEach: "input", concurrency: 500 },
        ],
      },
      { id: "h", agent: "x", after: "a" },
    );
    const run = superviseRun(definition, { input: Array.from({ length: many }, (_, i) => i) });
    const goOn = () => {
      while (timersOf(run)["go-on"] !== undefined) run.fires("go-on");
    };
    goOn();
    run.completes("a-1");
    goOn();
    expect(run.open()).toHaveLength(500);
    run.fails("g/boom-1");
    expect(run.open()).toEqual([]);
    run.fires("go-on");
    expect(run.open()).toEqual(["h-1"]);
    expect(fold(definition, run.journal.flat()).context.timers).toEqual({});
    run.completes("h-1", "H");
    expect(run.end()).toMatchObject({ type: "run.completed", data: { output: { h: "H" } } });
  });
});

describe("a task of a group that was called off while the run goes on", () => {
  test("is nobody's any more: what it does all the same is not undone when the run fails later", () => {
    const definition = graph(
      {
        id: "g",
        onError: "continue",
        steps: [
          { id: "a", agent: "x", ...undo },
          { id: "b", agent: "x", ...undo },
          { id: "c", agent: "x" },
        ],
      },
      { id: "pay", agent: "x", after: "g", needs: "always" },
    );
    const run = superviseRun(definition);
    run.completes("g/a-1", "A");
    run.fails("g/c-1");
    run.completes("g/b-1", "too late");
    expect(run.decisions).toEqual([]);
    run.fails("pay-1");
    expect(run.open()).toEqual(["g/a/compensate-1"]);
    expect(run.task("g/a/compensate-1").input).toBe("A");
    run.completes("g/a/compensate-1");
    expect(run.end()?.type).toBe("run.failed");
  });
});

describe("a run that is undone", () => {
  test("says no more in one entry than fits, however many cannot even be asked, and goes on from any of them", () => {
    const definition = graph(
      {
        id: "book",
        agent: "x",
        forEach: "input",
        concurrency: 500,
        compensate: { agent: "u", input: "{{ output.no }}" },
      },
      { id: "pay", agent: "x", after: "book" },
    );
    const many = 700;
    const run = superviseRun(definition, { input: Array.from({ length: many }, (_, i) => i) });
    for (let i = 0; i < many; i += 1) run.completes(`book/${i}-1`, {});
    run.fails("pay-1");
    expect(run.decisions.length).toBeLessThan(500);
    for (let entries = 0; timersOf(run)["go-on"] !== undefined; entries += 1) {
      expect(entries).toBeLessThan(10);
      run.fires("go-on");
      expect(run.decisions.length).toBeLessThan(500);
    }
    const told = run.told();
    expect(told.filter((words) => words.startsWith("compensation.failed"))).toHaveLength(many);
    expect(run.end()?.type).toBe("run.failed");
    expect(fold(definition, run.journal.flat()).status).toBe("done");
  });
});

describe("a run that is tried again", () => {
  test("takes over what is only due in a later entry, because so much is due at once", () => {
    const ids = Array.from({ length: 900 }, (_, i) => `s${i}`);
    const definition = graph(
      ...ids.map((id) => ({ id, agent: "x" })),
      { id: "done", agent: "x" },
      { id: "end", agent: "x", after: "done" },
    );
    const reused = [
      { type: "step.reused", data: { step: "done", agent: "x", output: "before" } },
      { type: "step.reused", data: { step: "end", agent: "x", output: "the end" } },
    ] as const;
    const run = superviseRun(definition, {}, reused);
    const { setup } = run.snapshot.context;
    const saved = restore(definition, setup, JSON.parse(JSON.stringify(save(run.snapshot))));
    const fired = { type: "timer.fired", data: { id: "go-on" }, at: secondsIn(1) } as const;
    expect(decide(saved, fired).decisions).toEqual(decide(run.snapshot, fired).decisions);
    run.fires("go-on");
    for (const id of ids) run.completes(`${id}-1`, id);
    expect(run.told().filter((words) => / (done|end)$|^run/.test(words))).toEqual([
      "step.reused done",
      "step.reused end",
      "run.completed",
    ]);
    expect(run.end()?.data).toMatchObject({ output: { end: "the end" } });
    expect(save(run.snapshot)).not.toHaveProperty("state.reused");
  });

  test("takes over the same when it was saved while it waited for its time", () => {
    const definition = graph({ id: "a", agent: "x" }, { id: "b", agent: "x", after: "a" });
    const before = superviseRun(definition);
    before.completes("a-1", "A");
    before.fails("b-1");
    const reused = reusedSteps(definition, before.journal.flat());
    const run = superviseRun(definition, { notBefore: secondsIn(60) }, reused);
    const saved = JSON.parse(JSON.stringify(save(run.snapshot)));
    const { snapshot } = decide(restore(definition, run.snapshot.context.setup, saved), {
      type: "timer.fired",
      data: { id: "start" },
      at: secondsIn(60),
    });
    expect(Object.keys(snapshot.context.open)).toEqual(["b-1"]);
  });
});
