import { SpanKind, TraceFlags } from "@opentelemetry/api";
import { ProtobufTraceSerializer } from "@opentelemetry/otlp-transformer";
import { resourceFromAttributes } from "@opentelemetry/resources";
import type { ReadableSpan } from "@opentelemetry/sdk-trace";
import { expect, test } from "vitest";
import { FinishedSpan } from "../../src/tracing/finished-span.ts";
import { encodeTraces } from "../../src/tracing/otlp-encode.ts";
import { decodeProtobufTraces } from "../../src/tracing/otlp-protobuf.ts";

const resource = resourceFromAttributes({ "service.name": "test" });
const other = resourceFromAttributes({ "service.name": "test", "host.name": "x".repeat(300) });

function span(
  attributes: ReadableSpan["attributes"],
  more: Partial<ConstructorParameters<typeof FinishedSpan>[0]> = {},
) {
  return new FinishedSpan({
    name: "span",
    traceId: "0123456789abcdef0123456789ABCDEF",
    spanId: "fedcba9876543210",
    start: [1_772_359_200, 999_999_000],
    end: [4_102_444_799, 1],
    attributes,
    resource,
    ...more,
  });
}

/** Both encodings, read by the same reader; defaults that only one of them writes out are the same to it. */
function expectSame(spans: readonly ReadableSpan[]): void {
  const reference = decodeProtobufTraces(ProtobufTraceSerializer.serializeRequest([...spans]) ?? new Uint8Array());
  expect(decodeProtobufTraces(encodeTraces(spans))).toEqual(reference);
  expect(reference).toHaveLength(spans.length);
}

test.each([
  ["short and long strings", { a: "", b: "x".repeat(64), c: "x".repeat(65), d: "y".repeat(20_000) }],
  ["text beyond ASCII", { a: "ä", b: `${"x".repeat(63)}→`, c: "🎭".repeat(100), schlüssel: "1" }],
  ["integers", { a: 0, b: 127, c: 128, d: 2 ** 32 + 1, e: Number.MAX_SAFE_INTEGER, f: -1, g: -(2 ** 40) }],
  ["fractions", { a: 0.5, b: -1e300, c: Number.MIN_VALUE }],
  ["booleans", { a: true, b: false }],
  ["lists", { a: ["x", "y"], b: [1, 2.5, -3], c: [], d: [true] }],
])("%s arrive as OpenTelemetry's serializer sends them", (_what, attributes) => {
  expectSame([span(attributes)]);
});

test("nested values and bytes arrive as OpenTelemetry's serializer sends them", () => {
  const attributes = { a: { b: { c: [{ d: 1 }] }, long: "z".repeat(200) }, e: new Uint8Array([1, 2, 255]) };
  expectSame([span(attributes as unknown as ReadableSpan["attributes"])]);
});

test("kinds, parents, links, events and errors arrive as OpenTelemetry's serializer sends them", () => {
  const context = { traceId: "a".repeat(32), spanId: "b".repeat(16), traceFlags: TraceFlags.SAMPLED };
  const full = span(
    {},
    {
      kind: SpanKind.PRODUCER,
      parentSpanId: "00f067aa0ba902b7",
      remoteParent: true,
      links: [{ context, attributes: { relation: "r".repeat(200) } }],
      error: "it broke",
    },
  );
  const eventful = Object.create(span({ a: 1 }), {
    spanContext: { value: () => context },
    events: { value: [{ name: "exception", time: [5, 6], attributes: { "exception.message": "no" } }] },
  }) as ReadableSpan;
  expectSame([full, eventful]);
});

test("the bytes of a plain span are the ones OpenTelemetry's serializer writes, less the zeros it spells out", () => {
  const encoded = encodeTraces([span({ a: 1 })]);
  const reference = ProtobufTraceSerializer.serializeRequest([span({ a: 1 })]) ?? new Uint8Array();
  // Resource and span: four dropped counts and a status code, two bytes each.
  expect(reference.length - encoded.length).toBe(10);
});

test("many spans of several resources outgrow the first buffer", () => {
  const spans = Array.from({ length: 3_000 }, (_, index) =>
    span({ index, text: "x".repeat(index % 400) }, { resource: index % 2 ? other : resource }),
  );
  expectSame(spans);
});
