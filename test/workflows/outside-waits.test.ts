/** Steps that wait for a person, a signal or their time: what opens them, what settles them, and what changes nothing. */
import { describe, expect, it, test } from "vitest";
import { z } from "zod";
import type { DefinitionError } from "../../src/errors.ts";
import { defineWorkflow, type StepOptions } from "../../src/workflows/define-workflow.ts";
import type { RunEventBody } from "../../src/workflows/run-events.ts";
import { applyEvents } from "../../src/workflows/run-record.ts";
import { fold, foldOn, restore, save } from "../../src/workflows/supervisor.ts";
import { MAX_SIGNALS } from "../../src/workflows/supervisor-machine.ts";
import { RUN_START, type SupervisedRun, superviseRun } from "../helpers/supervised-run.ts";

const define = (...steps: StepOptions[]) => defineWorkflow({ name: "flow", steps });

let seq = 0;
function signal(run: SupervisedRun, name: string, payload?: unknown) {
  seq += 1;
  run.fact({ type: "signal.received", data: { seq, kind: "signal", id: `s${seq}`, name, payload } });
  return seq;
}
const decide = (run: SupervisedRun, payload: object) => signal(run, "approval", payload);
const record = (run: SupervisedRun) => applyEvents(undefined, run.journal.flat());
const said = (run: SupervisedRun, type: RunEventBody["type"]) =>
  run.decisions.find((event) => event.type === type)?.data;
const output = (run: SupervisedRun) => (run.end()?.data as { output?: unknown } | undefined)?.output;
const instant = (entry: number) => new Date(RUN_START + entry * 1_000).toISOString();

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

describe("an approval", () => {
  const definition = define(
    { id: "draft", agent: "writer" },
    {
      id: "ok",
      approval: { title: "Publish {{ input }}?", prompt: "{{ steps.draft.output }}", assignees: ["ada", "bob"] },
      after: "draft",
    },
    { id: "publish", agent: "writer", after: "ok", when: "steps.ok.output.choice == 'approve'" },
    { id: "bin", agent: "writer", after: "ok", when: "steps.ok.output.choice == 'reject'" },
  );
  const asked = () => {
    const run = superviseRun(definition);
    run.completes("draft-1", "a text");
    return run;
  };

  it("is requested with its texts filled in, and is what the run waits for", () => {
    const run = asked();
    const data = { step: "ok", title: "Publish bees?", prompt: "a text", choices: ["approve", "reject"] };
    expect(said(run, "approval.requested")).toEqual({ ...data, assignees: ["ada", "bob"] });
    expect(run.open()).toEqual([]);
    const { status, waitingFor, current, steps } = record(run);
    expect({ status, waitingFor }).toEqual({ status: "waiting", waitingFor: "ok: approval: Publish bees?" });
    expect(current).toMatchObject([{ step: "ok", kind: "approval", title: "Publish bees?", since: instant(1) }]);
    expect(steps.at(-1)).toMatchObject({ id: "ok", kind: "approval", status: "waiting" });
    expectFolds(definition, run);
  });

  it("gives who decided what as its output, and the conditions decide how it goes on", () => {
    const run = asked();
    const seq = decide(run, { choice: "reject", by: "ada", comment: "too short" });
    expect(said(run, "approval.resolved")).toEqual({
      step: "ok",
      choice: "reject",
      by: "ada",
      comment: "too short",
      seq,
    });
    expect(run.open()).toEqual(["bin-1"]);
    const { status, current, steps } = record(run);
    expect(status).toBe("running");
    expect(current).toHaveLength(1);
    expect(steps.find(({ id }) => id === "ok")).toMatchObject({
      status: "completed",
      output: { choice: "reject", by: "ada", comment: "too short", at: instant(2) },
    });
    expectFolds(definition, run);
  });

  it("is decided once: the second decision is refused and changes nothing", () => {
    const run = asked();
    decide(run, { step: "ok", choice: "approve", by: "ada" });
    const second = decide(run, { step: "ok", choice: "reject", by: "bob" });
    expect(run.decisions.map(({ type }) => type)).toEqual(["signal.refused"]);
    expect(said(run, "signal.refused")).toMatchObject({ seq: second, code: "not_waiting" });
    expect(run.open()).toEqual(["publish-1"]);
    expectFolds(definition, run);
  });

  test.each([
    ["before it is asked for", { choice: "approve" }, "not_waiting", "the run waits for no approval"],
    [
      "of another step",
      { step: "draft", choice: "approve", by: "ada" },
      "not_waiting",
      "step draft waits for no approval",
    ],
    ["for a choice there is not", { choice: "maybe", by: "ada" }, "invalid_payload", "payload.choice: expected one of"],
    ["by somebody else", { choice: "approve", by: "eve" }, "not_assigned", 'decided by ada, bob, not by "eve"'],
    ["by nobody", { choice: "approve" }, "not_assigned", "not by nobody"],
    ["without a choice", { by: "ada" }, "invalid_payload", "payload.choice: expected text, got null"],
    [
      "that is no object",
      "approve",
      "invalid_payload",
      'payload: expected {choice, step?, by?, comment?}, got "approve"',
    ],
    ["with a comment that is no text", { choice: "approve", comment: 7 }, "invalid_payload", "payload.comment"],
  ] as const)("refuses a decision %s", (what, payload, code, message) => {
    const run = what !== "before it is asked for" ? asked() : superviseRun(definition);
    const open = run.open();
    signal(run, "approval", payload);
    expect(said(run, "signal.refused")).toMatchObject({ code, message: expect.stringContaining(message) });
    expect(run.open()).toEqual(open);
  });

  it("fails the step when nobody decides in time", () => {
    const timed = define({ id: "ok", approval: { title: "?", timeoutMs: 5_000 } });
    const run = superviseRun(timed);
    expect(said(run, "timer.set")).toEqual({ id: "expiry.ok", dueAt: instant(5) });
    run.fires("expiry.ok");
    expect(run.end()).toMatchObject({ type: "run.failed", data: { error: { code: "timeout" } } });
    expectFolds(timed, run);
  });

  it("decides by itself where it says how, and a decision that comes in time stops the clock", () => {
    const timed = define({ id: "ok", approval: { title: "?", timeoutMs: 5_000, onTimeout: "reject" } });
    const late = superviseRun(timed);
    late.fires("expiry.ok");
    expect(said(late, "approval.resolved")).toEqual({ step: "ok", choice: "reject" });
    expect(output(late)).toEqual({ choice: "reject", by: null, comment: null, at: instant(1) });
    const inTime = superviseRun(timed);
    decide(inTime, { choice: "approve" });
    expect(said(inTime, "timer.cleared")).toEqual({ id: "expiry.ok" });
    expect(inTime.snapshot.context.timers).toEqual({});
    expect(record(inTime)).toMatchObject({ status: "completed", timers: [] });
    for (const run of [late, inTime]) expectFolds(timed, run);
  });

  it("fails the step when it is rejected, where that is asked for", () => {
    const strict = define({ id: "ok", approval: { title: "?", onReject: "fail" } });
    const run = superviseRun(strict);
    decide(run, { choice: "reject", by: "ada", comment: "no" });
    expect(run.end()).toMatchObject({
      type: "run.failed",
      data: { error: { code: "rejected", message: "step ok: rejected by ada: no" } },
    });
    expectFolds(strict, run);
  });

  it("has to be named where several wait", () => {
    const two = define({ id: "a", approval: { title: "?" } }, { id: "b", approval: { title: "?" } });
    const run = superviseRun(two);
    decide(run, { choice: "approve" });
    expect(said(run, "signal.refused")).toMatchObject({ message: "payload.step: expected one of a, b, got none" });
    decide(run, { step: "b", choice: "approve" });
    decide(run, { choice: "approve" });
    expect(run.end()?.type).toBe("run.completed");
    expectFolds(two, run);
  });
});

describe("a wait for a signal", () => {
  const schema = z.object({ amount: z.number() });
  const definition = define(
    { id: "order", agent: "writer" },
    { id: "paid", wait: { signal: "paid", schema }, after: "order" },
  );

  it("gives the payload as its output", () => {
    const run = superviseRun(definition);
    run.completes("order-1");
    expect(record(run)).toMatchObject({ status: "waiting", waitingFor: "paid: signal paid" });
    signal(run, "paid", { amount: 3, note: "more is no harm" });
    expect(output(run)).toEqual({ amount: 3, note: "more is no harm" });
    expectFolds(definition, run);
  });

  it("takes the first that came before it began", () => {
    const run = superviseRun(definition);
    signal(run, "paid", { amount: 1 });
    signal(run, "paid", { amount: 2 });
    expect(run.decisions).toEqual([]);
    run.completes("order-1");
    expect(output(run)).toEqual({ amount: 1 });
    expect(record(run).steps.at(-1)).toMatchObject({ id: "paid", status: "completed", output: { amount: 1 } });
    expectFolds(definition, run);
  });

  it("refuses a payload that does not fit, with the path, and a signal nobody waits for", () => {
    const run = superviseRun(definition);
    run.completes("order-1");
    signal(run, "paid", { amount: "3" });
    expect(said(run, "signal.refused")).toMatchObject({
      code: "invalid_payload",
      message: 'payload: amount: expected a number, got "3"',
    });
    signal(run, "pade", { amount: 3 });
    expect(said(run, "signal.refused")).toMatchObject({
      code: "unknown_signal",
      message: 'no step waits for a signal "pade"; signals that are waited for: paid',
    });
    signal(run, "paid", { amount: 3 });
    expect(run.end()?.type).toBe("run.completed");
    expectFolds(definition, run);
  });

  it("is given to one step only", () => {
    const two = define({ id: "a", wait: { signal: "go" } }, { id: "b", wait: { signal: "go" } });
    const run = superviseRun(two);
    signal(run, "go", 1);
    expect(run.end()).toBeUndefined();
    signal(run, "go");
    expect(output(run)).toEqual({ a: 1, b: null });
    expectFolds(two, run);
  });

  it("counts when it came before the run's time", () => {
    const run = superviseRun(definition, { notBefore: instant(60) });
    signal(run, "paid", { amount: 9 });
    run.fires("start");
    run.completes("order-1");
    expect(output(run)).toEqual({ amount: 9 });
    expectFolds(definition, run);
  });

  it("fails when it does not come in time, or ends with nothing", () => {
    const failing = superviseRun(define({ id: "go", wait: { signal: "go", timeoutMs: 1_000 } }));
    failing.fires("expiry.go");
    expect(failing.end()).toMatchObject({
      data: { error: { code: "timeout", message: expect.stringContaining("signal go") } },
    });
    const lenient = superviseRun(define({ id: "go", wait: { signal: "go", timeoutMs: 1_000, onTimeout: "continue" } }));
    lenient.fires("expiry.go");
    expect(output(lenient)).toBeNull();
  });

  it("is not taken by a run that is being cancelled", () => {
    const run = superviseRun(definition);
    run.cancel();
    const before = run.snapshot.context;
    signal(run, "paid", { amount: 1 });
    expect(run.decisions).toEqual([]);
    expect(run.snapshot.context.state).toEqual(before.state);
  });

  it("is counted, so that a host can stop taking them", () => {
    const run = superviseRun(definition);
    for (let i = 0; i < 5; i += 1) signal(run, "paid", { amount: i });
    expect(run.snapshot.context.signals).toEqual({ seq, count: 5 });
    expect(MAX_SIGNALS).toBe(1_000);
  });
});

describe("a wait for a time", () => {
  it("is over after its duration, which begins with the step", () => {
    const definition = define({ id: "a", agent: "writer" }, { id: "pause", wait: { forMs: 60_000 }, after: "a" });
    const run = superviseRun(definition);
    run.completes("a-1");
    expect(said(run, "wait.begun")).toEqual({ step: "pause", dueAt: instant(61) });
    expect(record(run)).toMatchObject({ status: "waiting", waitingFor: `pause: until ${instant(61)}` });
    run.fires("wait.pause");
    expect(output(run)).toBeNull();
    expectFolds(definition, run);
  });

  it("of a run with a time of its own begins at that time", () => {
    const run = superviseRun(define({ id: "pause", wait: { forMs: 1_000 } }), { notBefore: instant(60) });
    run.fires("start");
    expect(said(run, "wait.begun")).toEqual({ step: "pause", dueAt: instant(2) });
  });

  it("is over at an instant, written or computed", () => {
    const written = superviseRun(define({ id: "until", wait: { until: "2026-01-01T01:00:00+01:00" } }));
    expect(said(written, "timer.set")).toEqual({ id: "until.until", dueAt: "2026-01-01T00:00:00.000Z" });
    const computed = superviseRun(define({ id: "until", wait: { until: "{{ input }}" } }), { input: instant(9) });
    expect(said(computed, "timer.set")).toEqual({ id: "until.until", dueAt: instant(9) });
    computed.fires("until.until");
    expect(computed.end()?.type).toBe("run.completed");
    const wrong = superviseRun(define({ id: "until", wait: { until: "{{ input }}" } }), { input: "soon" });
    expect(wrong.end()).toMatchObject({
      data: {
        error: { code: "template_failed", message: 'step until: wait.until: expected an ISO 8601 instant, got "soon"' },
      },
    });
  });
});

describe("definitions of what waits", () => {
  const complaints = (...steps: object[]) => {
    try {
      define(...(steps as StepOptions[]));
      return [];
    } catch (error) {
      return (error as DefinitionError).problems.map(
        ({ path, expected, got }) => `${path}: expected ${expected}, got ${got}`,
      );
    }
  };

  test.each([
    [{ id: "a" }, "one of `agent`, `tool`, `approval`, `wait`, `workflow`, `steps`, got none"],
    [
      { id: "a", agent: "x", tool: "y" },
      "one of `agent`, `tool`, `approval`, `wait`, `workflow`, `steps`, got agent and tool",
    ],
    [{ id: "a", approval: { title: "?" }, input: 1 }, "no `input` on a step with `approval`, got 1"],
    [{ id: "a", wait: { forMs: 1 }, retry: {} }, "no `retry` on a step with `wait`"],
    [{ id: "a", wait: { forMs: 1 }, timeoutMs: 9 }, "no `timeoutMs` on a step with `wait`, got 9"],
    [{ id: "a", wait: {} }, "exactly one of forMs, until, signal, got none of them"],
    [{ id: "a", wait: { forMs: 1, signal: "b" } }, "exactly one of forMs, until, signal, got forMs and signal"],
    [{ id: "a", wait: { until: "tomorrow" } }, "an ISO 8601 instant such as"],
    [{ id: "a", wait: { until: "{{ steps.b.output }}" } }, "no reference to a step, for none comes before"],
    [{ id: "a", wait: { signal: "approval" } }, "another name, as approvals are decided by it"],
    [{ id: "a", wait: { forMs: 1, timeoutMs: 5 } }, "no `timeoutMs` where no signal is waited for, got 5"],
    [{ id: "a", wait: { signal: "go", onTimeout: "continue" } }, "a `timeoutMs` beside it"],
    [{ id: "a", wait: { signal: "go", schema: { unevaluatedItems: false } } }, "a JSON Schema that can be checked"],
    [{ id: "a", approval: { title: "{{ steps.b.output }}" } }, "no reference to a step, for none comes before"],
    [{ id: "a", approval: { title: "?", choices: ["yes", "yes"] } }, "each choice once"],
    [
      { id: "a", approval: { title: "?", onTimeout: "maybe", timeoutMs: 5 } },
      '"fail" or one of approve, reject, got "maybe"',
    ],
    [{ id: "a", approval: { title: "?", onTimeout: "reject" } }, "a `timeoutMs` beside it"],
    [{ id: "a", approval: { title: "?", choices: ["yes"], onReject: "fail" } }, 'the choice "reject" among yes'],
  ])("%j is told", (step, expected) => {
    const told = complaints(step);
    expect(told).toHaveLength(1);
    expect(told[0]).toContain(expected);
    expect(told[0]).toMatch(/^workflows\.flow\.steps\[0\]/);
  });
});
