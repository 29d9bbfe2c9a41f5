/** What follows when a run that has done something fails or is cancelled. */
import { describe, expect, test } from "vitest";
import { defineWorkflow, type StepOptions } from "../../src/workflows/define-workflow.ts";
import { parseWorkflow } from "../../src/workflows/parse-definition.ts";
import type { RunEvent } from "../../src/workflows/run-events.ts";
import { applyEvents, type RunRecord } from "../../src/workflows/run-record.ts";
import { RUN_START, type SupervisedRun, superviseRun } from "../helpers/supervised-run.ts";

type AgentStepOptions = Omit<Extract<StepOptions, { agent: unknown }>, "steps">;
const secondsIn = (seconds: number) => new Date(RUN_START + seconds * 1_000).toISOString();
const undo = { agent: "undoer" };
const booked = (id: string, rest: Partial<AgentStepOptions> = {}): StepOptions => ({
  id,
  agent: "x",
  compensate: undo,
  ...rest,
});
const trip = defineWorkflow({
  name: "trip",
  steps: [
    booked("flight"),
    booked("hotel", { after: "flight" }),
    booked("car", { after: "hotel" }),
    { id: "card", agent: "x", after: "car" },
  ],
});
const notify = [{ id: "notify", agent: "mailer", input: "{{ error.code }} at {{ error.step }}: {{ error.message }}" }];

/** What was decided after the facts of the test so far, without timers. */
const since = (run: SupervisedRun, type: string) => {
  const told = run.told().filter((words) => !words.startsWith("timer.set"));
  return told.slice(told.findLastIndex((words) => words.startsWith(type)) + 1);
};
const record = (run: SupervisedRun): RunRecord => applyEvents(undefined, run.journal.flat());
const events = (run: SupervisedRun, type: RunEvent["type"]) =>
  run.journal.flat().filter((event) => event.type === type);

function bookedTrip(request: Parameters<typeof superviseRun>[1] = {}): SupervisedRun {
  const run = superviseRun(trip, request);
  for (const id of ["flight", "hotel", "car"]) run.completes(`${id}-1`, `${id} no. 7`);
  return run;
}

describe("a run that fails after steps that can be undone", () => {
  test("undoes them one at a time, the last that completed first, and fails then", () => {
    const run = bookedTrip();
    run.fails("card-1", { code: "declined", message: "no money" });
    expect(run.snapshot.value).toBe("unwinding");
    expect(run.open()).toEqual(["car/compensate-1"]);
    for (const id of ["car", "hotel", "flight"]) run.completes(`${id}/compensate-1`, "given back");
    expect(since(run, "step.failed")).toEqual([
      "run.failing",
      "compensation.started car",
      "task.sent car/compensate-1",
      "compensation.completed car/compensate-1",
      "compensation.started hotel",
      "task.sent hotel/compensate-1",
      "compensation.completed hotel/compensate-1",
      "compensation.started flight",
      "task.sent flight/compensate-1",
      "compensation.completed flight/compensate-1",
      "run.failed",
    ]);
    expect(run.end()?.data).toEqual({ error: { code: "declined", message: "step card: no money" } });
  });

  test("gives what undoes a step its output and the error by default", () => {
    const run = bookedTrip();
    run.fails("card-1", { code: "declined", message: "no money" });
    const task = run.task("car/compensate-1");
    expect(task).toMatchObject({ agent: "undoer", attempt: 1, handoffs: [] });
    expect(task.input).toBe(
      '<request>\nbees\n</request>\n\n<output step="car">\ncar no. 7\n</output>\n\n<error>\ndeclined: step card: no money\n</error>',
    );
  });

  test("undoes in the order in which steps completed, not in that of the definition", () => {
    const steps = [booked("a"), booked("b"), { id: "c", agent: "x", after: ["a", "b"] }];
    const run = superviseRun(defineWorkflow({ name: "w", steps }));
    run.completes("b-1");
    run.completes("a-1");
    run.fails("c-1");
    run.completes("a/compensate-1");
    expect(run.open()).toEqual(["b/compensate-1"]);
  });

  test("undoes nothing that was skipped, failed, or has nothing that undoes it", () => {
    const steps = [
      booked("skipped", { when: "false" }),
      booked("failed", { onError: "continue" }),
      { id: "plain", agent: "x" },
      booked("done"),
      { id: "last", agent: "x", after: ["failed", "plain", "done"], needs: "always" as const },
    ];
    const run = superviseRun(defineWorkflow({ name: "w", steps }));
    run.fails("failed-1");
    run.completes("plain-1");
    run.completes("done-1");
    run.fails("last-1");
    run.completes("done/compensate-1");
    expect(events(run, "compensation.started")).toHaveLength(1);
    expect(run.end()?.type).toBe("run.failed");
  });

  test("fails at once when nothing has to be undone", () => {
    const run = superviseRun(trip);
    run.fails("flight-1");
    expect(since(run, "step.failed")).toEqual(["run.failed"]);
  });

  test("says on its record what was undone", () => {
    const run = bookedTrip();
    run.fails("card-1", { code: "declined", message: "no money" });
    expect(record(run)).toMatchObject({
      status: "failing",
      compensations: [{ step: "car", agent: "undoer", status: "running", attempts: 1, startedAt: secondsIn(4) }],
    });
    run.completes("car/compensate-1", "given back");
    expect(record(run).compensations).toMatchObject([
      { step: "car", status: "completed", output: "given back", endedAt: secondsIn(5) },
      { step: "hotel", status: "running" },
    ]);
    run.completes("hotel/compensate-1");
    run.completes("flight/compensate-1");
    const { steps, status, progress } = record(run);
    expect(steps.map(({ id }) => id)).toEqual(["flight", "hotel", "car", "card"]);
    expect([status, progress.completed]).toEqual(["failed", 3]);
  });

  test("has all the time it takes: neither its own nor a retry's timer has a say any more", () => {
    const run = bookedTrip({ timeoutMs: 5_000 });
    expect(run.task("card-1").deadline).toBe(secondsIn(5));
    run.fails("card-1");
    expect(run.task("car/compensate-1")).not.toHaveProperty("deadline");
    expect(Object.keys(run.snapshot.context.timers)).toEqual([]);
    run.fires("timeout");
    expect(run.snapshot.value).toBe("unwinding");
  });

  test("is not cancelled any more", () => {
    const run = bookedTrip();
    run.fails("card-1");
    run.cancel("too late");
    expect(run.decisions).toEqual([]);
    expect(record(run).status).toBe("failing");
  });

  test("is not undone when its journal is full, and says what is not", () => {
    const run = bookedTrip();
    run.fails("card-1", { code: "declined", message: "no money" });
    run.completes("car/compensate-1");
    run.fact({ type: "run.exceeded", data: { limit: "events", most: 9, got: 10 } });
    expect(run.told().slice(-2)).toEqual(["compensation.abandoned", "run.failed"]);
    expect(run.decisions[0]?.data).toEqual({ steps: ["hotel", "flight"] });
    expect(record(run).compensations.map(({ step, status }) => [step, status])).toEqual([
      ["car", "completed"],
      ["hotel", "abandoned"],
      ["flight", "abandoned"],
    ]);
    expect(run.effects).toContainEqual({ type: "stop", child: "hotel/compensate-1" });
  });

  test("whose journal is full before it failed says what is not undone, too", () => {
    const run = bookedTrip();
    run.fact({ type: "run.exceeded", data: { limit: "events", most: 9, got: 10 } });
    expect(run.end()).toMatchObject({
      type: "run.failed",
      data: {
        error: {
          code: "compensation_failed",
          message: expect.stringMatching(/^not undone: car \(abandoned\); .*failed with journal_full/),
        },
      },
    });
  });
});

describe("what a compensation is given", () => {
  test("is what its template says of the step's output, of those before it, of the error, whatever was forgotten since", () => {
    const definition = defineWorkflow({
      name: "w",
      steps: [
        { id: "quote", agent: "x" },
        { id: "other", agent: "x" },
        {
          id: "book",
          agent: "x",
          after: ["quote", "other"],
          input: "book",
          compensate: {
            agent: "undoer",
            input: {
              id: "{{ output.id }}",
              quote: "{{ steps.quote.output }}",
              all: "{{ previous.output }}",
              why: "{{ error }}",
            },
          },
        },
        { id: "pay", agent: "x", after: "book", input: "pay" },
      ],
    });
    const run = superviseRun(definition);
    run.completes("quote-1", 100);
    run.completes("other-1", "o");
    run.completes("book-1", { id: "b7", more: "x".repeat(10) });
    run.fails("pay-1", { code: "declined", message: "no" });
    expect(run.task("book/compensate-1").input).toEqual({
      id: "b7",
      quote: 100,
      all: { quote: 100, other: "o" },
      why: { code: "declined", message: "step pay: no", step: "pay" },
    });
  });

  test("that cannot be made is a failure of that compensation alone", () => {
    const steps = [
      booked("a"),
      booked("b", { after: "a", compensate: { agent: "undoer", input: "{{ output.missing }}" } }),
      { id: "c", agent: "x", after: "b" },
    ];
    const run = superviseRun(defineWorkflow({ name: "w", steps }));
    run.completes("a-1");
    run.completes("b-1", {});
    run.fails("c-1");
    expect(since(run, "run.failing")).toEqual([
      "compensation.started b",
      "compensation.failed b/compensate-1",
      "compensation.started a",
      "task.sent a/compensate-1",
    ]);
  });
});

describe("a compensation that fails", () => {
  const retry = { maxAttempts: 2, delayMs: 1_000, backoff: "fixed" as const };
  const steps = [
    booked("a"),
    booked("b", { after: "a", compensate: { agent: "undoer", retry, timeoutMs: 700 } }),
    { id: "c", agent: "x", after: "b" },
  ];
  const retried = defineWorkflow({ name: "w", steps });
  const failed = () => {
    const run = superviseRun(retried);
    run.completes("a-1");
    run.completes("b-1");
    run.fails("c-1", { code: "declined", message: "no" });
    return run;
  };

  test("is tried again as its own policy says, with its own time", () => {
    const run = failed();
    expect(run.task("b/compensate-1").timeoutMs).toBe(700);
    run.fails("b/compensate-1", { code: "busy", message: "later" });
    expect(run.decisions).toMatchObject([
      { type: "compensation.retrying", data: { step: "b", attempt: 2, dueAt: secondsIn(5) } },
      { type: "timer.set", data: { id: "retry.b/compensate", dueAt: secondsIn(5) } },
    ]);
    expect(record(run).compensations).toMatchObject([{ step: "b", status: "retrying", error: { code: "busy" } }]);
    run.fires("retry.b/compensate");
    run.completes("b/compensate-2");
    run.completes("a/compensate-1");
    expect(record(run).compensations).toMatchObject([{ step: "b", status: "completed", attempts: 2 }, { step: "a" }]);
    expect(run.end()).toMatchObject({ data: { error: { code: "declined" } } });
  });

  test("for good leaves the others to be undone, and the run failed with what was not", () => {
    const run = failed();
    run.fails("b/compensate-1", { code: "gone", message: "no such booking", retryable: false });
    expect(since(run, "run.failing")).toContain("compensation.failed b/compensate-1");
    run.completes("a/compensate-1");
    expect(run.end()?.data).toEqual({
      error: {
        code: "compensation_failed",
        message: "not undone: b (gone: no such booking); the run failed with declined: step c: no",
      },
    });
    expect(record(run).compensations).toMatchObject([
      { step: "b", status: "failed", error: { code: "gone" } },
      { step: "a", status: "completed" },
    ]);
  });

  test("makes a cancelled run a failed one", () => {
    const run = superviseRun(retried);
    run.completes("a-1");
    run.cancel("enough");
    run.fails("c-1");
    run.fails("b-1", { code: "cancelled", message: "stopped" });
    run.fails("a/compensate-1", { code: "gone", message: "none", retryable: false });
    expect(run.end()).toMatchObject({
      type: "run.failed",
      data: {
        error: { code: "compensation_failed", message: "not undone: a (gone: none); the run was cancelled: enough" },
      },
    });
  });

  test("of many that cannot even be asked costs no more than each of them", () => {
    const ids = Array.from({ length: 300 }, (_, i) => `s${i}`);
    const many = ids.map((id) => booked(id, { compensate: { agent: "undoer", input: "{{ output.missing }}" } }));
    const run = superviseRun(defineWorkflow({ name: "w", steps: [...many, { id: "last", agent: "x" }] }));
    for (const id of ids) run.completes(`${id}-1`, {});
    run.fails("last-1");
    run.fires("go-on");
    expect(events(run, "compensation.failed")).toHaveLength(300);
    const { message = "" } = record(run).error ?? {};
    expect(message).toContain("and 280 more");
    expect(message.length).toBeLessThan(8_000);
  });
});

describe("a step at work when the run fails", () => {
  const steps = [booked("a"), booked("b"), { id: "c", agent: "x" }];
  const parallel = defineWorkflow({ name: "w", steps });

  test("is called off first, and undone when it completes all the same", () => {
    const run = superviseRun(parallel);
    run.completes("a-1");
    run.fails("c-1");
    expect(run.snapshot.value).toBe("failing");
    expect(run.effects).toEqual([
      { type: "stop", child: "c-1" },
      { type: "timer", id: "cancel", dueAt: secondsIn(12) },
      { type: "stop", child: "b-1" },
    ]);
    run.completes("b-1", "after all");
    expect(run.decisions.map(({ type }) => type)).toEqual(["step.completed", "compensation.started", "task.sent"]);
    expect(run.open()).toEqual(["b/compensate-1"]);
    expect(String(run.task("b/compensate-1").input)).toContain("after all");
    expect(record(run)).toMatchObject({ timers: [], current: [{ taskId: "b/compensate-1" }] });
    run.completes("b/compensate-1");
    run.completes("a/compensate-1");
    expect(run.end()?.type).toBe("run.failed");
  });

  test("is waited for even where nothing is owed yet", () => {
    const run = superviseRun(parallel);
    run.fails("c-1");
    run.fails("a-1", { code: "cancelled", message: "stopped" });
    expect(run.snapshot.value).toBe("failing");
    run.completes("b-1");
    expect(run.open()).toEqual(["b/compensate-1"]);
  });

  test("is not waited for longer than its time of grace", () => {
    const run = superviseRun(parallel);
    run.completes("a-1");
    run.fails("c-1");
    run.fires("cancel");
    expect(run.open()).toEqual(["a/compensate-1"]);
    expect(record(run)).toMatchObject({ timers: [], current: [{ taskId: "a/compensate-1" }] });
    run.completes("b-1", "much too late");
    expect(run.decisions).toEqual([]);
    run.completes("a/compensate-1");
    expect(run.end()?.type).toBe("run.failed");
  });

  test("that ends in another way is not undone", () => {
    const run = superviseRun(parallel);
    run.fails("c-1");
    run.fails("a-1", { code: "cancelled", message: "stopped" });
    run.fails("b-1", { code: "cancelled", message: "stopped" });
    expect(events(run, "compensation.started")).toEqual([]);
    expect(run.end()?.type).toBe("run.failed");
  });
});

describe("a run that is cancelled", () => {
  test("is undone, is cancelling meanwhile, and cancelled then", () => {
    const run = bookedTrip();
    run.cancel("enough");
    run.fails("card-1", { code: "cancelled", message: "stopped" });
    expect(run.open()).toEqual(["car/compensate-1"]);
    expect(record(run)).toMatchObject({ status: "cancelling", timers: [] });
    expect(run.task("car/compensate-1").input).toContain("cancelled: enough");
    run.fires("cancel");
    expect(run.snapshot.value).toBe("unwinding");
    for (const id of ["car", "hotel", "flight"]) run.completes(`${id}/compensate-1`);
    expect(run.end()).toMatchObject({ type: "run.cancelled", data: { reason: "enough" } });
  });

  test("is undone after its time of grace too", () => {
    const run = bookedTrip();
    run.cancel();
    run.fires("cancel");
    expect(run.open()).toEqual(["car/compensate-1"]);
  });

  test("with force ends at once, and fails with what is not undone", () => {
    const run = bookedTrip();
    run.cancel("enough");
    run.fails("card-1");
    run.completes("car/compensate-1");
    run.cancel("now", { force: true });
    expect(run.told().slice(-2)).toEqual(["compensation.abandoned", "run.failed"]);
    expect(run.end()?.data).toEqual({
      error: {
        code: "compensation_failed",
        message: "not undone: hotel (abandoned); flight (abandoned); the run was cancelled: enough",
      },
    });
    expect(run.effects).toContainEqual({ type: "stop", child: "hotel/compensate-1" });
  });

  test("with force from the beginning is undone in nothing", () => {
    const run = bookedTrip();
    run.cancel("now", { force: true });
    expect(run.told().slice(-2)).toEqual(["compensation.abandoned", "run.failed"]);
    expect(run.effects).toContainEqual({ type: "stop", child: "card-1" });
  });

  test("with force is cancelled where nothing is owed", () => {
    const run = superviseRun(trip);
    run.cancel("now", { force: true });
    expect(run.end()).toMatchObject({ type: "run.cancelled", data: { reason: "now" } });
    const late = superviseRun(trip);
    late.cancel("enough");
    late.cancel("now", { force: true });
    expect(late.end()).toMatchObject({ type: "run.cancelled", data: { reason: "enough" } });
  });
});

describe("the steps that run when a run fails", () => {
  const watched = defineWorkflow({
    name: "w",
    steps: [booked("a"), { id: "b", agent: "x", after: "a" }],
    onFailure: [...notify, { id: "close", agent: "clerk", after: "notify", retry: { maxAttempts: 2 } }],
  });

  test("run after everything is undone, with the error in scope, and the run fails then", () => {
    const run = superviseRun(watched);
    run.completes("a-1");
    run.fails("b-1", { code: "declined", message: "no" });
    run.completes("a/compensate-1");
    expect(run.task("onFailure/notify-1")).toMatchObject({ agent: "mailer", input: "declined at b: step b: no" });
    run.completes("onFailure/notify-1");
    run.fails("onFailure/close-1");
    expect(run.told().slice(-2)).toEqual(["step.retrying onFailure/close", "timer.set retry.onFailure/close"]);
    run.fires("retry.onFailure/close");
    run.completes("onFailure/close-2");
    expect(since(run, "compensation.completed")).toEqual([
      "step.started onFailure/notify",
      "task.sent onFailure/notify-1",
      "step.completed onFailure/notify-1",
      "step.started onFailure/close",
      "task.sent onFailure/close-1",
      "step.retrying onFailure/close",
      "task.sent onFailure/close-2",
      "step.completed onFailure/close-2",
      "run.failed",
    ]);
    expect(run.end()?.data).toEqual({ error: { code: "declined", message: "step b: no" } });
    expect(record(run)).toMatchObject({
      progress: { completed: 1 },
      steps: [{ id: "a" }, { id: "b" }, { id: "onFailure/notify", status: "completed" }, { attempts: 2 }],
    });
  });

  test("run where nothing has to be undone, also when the run's time is over", () => {
    const run = superviseRun(watched, { timeoutMs: 1_000 });
    run.fires("timeout");
    run.fails("a-1", { code: "cancelled", message: "stopped" });
    expect(run.task("onFailure/notify-1").input).toBe("timeout at null: the run took longer than 1000 ms");
    expect(run.task("onFailure/notify-1")).not.toHaveProperty("deadline");
  });

  test("change nothing about the error when they fail themselves, which is on record", () => {
    const run = superviseRun(watched);
    run.fails("a-1", { code: "declined", message: "no" });
    run.fails("onFailure/notify-1", { code: "no_mail", message: "down" });
    expect(run.end()?.data).toEqual({ error: { code: "declined", message: "step a: no" } });
    expect(record(run).steps).toMatchObject([
      { id: "a" },
      { id: "onFailure/notify", status: "failed", error: { code: "no_mail" } },
    ]);
  });

  test("hear of what could not be undone, also in a run that was cancelled", () => {
    const run = superviseRun(watched);
    run.completes("a-1");
    run.cancel();
    run.fails("b-1");
    run.fails("a/compensate-1", { code: "gone", message: "none" });
    expect(String(run.task("onFailure/notify-1").input)).toContain(
      "compensation_failed at null: not undone: a (gone: none)",
    );
  });

  test("do not run when a run is cancelled", () => {
    const run = superviseRun(watched);
    run.cancel();
    run.fails("a-1");
    expect(run.end()?.type).toBe("run.cancelled");
  });

  test("run for a run that fails in its first entry", () => {
    const definition = defineWorkflow({
      name: "w",
      steps: [
        { id: "a", agent: "x", input: "{{ input.missing }}" },
        { id: "b", agent: "x" },
      ],
      onFailure: notify,
    });
    const run = superviseRun(definition, { input: {} });
    expect(run.snapshot.value).toBe("unwinding");
    expect(String(run.task("onFailure/notify-1").input)).toContain("template_failed at a");
  });
});

describe("what is wrong with them in a definition", () => {
  const complaints = (raw: object) =>
    parseWorkflow("w", raw, { agents: new Map([["x", {}]]) as never }).problems.map(
      ({ path, expected, got }) => `${path}: expected ${expected}, got ${got}`,
    );

  test("is told where it stands, all of it at once", () => {
    const steps = [
      { id: "a", agent: "x", input: "{{ error.code }}", compensate: { agent: "y", input: "{{ steps.b.output }}" } },
      { id: "b", agent: "x", when: "output == 1" },
    ];
    const onFailure = [
      { id: "n", agent: "z", input: "{{ error.code }} {{ output }} {{ steps.a.output }}" },
      { id: "m", agent: "x", after: "o", compensate: { agent: "x" } },
    ];
    expect(complaints({ steps, onFailure })).toEqual([
      'workflows.w.steps[0].compensate.agent: expected an agent\'s name: x, got "y"',
      'workflows.w.steps[0].input: expected `error` only in `compensate` and `onFailure`, got "error.code"',
      'workflows.w.steps[0].compensate.input: expected no reference to a step, for none comes before, got "steps.b"',
      'workflows.w.steps[1].when: expected `output` only in `until` and `compensate`, got "output == 1"',
      'workflows.w.onFailure[0].agent: expected an agent\'s name: x, got "z"',
      'workflows.w.onFailure[1].compensate: expected no `compensate` in `onFailure`, got "x"',
      'workflows.w.onFailure[1].after: expected the id of another step (n), got "o"',
      'workflows.w.onFailure[0].input: expected `output` only in `until` and `compensate`, got "output"',
      'workflows.w.onFailure[0].input: expected a step that comes before (n, m), got "steps.a"',
    ]);
  });

  test("is told where a step has a name that paths have a meaning for", () => {
    expect(complaints({ steps: [{ id: "compensate", agent: "x" }] })).toEqual([
      'workflows.w.steps[0].id: expected an id other than compensate and onFailure, got "compensate"',
    ]);
  });
});
