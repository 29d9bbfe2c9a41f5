/** What can be seen from an instance of a step at one point of a run. */
import type { LoopScope, StepEnd } from "./expressions.ts";
import type { RunSetup } from "./plan.ts";
import type { Graph, Node } from "./step-graph.ts";
import { eachOf, frameAround, frameOf, type Instance, loopOf, wholeOf } from "./step-instances.ts";
import type { InputForm, NamedStep, StepAt } from "./step-scope.ts";
import { type EachState, endOf, type StepStates } from "./step-states.ts";

type Point = { readonly setup: RunSetup; readonly graph: Graph; readonly states: StepStates };

/** Lists by the unchanging part of the state they are gone through in: they follow from the same ends each time. */
const lists = new WeakMap<EachState["of"], readonly unknown[]>();

/** What the expressions of an instance see. */
export function pointAt(point: Point, instance: Instance): StepAt {
  return {
    setup: point.setup,
    endOf: (named) => endAt(point, instance, named),
    loop: loopAt(point, instance),
    given: (form) => givenTo(point, instance, form),
  };
}

/** Makes known which list a step goes through. */
export function rememberList(each: EachState, items: readonly unknown[]): void {
  lists.set(each.of, items);
}

function endAt({ states, graph }: Point, instance: Instance, { id, up }: NamedStep): StepEnd {
  let at: Instance | undefined = instance;
  for (let left = up; left > 0 && at; left -= 1) at = at.within;
  if (!at) throw new Error(`step ${instance.path}: expected ${up} groups around it`);
  const nodes = up < 0 ? at.node.body : (at.within?.node.body ?? graph);
  const frame = up < 0 ? frameOf(states, at) : frameAround(states, at);
  const node: Node | undefined = nodes?.nodes.get(id);
  return node && frame ? endOf(frame, node) : { status: "skipped" };
}

function loopAt(point: Point, instance: Instance): LoopScope {
  const { node, index, within } = instance;
  const around = within ? loopAt(point, within) : {};
  if (index === undefined) return around;
  const whole = wholeOf(instance);
  if (node.step.repeat) {
    const { last = null } = loopOf(point.states, whole);
    return { ...around, index: BigInt(index), last };
  }
  return { ...around, index: BigInt(index), item: itemsOf(point, whole)[index] };
}

/** The list a step goes through; after a restart it is made again. */
function itemsOf(point: Point, whole: Instance): readonly unknown[] {
  const { of } = eachOf(point.states, whole);
  let items = lists.get(of);
  if (!items) {
    items = whole.node.scope.itemsOf(pointAt(point, whole));
    if (items.length !== of.total) {
      throw new Error(`step ${whole.path}: expected its list to have ${of.total} items again, got ${items.length}`);
    }
    lists.set(of, items);
  }
  return items;
}

/** What an instance has beside the steps it comes after: the item, what its group was given, or the request. */
function givenTo(point: Point, instance: Instance, form: InputForm): unknown {
  const { node, index, within } = instance;
  if (index !== undefined && node.step.forEach !== undefined) return itemsOf(point, wholeOf(instance))[index];
  return within ? within.node.scope.inputOf(pointAt(point, within), form) : point.setup.request.input;
}
