/**
 * The ids of everything that may be a parent, derived from ids the journal has: any process can make the same span again, and
 * a run id alone leads to its trace. This derivation is a public contract (docs/protocol.md).
 */
import { hash } from "node:crypto";

/** The trace of a run that no caller's trace was given for. */
export function traceIdFor(runId: string): string {
  return hash("sha256", `trace:${runId}`, "hex").slice(0, 32);
}

/** The id of `run <workflow>`, the root of a run. */
export function rootSpanId(runId: string): string {
  return spanId(`span:${runId}:root`);
}

/** The id of `invoke_agent <agent>`: one delivery of one task. */
export function segmentSpanId(runId: string, taskId: string, delivery: number): string {
  return spanId(`span:${runId}:${taskId}:${delivery}`);
}

/** The id of `invoke_workflow <workflow>`, which says how a run ended. */
export function endSpanId(runId: string): string {
  return spanId(`span:${runId}:end`);
}

function spanId(of: string): string {
  return hash("sha256", of, "hex").slice(0, 16);
}
