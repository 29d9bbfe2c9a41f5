import { expect, test } from "vitest";
import { openTraceLedger } from "../../soak/trace-ledger.ts";
import type { PlainSpan } from "../../src/tracing/plain-span.ts";
import { traceIdFor } from "../../src/tracing/trace-ids.ts";

test("a trace is closed when it is whole, and not before", () => {
  const { ledger } = open();
  ledger.take([span("root"), span("leaf", "middle")]);
  expect(ledger.close("run-1").join()).toContain('"leaf" (leaf) has the parent middle');
  ledger.take([span("middle", "root")]);
  expect(ledger.close("run-1")).toEqual([]);
  expect(ledger.strays()).toEqual([]);
});

test("after that a copy and a new leaf are welcome, an orphan and a second root are not", () => {
  const { ledger, problems } = open();
  ledger.take([span("root")]);
  ledger.close("run-1");
  ledger.take([span("root"), span("late", "root")]);
  expect(problems).toEqual([]);
  ledger.take([span("orphan", "nobody"), span("other root")]);
  expect(problems).toEqual([
    expect.stringContaining('an orphan came late, "orphan"'),
    expect.stringContaining('a second root came late, "other root"'),
  ]);
});

test("a trace of a run that nobody asked for is told at the end", () => {
  const { ledger } = open();
  ledger.take([span("root")]);
  expect(ledger.strays()).toEqual([expect.stringContaining("of no run that was asked for")]);
});

function open() {
  const problems: string[] = [];
  return { problems, ledger: openTraceLedger((problem) => void problems.push(problem)) };
}

function span(name: string, parentSpanId?: string): PlainSpan {
  return {
    traceId: traceIdFor("run-1"),
    spanId: name,
    ...(parentSpanId !== undefined && { parentSpanId }),
    name,
    kind: "internal",
    start: 0n,
    end: 1n,
    status: { code: "unset" },
    attributes: {},
    links: [],
    events: [],
    resource: {},
    scope: "test",
  };
}
