/**
 * A workflow as nodes and edges, from what was written of it. It knows steps by the keys that say what they do and how they
 * hang together; what it does not know of them it leaves out.
 */
import { numberedIds } from "./finish-deterministic.ts";
import type { WrittenWorkflow } from "./written-workflow.ts";

/** What a step does, by the key that says so. */
const STEP_KINDS = ["agent", "tool", "approval", "wait", "workflow", "steps"] as const;
export type StepKind = (typeof STEP_KINDS)[number];

export type GraphNode = {
  /** The path of ids that leads to it: `revise/score`. */
  path: string;
  id: string;
  kind: StepKind;
  /** Who or what does it, in words. */
  who: string;
  /** What else there is to say, each in a few words: conditions, repetitions, attempts. */
  notes: string[];
  /** Of a group. */
  inner?: WorkflowGraph;
};

export type GraphEdge = {
  from: string;
  to: string;
  kind: "after" | "switch" | "error" | "handoff";
  label?: string;
};

export type WorkflowGraph = { nodes: GraphNode[]; edges: GraphEdge[] };

/** Agents as a file has them; of a handoff workflow their edges are drawn. */
type WrittenAgents = { readonly [name: string]: { readonly handoffs?: unknown } };

/** Draws a workflow. */
export function graphOf(written: WrittenWorkflow, agents: WrittenAgents = {}): WorkflowGraph {
  if (typeof written.entry === "string") return handoffGraph(written.entry, texts(written.agents), agents);
  if (Array.isArray(written.agents)) return chainGraph(texts(written.agents));
  const graph = stepsGraph(written.steps, "");
  for (const key of ["onFailure"] as const) {
    const inner = stepsGraph(written[key], `${key}/`);
    if (inner.nodes.length > 0) {
      graph.nodes.push({ path: key, id: key, kind: "steps", who: "", notes: ["when the run fails"], inner });
    }
  }
  return graph;
}

function handoffGraph(entry: string, names: string[], agents: WrittenAgents): WorkflowGraph {
  const nodes = names.map((name): GraphNode => {
    return { path: name, id: name, kind: "agent", who: "", notes: name === entry ? ["entry"] : [] };
  });
  const edges = names.flatMap((from) => {
    const handoffs = agents[from]?.handoffs;
    return (Array.isArray(handoffs) ? handoffs : []).flatMap((target: unknown): GraphEdge[] => {
      const to = typeof target === "string" ? target : textOf(target, "to");
      if (to === undefined || !names.includes(to)) return [];
      const label = textOf(target, "description");
      return [{ from, to, kind: "handoff", ...(label !== undefined && { label }) }];
    });
  });
  return { nodes, edges };
}

function chainGraph(names: string[]): WorkflowGraph {
  const ids = numberedIds(names);
  const nodes = ids.map((id, index): GraphNode => {
    return { path: id, id, kind: "agent", who: id === names[index] ? "" : (names[index] ?? ""), notes: [] };
  });
  const edges = ids.slice(1).map((to, index): GraphEdge => ({ from: ids[index] ?? "", to, kind: "after" }));
  return { nodes, edges };
}

function stepsGraph(steps: unknown, prefix: string): WorkflowGraph {
  const nodes: GraphNode[] = [];
  const edges: GraphEdge[] = [];
  for (const step of Array.isArray(steps) ? steps.filter(isRecord) : []) {
    const id = textOf(step, "id");
    if (id === undefined) continue;
    const path = `${prefix}${id}`;
    nodes.push(nodeOf(step, id, path));
    const after = typeof step.after === "string" ? [step.after] : texts(step.after);
    for (const from of after) edges.push({ from: `${prefix}${from}`, to: path, kind: "after" });
    edges.push(...switchEdges(step.switch, path, prefix));
    const { onError } = step;
    if (typeof onError === "string" && onError !== "fail" && onError !== "continue") {
      edges.push({ from: path, to: `${prefix}${onError}`, kind: "error", label: "on error" });
    }
  }
  return { nodes, edges };
}

function nodeOf(step: { readonly [key: string]: unknown }, id: string, path: string): GraphNode {
  const kind = STEP_KINDS.find((key) => key in step) ?? "agent";
  const inner = kind === "steps" ? { inner: stepsGraph(step.steps, `${path}/`) } : {};
  return { path, id, kind, who: whoDoes(kind, step[kind], id), notes: notesOf(step), ...inner };
}

function whoDoes(kind: StepKind, value: unknown, id: string): string {
  switch (kind) {
    case "steps":
      return "";
    case "agent":
      return typeof value === "string" && value !== id ? value : "";
    case "tool":
    case "workflow":
      return `${kind} ${typeof value === "string" ? value : ""}`.trim();
    case "approval":
    case "wait":
      return `${kind}${factsIn(value)}`;
  }
}

/** The plain values of what a step waits for: ` signal: paid, timeoutMs: 60000`. */
function factsIn(value: unknown): string {
  if (!isRecord(value)) return typeof value === "string" ? ` ${value}` : "";
  const facts = Object.entries(value).flatMap(([key, item]) => {
    if (typeof item === "string" || typeof item === "number") return [`${key}: ${item}`];
    return Array.isArray(item) && item.every((one) => typeof one === "string") ? [`${key}: ${item.join(" or ")}`] : [];
  });
  return facts.length > 0 ? ` (${facts.join(", ")})` : "";
}

function notesOf(step: { readonly [key: string]: unknown }): string[] {
  const notes: string[] = [];
  const { when, needs, forEach, repeat, concurrency, onError, retry, compensate } = step;
  if (typeof when === "string") notes.push(`when ${when}`);
  if (typeof needs === "string" && needs !== "all") notes.push(`needs ${needs}`);
  if (typeof forEach === "string") notes.push(`for each of ${forEach}`);
  if (isRecord(repeat)) {
    const until = typeof repeat.until === "string" ? ` until ${repeat.until}` : "";
    notes.push(`repeat${until}${typeof repeat.max === "number" ? `, at most ${repeat.max} times` : ""}`);
  }
  if (typeof concurrency === "number") notes.push(`${concurrency} at once`);
  if (onError === "continue") notes.push("goes on without it");
  if (isRecord(retry) && typeof retry.maxAttempts === "number") notes.push(`${retry.maxAttempts} attempts`);
  if (compensate !== undefined) {
    const kind = isRecord(compensate) ? STEP_KINDS.find((key) => key in compensate) : undefined;
    const by =
      typeof compensate === "string" ? compensate : kind && isRecord(compensate) ? compensate[kind] : undefined;
    notes.push(typeof by === "string" ? `undone by ${by}` : "undone when the run fails");
  }
  return notes;
}

/** One edge to each step a switch leads to, with the values that lead there. */
function switchEdges(choice: unknown, from: string, prefix: string): GraphEdge[] {
  if (!isRecord(choice)) return [];
  const values = new Map<string, string[]>();
  for (const [value, target] of Object.entries(isRecord(choice.cases) ? choice.cases : {})) {
    if (typeof target === "string") values.set(target, [...(values.get(target) ?? []), value]);
  }
  if (typeof choice.default === "string")
    values.set(choice.default, [...(values.get(choice.default) ?? []), "otherwise"]);
  return [...values].map(([to, labels]) => ({ from, to: `${prefix}${to}`, kind: "switch", label: labels.join(", ") }));
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}

function textOf(value: unknown, key: string): string | undefined {
  const found = isRecord(value) ? value[key] : undefined;
  return typeof found === "string" ? found : undefined;
}

function isRecord(value: unknown): value is { readonly [key: string]: unknown } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
