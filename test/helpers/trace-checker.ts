/** Says what is wrong with a set of traces, by the rules Jaeger reads them with. */
import type { PlainSpan } from "../../src/tracing/plain-span.ts";
import { traceIdFor } from "../../src/tracing/trace-ids.ts";

export type CheckOptions = {
  /** Runs that must have a trace of their own with exactly one root. */
  runIds?: readonly string[];
  /** Spans of callers, which nobody sends here: they may be parents. */
  callerSpanIds?: readonly string[];
};

/**
 * Every problem in words, none when all is well: one root per trace, no span without its parent, copies only when they are
 * identical (resource and scope included), no two different spans with one id.
 */
export function checkTraces(
  spans: readonly PlainSpan[],
  { runIds = [], callerSpanIds = [] }: CheckOptions = {},
): string[] {
  const problems: string[] = [];
  const callers = new Set(callerSpanIds);
  const traces = new Map<string, Map<string, PlainSpan>>();
  for (const span of spans) {
    const trace = traces.get(span.traceId) ?? new Map<string, PlainSpan>();
    traces.set(span.traceId, trace);
    const twin = trace.get(span.spanId);
    if (!twin) trace.set(span.spanId, span);
    else if (fingerprint(twin) !== fingerprint(span)) {
      problems.push(
        `trace ${span.traceId}: two different spans have the id ${span.spanId}: ${describe(twin)} and ${describe(span)}`,
      );
    }
  }
  for (const [traceId, trace] of traces) {
    const all = [...trace.values()];
    for (const span of all) {
      const { parentSpanId } = span;
      if (parentSpanId === undefined || trace.has(parentSpanId) || callers.has(parentSpanId)) continue;
      problems.push(`trace ${traceId}: ${describe(span)} has the parent ${parentSpanId}, which is not in the trace`);
    }
    const roots = all.filter(({ parentSpanId }) => parentSpanId === undefined || callers.has(parentSpanId));
    if (roots.length !== 1) {
      problems.push(`trace ${traceId}: expected one root, got ${roots.length}: ${roots.map(describe).join(", ")}`);
    }
  }
  for (const runId of runIds) {
    if (!traces.has(traceIdFor(runId)))
      problems.push(`run ${runId}: expected the trace ${traceIdFor(runId)}, got no span of it`);
  }
  return problems;
}

function describe({ name, spanId }: PlainSpan): string {
  return `"${name}" (${spanId})`;
}

function fingerprint(span: PlainSpan): string {
  return JSON.stringify(span, (_key, value: unknown) => (typeof value === "bigint" ? String(value) : value));
}
