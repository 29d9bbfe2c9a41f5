/** A span that is built when it is over, without a tracer: half the cost of one, and every field is ours to decide. */
import {
  type Attributes,
  type HrTime,
  type Link,
  type SpanContext,
  SpanKind,
  type SpanStatus,
  SpanStatusCode,
  TraceFlags,
} from "@opentelemetry/api";
import type { Resource } from "@opentelemetry/resources";
import type { ReadableSpan } from "@opentelemetry/sdk-trace";
import { SCOPE } from "./semconv.ts";

const NO_EVENTS: ReadableSpan["events"] = [];
const NO_LINKS: Link[] = [];
const UNSET: SpanStatus = { code: SpanStatusCode.UNSET };
/** Journals may hold long provider messages; a span's description is for reading. */
const MAX_DESCRIPTION = 1_024;

export type FinishedSpanFields = {
  name: string;
  /** @default SpanKind.INTERNAL */
  kind?: SpanKind;
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  /** Whether the parent came over the wire. @default false */
  remoteParent?: boolean;
  start: HrTime;
  end: HrTime;
  attributes: Attributes;
  links?: Link[];
  /** Present when the span failed. */
  error?: string;
  resource: Resource;
};

export class FinishedSpan implements ReadableSpan {
  readonly name: string;
  readonly kind: SpanKind;
  readonly parentSpanContext?: SpanContext;
  readonly startTime: HrTime;
  readonly endTime: HrTime;
  readonly status: SpanStatus;
  readonly attributes: Attributes;
  readonly links: Link[];
  readonly events = NO_EVENTS;
  readonly ended = true;
  readonly resource: Resource;
  readonly instrumentationScope = SCOPE;
  readonly droppedAttributesCount = 0;
  readonly droppedEventsCount = 0;
  readonly droppedLinksCount = 0;
  readonly #context: SpanContext;

  constructor(fields: FinishedSpanFields) {
    const { traceId, parentSpanId } = fields;
    this.name = fields.name;
    this.kind = fields.kind ?? SpanKind.INTERNAL;
    this.#context = { traceId, spanId: fields.spanId, traceFlags: TraceFlags.SAMPLED };
    if (parentSpanId !== undefined) {
      const isRemote = fields.remoteParent ?? false;
      this.parentSpanContext = { traceId, spanId: parentSpanId, traceFlags: TraceFlags.SAMPLED, isRemote };
    }
    this.startTime = fields.start;
    // Times of one span may come from two clocks; a negative duration confuses every backend.
    this.endTime = isBefore(fields.end, fields.start) ? fields.start : fields.end;
    this.status =
      fields.error === undefined
        ? UNSET
        : { code: SpanStatusCode.ERROR, message: fields.error.slice(0, MAX_DESCRIPTION) };
    this.attributes = fields.attributes;
    this.links = fields.links ?? NO_LINKS;
    this.resource = fields.resource;
  }

  spanContext(): SpanContext {
    return this.#context;
  }

  get duration(): HrTime {
    const nanos = this.endTime[1] - this.startTime[1];
    const seconds = this.endTime[0] - this.startTime[0];
    return nanos < 0 ? [seconds - 1, nanos + 1e9] : [seconds, nanos];
  }
}

/** Milliseconds since the epoch, fractions allowed, as OpenTelemetry wants them. */
export function toHrTime(ms: number): HrTime {
  const seconds = Math.floor(ms / 1_000);
  // Whole microseconds: a double has no more to give for today's dates.
  return [seconds, Math.round((ms - seconds * 1_000) * 1_000) * 1_000];
}

function isBefore(a: HrTime, b: HrTime): boolean {
  return a[0] < b[0] || (a[0] === b[0] && a[1] < b[1]);
}
