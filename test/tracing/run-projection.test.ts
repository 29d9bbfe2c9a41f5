import { SpanKind, SpanStatusCode } from "@opentelemetry/api";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { expect, test } from "vitest";
import { StructuralFold } from "../../src/tracing/run-projection.ts";
import { endSpanId, rootSpanId, segmentSpanId, traceIdFor } from "../../src/tracing/trace-ids.ts";
import { accepted, completed, failed, handedOff, newJournal, START, sent, settled } from "./journal.ts";

const resource = resourceFromAttributes({ "service.name": "test" });
type Entries = { events: Parameters<StructuralFold["fold"]>[0] }[];

function foldAll(journal: ReturnType<typeof newJournal>, entries: Entries) {
  const fold = new StructuralFold({ runId: journal.runId, workflow: "article", trace: journal.trace, resource });
  return entries.flatMap(({ events }) => fold.fold(events));
}

const ms = ([seconds, nanos]: [number, number]) => seconds * 1_000 + nanos / 1e6 - START;

test("a run of two steps is a root, two segments and an end, with the journal's times", () => {
  const journal = newJournal("r1");
  const spans = foldAll(journal, [
    journal.entry(0, accepted(journal.trace), sent("t1", "writer", { step: "write" })),
    journal.entry(40, settled("t1", "writer"), sent("t2", "editor", { step: "edit" })),
    journal.entry(100, settled("t2", "editor"), completed),
  ]);
  expect(
    spans.map((span) => [
      span.name,
      span.spanContext().spanId,
      span.parentSpanContext?.spanId,
      ms(span.startTime),
      ms(span.endTime),
    ]),
  ).toEqual([
    ["run article", rootSpanId("r1"), undefined, 0, 0],
    ["invoke_agent writer", segmentSpanId("r1", "t1", 1), rootSpanId("r1"), 0, 40],
    ["invoke_agent editor", segmentSpanId("r1", "t2", 1), rootSpanId("r1"), 40, 100],
    ["invoke_workflow article", endSpanId("r1"), rootSpanId("r1"), 0, 100],
  ]);
  expect(spans.map((span) => span.spanContext().traceId)).toEqual(Array(4).fill(traceIdFor("r1")));
  expect(spans.map((span) => span.kind)).toEqual([
    SpanKind.PRODUCER,
    SpanKind.INTERNAL,
    SpanKind.INTERNAL,
    SpanKind.INTERNAL,
  ]);
  expect(spans[1]?.attributes).toMatchObject({
    "gen_ai.operation.name": "invoke_agent",
    "gen_ai.agent.name": "writer",
    "gen_ai.usage.input_tokens": 10,
    "troupe.run.id": "r1",
    "troupe.task.id": "t1",
    "troupe.step.id": "write",
    "troupe.task.attempt": 1,
    "troupe.task.delivery": 1,
    "troupe.worker": "host-1",
  });
  expect(spans[3]?.attributes).toMatchObject({
    "troupe.run.outcome": "completed",
    "troupe.run.model_calls": 2,
    "troupe.run.handoffs": 0,
    "gen_ai.usage.input_tokens": 20,
    "gen_ai.usage.output_tokens": 10,
  });
});

test("the root hangs under the caller's span", () => {
  const trace = { traceId: "4bf92f3577b34da6a3ce929d0e0e4736", parentSpanId: "00f067aa0ba902b7", sampled: true };
  const journal = newJournal("r1", { trace });
  const [root] = foldAll(journal, [journal.entry(0, accepted(trace))]);
  expect(root?.spanContext().traceId).toBe(trace.traceId);
  expect(root?.parentSpanContext).toMatchObject({ spanId: trace.parentSpanId, isRemote: true });
});

test("a task that is sent again leaves a tombstone, and its late outcome settles the open delivery", () => {
  const journal = newJournal("r1");
  const spans = foldAll(journal, [
    journal.entry(0, accepted(journal.trace), sent("t1", "writer")),
    journal.entry(50, sent("t1", "writer", { delivery: 2, lost: { worker: "host-1", reason: "silent" } })),
    // The first worker was only slow: its outcome is as good as the second's.
    journal.entry(80, settled("t1", "writer", "host-1"), completed),
  ]);
  const segments = spans.filter(({ name }) => name === "invoke_agent writer");
  expect(
    segments.map((span) => [span.spanContext().spanId, ms(span.startTime), ms(span.endTime), span.status.code]),
  ).toEqual([
    [segmentSpanId("r1", "t1", 1), 0, 50, SpanStatusCode.ERROR],
    [segmentSpanId("r1", "t1", 2), 50, 80, SpanStatusCode.UNSET],
  ]);
  expect(segments[0]?.attributes).toMatchObject({ "error.type": "worker_lost", "troupe.worker": "host-1" });
});

test("a handoff links the target's segment to the source's, also when the target is sent again", () => {
  const journal = newJournal("r1");
  const spans = foldAll(journal, [
    journal.entry(0, accepted(journal.trace), sent("t1", "triage")),
    journal.entry(10, handedOff("t1", "triage", "billing", "t2"), sent("t2", "billing")),
    journal.entry(20, sent("t2", "billing", { delivery: 2 })),
    journal.entry(30, settled("t2", "billing"), completed),
  ]);
  const [source, first, second] = spans.filter(({ name }) => name.startsWith("invoke_agent"));
  expect(source?.attributes["troupe.handoff.to"]).toBe("billing");
  for (const target of [first, second]) {
    expect(target?.attributes["troupe.handoff.from"]).toBe("triage");
    expect(target?.links.map(({ context }) => context.spanId)).toEqual([source?.spanContext().spanId]);
  }
  expect(spans.at(-1)?.attributes).toMatchObject({ "troupe.run.handoffs": 1, "troupe.run.model_calls": 2 });
});

test("each attempt at a step is a segment of its own, with its error", () => {
  const journal = newJournal("r1");
  const spans = foldAll(journal, [
    journal.entry(0, accepted(journal.trace), sent("t1", "writer", { step: "write" })),
    journal.entry(10, failed("t1", "writer", "rate_limited")),
    journal.entry(20, sent("t1b", "writer", { step: "write", attempt: 2 })),
    journal.entry(30, settled("t1b", "writer"), completed),
  ]);
  const segments = spans.filter(({ name }) => name === "invoke_agent writer");
  expect(
    segments.map(({ attributes, status }) => [attributes["troupe.task.attempt"], attributes["error.type"], status]),
  ).toEqual([
    [1, "rate_limited", { code: SpanStatusCode.ERROR, message: "rate_limited happened" }],
    [2, undefined, { code: SpanStatusCode.UNSET }],
  ]);
});

test.each([
  [{ type: "run.cancelled", data: { reason: "changed my mind" } }, "cancelled", "cancelled", "cancelled"],
  [
    { type: "run.failed", data: { error: { code: "step_failed", message: "no" } } },
    "abandoned",
    "failed",
    "step_failed",
  ],
] as const)("a run that ends with %j ends its open segments", (terminal, segmentError, outcome, runError) => {
  const journal = newJournal("r1");
  const spans = foldAll(journal, [
    journal.entry(0, accepted(journal.trace), sent("t1", "writer"), sent("t2", "editor")),
    journal.entry(10, terminal),
    journal.entry(20, settled("t1", "writer")),
  ]);
  expect(spans.map(({ name, attributes }) => [name, attributes["error.type"]])).toEqual([
    ["run article", undefined],
    ["invoke_agent writer", segmentError],
    ["invoke_agent editor", segmentError],
    ["invoke_workflow article", runError],
  ]);
  expect(spans.at(-1)?.attributes["troupe.run.outcome"]).toBe(outcome);
});

test("a run that is not sampled makes no span but still has segments to pass on", () => {
  const trace = { traceId: traceIdFor("r1"), sampled: false };
  const journal = newJournal("r1", { trace });
  expect(
    foldAll(journal, [journal.entry(0, accepted(trace), sent("t1", "writer")), journal.entry(5, completed)]),
  ).toEqual([]);
  const fold = new StructuralFold({ runId: "r1", workflow: "article", trace, resource });
  expect(fold.segment("t1", 1)).toEqual({
    traceId: trace.traceId,
    spanId: segmentSpanId("r1", "t1", 1),
    sampled: false,
  });
});

test("a clock that went back between two owners makes no negative duration", () => {
  const journal = newJournal("r1");
  const spans = foldAll(journal, [
    journal.entry(100, accepted(journal.trace), sent("t1", "writer")),
    journal.entry(40, settled("t1", "writer"), completed),
  ]);
  expect(spans.map(({ duration }) => duration)).toEqual([
    [0, 0],
    [0, 0],
    [0, 0],
  ]);
});

test("skipped steps have no spans, but are counted where the run ends, also over a saved fold", () => {
  const journal = newJournal("r1");
  const skipped = (step: string) => ({ type: "step.skipped", data: { step, agent: "x", reason: "when" } }) as const;
  const first = journal.entry(0, accepted(journal.trace), skipped("a"), sent("t1", "writer")).events;
  const rest = journal.entry(5, settled("t1", "writer"), skipped("b"), completed).events;
  const run = { runId: "r1", workflow: "article", trace: journal.trace, resource };
  const fold = new StructuralFold(run);
  const made = fold.fold(first);
  const saved = fold.save();
  const whole = fold.fold(rest);
  expect([...made, ...whole].map(({ name }) => name)).toEqual([
    "run article",
    "invoke_agent writer",
    "invoke_workflow article",
  ]);
  expect(whole.at(-1)?.attributes["troupe.run.steps_skipped"]).toBe(2);
  const on = new StructuralFold(run);
  const [begun] = first;
  if (!saved || begun?.type !== "run.accepted") throw new Error("nothing to go on from");
  on.restore(begun, JSON.parse(JSON.stringify(saved)));
  expect(on.fold(rest).at(-1)?.attributes).toEqual(whole.at(-1)?.attributes);
});

test("steps that are no agent's are spans of their own, for as long as they wait or work", () => {
  const journal = newJournal("r1");
  const tool = { taskId: "load-1", agent: "load", kind: "tool", step: "load", attempt: 1, delivery: 1 } as const;
  const child = { ...tool, taskId: "sub-1", agent: "report", kind: "workflow", step: "sub", childId: "c1" } as const;
  const spans = foldAll(journal, [
    journal.entry(
      0,
      accepted(journal.trace),
      { type: "task.sent", data: tool },
      { type: "task.sent", data: child },
      { type: "approval.requested", data: { step: "ok", title: "?", choices: ["approve"] } },
      { type: "wait.begun", data: { step: "paid", signal: "paid" } },
    ),
    journal.entry(10, settled("load-1", "load")),
    journal.entry(
      20,
      { type: "approval.resolved", data: { step: "ok", choice: "approve", by: "ada", seq: 3 } },
      { type: "step.completed", data: { step: "ok", output: {} } },
    ),
    journal.entry(30, { type: "step.failed", data: { step: "paid", error: { code: "timeout", message: "late" } } }),
    journal.entry(40, failed("sub-1", "report", "no_paper"), completed),
  ]);
  const [root, ...others] = spans;
  expect(root?.name).toBe("run article");
  expect(
    others.map((span) => [span.name, span.spanContext().spanId, span.parentSpanContext?.spanId, ms(span.endTime)]),
  ).toEqual([
    ["step load", segmentSpanId("r1", "load-1", 1), rootSpanId("r1"), 10],
    ["step ok", segmentSpanId("r1", "wait:ok", 1), rootSpanId("r1"), 20],
    ["step paid", segmentSpanId("r1", "wait:paid", 1), rootSpanId("r1"), 30],
    ["step sub", segmentSpanId("r1", "sub-1", 1), rootSpanId("r1"), 40],
    ["invoke_workflow article", endSpanId("r1"), rootSpanId("r1"), 40],
  ]);
  const [load, ok, paid, sub] = others.map(({ attributes }) => attributes);
  expect(load).toMatchObject({ "troupe.step.kind": "tool", "gen_ai.tool.name": "load", "troupe.task.id": "load-1" });
  expect(load).not.toHaveProperty("gen_ai.agent.name");
  expect(ok).toMatchObject({
    "troupe.approval.choice": "approve",
    "troupe.approval.by": "ada",
    "troupe.step.id": "ok",
  });
  expect(ok).not.toHaveProperty("troupe.task.id");
  expect(paid).toMatchObject({ "troupe.signal.name": "paid", "error.type": "timeout" });
  expect(sub).toMatchObject({ "troupe.child.run.id": "c1", "error.type": "no_paper" });
});

test("a step that waits when the fold is saved goes on elsewhere as the same span", () => {
  const journal = newJournal("r1");
  const begun = journal.entry(0, accepted(journal.trace), {
    type: "approval.requested",
    data: { step: "ok", title: "?", choices: ["approve"] },
  });
  const end = journal.entry(
    20,
    { type: "approval.resolved", data: { step: "ok", choice: "approve", seq: 3 } },
    { type: "step.completed", data: { step: "ok", output: {} } },
    completed,
  );
  const make = () => new StructuralFold({ runId: journal.runId, workflow: "article", trace: journal.trace, resource });
  const straight = make();
  straight.fold(begun.events);
  const [first] = begun.events;
  const saved = straight.save();
  if (first?.type !== "run.accepted" || !saved) throw new Error("expected something to go on from");
  const elsewhere = make();
  elsewhere.restore(first, JSON.parse(JSON.stringify(saved)));
  const words = (spans: ReturnType<typeof foldAll>) =>
    spans.map((span) => [span.name, span.attributes, span.startTime]);
  expect(words([...elsewhere.fold(end.events)])).toEqual(words([...straight.fold(end.events)]));
});
