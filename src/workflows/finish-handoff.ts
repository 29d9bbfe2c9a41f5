/** Handoff workflows: who starts, and who may hand over to whom within the workflow. */
import type { Agent, HandoffEdge } from "../actors/agent.ts";
import type { Read } from "../actors/read-by-schema.ts";
import { type Place, placeAt, problemAt, showValue } from "../actors/schema-problems.ts";
import { toJsonSchema } from "../actors/schemas.ts";
import type { HandoffOption } from "../actors/task.ts";
import type { Problem } from "../errors.ts";
import type { HandoffDefinition, WorkflowDefinition } from "./definition.ts";
import { hashDefinition } from "./definition-hash.ts";
import type { HandoffDraft } from "./definition-schema.ts";
import { type CommonParts, unknownAgent, type WorkflowSources } from "./workflow-sources.ts";

/** Makes the definition of a handoff workflow, or says what is wrong with it. */
export function finishHandoff(
  draft: HandoffDraft,
  common: CommonParts,
  sources: WorkflowSources & Place,
): Read<WorkflowDefinition> {
  const { entry, maxHandoffs, maxVisits } = draft;
  const names = [...new Set(draft.agents)];
  const problems = unknownAgents(draft, sources);
  if (problems.length > 0) return { problems };
  const agents = Object.fromEntries(names.map((name) => [name, optionsOf(name, names, sources.agents)]));
  const unreachable = unreachableAgents(draft, agents, sources);
  if (unreachable.length > 0) return { problems: unreachable };
  const definition = { ...common, kind: "handoff" as const, entry, agents, maxHandoffs, maxVisits };
  return { value: { ...definition, hash: hashDefinition(definition) }, problems: [] };
}

/** The edges stand on the agents, so here names that turn up later will not do. */
function unknownAgents({ entry, agents }: HandoffDraft, sources: WorkflowSources & Place): Problem[] {
  const problems = agents.flatMap((agent, index) =>
    unknownAgent(agent, { agents: sources.agents }, placeAt(sources, "agents", index)),
  );
  if (agents.includes(entry)) return problems;
  const expected = `one of the workflow's agents (${agents.join(", ")})`;
  return [...problems, problemAt(placeAt(sources, "entry"), expected, showValue(entry))];
}

function optionsOf(name: string, team: readonly string[], agents: ReadonlyMap<string, Agent>): HandoffOption[] {
  const edges = agents.get(name)?.handoffs ?? [];
  return edges.filter(({ to }) => team.includes(to)).map((edge) => toOption(edge, agents.get(edge.to)));
}

function toOption({ to, description, input, context }: HandoffEdge, target: Agent | undefined): HandoffOption {
  const words = description ?? target?.description;
  return {
    to,
    ...(words === undefined ? {} : { description: words }),
    ...(input === undefined ? {} : { input: toJsonSchema(input) }),
    // A function does not travel: the agent that has it applies it before it hands over.
    ...(typeof context === "string" ? { context } : {}),
  };
}

/** An agent nobody can hand over to is there by mistake: most often its edge was forgotten. */
function unreachableAgents(
  { entry, agents: names }: HandoffDraft,
  edges: HandoffDefinition["agents"],
  place: Place,
): Problem[] {
  const reached = new Set([entry]);
  for (const name of reached) for (const { to } of edges[name] ?? []) reached.add(to);
  return names.flatMap((name, index) => {
    if (reached.has(name)) return [];
    const expected = `an agent that can be reached from ${entry} over the \`handoffs\` of the workflow's agents`;
    return [problemAt(placeAt(place, "agents", index), expected, showValue(name))];
  });
}
