/** What reading a workflow starts from and ends in. */
import type { Agent } from "../actors/agent.ts";
import { oneOf, type Place, placeAt, problemAt, showValue } from "../actors/schema-problems.ts";
import type { Problem } from "../errors.ts";
import type { WorkflowDefinition } from "./definition.ts";

/** Where a workflow stands and what its agents' names mean. */
export type WorkflowSources = Partial<Place> & {
  agents: ReadonlyMap<string, Agent>;
  /** Names of the tools that steps can run beside those of `agents`. @default none */
  tools?: Iterable<string>;
  /** Whether agents that are not among `agents` may turn up later; a handoff workflow needs them now. @default false */
  open?: boolean;
};

/** The definition, or everything that is wrong with it. */
export type ParsedWorkflow =
  | { definition: WorkflowDefinition; problems: [] }
  | { definition?: undefined; problems: Problem[] };

/** What both kinds of workflow have, checked and in its final form. */
export type CommonParts = Pick<
  WorkflowDefinition,
  "name" | "version" | "description" | "input" | "output" | "timeoutMs" | "schedule"
>;

/** A problem when there is no agent of this name, and there has to be one now. */
export function unknownAgent(name: string, { agents, open = false }: WorkflowSources, place: Place): Problem[] {
  if (agents.has(name) || open) return [];
  const known = [...agents.keys()];
  const expected = known.length === 0 ? "an agent's name, of which there are none" : `an agent's name: ${oneOf(known)}`;
  return [problemAt(placeAt(place), expected, showValue(name))];
}

/** A problem when no agent has a tool of this name and there is none beside them, and there has to be one now. */
export function unknownTool(
  name: string,
  { agents, tools = [], open = false }: WorkflowSources,
  place: Place,
): Problem[] {
  if (open) return [];
  const beside = [...tools];
  const theirs = [...agents.values()].flatMap((agent) => agent.tools);
  const meant = new Set(theirs.filter((tool) => tool.name === name));
  if (!beside.includes(name) && meant.size > 1) {
    return [problemAt(placeAt(place), "one tool of this name", `${meant.size} different ones of several agents`)];
  }
  const known = [...new Set([...beside, ...theirs.map((tool) => tool.name)])];
  if (known.includes(name)) return [];
  const expected = known.length === 0 ? "a tool's name, of which there are none" : `a tool's name: ${oneOf(known)}`;
  return [problemAt(placeAt(place), expected, showValue(name))];
}
