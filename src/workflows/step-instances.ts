/**
 * Which piece of a run something is about. A step of a group, an item of a `forEach` and an iteration of a `repeat` are
 * instances, named by their path: `revise/2/score` is the step `score` in the iteration 2 of the group `revise`.
 */
import type { Graph, Node } from "./step-graph.ts";
import {
  type Body,
  type EachState,
  type Frame,
  type LoopState,
  type StepStates,
  stateIn,
  withStep,
} from "./step-states.ts";

export type Instance = {
  readonly node: Node;
  /** The item or the iteration; undefined for the step as a whole. */
  readonly index: number | undefined;
  /** The instance of the group it stands in; undefined where it stands in no group. */
  readonly within: Instance | undefined;
  readonly path: string;
};

/** The step as a whole, in an instance of its group. */
export function instanceIn(within: Instance | undefined, node: Node): Instance {
  const { id } = node.step;
  return { node, index: undefined, within, path: within === undefined ? id : `${within.path}/${id}` };
}

/** One item or iteration of a step. */
export function instanceAt(whole: Instance, index: number): Instance {
  return { node: whole.node, index, within: whole.within, path: `${whole.path}/${index}` };
}

/** The step whose item or iteration this is. */
export function wholeOf({ node, within }: Instance): Instance {
  return instanceIn(within, node);
}

/** What an instance is a part of: its step, or the instance of the group it stands in. */
export function aroundOf(instance: Instance): Instance | undefined {
  return instance.index === undefined ? instance.within : wholeOf(instance);
}

/**
 * The instance with this path.
 *
 * @throws Error where the graph has none.
 */
export function instanceOf(graph: Graph, path: string): Instance {
  let within: Instance | undefined;
  let steps: Graph | undefined = graph;
  const parts = path.split("/");
  for (let i = 0; ; ) {
    const node: Node | undefined = steps?.nodes.get(parts[i] ?? "");
    if (!node) throw new Error(`${graph.name}: no step ${JSON.stringify(path)}`);
    let instance = instanceIn(within, node);
    i += 1;
    if (isMany(node) && i < parts.length) {
      instance = instanceAt(instance, Number(parts[i]));
      i += 1;
    }
    if (i >= parts.length) return instance;
    within = instance;
    steps = node.body;
  }
}

/** Whether a step has items or iterations. */
export function isMany({ step }: Node): boolean {
  return step.forEach !== undefined || step.repeat !== undefined;
}

/** The steps around an instance; undefined where they are over. */
export function frameAround(states: StepStates, { within }: Instance): Frame | undefined {
  return within === undefined ? states.root : frameOf(states, within);
}

/** The steps of an instance of a group; undefined where it is not at work. */
export function frameOf(states: StepStates, instance: Instance): Frame | undefined {
  const body = bodyOf(states, instance);
  return typeof body === "object" ? body : undefined;
}

/** What an instance is at; undefined where it is not at work. */
export function bodyOf(states: StepStates, instance: Instance): Body | undefined {
  const { node, index } = instance;
  const frame = frameAround(states, instance);
  const at = frame && stateIn(frame, node);
  if (typeof at === "number") return at;
  if (typeof at !== "object" || at === null) return undefined;
  if ("frame" in at) return at.frame;
  if ("each" in at) return at.each.items.find(([item]) => item === index)?.[1];
  return "loop" in at && at.loop.index === index ? at.loop.body : undefined;
}

/** Whether an instance is still to be decided on. */
export function isUndecided(states: StepStates, instance: Instance): boolean {
  if (instance.index !== undefined) return bodyOf(states, instance) === 0;
  const frame = frameAround(states, instance);
  return frame !== undefined && stateIn(frame, instance.node) === null;
}

/** The items of a step at work. */
export function eachOf(states: StepStates, whole: Instance): EachState {
  const at = stateAt(states, whole);
  if (typeof at !== "object" || at === null || !("each" in at)) throw notAtWork(whole);
  return at.each;
}

/** The iterations of a step at work. */
export function loopOf(states: StepStates, whole: Instance): LoopState {
  const at = stateAt(states, whole);
  if (typeof at !== "object" || at === null || !("loop" in at)) throw notAtWork(whole);
  return at.loop;
}

function stateAt(states: StepStates, whole: Instance): ReturnType<typeof stateIn> {
  const frame = frameAround(states, whole);
  return frame ? stateIn(frame, whole.node) : null;
}

function notAtWork({ path }: Instance): Error {
  return new Error(`step ${path}: expected it to be at work`);
}

/** The states with other steps in the group around an instance. */
export function withFrameAround(states: StepStates, { within }: Instance, frame: Frame): StepStates {
  return within === undefined ? { ...states, root: frame } : withBody(states, within, frame);
}

/** The states with an instance at something else. */
export function withBody(states: StepStates, instance: Instance, body: Body): StepStates {
  const { index } = instance;
  if (index === undefined) return withState(states, instance, typeof body === "number" ? body : { frame: body });
  const whole = wholeOf(instance);
  if (instance.node.step.repeat) return withLoop(states, whole, { ...loopOf(states, whole), body });
  const each = eachOf(states, whole);
  const items = each.items.map((item) => (item[0] === index ? ([index, body] as const) : item));
  return withEach(states, whole, { ...each, items });
}

/** The states with a step at other items. */
export function withEach(states: StepStates, whole: Instance, each: EachState): StepStates {
  return withState(states, whole, { each });
}

/** The states with a step at another iteration. */
export function withLoop(states: StepStates, whole: Instance, loop: LoopState): StepStates {
  return withState(states, whole, { loop });
}

function withState(states: StepStates, whole: Instance, state: Parameters<typeof withStep>[2]): StepStates {
  const frame = frameAround(states, whole);
  if (!frame) throw notAtWork(whole);
  return withFrameAround(states, whole, withStep(frame, whole.node, state));
}

/** Every instance at work inside of another one, itself included, the outer ones first. */
export function* workIn(states: StepStates, instance: Instance): Generator<{ instance: Instance; body: Body | null }> {
  const { node, index } = instance;
  if (index === undefined && isMany(node)) {
    const at = stateAt(states, instance);
    if (typeof at !== "object" || at === null) return;
    const each = "each" in at ? at.each.items.map(([item]) => item) : [];
    const running = "loop" in at ? [at.loop.index] : each;
    if ("each" in at || "loop" in at) yield { instance, body: null };
    for (const item of running) yield* workIn(states, instanceAt(instance, item));
    return;
  }
  const body = bodyOf(states, instance);
  if (body === undefined) return;
  yield { instance, body };
  if (typeof body === "number" || !node.body) return;
  for (const inner of node.body.nodes.values()) yield* workIn(states, instanceIn(instance, inner));
}
