/** The W3C trace context header, level 2 (https://www.w3.org/TR/trace-context-2/). */
import type { RunTrace } from "../workflows/run-events.ts";
import { traceIdFor } from "./trace-ids.ts";
import type { SegmentContext } from "./tracing.ts";

const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const SAMPLED = 1;

/** The header value for a context. */
export function formatTraceparent({ traceId, spanId, sampled }: SegmentContext): string {
  return `00-${traceId}-${spanId}-${sampled ? "01" : "00"}`;
}

/** Reads a header value; anything malformed counts as absent, as the specification asks. */
export function parseTraceparent(header: string): SegmentContext | undefined {
  const [, version, traceId, spanId, flags, rest] = TRACEPARENT.exec(header.trim()) ?? [];
  if (!version || !traceId || !spanId || !flags) return undefined;
  // Versions after 00 may carry more; version 00 may not, and ff never stands for a version.
  if (version === "ff" || (version === "00" && rest !== undefined)) return undefined;
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & SAMPLED) === SAMPLED };
}

/**
 * Decides at accept where a run's spans hang: in the caller's trace, with the caller's sampling decision, or in a trace of its
 * own that follows from the run id.
 *
 * @param decideSampling asked for runs without a caller; by default all of them are traced.
 */
export function runTrace(
  runId: string,
  traceparent?: string,
  decideSampling: (traceId: string) => boolean = () => true,
): RunTrace {
  const caller = traceparent === undefined ? undefined : parseTraceparent(traceparent);
  if (caller) return { traceId: caller.traceId, parentSpanId: caller.spanId, sampled: caller.sampled };
  const traceId = traceIdFor(runId);
  return { traceId, sampled: decideSampling(traceId) };
}
