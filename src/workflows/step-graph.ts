/** The graph of a deterministic workflow, made once per definition. */
import type { DeterministicDefinition, StepDefinition } from "./definition.ts";
import { linkSteps } from "./step-order.ts";
import { compileStepScopes, type StepScopes } from "./step-scope.ts";

/** A step, and what its place among the others means. */
export type Node = {
  readonly step: StepDefinition;
  readonly index: number;
  /** The steps it comes directly after, without those it handles. */
  readonly after: Node[];
  /** The steps whose errors it handles. */
  readonly handles: Node[];
  /** All that have to end before it is decided on: both of the above. */
  readonly before: Node[];
  /** The steps that come directly after it, also to handle its errors. */
  readonly followers: Node[];
  /** The steps of which its input or its condition speaks. */
  readonly uses: Node[];
  /** The steps whose input or condition speaks of it. */
  readonly users: Node[];
};

export type Graph = {
  readonly nodes: ReadonlyMap<string, Node>;
  readonly scopes: StepScopes;
  /** Steps nothing comes after, unless to handle their errors: their outputs are the run's. */
  readonly sinks: ReadonlySet<Node>;
};

/** Makes the graph of a definition. */
export function graphOf(definition: DeterministicDefinition): Graph {
  const scopes = compileStepScopes(definition);
  const nodes = new Map(
    definition.steps.map((step, index): [string, Node] => [
      step.id,
      { step, index, after: [], handles: [], before: [], followers: [], uses: [], users: [] },
    ]),
  );
  const sinks = new Set(nodes.values());
  for (const { id, after, handles } of linkSteps(definition.steps)) {
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
    for (const used of nodesOf(scopes.usedBy(id))) {
      node.uses.push(used);
      used.users.push(node);
    }
  }
  return { nodes, scopes, sinks };

  function nodesOf(ids: readonly string[]): Node[] {
    return ids.flatMap((id) => nodes.get(id) ?? []);
  }
}
