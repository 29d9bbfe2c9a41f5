/**
 * Reads an OTLP trace request in protobuf: the fields of opentelemetry-proto `trace/v1/trace.proto` (1.x) that a span is shown
 * by; all others are skipped, as protobuf wants it.
 */
import { type PlainAttributes, type PlainSpan, type PlainValue, spanKind, statusCode } from "./plain-span.ts";

const VARINT = 0;
const FIXED64 = 1;
const LENGTH = 2;
const FIXED32 = 5;

/** A field's number with its value: varints and fixed64 as bigint, everything with a length as bytes. */
type Field = { number: number; value: bigint | Uint8Array };

/** @throws RangeError when the body ends within a field, or is no protobuf at all. */
export function decodeProtobufTraces(body: Uint8Array): PlainSpan[] {
  return messages(body, 1).flatMap((resourceSpans) => {
    const resource = messages(resourceSpans, 1).map((message) => toAttributes(messages(message, 1)))[0] ?? {};
    return messages(resourceSpans, 2).flatMap((scopeSpans) => {
      const scope = messages(scopeSpans, 1).map((message) => text(messages(message, 1)[0]))[0] ?? "";
      return messages(scopeSpans, 2).map((span) => toSpan(span, resource, scope));
    });
  });
}

function toSpan(body: Uint8Array, resource: PlainAttributes, scope: string): PlainSpan {
  const span: PlainSpan = {
    traceId: "",
    spanId: "",
    name: "",
    kind: "unspecified",
    start: 0n,
    end: 0n,
    status: { code: "unset" },
    attributes: {},
    links: [],
    events: [],
    resource,
    scope,
  };
  const attributes: Uint8Array[] = [];
  for (const { number, value } of fields(body)) {
    if (typeof value === "bigint") {
      if (number === 6) span.kind = spanKind(Number(value));
      else if (number === 7) span.start = value;
      else if (number === 8) span.end = value;
    } else if (number === 1) span.traceId = hex(value);
    else if (number === 2) span.spanId = hex(value);
    else if (number === 4 && value.length > 0) span.parentSpanId = hex(value);
    else if (number === 5) span.name = text(value);
    else if (number === 9) attributes.push(value);
    else if (number === 11) span.events.push(toEvent(value));
    else if (number === 13) span.links.push(toLink(value));
    else if (number === 15) span.status = toStatus(value);
  }
  span.attributes = toAttributes(attributes);
  return span;
}

function toEvent(body: Uint8Array): PlainSpan["events"][number] {
  const at = fields(body).find(({ number }) => number === 1)?.value;
  return {
    name: text(messages(body, 2)[0]),
    at: typeof at === "bigint" ? at : 0n,
    attributes: toAttributes(messages(body, 3)),
  };
}

function toLink(body: Uint8Array): PlainSpan["links"][number] {
  const [traceId = new Uint8Array()] = messages(body, 1);
  const [spanId = new Uint8Array()] = messages(body, 2);
  return { traceId: hex(traceId), spanId: hex(spanId), attributes: toAttributes(messages(body, 4)) };
}

function toStatus(body: Uint8Array): PlainSpan["status"] {
  const code = fields(body).find(({ number }) => number === 3)?.value;
  const message = text(messages(body, 2)[0]);
  return { code: statusCode(typeof code === "bigint" ? Number(code) : 0), ...(message ? { message } : {}) };
}

function toAttributes(pairs: Uint8Array[]): PlainAttributes {
  return Object.fromEntries(
    pairs.map((pair) => [text(messages(pair, 1)[0]), toValue(messages(pair, 2)[0] ?? new Uint8Array())]),
  );
}

function toValue(body: Uint8Array): PlainValue {
  const [field] = fields(body);
  if (!field) return null;
  const { number, value } = field;
  if (typeof value === "bigint") {
    if (number === 2) return value !== 0n;
    return number === 4 ? toDouble(value) : Number(BigInt.asIntN(64, value));
  }
  if (number === 5) return messages(value, 1).map(toValue);
  if (number === 6) return toAttributes(messages(value, 1));
  return number === 7 ? Buffer.from(value).toString("base64") : text(value);
}

function messages(body: Uint8Array, number: number): Uint8Array[] {
  return fields(body).flatMap((field) =>
    field.number === number && typeof field.value !== "bigint" ? [field.value] : [],
  );
}

function fields(body: Uint8Array): Field[] {
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const found: Field[] = [];
  let at = 0;

  function varint(): bigint {
    let result = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = view.getUint8(at++);
      result |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return result;
    }
  }

  function bytes(length: number): Uint8Array {
    if (at + length > body.length) {
      throw new RangeError(`OTLP body, byte ${at}: expected ${length} more bytes, got ${body.length - at}`);
    }
    at += length;
    return body.subarray(at - length, at);
  }

  while (at < body.length) {
    const tag = Number(varint());
    const number = tag >>> 3;
    switch (tag & 7) {
      case VARINT:
        found.push({ number, value: varint() });
        break;
      case FIXED64:
        found.push({ number, value: view.getBigUint64(at, true) });
        at += 8;
        break;
      case LENGTH:
        found.push({ number, value: bytes(Number(varint())) });
        break;
      case FIXED32:
        bytes(4);
        break;
      default:
        throw new RangeError(`OTLP body, byte ${at}: expected a protobuf field, got wire type ${tag & 7}`);
    }
  }
  return found;
}

function toDouble(bits: bigint): number {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, bits);
  return view.getFloat64(0);
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
}

function text(bytes: Uint8Array = new Uint8Array()): string {
  return new TextDecoder().decode(bytes);
}
