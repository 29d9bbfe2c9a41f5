/** Reads an OTLP trace request in JSON (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding). */
import { type PlainAttributes, type PlainSpan, type PlainValue, spanKind, statusCode } from "./plain-span.ts";

type AnyValue = {
  stringValue?: string;
  boolValue?: boolean;
  intValue?: string | number;
  doubleValue?: number;
  bytesValue?: string;
  arrayValue?: { values?: AnyValue[] };
  kvlistValue?: { values?: KeyValue[] };
};
type KeyValue = { key: string; value?: AnyValue };
type Span = {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name?: string;
  kind?: number;
  startTimeUnixNano?: string | number;
  endTimeUnixNano?: string | number;
  attributes?: KeyValue[];
  links?: { traceId: string; spanId: string; attributes?: KeyValue[] }[];
  events?: { name?: string; timeUnixNano?: string | number; attributes?: KeyValue[] }[];
  status?: { code?: number; message?: string };
};
type Request = {
  resourceSpans?: {
    resource?: { attributes?: KeyValue[] };
    scopeSpans?: { scope?: { name?: string }; spans?: Span[] }[];
  }[];
};

/** @throws SyntaxError when the body is no JSON. */
export function decodeJsonTraces(body: Uint8Array): PlainSpan[] {
  const request = JSON.parse(new TextDecoder().decode(body)) as Request;
  return (request.resourceSpans ?? []).flatMap(({ resource, scopeSpans = [] }) => {
    const origin = toAttributes(resource?.attributes);
    return scopeSpans.flatMap(({ scope, spans = [] }) => spans.map((span) => toSpan(span, origin, scope?.name ?? "")));
  });
}

function toSpan(span: Span, resource: PlainAttributes, scope: string): PlainSpan {
  const { code = 0, message } = span.status ?? {};
  return {
    traceId: span.traceId,
    spanId: span.spanId,
    ...(span.parentSpanId ? { parentSpanId: span.parentSpanId } : {}),
    name: span.name ?? "",
    kind: spanKind(span.kind ?? 0),
    start: BigInt(span.startTimeUnixNano ?? 0),
    end: BigInt(span.endTimeUnixNano ?? 0),
    status: { code: statusCode(code), ...(message ? { message } : {}) },
    attributes: toAttributes(span.attributes),
    links: (span.links ?? []).map(({ traceId, spanId, attributes }) => ({
      traceId,
      spanId,
      attributes: toAttributes(attributes),
    })),
    events: (span.events ?? []).map(({ name = "", timeUnixNano = 0, attributes }) => ({
      name,
      at: BigInt(timeUnixNano),
      attributes: toAttributes(attributes),
    })),
    resource,
    scope,
  };
}

function toAttributes(pairs: KeyValue[] = []): PlainAttributes {
  return Object.fromEntries(pairs.map(({ key, value }) => [key, toValue(value)]));
}

function toValue(value: AnyValue = {}): PlainValue {
  if (value.intValue !== undefined) return Number(value.intValue);
  if (value.arrayValue) return (value.arrayValue.values ?? []).map(toValue);
  if (value.kvlistValue) return toAttributes(value.kvlistValue.values);
  return value.stringValue ?? value.boolValue ?? value.doubleValue ?? value.bytesValue ?? null;
}
