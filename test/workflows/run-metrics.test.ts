import { expect, test } from "vitest";
import { defineWorkflow } from "../../src/workflows/define-workflow.ts";
import type { RunEvent } from "../../src/workflows/run-events.ts";
import { runMetrics } from "../../src/workflows/run-metrics.ts";
import { type EventMaker, eventsOf } from "../helpers/run-events.ts";
import { superviseRun } from "../helpers/supervised-run.ts";

const USAGE = { inputTokens: 10, outputTokens: 5, modelCalls: 2, toolCalls: 3 };
const error = { code: "timeout", message: "too slow" };

function sent(make: EventMaker, step: string, attempt = 1, delivery = 1): RunEvent {
  const lost = delivery > 1 ? { lost: { reason: "silent" } } : {};
  const data = { taskId: `${step}-${attempt}`, agent: "writer", step, attempt, delivery, ...lost };
  return make.next({ type: "task.sent", data });
}

test("what only some tasks say of their usage is there where it was said", () => {
  const make = eventsOf("r1");
  const usage = {
    ...USAGE,
    cachedTokens: 4,
    cost: 0.25,
    models: [{ provider: "local", model: "small", modelCalls: 2 }],
  };
  const metrics = runMetrics([
    ...make.open(),
    sent(make, "facts"),
    make.next({
      type: "task.settled",
      data: { taskId: "facts-1", agent: "writer", outcome: { type: "completed", output: 1, usage } },
    }),
    sent(make, "style"),
    make.next({
      type: "task.settled",
      data: { taskId: "style-1", agent: "writer", outcome: { type: "completed", output: 1, usage: USAGE } },
    }),
  ]);
  const { cachedTokens, cost, models } = usage;
  expect(metrics).toMatchObject({ modelCalls: 4, toolCalls: 6, totalTokens: 30, cachedTokens, cost, models });
  expect(metrics?.steps[0]).toMatchObject({ cachedTokens, cost, models });
  for (const figure of ["cachedTokens", "cost", "models"]) expect(metrics?.steps[1]).not.toHaveProperty(figure);
});

test("a run is measured in sum and by step, with its attempts, what was sent again, and what models and tools took", () => {
  const make = eventsOf("r1");
  const metrics = runMetrics([
    ...make.open(), // 0, 1
    make.next({ type: "step.started", data: { step: "facts", agent: "writer" } }), // 2
    sent(make, "facts"), // 3
    make.next({ type: "run.claimed", data: { host: "b", incarnation: "b-1", reason: "takeover" } }), // 4
    sent(make, "facts", 1, 2), // 5
    make.next({
      type: "task.settled",
      data: { taskId: "facts-1", agent: "writer", outcome: { type: "failed", error, usage: USAGE } },
    }), // 6
    make.next({
      type: "step.retrying",
      data: { step: "facts", attempt: 2, dueAt: "2026-01-01T00:00:08.000Z", error },
    }), // 7
    sent(make, "facts", 2), // 8
    make.next({
      type: "task.settled",
      data: { taskId: "facts-2", agent: "writer", outcome: { type: "completed", output: 1, usage: USAGE } },
    }), // 9
    make.next({ type: "step.completed", data: { step: "facts", taskId: "facts-2" } }), // 10
    make.next({ type: "step.started", data: { step: "write", agent: "writer" } }), // 11
    sent(make, "write"), // 12
    make.next({ type: "task.waiting", data: { taskId: "write-1", agent: "writer", reason: "nobody" } }), // 13
  ]);
  const facts = { id: "facts", agent: "writer", durationMs: 8_000, workMs: 4_000, attempts: 2, retries: 1, lost: 1 };
  const used = { modelCalls: 4, toolCalls: 6, inputTokens: 20, outputTokens: 10, totalTokens: 30 };
  const nothing = { modelCalls: 0, toolCalls: 0, inputTokens: 0, outputTokens: 0, totalTokens: 0 };
  expect(metrics).toEqual({
    runId: "r1",
    workflow: "article",
    status: "waiting",
    durationMs: 13_000,
    pendingMs: 2_000,
    workMs: 5_000,
    attempts: 3,
    retries: 1,
    lost: 1,
    handoffs: 0,
    takeovers: 1,
    ...used,
    steps: [
      { ...facts, ...used },
      { id: "write", agent: "writer", durationMs: 2_000, workMs: 1_000, attempts: 1, retries: 0, lost: 0, ...nothing },
    ],
  });
});

test("in a handoff run each task is a step of its own", () => {
  const make = eventsOf("r2");
  const hop = { transcript: [], next: { taskId: "h1", forwarded: true }, usage: USAGE };
  const metrics = runMetrics([
    ...make.open({}, { kind: "handoff" }),
    make.next({ type: "task.sent", data: { taskId: "h0", agent: "triage", attempt: 1, delivery: 1 } }),
    make.next({ type: "agent.handoff", data: { taskId: "h0", from: "triage", to: "billing", ...hop } }),
    make.next({ type: "task.sent", data: { taskId: "h1", agent: "billing", attempt: 1, delivery: 1 } }),
    make.next({
      type: "task.settled",
      data: { taskId: "h1", agent: "billing", outcome: { type: "completed", output: "x", usage: USAGE } },
    }),
    make.next({ type: "run.completed", data: { output: "x" } }),
  ]);
  expect(metrics).toMatchObject({ status: "completed", handoffs: 1, attempts: 2, toolCalls: 6, pendingMs: 2_000 });
  expect(metrics?.steps).toMatchObject([
    { id: "h0", agent: "triage", durationMs: 1_000, workMs: 1_000 },
    { id: "h1", agent: "billing", durationMs: 1_000, workMs: 1_000 },
  ]);
});

test("what is called off is measured until then, and what undoes a step until it has", () => {
  const undo = { compensate: { agent: "undoer" } };
  const definition = defineWorkflow({
    name: "w",
    steps: [
      {
        id: "g",
        onError: "continue",
        steps: [
          { id: "a", agent: "x", ...undo },
          { id: "b", agent: "x" },
          { id: "c", agent: "x" },
        ],
      },
      { id: "pay", agent: "x", after: "g", needs: "always" },
    ],
    onFailure: [{ id: "tell", agent: "x" }],
  });
  const run = superviseRun(definition);
  run.completes("g/a-1");
  run.fails("g/b-1"); // 2: g/c is called off
  run.fires("nothing");
  run.fails("pay-1"); // 4
  run.completes("g/a/compensate-1"); // 5
  run.fires("nothing");
  run.completes("onFailure/tell-1"); // 7
  const steps = runMetrics(run.journal.flat())?.steps ?? [];
  const took = Object.fromEntries(steps.map(({ id, durationMs, workMs }) => [id, [durationMs, workMs]]));
  expect(took).toEqual({
    g: [2_000, 0],
    "g/a": [1_000, 1_000],
    "g/b": [2_000, 2_000],
    "g/c": [2_000, 2_000],
    pay: [2_000, 2_000],
    "g/a/compensate": [1_000, 1_000],
    "onFailure/tell": [2_000, 2_000],
  });
});

test("what does not stop in time when the run fails is measured until then", () => {
  const steps = [
    { id: "a", agent: "x", compensate: { agent: "undoer" } },
    { id: "b", agent: "x" },
    { id: "c", agent: "x", compensate: { agent: "undoer" } },
  ];
  const run = superviseRun(defineWorkflow({ name: "w", steps }));
  run.completes("a-1");
  run.fails("b-1");
  run.fires("cancel"); // 3
  run.completes("a/compensate-1");
  const c = runMetrics(run.journal.flat())?.steps.find(({ id }) => id === "c");
  expect(c?.workMs).toBe(3_000);
});

test("without a journal there is nothing to measure", () => {
  expect(runMetrics([])).toBeUndefined();
});
