/** What a run that is tried again takes over of the run before, and what it makes of it. */
import { describe, expect, test } from "vitest";
import { defineAgent } from "../../src/actors/define-agent.ts";
import { defineWorkflow } from "../../src/workflows/define-workflow.ts";
import { reusedSteps } from "../../src/workflows/reused-steps.ts";
import type { RunEvent } from "../../src/workflows/run-events.ts";
import { applyEvents } from "../../src/workflows/run-record.ts";
import { fold } from "../../src/workflows/supervisor.ts";
import { type SupervisedRun, superviseRun } from "../helpers/supervised-run.ts";

const journalOf = (run: SupervisedRun): RunEvent[] => run.journal.flat();

const diamond = defineWorkflow({
  name: "diamond",
  steps: [
    { id: "plan", agent: "x" },
    { id: "left", agent: "x", after: "plan" },
    { id: "right", agent: "y", after: "plan" },
    { id: "join", agent: "x", after: ["left", "right"], input: "{{ steps.left.output }} {{ steps.plan.output }}" },
  ],
});

function failedAt(step: string): SupervisedRun {
  const run = superviseRun(diamond);
  for (const id of ["plan", "left", "right"]) {
    if (id === step) continue;
    if (run.open().includes(`${id}-1`)) run.completes(`${id}-1`, `${id} done`);
  }
  run.fails(`${step}-1`);
  return run;
}

const stepsOf = (run: SupervisedRun, from?: string) =>
  reusedSteps(diamond, journalOf(run), from).map(({ data }) => data.step);

describe("what is taken over", () => {
  test("is what completed, with its output", () => {
    expect(reusedSteps(diamond, journalOf(failedAt("join")))).toEqual([
      { type: "step.reused", data: { step: "plan", agent: "x", output: "plan done" } },
      { type: "step.reused", data: { step: "left", agent: "x", output: "left done" } },
      { type: "step.reused", data: { step: "right", agent: "y", output: "right done" } },
    ]);
    expect(stepsOf(failedAt("right"))).toEqual(["plan", "left"]);
    expect(stepsOf(failedAt("plan"))).toEqual([]);
  });

  test("is not the step it is tried again from, nor what comes after that", () => {
    expect(stepsOf(failedAt("join"), "left")).toEqual(["plan", "right"]);
    expect(stepsOf(failedAt("join"), "plan")).toEqual([]);
    const completed = superviseRun(diamond);
    for (const id of ["plan", "left", "right", "join"]) completed.completes(`${id}-1`);
    expect(stepsOf(completed, "join")).toEqual(["plan", "left", "right"]);
  });

  test("is not what comes after a step that failed and runs again", () => {
    const definition = defineWorkflow({
      name: "w",
      steps: [
        { id: "a", agent: "x", onError: "continue" },
        { id: "b", agent: "x", after: "a", needs: "always" },
        { id: "c", agent: "x" },
        { id: "d", agent: "x", after: ["b", "c"] },
      ],
    });
    const run = superviseRun(definition);
    run.fails("a-1");
    run.completes("b-1");
    run.completes("c-1");
    run.fails("d-1");
    expect(reusedSteps(definition, journalOf(run)).map(({ data }) => data.step)).toEqual(["c"]);
  });

  test("is what comes after a step that was skipped, which is judged as before", () => {
    const definition = defineWorkflow({
      name: "w",
      steps: [
        { id: "a", agent: "x", when: "input == 'wasps'" },
        { id: "b", agent: "x", after: "a", needs: "always" },
        { id: "c", agent: "x", after: "b" },
      ],
    });
    const run = superviseRun(definition);
    run.completes("b-1", "b done");
    run.fails("c-1");
    const reused = reusedSteps(definition, journalOf(run));
    expect(reused.map(({ data }) => data.step)).toEqual(["b"]);
    const again = superviseRun(definition, {}, reused);
    expect(again.told()).toEqual(["step.reused b", "step.skipped a", "step.started c", "task.sent c-1"]);
  });

  test("is not what was undone, or may have been", () => {
    const undo = { compensate: { agent: "undoer" } };
    const definition = defineWorkflow({
      name: "w",
      steps: [
        { id: "quote", agent: "x" },
        { id: "a", agent: "x", after: "quote", ...undo },
        { id: "b", agent: "x", after: "quote", ...undo },
        { id: "c", agent: "x", after: ["a", "b"] },
      ],
    });
    const failed = () => {
      const run = superviseRun(definition);
      for (const id of ["quote", "a", "b"]) run.completes(`${id}-1`);
      run.fails("c-1");
      return run;
    };
    const undone = failed();
    undone.fails("b/compensate-1");
    undone.completes("a/compensate-1");
    expect(reusedSteps(definition, journalOf(undone)).map(({ data }) => data.step)).toEqual(["quote"]);
    const abandoned = failed();
    abandoned.cancel("now", { force: true });
    expect(reusedSteps(definition, journalOf(abandoned)).map(({ data }) => data.step)).toEqual(["quote", "a"]);
  });

  test("is taken over once more by a run that is tried again after that", () => {
    const again = superviseRun(diamond, {}, reusedSteps(diamond, journalOf(failedAt("right"))));
    again.fails("right-1");
    expect(reusedSteps(diamond, journalOf(again)).map(({ data }) => data.output)).toEqual(["plan done", "left done"]);
  });

  test("is nothing where agents hand over to each other, who have no steps", () => {
    const agent = defineAgent({ name: "a", instructions: "i", model: "m" });
    const team = defineWorkflow({ name: "t", entry: "a", agents: [agent] });
    const run = superviseRun(team);
    run.fails("h0");
    expect(reusedSteps(team, journalOf(run))).toEqual([]);
    expect(() => reusedSteps(team, journalOf(run), "a")).toThrow("there are no steps");
  });

  test("cannot begin at a step there is not", () => {
    expect(() => stepsOf(failedAt("join"), "lfet")).toThrow(
      'from: expected the id of a step (plan, left, right, join), got "lfet"',
    );
  });
});

describe("a run that is tried again", () => {
  const reused = reusedSteps(diamond, journalOf(failedAt("right")));

  test("runs the rest, with the outputs it has taken over", () => {
    const run = superviseRun(diamond, { retryOf: { runId: "r0", hash: diamond.hash } }, reused);
    expect(run.open()).toEqual(["right-1"]);
    run.completes("right-1");
    expect(run.task("join-1").input).toBe("left done plan done");
    run.completes("join-1", "all");
    expect(run.end()?.data).toEqual({ output: "all" });
  });

  test("shows on its record what it took over, and of which run", () => {
    const run = superviseRun(diamond, { retryOf: { runId: "r0", hash: diamond.hash, from: "right" } }, reused);
    const record = applyEvents(undefined, journalOf(run));
    expect(record).toMatchObject({ retryOf: { runId: "r0", from: "right" }, progress: { completed: 2 } });
    expect(record.retryOf).not.toHaveProperty("hash");
    expect(record.steps).toMatchObject([
      { id: "plan", status: "completed", reused: true, attempts: 0, output: "plan done" },
      { id: "left", reused: true },
      { id: "right", status: "running" },
    ]);
    expect(record.steps[0]).not.toHaveProperty("startedAt");
  });

  test("is folded from its journal to the same", () => {
    const run = superviseRun(diamond, {}, reused);
    run.completes("right-1");
    const { context, value } = fold(diamond, journalOf(run));
    const { state, open } = run.snapshot.context;
    expect({ value, state: context.state, open: context.open }).toEqual({ value: "running", state, open });
    expect(context.reused).toBeUndefined();
  });

  test("undoes only what it has done itself", () => {
    const undo = { compensate: { agent: "undoer" } };
    const definition = defineWorkflow({
      name: "w",
      steps: [
        { id: "a", agent: "x", ...undo },
        { id: "b", agent: "x", after: "a", ...undo },
        { id: "c", agent: "x", after: "b" },
      ],
    });
    const before = superviseRun(definition);
    for (const id of ["a", "b", "c"]) before.completes(`${id}-1`);
    const run = superviseRun(definition, {}, reusedSteps(definition, journalOf(before), "b"));
    run.completes("b-1");
    run.fails("c-1");
    run.completes("b/compensate-1");
    expect(run.end()?.type).toBe("run.failed");
    expect(run.told().filter((words) => words.startsWith("compensation.started"))).toEqual(["compensation.started b"]);
  });
});
