/**
 * Writes finished spans as an OTLP trace request in protobuf (opentelemetry-proto `trace/v1/trace.proto`, 1.x).
 *
 * OpenTelemetry's serializer does the same in two passes and was the largest part of what a span costs here; a test holds the
 * two against each other. One pass is possible because a message's length is written after its content, which is moved by a
 * byte or two where the guess was too small.
 */
import type { Attributes, AttributeValue, HrTime, Link } from "@opentelemetry/api";
import type { ReadableSpan } from "@opentelemetry/sdk-trace";

const VARINT = 0;
const FIXED64 = 1;
const LENGTH = 2;
const FIXED32 = 5;

/** Bits of `Span.flags` and `Link.flags` above the W3C ones: whether it is known that the parent is remote, and that it is. */
const HAS_IS_REMOTE = 0x100;
const IS_REMOTE = 0x200;

const TWO_16 = 0x10000;
const TWO_32 = 0x100000000;
/** Longer strings are faster in the hands of the runtime. */
const SHORT = 64;
/** A batch of 512 spans takes about 200 KiB. */
const FIRST_BYTES = 256 * 1_024;

/** The request's bytes; spans of one resource and scope stay together. */
export function encodeTraces(spans: readonly ReadableSpan[]): Uint8Array {
  const writer = new Writer();
  for (const [resource, scopes] of group(spans)) {
    const resourceSpans = writer.begin(1, 3);
    const message = writer.begin(1, 1);
    writer.attributes(1, resource.attributes);
    writer.end(message, 1);
    for (const [scope, members] of scopes) {
      const scopeSpans = writer.begin(2, 3);
      const named = writer.begin(1, 1);
      writer.string(1, scope.name);
      if (scope.version) writer.string(2, scope.version);
      writer.end(named, 1);
      for (const span of members) writeSpan(writer, span);
      if (scope.schemaUrl) writer.string(3, scope.schemaUrl);
      writer.end(scopeSpans, 3);
    }
    writer.end(resourceSpans, 3);
  }
  return writer.bytes();
}

type Scope = ReadableSpan["instrumentationScope"];

function group(spans: readonly ReadableSpan[]): Map<ReadableSpan["resource"], Map<Scope, ReadableSpan[]>> {
  const groups = new Map<ReadableSpan["resource"], Map<Scope, ReadableSpan[]>>();
  for (const span of spans) {
    let scopes = groups.get(span.resource);
    if (!scopes) {
      scopes = new Map();
      groups.set(span.resource, scopes);
    }
    const members = scopes.get(span.instrumentationScope);
    if (members) members.push(span);
    else scopes.set(span.instrumentationScope, [span]);
  }
  return groups;
}

function writeSpan(writer: Writer, span: ReadableSpan): void {
  const context = span.spanContext();
  const { parentSpanContext: parent, status } = span;
  const message = writer.begin(2, 2);
  writer.hex(1, context.traceId);
  writer.hex(2, context.spanId);
  const state = context.traceState?.serialize();
  if (state) writer.string(3, state);
  if (parent?.spanId) writer.hex(4, parent.spanId);
  writer.string(5, span.name);
  writer.varint(6, span.kind + 1);
  writer.time(7, span.startTime);
  writer.time(8, span.endTime);
  writer.attributes(9, span.attributes);
  if (span.droppedAttributesCount > 0) writer.varint(10, span.droppedAttributesCount);
  for (const event of span.events) {
    const at = writer.begin(11, 1);
    writer.time(1, event.time);
    writer.string(2, event.name);
    if (event.attributes) writer.attributes(3, event.attributes);
    writer.end(at, 1);
  }
  if (span.droppedEventsCount > 0) writer.varint(12, span.droppedEventsCount);
  for (const link of span.links) writeLink(writer, link);
  if (span.droppedLinksCount > 0) writer.varint(14, span.droppedLinksCount);
  const outcome = writer.begin(15, 1);
  if (status.message) writer.string(2, status.message);
  if (status.code !== 0) writer.varint(3, status.code);
  writer.end(outcome, 1);
  writer.fixed32(16, flags(context.traceFlags, parent?.isRemote));
  writer.end(message, 2);
}

function writeLink(writer: Writer, { context, attributes }: Link): void {
  const message = writer.begin(13, 1);
  writer.hex(1, context.traceId);
  writer.hex(2, context.spanId);
  const state = context.traceState?.serialize();
  if (state) writer.string(3, state);
  if (attributes) writer.attributes(4, attributes);
  writer.fixed32(6, flags(context.traceFlags, context.isRemote));
  writer.end(message, 1);
}

function flags(traceFlags: number, isRemote = false): number {
  return (traceFlags & 0xff) | HAS_IS_REMOTE | (isRemote ? IS_REMOTE : 0);
}

/** Protobuf fields one after the other; `begin` and `end` enclose a message whose length is known only then. */
class Writer {
  #buffer = Buffer.allocUnsafe(FIRST_BYTES);
  #at = 0;

  bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#at);
  }

  /** Starts a message and leaves room for a length of `room` bytes; gives back where its content starts. */
  begin(field: number, room: number): number {
    this.#tag(field, LENGTH);
    this.#ensure(room);
    this.#at += room;
    return this.#at;
  }

  end(start: number, room: number): void {
    const length = this.#at - start;
    const size = varintSize(length);
    if (size !== room) {
      this.#ensure(size);
      this.#buffer.copyWithin(start - room + size, start, this.#at);
    }
    this.#at = start - room;
    this.#raw(length);
    this.#at += length;
  }

  varint(field: number, value: number): void {
    this.#tag(field, VARINT);
    this.#raw(value);
  }

  fixed32(field: number, value: number): void {
    this.#tag(field, FIXED32);
    this.#ensure(4);
    this.#at = this.#buffer.writeUInt32LE(value, this.#at);
  }

  time(field: number, [seconds, nanos]: HrTime): void {
    this.#tag(field, FIXED64);
    this.#ensure(8);
    // seconds * 1e9 + nanos has more bits than a double: the upper and lower 16 bits of the seconds go separately.
    const upper = Math.floor(seconds / TWO_16) * 1e9;
    const lower = (seconds % TWO_16) * 1e9 + nanos;
    const low = (lower % TWO_32) + (upper % TWO_16) * TWO_16;
    const high = Math.floor(lower / TWO_32) + Math.floor(upper / TWO_16) + (low >= TWO_32 ? 1 : 0);
    this.#at = this.#buffer.writeUInt32LE(low % TWO_32, this.#at);
    this.#at = this.#buffer.writeUInt32LE(high, this.#at);
  }

  string(field: number, value: string): void {
    this.#tag(field, LENGTH);
    const { length } = value;
    if (length > SHORT) {
      this.#longString(value);
      return;
    }
    // One byte says the length as long as it is ASCII, which nearly everything is.
    this.#ensure(length + 1);
    const start = this.#at;
    const buffer = this.#buffer;
    buffer[start] = length;
    for (let index = 0; index < length; index += 1) {
      const code = value.charCodeAt(index);
      if (code > 0x7f) {
        this.#longString(value);
        return;
      }
      buffer[start + 1 + index] = code;
    }
    this.#at = start + 1 + length;
  }

  hex(field: number, digits: string): void {
    this.#tag(field, LENGTH);
    const length = digits.length >> 1;
    this.#ensure(length + 1);
    const buffer = this.#buffer;
    buffer[this.#at++] = length;
    for (let index = 0; index < length; index += 1) {
      buffer[this.#at++] = (nibble(digits.charCodeAt(2 * index)) << 4) | nibble(digits.charCodeAt(2 * index + 1));
    }
  }

  attributes(field: number, attributes: Attributes): void {
    for (const key in attributes) {
      const pair = this.begin(field, 1);
      this.string(1, key);
      const value = this.begin(2, 1);
      this.#value(attributes[key]);
      this.end(value, 1);
      this.end(pair, 1);
    }
  }

  #value(value: AttributeValue | undefined): void {
    if (typeof value === "string") this.string(1, value);
    else if (typeof value === "boolean") this.varint(2, value ? 1 : 0);
    else if (typeof value === "number") this.#number(value);
    else if (value instanceof Uint8Array) this.#blob(value);
    else if (Array.isArray(value)) this.#list(value);
    else if (typeof value === "object" && value !== null) {
      const map = this.begin(6, 1);
      this.attributes(1, value as Attributes);
      this.end(map, 1);
    }
  }

  #number(value: number): void {
    if (Number.isSafeInteger(value) && value >= 0) {
      this.varint(3, value);
    } else if (Number.isSafeInteger(value)) {
      this.#tag(3, VARINT);
      this.#negative(value);
    } else {
      this.#tag(4, FIXED64);
      this.#ensure(8);
      this.#at = this.#buffer.writeDoubleLE(value, this.#at);
    }
  }

  #list(values: readonly unknown[]): void {
    const list = this.begin(5, 1);
    for (const item of values) {
      const value = this.begin(1, 1);
      this.#value(item as AttributeValue);
      this.end(value, 1);
    }
    this.end(list, 1);
  }

  #blob(bytes: Uint8Array): void {
    this.#tag(7, LENGTH);
    this.#raw(bytes.length);
    this.#ensure(bytes.length);
    this.#buffer.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  #longString(value: string): void {
    const length = Buffer.byteLength(value);
    this.#raw(length);
    this.#ensure(length);
    this.#at += this.#buffer.write(value, this.#at, length, "utf8");
  }

  #tag(field: number, type: number): void {
    this.#raw((field << 3) | type);
  }

  /** A varint of any safe integer from 0. */
  #raw(value: number): void {
    this.#ensure(10);
    let rest = value;
    while (rest > 0x7f) {
      this.#buffer[this.#at++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    this.#buffer[this.#at++] = rest;
  }

  /** Negative numbers are always ten bytes: two's complement of 64 bits. */
  #negative(value: number): void {
    this.#ensure(10);
    let rest = BigInt.asUintN(64, BigInt(value));
    while (rest > 0x7fn) {
      this.#buffer[this.#at++] = Number(rest & 0x7fn) | 0x80;
      rest >>= 7n;
    }
    this.#buffer[this.#at++] = Number(rest);
  }

  #ensure(bytes: number): void {
    if (this.#at + bytes <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#at + bytes));
    this.#buffer.copy(larger, 0, 0, this.#at);
    this.#buffer = larger;
  }
}

function varintSize(value: number): number {
  let size = 1;
  for (let rest = value; rest > 0x7f; rest = Math.floor(rest / 0x80)) size += 1;
  return size;
}

/** The value of one hexadecimal digit, from its character code. */
function nibble(code: number): number {
  if (code < 58) return code - 48;
  return (code | 0x20) - 87;
}
