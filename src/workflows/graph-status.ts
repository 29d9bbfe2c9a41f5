/** How far a run is, on the graph of its workflow. */
import type { RunRecord, StepRecord } from "./run-record.ts";
import type { GraphNode, WorkflowGraph } from "./workflow-graph.ts";

export type NodeStatus = StepRecord["status"] | "pending";

export type NodeStanding = {
  status: NodeStatus /** How often it was begun, where that is more than once. */;
  times?: number;
};

/** What one of many says of all of them: the first that any of them has. */
const WEIGHT: readonly StepRecord["status"][] = ["failed", "running", "retrying", "cancelled", "completed", "skipped"];

/** Gives each node, by its path, where it stands in a run. Rounds and items of a group count together. */
export function standingsIn(run: RunRecord, graph: WorkflowGraph): Map<string, NodeStanding> {
  const byPath = Map.groupBy(run.steps, (step) => (run.kind === "handoff" ? step.agent : plainPath(step.id)));
  const standings = new Map<string, NodeStanding>();
  const visit = ({ nodes }: WorkflowGraph): void => {
    for (const node of nodes) {
      if (node.inner) visit(node.inner);
      standings.set(node.path, standingOf(byPath.get(node.path) ?? [], node, standings));
    }
  };
  visit(graph);
  return standings;
}

/** `revise/2/score` is a round of `revise/score`. */
function plainPath(id: string): string {
  return id
    .split("/")
    .filter((part, index) => index === 0 || !/^\d+$/.test(part))
    .join("/");
}

function standingOf(
  steps: readonly StepRecord[],
  { inner }: GraphNode,
  standings: ReadonlyMap<string, NodeStanding>,
): NodeStanding {
  const within = (inner?.nodes ?? []).flatMap(({ path }) => standings.get(path)?.status ?? []);
  const own = steps.map(({ status }) => status);
  const all = own.length > 0 ? own : within.filter((status) => status !== "pending");
  const status = WEIGHT.find((one) => all.includes(one)) ?? "pending";
  // What is inside of a group has not all begun yet.
  const isPartly = own.length === 0 && status === "completed" && within.includes("pending");
  return { status: isPartly ? "running" : status, ...(steps.length > 1 && { times: steps.length }) };
}
