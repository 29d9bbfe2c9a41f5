/** Tracing that is off: it does nothing, and loads nothing of OpenTelemetry. */
import type { RunTrace } from "../workflows/run-events.ts";
import type { Leaf, RunProjection, SegmentContext, Tracing } from "./tracing.ts";

const noLeaf: Leaf = { within: (work) => work(), end() {} };

function nowhere({ traceId }: Pick<RunTrace, "traceId">): SegmentContext {
  // Never exported, so any valid id will do.
  return { traceId, spanId: traceId.slice(0, 16), sampled: false };
}

/**
 * Used where `OTEL_SDK_DISABLED=true` or `OTEL_TRACES_EXPORTER=none`. Its segments travel as not sampled, so that workers
 * elsewhere make no leaves whose parent nobody exports.
 */
export const noTracing: Tracing = {
  destination: "nowhere",
  decideSampling: () => false,
  run: (_runId, _workflow, trace): RunProjection => ({
    replayed() {},
    recorded() {},
    segment: () => nowhere(trace),
    save: () => undefined,
    restore() {},
  }),
  segmentOf: nowhere,
  reproject: () => Promise.resolve(),
  chat: () => noLeaf,
  tool: () => noLeaf,
  hold() {},
  release() {},
  discard() {},
  exportedThrough: () => 0,
  stop: () => Promise.resolve(),
};
