import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { endSpanId, rootSpanId, segmentSpanId, traceIdFor } from "../../src/tracing/trace-ids.ts";

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

test("the trace id of a run is the documented hash of its id", () => {
  expect(traceIdFor("r1")).toBe(sha256("trace:r1").slice(0, 32));
});

test("span ids are the documented hashes, and differ by task and delivery", () => {
  expect(rootSpanId("r1")).toBe(sha256("span:r1:root").slice(0, 16));
  expect(segmentSpanId("r1", "t1", 2)).toBe(sha256("span:r1:t1:2").slice(0, 16));
  expect(endSpanId("r1")).toBe(sha256("span:r1:end").slice(0, 16));
  expect(segmentSpanId("r1", "t1", 1)).not.toBe(segmentSpanId("r1", "t1", 2));
});
