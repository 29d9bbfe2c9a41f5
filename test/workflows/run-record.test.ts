import { describe, expect, test } from "vitest";
import type { RunEvent } from "../../src/workflows/run-events.ts";
import { applyEvents, resultOf } from "../../src/workflows/run-record.ts";
import { eventsOf, finishedRun, OWNER, USAGE } from "../helpers/run-events.ts";

describe("a deterministic run", () => {
  test("reads its steps, output, usage and progress", () => {
    const make = eventsOf("r1");
    const record = applyEvents(
      undefined,
      finishedRun(make, { words: 3 }, { sessionId: "s", metadata: { a: 1 } }).flat(),
    );
    expect(record).toEqual({
      runId: "r1",
      workflow: "article",
      version: "1",
      hash: "abc",
      kind: "deterministic",
      status: "completed",
      owner: { ...OWNER, epoch: 1 },
      current: [],
      timers: [],
      input: "bees",
      output: { words: 3 },
      progress: { completed: 1, total: 1, percent: 100 },
      steps: [
        {
          id: "write",
          agent: "writer",
          status: "completed",
          attempts: 1,
          startedAt: "2026-01-01T00:00:02.000Z",
          endedAt: "2026-01-01T00:00:05.000Z",
          output: { words: 3 },
        },
      ],
      compensations: [],
      handoffs: [],
      usage: { inputTokens: 10, outputTokens: 5, totalTokens: 15, modelCalls: 1 },
      sessionId: "s",
      metadata: { a: 1 },
      traceId: "0af7651916cd43dd8448eb211c80319c",
      createdAt: "2026-01-01T00:00:00.000Z",
      startedAt: "2026-01-01T00:00:02.000Z",
      endedAt: "2026-01-01T00:00:06.000Z",
      events: 7,
    });
  });

  test("keeps finished outputs when a later step fails", () => {
    const make = eventsOf();
    const error = { code: "model_refused", message: "no" };
    const record = applyEvents(undefined, [
      ...make.open(),
      ...startStep(make, "facts"),
      completed(make, "facts-1", "three facts"),
      make.next({ type: "step.completed", data: { step: "facts", taskId: "facts-1" } }),
      ...startStep(make, "write"),
      make.next({
        type: "task.settled",
        data: { taskId: "write-1", agent: "writer", outcome: { type: "failed", error, usage: USAGE } },
      }),
      make.next({ type: "step.failed", data: { step: "write", taskId: "write-1", error } }),
      make.next({ type: "run.failed", data: { error } }),
    ]);
    expect(record).toMatchObject({ status: "failed", error, progress: { completed: 1, total: 2, percent: 50 } });
    expect(record.steps).toMatchObject([
      { id: "facts", status: "completed", output: "three facts" },
      { id: "write", status: "failed", error },
    ]);
    expect(record.usage).toEqual({ inputTokens: 20, outputTokens: 10, totalTokens: 30, modelCalls: 2 });
  });

  test("shows steps that were skipped and why, and those without which it went on", () => {
    const make = eventsOf();
    const error = { code: "declined", message: "no" };
    const record = applyEvents(undefined, [
      ...make.open({}, { steps: 3 }),
      ...startStep(make, "charge"),
      make.next({ type: "step.failed", data: { step: "charge", taskId: "charge-1", error, continued: true } }),
      make.next({ type: "step.skipped", data: { step: "ship", agent: "shipper", reason: "needs all: charge failed" } }),
    ]);
    expect(record.progress).toEqual({ completed: 2, total: 3, percent: 67 });
    expect(record.steps).toEqual([
      expect.objectContaining({ id: "charge", status: "failed", error, continued: true }),
      {
        id: "ship",
        agent: "shipper",
        status: "skipped",
        attempts: 0,
        endedAt: "2026-01-01T00:00:05.000Z",
        reason: "needs all: charge failed",
      },
    ]);
  });

  test("counts attempts of a step that is retried, and shows what went wrong until it works", () => {
    const make = eventsOf();
    const error = { code: "timeout", message: "too slow", retryable: true };
    const dueAt = "2026-01-01T01:00:00.000Z";
    let record = applyEvents(undefined, [
      ...make.open(),
      ...startStep(make, "facts"),
      make.next({ type: "task.settled", data: { taskId: "facts-1", agent: "a", outcome: { type: "failed", error } } }),
      make.next({ type: "step.retrying", data: { step: "facts", attempt: 2, dueAt, error } }),
      make.next({ type: "timer.set", data: { id: "retry.facts", dueAt } }),
    ]);
    expect(record).toMatchObject({ status: "running", timers: [{ id: "retry.facts", dueAt }], current: [] });
    expect(record.steps).toMatchObject([{ status: "retrying", attempts: 1, error }]);

    record = applyEvents(record, [
      make.next({ type: "timer.fired", data: { id: "retry.facts" } }),
      make.next({ type: "task.sent", data: { taskId: "facts-2", agent: "a", step: "facts", attempt: 2, delivery: 1 } }),
    ]);
    expect(record.steps).toMatchObject([{ status: "running", attempts: 2, error }]);
    expect(record.timers).toEqual([]);

    record = applyEvents(record, [
      completed(make, "facts-2", "ok"),
      make.next({ type: "step.completed", data: { step: "facts", taskId: "facts-2" } }),
    ]);
    expect(record.steps).toMatchObject([{ status: "completed", attempts: 2, output: "ok" }]);
    expect(record.steps[0]).not.toHaveProperty("error");
  });

  test("ends steps that were at work when it ends", () => {
    const make = eventsOf();
    const record = applyEvents(undefined, [
      ...make.open(),
      ...startStep(make, "facts"),
      make.next({ type: "run.cancelling", data: { reason: "enough" } }),
      make.next({ type: "run.cancelled", data: { reason: "enough" } }),
    ]);
    expect(record).toMatchObject({ status: "cancelled", error: { code: "cancelled", message: "enough" }, current: [] });
    expect(record.steps).toMatchObject([{ id: "facts", status: "cancelled", endedAt: record.endedAt }]);
  });
});

describe("a handoff run", () => {
  test("reads one step for each task and the handoffs between them", () => {
    const make = eventsOf();
    const half = applyEvents(undefined, [
      ...make.open({}, { kind: "handoff" }),
      make.next({ type: "task.sent", data: { taskId: "h0", agent: "triage", attempt: 1, delivery: 1 } }),
      make.next({
        type: "agent.handoff",
        data: {
          taskId: "h0",
          from: "triage",
          to: "billing",
          reason: "money",
          transcript: [],
          next: { taskId: "h1", forwarded: true },
          usage: USAGE,
        },
      }),
      make.next({ type: "task.sent", data: { taskId: "h1", agent: "billing", attempt: 1, delivery: 1 } }),
    ]);
    expect(half).toMatchObject({
      status: "running",
      progress: { completed: 0, total: 1, percent: 0 },
      current: [{ taskId: "h1", agent: "billing" }],
      handoffs: [{ from: "triage", to: "billing", reason: "money", at: "2026-01-01T00:00:03.000Z" }],
    });
    const done = applyEvents(half, [
      completed(make, "h1", "refunded"),
      make.next({ type: "run.completed", data: { output: "refunded" } }),
    ]);
    expect(done.steps).toMatchObject([
      { id: "h0", agent: "triage", status: "completed" },
      { id: "h1", agent: "billing", status: "completed", output: "refunded" },
    ]);
    expect(done.progress.percent).toBe(100);
    expect(done.usage.modelCalls).toBe(2);
  });
});

describe("the status", () => {
  test("is pending until the start timer fires", () => {
    const make = eventsOf();
    const dueAt = "2026-02-01T00:00:00.000Z";
    const pending = applyEvents(undefined, [
      ...make.open({ notBefore: dueAt }),
      make.next({ type: "timer.set", data: { id: "start", dueAt } }),
    ]);
    expect(pending).toMatchObject({ status: "pending", notBefore: dueAt });
    expect(pending).not.toHaveProperty("startedAt");
    const running = applyEvents(pending, [
      make.next({ type: "timer.fired", data: { id: "start" } }),
      ...startStep(make, "facts"),
    ]);
    expect(running.status).toBe("running");
    expect(running.startedAt).toBe("2026-01-01T00:00:04.000Z");
  });

  test("is waiting, in words, while every open task waits, and running as soon as one goes on", () => {
    const make = eventsOf();
    const one = applyEvents(undefined, [
      ...make.open(),
      ...startStep(make, "facts"),
      ...startStep(make, "score"),
      make.next({ type: "task.waiting", data: { taskId: "facts-1", agent: "facts", reason: "no worker" } }),
    ]);
    expect(one.status).toBe("running");
    const both = applyEvents(one, [
      make.next({ type: "task.waiting", data: { taskId: "score-1", agent: "score", reason: "no worker" } }),
    ]);
    expect(both).toMatchObject({
      status: "waiting",
      waitingFor: "facts (facts-1): no worker; score (score-1): no worker",
    });
    const again = applyEvents(both, [
      make.next({
        type: "task.sent",
        data: { taskId: "facts-1", agent: "facts", step: "facts", attempt: 1, delivery: 2, lost: { reason: "gone" } },
      }),
    ]);
    expect(again.status).toBe("running");
    expect(again).not.toHaveProperty("waitingFor");
    expect(again.steps[0]?.attempts).toBe(1);
  });

  test("is waiting while parked, until somebody claims the run", () => {
    const make = eventsOf();
    const parked = applyEvents(undefined, [
      ...make.open(),
      make.next({ type: "run.parked", data: { reason: "no definition with hash abc" } }),
    ]);
    expect(parked).toMatchObject({
      status: "waiting",
      parked: "no definition with hash abc",
      waitingFor: parked.parked,
    });
    const claimed = applyEvents(parked, [
      make.next({ type: "run.claimed", data: { host: "there", incarnation: "there-1", reason: "resume" } }, 2),
    ]);
    expect(claimed).toMatchObject({ status: "running", owner: { host: "there", incarnation: "there-1", epoch: 2 } });
    expect(claimed).not.toHaveProperty("parked");
  });

  test("is cancelling from the cancel to the end, whatever else comes in", () => {
    const make = eventsOf();
    const record = applyEvents(undefined, [
      ...make.open(),
      ...startStep(make, "facts"),
      make.next({ type: "run.cancelling", data: {} }),
      make.next({ type: "task.waiting", data: { taskId: "facts-1", agent: "facts", reason: "no worker" } }),
    ]);
    expect(record.status).toBe("cancelling");
  });

  test("of a refused request is failed, with nothing of a definition", () => {
    const make = eventsOf();
    const trace = { traceId: "0af7651916cd43dd8448eb211c80319c", sampled: true };
    const error = { code: "unknown_workflow", message: "no workflow nope" };
    const record = applyEvents(undefined, [
      make.next({ type: "run.accepted", data: { workflow: "nope", input: 1, trace } }),
      make.next({ type: "run.failed", data: { error } }),
    ]);
    expect(record).toMatchObject({
      status: "failed",
      error,
      steps: [],
      progress: { completed: 0, total: 0, percent: 0 },
    });
    expect(record).not.toHaveProperty("version");
  });
});

describe("applying events", () => {
  test("one by one gives the same record as all at once, whatever was applied before", () => {
    const events = finishedRun(eventsOf("same")).flat();
    const whole = applyEvents(undefined, events);
    const single = events.reduce<ReturnType<typeof applyEvents> | undefined>(
      (sofar, event) => applyEvents(sofar, [event]),
      undefined,
    );
    expect(single).toEqual(whole);
    expect(applyEvents(whole, events)).toEqual(whole);
  });

  test("leaves the record it was given as it was", () => {
    const make = eventsOf();
    const before = applyEvents(undefined, make.open());
    const copy = structuredClone(before);
    applyEvents(before, startStep(make, "facts"));
    expect(before).toEqual(copy);
  });

  test("refuses a journal without its beginning and one with a hole", () => {
    const [accepted, claimed, ...rest] = finishedRun(eventsOf("r9")).flat() as [RunEvent, RunEvent, ...RunEvent[]];
    expect(() => applyEvents(undefined, [claimed])).toThrow(
      /run r9: expected run.accepted as event 1, got run.claimed/,
    );
    expect(() => applyEvents(undefined, [accepted, ...rest])).toThrow(/run r9: expected event 2, got event 3/);
  });
});

test("a terminal event tells the result, any other none", () => {
  const events = finishedRun(eventsOf("r2"), 42).flat();
  expect(events.map(resultOf).filter(Boolean)).toEqual([{ runId: "r2", status: "completed", output: 42 }]);
});

function startStep(make: ReturnType<typeof eventsOf>, step: string): RunEvent[] {
  return [
    make.next({ type: "step.started", data: { step, agent: step } }),
    make.next({ type: "task.sent", data: { taskId: `${step}-1`, agent: step, step, attempt: 1, delivery: 1 } }),
  ];
}

function completed(make: ReturnType<typeof eventsOf>, taskId: string, output: unknown): RunEvent {
  const outcome = { type: "completed", output, usage: USAGE } as const;
  return make.next({ type: "task.settled", data: { taskId, agent: "a", outcome } });
}
