/** Where the steps of a deterministic run are: what a supervisor remembers of them, copied at every decision. */
import type { ErrorRecord } from "../errors.ts";
import { type ChunkedList, filledList, itemAt, withItems } from "./chunked-list.ts";
import type { StepEnd } from "./expressions.ts";
import type { Node } from "./step-graph.ts";

/**
 * Where a step is: not begun, at an attempt (from 1), completed, failed while the run goes on, or skipped. The output or the
 * error of one that has ended is kept for as long as a step that is still to come may ask for it.
 */
type StepState =
  | null
  | number
  | { readonly output?: unknown }
  | { readonly failed: Pick<ErrorRecord, "code" | "message"> | null }
  | "skipped";

export type StepStates = {
  /** By a step's place in the definition. */
  readonly steps: ChunkedList<StepState>;
  /** How many have ended. */
  readonly ended: number;
};

/** Where the steps are before the first has begun. */
export function notBegun(steps: number): StepStates {
  return { steps: filledList<StepState>(steps, null), ended: 0 };
}

/** The states with one step at an attempt. */
export function atAttempt({ steps, ended }: StepStates, { index }: Node, attempt: number): StepStates {
  return { steps: withItems(steps, [[index, attempt]]), ended };
}

/** The states with one more step ended. */
export function withEnd({ steps, ended }: StepStates, { index }: Node, end: StepEnd): StepStates {
  return { steps: withItems(steps, [[index, stateOf(end)]]), ended: ended + 1 };
}

function stateOf(end: StepEnd): StepState {
  if (end.status === "skipped") return "skipped";
  if (end.status === "completed") return { output: end.output };
  return { failed: { code: end.error.code, message: end.error.message } };
}

/** The attempt a step is at. */
export function attemptOf({ steps }: StepStates, { index }: Node): number {
  const at = itemAt(steps, index);
  return typeof at === "number" ? at : 1;
}

/** Steps mostly end in the order of the definition, so the last ones are looked at first. */
export function haveEnded(states: StepStates, nodes: readonly Node[]): boolean {
  return nodes.findLast((node) => statusOf(states, node) === undefined) === undefined;
}

/** How a step has ended; undefined while it has not. */
export function statusOf({ steps }: StepStates, { index }: Node): StepEnd["status"] | undefined {
  const at = itemAt(steps, index);
  if (at === "skipped") return "skipped";
  if (typeof at !== "object" || at === null) return undefined;
  return "failed" in at ? "failed" : "completed";
}

/** All that is known of how a step has ended, for those that may ask. */
export function endOf({ steps }: StepStates, { index }: Node): StepEnd {
  const at = itemAt(steps, index);
  if (typeof at !== "object" || at === null) return { status: "skipped" };
  if (!("failed" in at)) return { status: "completed", output: at.output };
  return { status: "failed", error: at.failed ?? { code: "", message: "" } };
}

/** Drops what was kept of steps for others that have ended by now. */
export function forget({ steps, ended }: StepStates, nodes: readonly Node[]): StepStates {
  const changed = nodes.flatMap((node): (readonly [number, StepState])[] => {
    const at = itemAt(steps, node.index);
    if (typeof at !== "object" || at === null) return [];
    return [[node.index, "failed" in at ? { failed: null } : {}]];
  });
  return changed.length === 0 ? { steps, ended } : { steps: withItems(steps, changed), ended };
}
