/** A workflow's graph as a tree for a terminal: every step once, below the last of those it comes after. */
import type { NodeStanding } from "../workflows/graph-status.ts";
import type { GraphEdge, GraphNode, WorkflowGraph } from "../workflows/workflow-graph.ts";
import { bold, dim, paintStatus, yellow } from "./style.ts";
import { cut, oneLine } from "./terminal-text.ts";

const MOST_COLUMNS = 60;

type Standings = ReadonlyMap<string, NodeStanding>;

/** Renders a graph below its title; with `standings` in the colours of how far a run is. */
export function renderTree(title: string, graph: WorkflowGraph, standings?: Standings): string {
  return [bold(title), ...branches(graph, "", standings)].join("\n");
}

function branches(graph: WorkflowGraph, indent: string, standings?: Standings): string[] {
  const drawn = new Set<string>();
  const byPath = new Map(graph.nodes.map((node) => [node.path, node]));
  const ways = Map.groupBy(graph.edges, ({ to }) => to);
  const below = Map.groupBy(graph.nodes, ({ path }) => parentOf(path, graph, byPath));
  const lines = draw(below.get(undefined) ?? [], indent);
  // What is only in a circle of handoffs hangs below nobody.
  return [
    ...lines,
    ...draw(
      graph.nodes.filter(({ path }) => !drawn.has(path)),
      indent,
    ),
  ];

  function draw(nodes: readonly GraphNode[], indent: string): string[] {
    const fresh = nodes.filter(({ path }) => !drawn.has(path));
    for (const { path } of fresh) drawn.add(path);
    return fresh.flatMap((node, index) => {
      const isLast = index === fresh.length - 1;
      const next = `${indent}${isLast ? "   " : "│  "}`;
      const line = `${indent}${isLast ? "└─ " : "├─ "}${lineOf(node, ways.get(node.path) ?? [], standings)}`;
      const inner = node.inner ? branches(node.inner, `${next}${dim("┆ ")}`, standings) : [];
      return [line, ...inner, ...draw(below.get(node.path) ?? [], next)];
    });
  }
}

/** The last in the file's order of those it comes after; handoffs go from whoever comes first. */
function parentOf(path: string, { nodes, edges }: WorkflowGraph, byPath: ReadonlyMap<string, GraphNode>) {
  const from = edges.filter((edge) => edge.to === path && edge.from !== path && byPath.has(edge.from));
  const [handoff] = from.filter(({ kind }) => kind === "handoff");
  if (handoff) return byPath.get(path)?.notes.includes("entry") ? undefined : handoff.from;
  const places = new Map(nodes.map((node, index) => [node.path, index]));
  return from.map((edge) => edge.from).sort((a, b) => (places.get(b) ?? 0) - (places.get(a) ?? 0))[0];
}

function lineOf({ path, id, who, notes }: GraphNode, ways: readonly GraphEdge[], standings?: Standings): string {
  const standing = standings?.get(path);
  const how = standing && `${painted(standing)}${standing.times === undefined ? "" : dim(` ×${standing.times}`)}`;
  const words = [who, ...notes].filter((word) => word !== "").map((word) => cut(oneLine(word), MOST_COLUMNS));
  return [id, how, dim([...words, ...comesFrom(ways)].join(" · "))].filter(Boolean).join("  ");
}

/** Said where the place in the tree does not say it all. */
function comesFrom(ways: readonly GraphEdge[]): string[] {
  const names = (kind: GraphEdge["kind"]) => ways.filter((way) => way.kind === kind).map(({ from }) => last(from));
  const after = names("after");
  const handoffs = names("handoff");
  return [
    ...(after.length > 1 || (after.length > 0 && after.length < ways.length) ? [`after ${after.join(", ")}`] : []),
    ...ways.filter(({ kind }) => kind === "switch").map(({ from, label }) => `if ${last(from)} is ${label ?? ""}`),
    ...names("error").map((from) => `on error of ${from}`),
    ...(handoffs.length > 0 ? [`from ${handoffs.join(", ")}`] : []),
  ];
}

function painted({ status }: NodeStanding): string {
  if (status === "pending") return dim(status);
  return status === "retrying" ? yellow(status) : paintStatus(status);
}

function last(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}
