/** Where the steps of a deterministic run are: what a supervisor remembers of them, copied at every decision. */
import type { ErrorRecord } from "../errors.ts";
import { type ChunkedList, filledList, itemAt, withItems } from "./chunked-list.ts";
import type { StepEnd } from "./expressions.ts";
import { NO_WAITS, type OutsideWaits } from "./outside-waits.ts";
import type { Node } from "./step-graph.ts";
import { NO_LINE, type WaitingLine } from "./waiting-line.ts";

/**
 * Where a step is: not begun, at work, completed, failed while the run goes on, or skipped. The output or the error of one that
 * has ended is kept for as long as a step that is still to come may ask for it.
 */
type StepState =
  | null
  | Attempt
  | { readonly frame: Frame }
  | { readonly each: EachState }
  | { readonly loop: LoopState }
  | { readonly output?: unknown; readonly exhausted?: true }
  | { readonly failed: Pick<ErrorRecord, "code" | "message"> | null }
  | "skipped";

/** The attempt whose task is open; negative where the attempt has still to be begun, 0 where nothing was decided yet. */
type Attempt = number;

/** What a step, or one item or iteration of it, does: an attempt, or the steps of a group. */
export type Body = Attempt | Frame;

/** The steps of a workflow or of one instance of a group. */
export type Frame = {
  /** By a step's place in its group. */
  readonly steps: ChunkedList<StepState>;
  /** How many have ended. */
  readonly ended: number;
};

/** A `forEach` at work. */
export type EachState = {
  /** Never copied, so that the list itself is known by it in memory. */
  readonly of: { readonly total: number };
  /** How many items have been begun, and how many have ended. */
  readonly begun: number;
  readonly ended: number;
  readonly items: readonly (readonly [index: number, body: Body])[];
  /** In the order of the items. */
  readonly outputs: ChunkedList<unknown>;
};

/** A `repeat` at its iteration `index`; `last` is what the one before gave. */
export type LoopState = { readonly index: number; readonly last?: unknown; readonly body: Body };

export type StepStates = {
  readonly root: Frame;
  /** How many tasks are open. */
  readonly open: number;
  /** What is due to be decided on, where that was too much for one entry; by path. */
  readonly due: WaitingLine;
  /** What waits for one of the open tasks to end; by path. */
  readonly line: WaitingLine;
  /** What waits for something from outside. */
  readonly waits: OutsideWaits;
  /** What another run gave for steps that are still due here, by step; gone once nothing of the beginning is due. */
  readonly reused?: { readonly [step: string]: ReusedOutput };
};

/** What a step gave in another run. */
export type ReusedOutput = { readonly output: unknown; readonly exhausted?: true };

/** Where the steps are before the first has begun; `kept` are signals that came before. */
export function beforeAll(steps: number, kept: OutsideWaits["kept"]): StepStates {
  return { root: notBegun(steps), open: 0, due: NO_LINE, line: NO_LINE, waits: { ...NO_WAITS, kept } };
}

/** A frame of which no step has begun. */
export function notBegun(steps: number): Frame {
  return { steps: filledList<StepState>(steps, null), ended: 0 };
}

/** A list of `total` items before the first has begun. */
export function noneOf(total: number): EachState {
  return { of: { total }, begun: 0, ended: 0, items: [], outputs: filledList<unknown>(total, null) };
}

/** The frame with one step at something. */
export function withStep({ steps, ended }: Frame, { index }: Node, state: StepState): Frame {
  return { steps: withItems(steps, [[index, state]]), ended };
}

/** The frame with one more step ended. */
export function withEnd({ steps, ended }: Frame, { index }: Node, end: StepEnd): Frame {
  return { steps: withItems(steps, [[index, stateOf(end)]]), ended: ended + 1 };
}

function stateOf(end: StepEnd): StepState {
  if (end.status === "skipped") return "skipped";
  if (end.status === "completed") return { output: end.output, ...(end.exhausted && { exhausted: true }) };
  return { failed: { code: end.error.code, message: end.error.message } };
}

/** Where a step is; null where it has not begun. */
export function stateIn({ steps }: Frame, { index }: Node): StepState {
  return itemAt(steps, index) ?? null;
}

/** Steps mostly end in the order of the definition, so the last ones are looked at first. */
export function haveEnded(frame: Frame, nodes: readonly Node[]): boolean {
  return nodes.findLast((node) => statusOf(frame, node) === undefined) === undefined;
}

/** How a step has ended; undefined while it has not. */
export function statusOf(frame: Frame, node: Node): StepEnd["status"] | undefined {
  const at = stateIn(frame, node);
  if (at === "skipped") return "skipped";
  if (typeof at !== "object" || at === null || isAtWork(at)) return undefined;
  return "failed" in at ? "failed" : "completed";
}

/** All that is known of how a step has ended, for those that may ask. */
export function endOf(frame: Frame, node: Node): StepEnd {
  const at = stateIn(frame, node);
  if (typeof at !== "object" || at === null || isAtWork(at)) return { status: "skipped" };
  if ("failed" in at) return { status: "failed", error: at.failed ?? { code: "", message: "" } };
  const exhausted = node.step.repeat && { exhausted: at.exhausted ?? false };
  return { status: "completed", output: at.output, ...exhausted };
}

type AtWork = Extract<StepState, { frame: Frame } | { each: EachState } | { loop: LoopState }>;

function isAtWork(state: Exclude<StepState, null | string | number>): state is AtWork {
  return "frame" in state || "each" in state || "loop" in state;
}

/** Drops what was kept of steps for others that have ended by now. */
export function forget(frame: Frame, nodes: readonly Node[]): Frame {
  const changed = nodes.flatMap((node): (readonly [number, StepState])[] => {
    const at = stateIn(frame, node);
    if (typeof at !== "object" || at === null || isAtWork(at)) return [];
    return [[node.index, "failed" in at ? { failed: null } : {}]];
  });
  return changed.length === 0 ? frame : { steps: withItems(frame.steps, changed), ended: frame.ended };
}
