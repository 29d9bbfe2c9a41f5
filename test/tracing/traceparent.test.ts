import { expect, test } from "vitest";
import { traceIdFor } from "../../src/tracing/trace-ids.ts";
import { formatTraceparent, parseTraceparent, runTrace } from "../../src/tracing/traceparent.ts";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN = "00f067aa0ba902b7";

test("a context survives its header", () => {
  for (const sampled of [true, false]) {
    const context = { traceId: TRACE, spanId: SPAN, sampled };
    expect(parseTraceparent(formatTraceparent(context))).toEqual(context);
  }
});

test("a header of a later version is read as far as it is known", () => {
  expect(parseTraceparent(`01-${TRACE}-${SPAN}-01-later`)).toEqual({ traceId: TRACE, spanId: SPAN, sampled: true });
});

test.each([
  "",
  "nonsense",
  `ff-${TRACE}-${SPAN}-01`,
  `00-${TRACE}-${SPAN}-01-more`,
  `00-${"0".repeat(32)}-${SPAN}-01`,
  `00-${TRACE}-${"0".repeat(16)}-01`,
  `00-${TRACE.toUpperCase()}-${SPAN}-01`,
])("the malformed header %j counts as absent", (header) => {
  expect(parseTraceparent(header)).toBeUndefined();
  expect(runTrace("r1", header)).toEqual({ traceId: traceIdFor("r1"), sampled: true });
});

test("a run joins its caller's trace and decision", () => {
  const trace = runTrace("r1", `00-${TRACE}-${SPAN}-00`, () => true);
  expect(trace).toEqual({ traceId: TRACE, parentSpanId: SPAN, sampled: false });
});

test("a run without a caller asks the sampler about its own trace", () => {
  const asked: string[] = [];
  const trace = runTrace("r1", undefined, (traceId) => asked.push(traceId) < 0);
  expect(trace).toEqual({ traceId: traceIdFor("r1"), sampled: false });
  expect(asked).toEqual([traceIdFor("r1")]);
});
