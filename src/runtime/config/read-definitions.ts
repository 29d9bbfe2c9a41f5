/** Reads agents and workflows together, from one file or from what was sent: everything that is wrong with them at once. */
import type { Agent } from "../../actors/agent.ts";
import { unknownHandoffs, writtenTargets } from "../../actors/check-agent.ts";
import { parseAgent } from "../../actors/define-agent.ts";
import { joinPath, placeAt, problemAt, showValue } from "../../actors/schema-problems.ts";
import type { Tool } from "../../actors/tool.ts";
import { DefinitionError, type Problem } from "../../errors.ts";
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import { parseWorkflow } from "../../workflows/parse-definition.ts";

/** The sections of a file that are not about one process. */
export type DefinitionSections = {
  agents?: { readonly [name: string]: unknown } | undefined;
  workflows?: { readonly [name: string]: unknown } | undefined;
};

export type DefinitionContext = {
  file?: string;
  tools: ReadonlyMap<string, Tool>;
  /** Throws where there is no such provider. */
  modelFor(agent: Agent): unknown;
  /** Agents that are there beside those of the file, which go before them. */
  known: ReadonlyMap<string, Agent>;
};

export type ReadDefinitions = {
  agents: Map<string, Agent>;
  workflows: Map<string, WorkflowDefinition>;
  problems: Problem[];
};

/** Reads both sections. Where there are problems, what is right is there all the same. */
export function readDefinitions(sections: DefinitionSections, context: DefinitionContext): ReadDefinitions {
  const { file, tools, modelFor, known } = context;
  const at = (...keys: string[]) => placeAt({ ...(file !== undefined && { file }), path: "" }, ...keys);
  const problems: Problem[] = [];
  const agents = new Map<string, Agent>();
  for (const [name, raw] of Object.entries(sections.agents ?? {})) {
    const read = parseAgent(isObject(raw) ? { ...raw, name } : raw, { ...at("agents", name), tools });
    problems.push(...misnamed(raw, name, at("agents", name, "name")), ...read.problems);
    if (!read.agent) continue;
    agents.set(name, read.agent);
    if (!read.agent.remote) problems.push(...problemsOfModel(read.agent, modelFor, file));
  }
  const names = new Set([...known.keys(), ...Object.keys(sections.agents ?? {})]);
  const targets = Object.entries(sections.agents ?? {}).map(
    ([name, raw]) => agents.get(name) ?? writtenTargets(name, raw),
  );
  problems.push(...unknownHandoffs(targets, names, (name) => at("agents", name)));

  const all = new Map([...known, ...standInsFor(sections.agents ?? {}, names), ...agents]);
  const workflows = new Map<string, WorkflowDefinition>();
  for (const [name, raw] of Object.entries(sections.workflows ?? {})) {
    const read = parseWorkflow(name, raw, { ...at("workflows", name), agents: all, tools: [...tools.keys()] });
    problems.push(...read.problems);
    if (read.definition) workflows.set(name, read.definition);
  }
  return { agents, workflows, problems };
}

/** One wrong agent is one problem: workflows that name it are read as if it were fine and could hand over to anyone. */
function standInsFor(section: { readonly [name: string]: unknown }, names: ReadonlySet<string>): [string, Agent][] {
  return Object.keys(section).flatMap((name) => {
    const handoffs = [...names].filter((other) => other !== name);
    const { agent } = parseAgent({ name, remote: true, handoffs }, { path: "" });
    return agent ? [[name, agent] as [string, Agent]] : [];
  });
}

function misnamed(raw: unknown, name: string, place: ReturnType<typeof placeAt>): Problem[] {
  const own = isObject(raw) ? raw.name : undefined;
  return own === undefined || own === name ? [] : [problemAt(place, showValue(name), showValue(own))];
}

function problemsOfModel(agent: Agent, modelFor: DefinitionContext["modelFor"], file: string | undefined): Problem[] {
  try {
    modelFor(agent);
    return [];
  } catch (error) {
    if (error instanceof DefinitionError)
      return error.problems.map((problem) => ({ ...(file && { file }), ...problem }));
    const got = error instanceof Error ? error.message : String(error);
    return [
      problemAt(
        { ...(file && { file }), path: joinPath("agents", [agent.name, "model"]) },
        "a model that can be had",
        got,
      ),
    ];
  }
}

function isObject(value: unknown): value is { [key: string]: unknown } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
