/** A workflow's graph as a Mermaid flowchart. */
import type { NodeStanding, NodeStatus } from "../workflows/graph-status.ts";
import type { GraphEdge, GraphNode, StepKind, WorkflowGraph } from "../workflows/workflow-graph.ts";
import { cut, oneLine } from "./terminal-text.ts";

/** Longer words make a chart that nobody can read. */
const MOST_COLUMNS = 60;

const SHAPES: { readonly [Kind in StepKind]: readonly [open: string, close: string] } = {
  agent: ["[", "]"],
  tool: ["[[", "]]"],
  approval: ["{{", "}}"],
  wait: ["([", "])"],
  workflow: ["[/", "/]"],
  steps: ["[", "]"],
};

const ARROWS: { readonly [Kind in GraphEdge["kind"]]: string } = {
  after: "-->",
  switch: "-->",
  error: "-.->",
  handoff: "-->",
};

const COLOURS: { readonly [Status in NodeStatus]: string } = {
  pending: "fill:#f4f4f5,stroke:#a1a1aa,color:#52525b",
  waiting: "fill:#ede9fe,stroke:#7c3aed,color:#4c1d95",
  running: "fill:#dbeafe,stroke:#2563eb,color:#1e3a8a",
  retrying: "fill:#fef3c7,stroke:#d97706,color:#78350f",
  completed: "fill:#dcfce7,stroke:#16a34a,color:#14532d",
  failed: "fill:#fee2e2,stroke:#dc2626,color:#7f1d1d",
  cancelled: "fill:#fee2e2,stroke:#dc2626,color:#7f1d1d",
  skipped: "fill:#fafafa,stroke:#a1a1aa,color:#a1a1aa,stroke-dasharray:4",
};

/** Renders a graph; with `standings` coloured by how far a run is. */
export function renderMermaid(graph: WorkflowGraph, standings?: ReadonlyMap<string, NodeStanding>): string {
  const names = namesOf(graph);
  const lines = ["flowchart TD"];
  const nameOf = (path: string) => names.get(path) ?? "";
  const draw = ({ nodes, edges }: WorkflowGraph, indent: string) => {
    for (const node of nodes) {
      if (node.inner) {
        lines.push(`${indent}subgraph ${nameOf(node.path)}["${labelOf(node, standings)}"]`);
        draw(node.inner, `${indent}  `);
        lines.push(`${indent}end`);
      } else {
        const [open, close] = SHAPES[node.kind];
        lines.push(`${indent}${nameOf(node.path)}${open}"${labelOf(node, standings)}"${close}`);
      }
    }
    for (const { from, to, kind, label } of edges) {
      const words = label === undefined ? "" : `|"${quoted(cut(oneLine(label), MOST_COLUMNS))}"|`;
      lines.push(`${indent}${nameOf(from)} ${ARROWS[kind]}${words} ${nameOf(to)}`);
    }
  };
  draw(graph, "  ");
  if (standings) lines.push(...classes(names, standings));
  return lines.join("\n");
}

/** Ids of steps may be words of Mermaid's own, so nodes are numbered. */
function namesOf(graph: WorkflowGraph): Map<string, string> {
  const names = new Map<string, string>();
  const visit = ({ nodes }: WorkflowGraph): void => {
    for (const { path, inner } of nodes) {
      names.set(path, `n${names.size + 1}`);
      if (inner) visit(inner);
    }
  };
  visit(graph);
  return names;
}

function labelOf({ path, id, who, notes }: GraphNode, standings?: ReadonlyMap<string, NodeStanding>): string {
  const standing = standings?.get(path);
  const how = standing ? [`${standing.status}${standing.times === undefined ? "" : ` ×${standing.times}`}`] : [];
  const lines = [id, who, ...notes, ...how].filter((line) => line !== "");
  return lines.map((line) => quoted(cut(oneLine(line), MOST_COLUMNS))).join("<br/>");
}

function classes(names: ReadonlyMap<string, string>, standings: ReadonlyMap<string, NodeStanding>): string[] {
  const byStatus = Map.groupBy([...names], ([path]) => standings.get(path)?.status ?? "pending");
  return [...byStatus].flatMap(([status, nodes]) => [
    `  classDef ${status} ${COLOURS[status]}`,
    `  class ${nodes.map(([, name]) => name).join(",")} ${status}`,
  ]);
}

/** Quotes and brackets as Mermaid takes them within quotes. */
function quoted(text: string): string {
  return text.replaceAll("&", "#amp;").replaceAll('"', "#quot;").replaceAll("<", "#lt;").replaceAll(">", "#gt;");
}
