import { expect, test } from "vitest";
import { decodeProtobufTraces } from "../../src/tracing/otlp-protobuf.ts";
import type { PlainSpan } from "../../src/tracing/plain-span.ts";
import { traceIdFor } from "../../src/tracing/trace-ids.ts";
import { startTestReceiver } from "../helpers/otlp-receiver.ts";
import { checkTraces } from "../helpers/trace-checker.ts";

test("a body that is no OTLP is answered with 400 and keeps nothing", async () => {
  await using receiver = await startTestReceiver();
  const answers = await Promise.all([
    fetch(receiver.url, { method: "POST", body: "{", headers: { "content-type": "application/json" } }),
    fetch(receiver.url, {
      method: "POST",
      body: new Uint8Array([10, 200]),
      headers: { "content-type": "application/x-protobuf" },
    }),
    fetch(`${receiver.endpoint}/v1/metrics`, { method: "POST", body: "{}" }),
  ]);
  expect(answers.map(({ status }) => status)).toEqual([400, 400, 404]);
  expect(receiver.spans).toEqual([]);
});

test("a truncated protobuf body is an error that says where", () => {
  expect(() => decodeProtobufTraces(new Uint8Array([10, 5, 1]))).toThrow("expected 5 more bytes, got 1");
});

const root: PlainSpan = {
  traceId: traceIdFor("r1"),
  spanId: "1",
  name: "run",
  kind: "producer",
  start: 0n,
  end: 0n,
  status: { code: "unset" },
  attributes: {},
  links: [],
  events: [],
  resource: { "service.name": "a" },
  scope: "troupe",
};

test("the checker accepts a tree with identical copies", () => {
  const child = { ...root, spanId: "2", parentSpanId: "1" };
  expect(checkTraces([child, root, { ...root }], { runIds: ["r1"] })).toEqual([]);
});

test.each([
  ["a missing run", [root], { runIds: ["r1", "r2"] }, /run r2: expected the trace/],
  [
    "a missing parent",
    [root, { ...root, spanId: "2", parentSpanId: "9" }],
    {},
    /has the parent 9, which is not in the trace/,
  ],
  ["no root", [{ ...root, parentSpanId: "9" }], {}, /expected one root, got 0/],
  ["two roots", [root, { ...root, spanId: "2" }], {}, /expected one root, got 2/],
  [
    "different spans with one id",
    [root, { ...root, resource: { "service.name": "b" } }],
    {},
    /two different spans have the id 1/,
  ],
])("the checker finds %s", (_what, spans, options, problem) => {
  expect(checkTraces(spans, options).join("\n")).toMatch(problem);
});

test("the checker takes a caller's span as the parent of a root", () => {
  expect(checkTraces([{ ...root, parentSpanId: "9" }], { callerSpanIds: ["9"] })).toEqual([]);
});
