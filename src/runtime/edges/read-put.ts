/** What somebody puts: read, checked whole, and made the records that are stored of it. */
import type { Agent } from "../../actors/agent.ts";
import { defineAgent } from "../../actors/define-agent.ts";
import { problemAt, showValue } from "../../actors/schema-problems.ts";
import { DefinitionError, type Problem } from "../../errors.ts";
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import { canonicalJson } from "../../workflows/definition-hash.ts";
import { agentsNamedIn, type WrittenWorkflow } from "../../workflows/written-workflow.ts";
import { readDefinitions } from "../config/read-definitions.ts";
import { contentOf, edgesOf, FORM, type PutRecord } from "../hosts/definition-record.ts";
import type { AgentMeans } from "../hosts/stored-agents.ts";
import type { ApiRequest } from "./api-requests.ts";

/** A record without its place among the others. */
export type DraftRecord = Omit<PutRecord, "number" | "at">;

/** What this daemon knows that a put may speak of. */
export type PutContext = AgentMeans & {
  agents: readonly Agent[];
  /** Agents that somebody living serves, by name. */
  served: readonly string[];
};

/** Reads a put. @throws DefinitionError with everything that is wrong in it. */
export function readPut(
  { agents = {}, workflows, expected, by }: ApiRequest<"workflows.put">,
  { agents: here, served, ...means }: PutContext,
): DraftRecord[] {
  const known = new Map(here.map((agent) => [agent.name, agent]));
  for (const name of served) if (!known.has(name)) known.set(name, remote(name));
  const read = readDefinitions({ agents, workflows }, { ...means, known });
  const names = Object.keys(workflows);
  const problems = [
    ...read.problems,
    ...nothing(names),
    ...strangers(expected, names),
    ...keysIn(read.agents.values()),
  ];
  if (problems.length > 0) throw new DefinitionError(problems);
  return [...read.workflows.values()].map((definition) => {
    return recordOf(definition, workflows[definition.name] as WrittenWorkflow, agents, by);
  });
}

function recordOf(
  definition: WorkflowDefinition,
  source: WrittenWorkflow,
  agents: { readonly [name: string]: unknown },
  by: string | undefined,
): DraftRecord {
  const { name: workflow, version, hash } = definition;
  const needed = agentsNamedIn(source).flatMap((name) => (agents[name] ? [[name, agents[name] as object]] : []));
  return {
    v: 1,
    type: "put",
    workflow,
    version,
    hash,
    form: FORM,
    ...(by !== undefined && { by }),
    source: { ...source },
    agents: Object.fromEntries(needed) as PutRecord["agents"],
    ...edgesOf(definition),
  };
}

/** Whether a version is what is put once more. */
export function isSame(kept: PutRecord | undefined, record: DraftRecord): boolean {
  return kept !== undefined && canonicalJson(contentOf(kept)) === canonicalJson(contentOf(record));
}

function nothing(names: readonly string[]): Problem[] {
  return names.length > 0 ? [] : [problemAt({ path: "workflows" }, "at least one workflow", "none")];
}

function strangers(expected: { readonly [name: string]: number } = {}, names: readonly string[]): Problem[] {
  const others = Object.keys(expected).filter((name) => !names.includes(name));
  return others.map((name) =>
    problemAt({ path: "expected" }, "the names of the workflows that are put", showValue(name)),
  );
}

/** Whoever may read definitions would read them too. */
function keysIn(agents: Iterable<Agent>): Problem[] {
  return [...agents].flatMap(({ name, apiKey }) => {
    if (apiKey === undefined) return [];
    const expected = "none in what everybody may read: the daemons' `providers` or variables have it";
    return [problemAt({ path: `agents.${name}.apiKey` }, expected, "an API key")];
  });
}

/** An agent that somebody else serves: whom it may hand over to is not known here. */
function remote(name: string): Agent {
  return defineAgent({ name, remote: true });
}
