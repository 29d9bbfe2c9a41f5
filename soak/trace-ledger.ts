/**
 * Spans as they come in, by run: kept whole until the run's trace is, and as no more than ids after that.
 *
 * Invariants
 * L1  A trace is closed only when it is whole. A span that comes later has to be a copy, or hang on a span that was there.
 * L2  Memory is that of the traces not closed yet, and of the ids of those that are.
 */
import type { PlainSpan } from "../src/tracing/plain-span.ts";
import { traceIdFor } from "../src/tracing/trace-ids.ts";
import { checkTraces } from "../test/helpers/trace-checker.ts";

export type TraceLedger = {
  take(spans: readonly PlainSpan[]): void;
  /** Closes the trace of a run if it is whole; otherwise says what is wrong with it so far. */
  close(runId: string): string[];
  /** Spans taken. */
  readonly count: number;
  /** Traces that belong to no run that was asked for, at the end. */
  strays(): string[];
};

/** Opens the ledger; `onProblem` hears of spans that come too late and do not fit. */
export function openTraceLedger(onProblem: (problem: string) => void): TraceLedger {
  const open = new Map<string, PlainSpan[]>();
  const closed = new Map<string, Set<string>>();
  let count = 0;
  return {
    take(spans) {
      count += spans.length;
      for (const span of spans) {
        const ids = closed.get(span.traceId);
        if (ids) addLate(span, ids);
        else open.set(span.traceId, [...(open.get(span.traceId) ?? []), span]);
      }
    },
    close(runId) {
      const traceId = traceIdFor(runId);
      if (closed.has(traceId)) return [];
      const spans = open.get(traceId) ?? [];
      const problems = checkTraces(spans, { runIds: [runId] });
      if (problems.length > 0) return problems.map((problem) => `${runId}: ${problem}`);
      open.delete(traceId);
      closed.set(traceId, new Set(spans.map(({ spanId }) => spanId)));
      return [];
    },
    get count() {
      return count;
    },
    strays: () =>
      [...open].map(
        ([traceId, spans]) => `trace ${traceId}: ${spans.map(({ name }) => name)} of no run that was asked for`,
      ),
  };

  // L1
  function addLate({ traceId, spanId, parentSpanId, name }: PlainSpan, ids: Set<string>): void {
    if (ids.has(spanId)) return;
    ids.add(spanId);
    if (parentSpanId === undefined) onProblem(`trace ${traceId}: a second root came late, "${name}"`);
    else if (!ids.has(parentSpanId)) onProblem(`trace ${traceId}: an orphan came late, "${name}" of ${parentSpanId}`);
  }
}
