/** How far a run is, on the graph of its workflow. */
import type { RunRecord, StepRecord } from "./run-record.ts";
import type { GraphNode, WorkflowGraph } from "./workflow-graph.ts";

export type NodeStatus = StepRecord["status"] | "pending";

export type NodeStanding = {
  status: NodeStatus;
  /** How often it was begun, where that is more than once. */
  times?: number;
};

/** What one of many says of all of them: the first that any of them has. */
const WEIGHT: readonly StepRecord["status"][] = [
  "failed",
  "running",
  "waiting",
  "retrying",
  "cancelled",
  "completed",
  "skipped",
];

/** A step of a run on a node: itself, or one item or iteration of it. */
type Row = { path: string; isOneOfMany: boolean; status: StepRecord["status"] };

/** Gives each node, by its path, where it stands in a run. Items and iterations of a step count together. */
export function standingsIn(run: RunRecord, graph: WorkflowGraph): Map<string, NodeStanding> {
  const byPath = Map.groupBy(rowsOf(run), ({ path }) => path);
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

function rowsOf({ kind, steps }: RunRecord): Row[] {
  if (kind === "handoff") {
    return steps.map(({ id, agent, status }) => ({ path: agent ?? id, isOneOfMany: false, status }));
  }
  // A step may be called `2` as well; what a number is, is said by what it is in.
  const many = new Set(steps.flatMap(({ id, group }) => (group && group.type !== "steps" ? [id] : [])));
  return steps.map(({ id, status }) => {
    const parts = id.split("/");
    const isIndex = (at: number) => many.has(parts.slice(0, at).join("/"));
    const path = parts.filter((_part, at) => !isIndex(at)).join("/");
    return { path, isOneOfMany: isIndex(parts.length - 1), status };
  });
}

function standingOf(
  rows: readonly Row[],
  { inner }: GraphNode,
  standings: ReadonlyMap<string, NodeStanding>,
): NodeStanding {
  const within = (inner?.nodes ?? []).flatMap(({ path }) => standings.get(path)?.status ?? []);
  const own = rows.filter((row) => !row.isOneOfMany);
  const all = own.length > 0 ? own.map(({ status }) => status) : within.filter((status) => status !== "pending");
  const status = WEIGHT.find((one) => all.includes(one)) ?? "pending";
  // What is inside of a group has not all begun yet.
  const isPartly = own.length === 0 && status === "completed" && within.includes("pending");
  const times = rows.length > own.length ? rows.length - own.length : own.length;
  return { status: isPartly ? "running" : status, ...(times > 1 && { times }) };
}
