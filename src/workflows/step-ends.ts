/**
 * How the end of one step ends others: what comes after it is due, the group or the list it was the last of is done with, and
 * what cannot go on takes along all it is a part of, up to where an error is handled.
 *
 * Everything here goes outwards. What is begun by it is only named, in `ready`; `deterministic.ts` begins it.
 *
 * Invariants
 * E1  A step, an item and an iteration end once: completed, skipped, or failed where the run goes on.
 * E2  A frame is done with when all of its steps have ended, and not before.
 * E3  What fails ends first: nothing is at work any more in a group that has ended.
 */
import { type ErrorRecord, toErrorRecord } from "../errors.ts";
import { withItems } from "./chunked-list.ts";
import type { StepEnd } from "./expressions.ts";
import { isWaiting, withdraw } from "./outside-waits.ts";
import { type Decision, ENTRY_TOO_LARGE, type Move, type RunSetup } from "./plan.ts";
import type { Graph } from "./step-graph.ts";
import {
  aroundOf,
  eachOf,
  frameAround,
  type Instance,
  instanceAt,
  instanceIn,
  isMany,
  loopOf,
  wholeOf,
  withEach,
  withFrameAround,
  withLoop,
  workIn,
} from "./step-instances.ts";
import { pointAt } from "./step-points.ts";
import { type Body, endOf, type Frame, forget, haveEnded, type StepStates, withEnd } from "./step-states.ts";
import { workerOf } from "./step-workers.ts";

/** A decision that is being made. */
export type Making = {
  readonly setup: RunSetup;
  readonly graph: Graph;
  /** When what is decided on happened, ISO 8601. */
  readonly at: string;
  states: StepStates;
  readonly moves: Move[];
  /** What is due to be decided on. */
  readonly ready: Instance[];
  /** The run has come to its end. */
  isOver: boolean;
};

export const RETRY_TIMER = "retry.";
/** How long a group may take; with its path. What ends the group ends it: it is not told apart. */
export const GROUP_TIMER = "timeout.";

export function say(making: Making, event: Decision): void {
  making.moves.push({ type: "say", event });
}

/** The id of the task of an attempt. */
export function taskIdOf({ path }: Instance, attempt: number): string {
  return `${path}-${attempt}`;
}

/** Ends an instance with what it gave; `by` says for the record where that is from, where nothing else does. */
export function complete(
  making: Making,
  instance: Instance,
  output: unknown,
  by: { taskId?: string; output?: unknown } = {},
): void {
  const { path, node, index } = instance;
  const said = { type: "step.completed", data: { step: path, ...by } } as const;
  stopClock(making, instance);
  if (index === undefined) endStep(making, instance, { status: "completed", output }, said);
  else {
    say(making, said);
    if (node.step.repeat) endIteration(making, instance, output, node.step.repeat.max);
    else endItem(making, instance, output);
  }
}

/** Ends a step as a whole; nothing is said where it is on record already. */
export function endStep(making: Making, whole: Instance, end: StepEnd, said?: Decision): void {
  const { node, within } = whole;
  const graph = within?.node.body ?? making.graph;
  const before = frameAround(making.states, whole);
  if (!before) throw new Error(`step ${whole.path}: expected its group to be at work`);
  let frame = withEnd(before, node, end);
  if (said) say(making, said);
  for (const follower of node.followers) {
    if (haveEnded(frame, follower.before)) making.ready.push(instanceIn(within, follower)); // P2
  }
  const over = [node, ...node.uses].filter((used) => !graph.kept.has(used) && haveEnded(frame, used.users));
  frame = forget(frame, over); // P3
  making.states = withFrameAround(making.states, whole, frame);
  if (frame.ended < graph.nodes.size) return; // E2
  if (within) complete(making, within, resultOf(graph, frame, true));
  else {
    making.isOver = true;
    making.moves.push({ type: "complete", output: resultOf(graph, frame, false) });
  }
}

function endItem(making: Making, item: Instance, output: unknown): void {
  const whole = wholeOf(item);
  const each = eachOf(making.states, whole);
  const { of, begun } = each;
  const more = begun < of.total;
  const left = each.items.filter(([index]) => index !== item.index);
  const next = {
    of,
    begun: more ? begun + 1 : begun,
    ended: each.ended + 1,
    items: more ? [...left, [begun, 0] as const] : left,
    outputs: withItems(each.outputs, [[item.index ?? 0, output]]),
  };
  making.states = withEach(making.states, whole, next);
  if (more) making.ready.push(instanceAt(whole, begun));
  else if (next.ended === of.total) complete(making, whole, next.outputs.flat());
}

function endIteration(making: Making, iteration: Instance, output: unknown, max: number): void {
  const whole = wholeOf(iteration);
  const { index } = loopOf(making.states, whole);
  let enough: boolean;
  try {
    const at = pointAt(making, iteration);
    enough = iteration.node.scope.isEnough({ ...at, loop: { ...at.loop, output } });
  } catch (error) {
    fail(making, whole, { error: toErrorRecord(error, "condition_failed") });
    return;
  }
  if (!enough && index + 1 < max) {
    making.states = withLoop(making.states, whole, { index: index + 1, last: output, body: 0 });
    making.ready.push(instanceAt(whole, index + 1));
    return;
  }
  const exhausted = !enough && { exhausted: true as const };
  const said = { type: "step.completed", data: { step: whole.path, ...exhausted } } as const;
  endStep(making, whole, { status: "completed", output, ...exhausted }, said);
}

/**
 * What the sinks gave: by id where there are several of them in the definition, whichever completed. In a group those that
 * failed are there with their errors.
 */
function resultOf({ sinks }: Graph, frame: Frame, inGroup: boolean): unknown {
  const given = [...sinks].flatMap((node): [string, unknown][] => {
    const end = endOf(frame, node);
    if (end.status === "completed") return [[node.step.id, end.output]];
    return end.status === "failed" && inGroup ? [[node.step.id, { error: end.error }]] : [];
  });
  if (given.length === 0) return null;
  return sinks.size === 1 ? given[0]?.[1] : Object.fromEntries(given);
}

type Failure = {
  /** The task that failed. */
  taskId?: string;
  error: ErrorRecord;
};

/** Fails an instance for good, and all it is a part of, up to where the run goes on without it; else the run. */
export function fail(making: Making, instance: Instance, { taskId, error }: Failure): void {
  const failed: Instance[] = [instance];
  let catcher: Instance | undefined = instance;
  while (catcher && !catches(catcher, error)) {
    catcher = aroundOf(catcher);
    if (catcher) failed.push(catcher);
  }
  const upward = { ...error, message: `step ${instance.path}: ${error.message}` };
  const said = (at: Instance): Decision & { type: "step.failed" } => ({
    type: "step.failed",
    data: {
      step: at.path,
      ...(at === instance && taskId !== undefined && { taskId }),
      error: at === instance ? error : upward,
    },
  });
  for (const at of failed) {
    stopClock(making, at);
    if (at !== catcher) say(making, said(at));
  }
  if (!catcher) {
    making.isOver = true;
    making.moves.push({ type: "fail", error: upward, step: instance.path });
    return;
  }
  callOffWithin(making, catcher, failed); // E3
  const { data } = said(catcher);
  const goesOn: Decision = { type: "step.failed", data: { ...data, continued: true } };
  const { code, message } = data.error;
  if (catcher.index === undefined) {
    endStep(making, catcher, { status: "failed", error: data.error }, goesOn);
    return;
  }
  say(making, goesOn);
  endItem(making, catcher, { error: { code, message } });
}

/** Whether the run goes on without an instance that failed. Of a list with `onError: continue` that is each item. */
function catches({ node: { step }, index }: Instance, { code }: ErrorRecord): boolean {
  if (code === ENTRY_TOO_LARGE) return false;
  if (index === undefined) return step.onError !== undefined;
  return step.forEach !== undefined && step.onError === "continue";
}

/** Calls off what is at work in an instance, except for what has failed itself. */
function callOffWithin(making: Making, instance: Instance, failed: readonly Instance[]): void {
  const told = new Set(failed.map(({ path }) => path));
  for (const { instance: inner, body } of [...workIn(making.states, instance)]) {
    if (told.has(inner.path)) continue;
    const { path: step, node } = inner;
    // Nothing is on record of what has not been begun.
    if (body === 0 || body === -1) continue;
    const at = atWorkOn(making, inner, body);
    making.moves.push({ type: "callOff", ...at });
    if (at.taskId !== undefined) making.states = { ...making.states, open: making.states.open - 1 };
    const worker = typeof body === "number" ? workerOf(node.step) : {};
    say(making, { type: "step.cancelled", data: { step, ...worker, ...at } });
  }
}

/** The task that is open for an instance, or the timer that is set for it. */
function atWorkOn(making: Making, instance: Instance, body: Body | null): { taskId?: string; timer?: string } {
  const { path, node } = instance;
  if (typeof body !== "number") {
    return body !== null && node.step.timeoutMs !== undefined ? { timer: `${GROUP_TIMER}${path}` } : {};
  }
  if (body < 0) return { timer: `${RETRY_TIMER}${path}` };
  if (!isWaiting(node.step)) return { taskId: taskIdOf(instance, body) };
  const { waits, timer } = withdraw(making.states.waits, path, node.step);
  making.states = { ...making.states, waits };
  return timer === undefined ? {} : { timer };
}

/** Nobody waits for the time of a group that has ended. */
function stopClock(making: Making, { node, path, index }: Instance): void {
  if (!node.body || node.step.timeoutMs === undefined || (index === undefined && isMany(node))) return;
  making.moves.push({ type: "callOff", timer: `${GROUP_TIMER}${path}` });
}
