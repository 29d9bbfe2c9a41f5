/** The graph of a deterministic workflow, and of each group in it, made once per definition. */
import type { DeterministicDefinition, StepDefinition } from "./definition.ts";
import { linkSteps, type StepsBefore, stepsBefore } from "./step-order.ts";
import { compileStepScope, type NamedStep, type StepScope } from "./step-scope.ts";
import { insideOf, NOTHING_AROUND, type Surroundings } from "./step-surroundings.ts";

/** A step, and what its place among the others means. */
export type Node = {
  readonly step: StepDefinition;
  readonly index: number;
  readonly scope: StepScope;
  /** The steps of a group. */
  readonly body: Graph | undefined;
  /** The steps it comes directly after, without those it handles. */
  readonly after: Node[];
  /** The steps whose errors it handles. */
  readonly handles: Node[];
  /** All that have to end before it is decided on: both of the above. */
  readonly before: Node[];
  /** The steps that come directly after it, also to handle its errors. */
  readonly followers: Node[];
  /** The steps beside it of which its expressions speak, and those of the steps in it. */
  readonly uses: Node[];
  /** The steps beside it whose expressions speak of it. */
  readonly users: Node[];
};

export type Graph = {
  /** The workflow's name. */
  readonly name: string;
  readonly nodes: ReadonlyMap<string, Node>;
  /** Steps that come after none. */
  readonly first: readonly Node[];
  /** Steps nothing comes after, unless to handle their errors: their outputs are the run's, or the group's. */
  readonly sinks: ReadonlySet<Node>;
  /** Steps whose ends are asked for when all have ended: the sinks, and those of which an `until` speaks. */
  readonly kept: ReadonlySet<Node>;
  /** The steps outside of which these steps speak. */
  readonly outer: readonly NamedStep[];
};

const graphs = new WeakMap<DeterministicDefinition, Graph>();

/** The graph of a definition, made once. */
export function graphOf(definition: DeterministicDefinition): Graph {
  let graph = graphs.get(definition);
  if (!graph) {
    graph = graphWith(definition, NOTHING_AROUND);
    graphs.set(definition, graph);
  }
  return graph;
}

/** The graph of steps that stand in `around`. */
export function graphWith({ name, steps }: DeterministicDefinition, around: Surroundings): Graph {
  return makeGraph(steps, { workflow: name, path: `workflows.${name}`, around, asked: new Set() });
}

type Place = {
  workflow: string;
  /** Where the steps stand. */
  path: string;
  around: Surroundings;
  /** Steps of which the `until` around them speaks. */
  asked: ReadonlySet<string>;
};

function makeGraph(steps: readonly StepDefinition[], { workflow, path, around, asked }: Place): Graph {
  const links = linkSteps(steps);
  const before = stepsBefore(links);
  const nodes = new Map(
    steps.map((step, index): [string, Node] => {
      const at = `${path}.steps[${index}]`;
      // Most definitions have no expression, and never ask.
      const own: StepsBefore = {
        has: (id) => before(step.id).has(id),
        [Symbol.iterator]: () => before(step.id)[Symbol.iterator](),
      };
      const direct = links[index]?.after ?? step.after;
      const scope = compileStepScope(step, { workflow, path: at, direct, own, around });
      const inner = new Set(scope.uses.filter(({ up }) => up < 0).map(({ id }) => id));
      const body =
        step.kind === "group"
          ? makeGraph(step.steps, { workflow, path: at, around: insideOf(step, own, around), asked: inner })
          : undefined;
      const linked = { after: [], handles: [], before: [], followers: [], uses: [], users: [] };
      return [step.id, { step, index, scope, body, ...linked }];
    }),
  );
  const sinks = new Set(nodes.values());
  for (const { id, after, handles } of links) {
    const node = nodes.get(id);
    if (!node) continue;
    const handled = new Set(handles);
    for (const before of nodesOf(after)) {
      node.before.push(before);
      before.followers.push(node);
      if (handled.has(before.step.id)) node.handles.push(before);
      else {
        node.after.push(before);
        sinks.delete(before);
      }
    }
    const used = namesIn(node).filter(({ up }) => up === 0);
    for (const other of nodesOf(used.map((named) => named.id))) {
      node.uses.push(other);
      other.users.push(node);
    }
  }
  const all = [...nodes.values()];
  return {
    name: workflow,
    nodes,
    first: all.filter(({ before }) => before.length === 0),
    sinks,
    kept: new Set([...sinks, ...nodesOf([...asked])]),
    outer: unique(all.flatMap(namesIn).filter(({ up }) => up > 0)).map(({ id, up }) => ({ id, up: up - 1 })),
  };

  function nodesOf(ids: readonly string[]): Node[] {
    return ids.flatMap((id) => nodes.get(id) ?? []);
  }
}

/** The steps of which a step and the steps in it speak, as seen from beside it. */
function namesIn({ scope, body }: Node): NamedStep[] {
  return body ? unique([...scope.uses, ...body.outer]) : [...scope.uses];
}

/** Ids are unique among all that can be seen from one place. */
function unique(names: readonly NamedStep[]): NamedStep[] {
  return [...new Map(names.map((named) => [named.id, named])).values()];
}
