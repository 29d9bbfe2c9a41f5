import { expect, test } from "vitest";
import type { PlainSpan } from "../../src/tracing/plain-span.ts";
import { renderSpanTree } from "../../src/tracing/span-tree.ts";

function span(spanId: string, name: string, startMs: number, endMs: number, more: Partial<PlainSpan> = {}): PlainSpan {
  return {
    traceId: "a".repeat(32),
    spanId,
    name,
    kind: "internal",
    start: BigInt(startMs) * 1_000_000n,
    end: BigInt(endMs) * 1_000_000n,
    status: { code: "unset" },
    attributes: {},
    links: [],
    events: [],
    resource: {},
    scope: "troupe",
    ...more,
  };
}

test("a run is drawn as a tree with durations, each span once", () => {
  const root = span("1", "run article", 0, 0, { kind: "producer" });
  const text = renderSpanTree([
    span("5", "invoke_workflow article", 0, 1_250, {
      parentSpanId: "1",
      attributes: {
        "troupe.run.outcome": "completed",
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
      },
    }),
    root,
    root,
    span("4", "invoke_agent editor", 40, 1_250, {
      parentSpanId: "1",
      status: { code: "error" },
      attributes: { "error.type": "worker_lost", "troupe.task.delivery": 2, "troupe.handoff.from": "writer" },
    }),
    span("3", "chat gpt-5", 10, 30, { parentSpanId: "2" }),
    span("2", "invoke_agent writer", 0, 40, { parentSpanId: "1", attributes: { "troupe.step.id": "write" } }),
  ]);
  expect(text).toBe(
    [
      "run article                     0 ms",
      "├─ invoke_agent writer         40 ms  step=write",
      "│  └─ chat gpt-5               20 ms",
      "├─ invoke_agent editor        1.21 s  from=writer delivery=2 error=worker_lost",
      "└─ invoke_workflow article    1.25 s  completed 7→3 tokens",
    ].join("\n"),
  );
});

test("a span whose parent is missing says so, a root under its caller too", () => {
  const text = renderSpanTree([
    span("2", "chat gpt-5", 0, 5, { parentSpanId: "9" }),
    span("1", "run article", 1, 1, { kind: "producer", parentSpanId: "8" }),
  ]);
  expect(text.split("\n").map((line) => line.replaceAll(/ {2,}/g, " "))).toEqual([
    "chat gpt-5 5.0 ms parent 9 is missing",
    "run article 0 ms under span 8 of its caller",
  ]);
});
