/** Reads a file that may be a configuration, a single workflow, or a module that registers some. */
import { statSync } from "node:fs";
import { basename, dirname, extname } from "node:path";
import type { Agent } from "../../actors/agent.ts";
import { problemAt, showValue } from "../../actors/schema-problems.ts";
import { DefinitionError, type Problem } from "../../errors.ts";
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import { parseWorkflow } from "../../workflows/parse-definition.ts";
import { findConfig } from "./find-config.ts";
import { checkConfig } from "./load-config.ts";
import { readConfig } from "./read-config.ts";
import { makeRegistered, registeredDuring } from "./workflow-registry.ts";

/** Sections that are not kept with workflows: they speak of one process, or of when it starts runs. */
export const OTHERS = ["tools", "providers", "schedules", "daemon"];

/** What a file says of agents and workflows, as sections: maps by name, or lists of what TypeScript has made. */
export type RawDefinitions = {
  agents: { readonly [name: string]: unknown } | readonly unknown[];
  workflows: { readonly [name: string]: unknown } | readonly unknown[];
  /** Everything it says. */
  data: unknown;
  locate: (problem: Problem) => Problem;
};

/**
 * Reads what a file says, unchecked.
 *
 * @param shown what the file is called in errors
 * @throws DefinitionError when it cannot be read.
 */
export async function readDefinitionFile(file: string, shown: string): Promise<RawDefinitions> {
  const { data, locate, registered } = await readAny(file, shown);
  const found: RawDefinitions = { agents: {}, workflows: {}, data, locate };
  if (isDefinition(data)) return { ...found, workflows: [data] };
  if (Array.isArray(data)) return { ...found, workflows: data };
  if (data === undefined || data === null) return registered ? { ...found, ...registered } : found;
  if (!isObject(data))
    throw new DefinitionError([problemAt({ file: shown, path: "the file" }, "an object", showValue(data))]);
  if (isWhole(data) || Array.isArray(data.workflows)) {
    return { ...found, agents: sectionOf(data.agents), workflows: sectionOf(data.workflows) };
  }
  const name = nameOfOne(data, file);
  const prefix = `workflows.${name}.`;
  const own = (path: string) => (path.startsWith(prefix) ? path.slice(prefix.length) : path);
  return {
    ...found,
    workflows: { [name]: data },
    locate: (problem) => locate({ ...problem, path: own(problem.path) }),
  };
}

/** What one file defines. */
export type LoadedDefinitions = {
  agents: ReadonlyMap<string, Agent>;
  workflows: ReadonlyMap<string, WorkflowDefinition>;
  /** Sections that are there and belong to each daemon. */
  others: string[];
};

/**
 * Reads the agents and workflows of one file by itself, and checks them.
 *
 * @throws UsageError when there is no such file; DefinitionError with everything that is wrong in it.
 */
export async function loadDefinitionFile(path: string, cwd: string): Promise<LoadedDefinitions> {
  const file = findConfig(path, cwd);
  const { agents, workflows, data, locate } = await readDefinitionFile(file, path);
  // With sections it brings its own tools and providers; without them its agents are elsewhere.
  if (isObject(data) && isWhole(data)) {
    const checked = await checkConfig(data, { fileName: path, dir: dirname(file), locate });
    return { ...checked, others: othersIn(data) };
  }
  if (Array.isArray(workflows)) {
    const known = Array.isArray(agents) ? agents.filter(isAgent) : [];
    const made = workflows.filter(isDefinition);
    return {
      agents: new Map(known.map((one) => [one.name, one])),
      workflows: new Map(made.map((one) => [one.name, one])),
      others: [],
    };
  }
  const problems: Problem[] = [];
  const read = Object.entries(workflows).flatMap(([name, raw]) => {
    const parsed = parseWorkflow(name, raw, { file: path, path: `workflows.${name}`, agents: new Map(), open: true });
    problems.push(...parsed.problems.map(locate));
    return parsed.definition ? [[name, parsed.definition] as const] : [];
  });
  if (problems.length > 0) throw new DefinitionError(problems);
  return { agents: new Map(), workflows: new Map(read), others: [] };
}

/** Whether a file has sections; in a single workflow `agents` is a list. */
export function isWhole(data: { readonly [key: string]: unknown }): boolean {
  return "workflows" in data || isObject(data.agents) || OTHERS.some((key) => key in data);
}

/** The sections of a file that are not about agents and workflows. */
export function othersIn(data: { readonly [key: string]: unknown }): string[] {
  return OTHERS.filter((key) => data[key] !== undefined && data[key] !== null);
}

/** What a workflow is called that stands in a file of its own. */
export function nameOfOne(data: { readonly [key: string]: unknown }, file: string): string {
  return typeof data.name === "string" ? data.name : basename(file, extname(file));
}

type Any = {
  data: unknown;
  locate: RawDefinitions["locate"];
  registered?: { agents: readonly Agent[]; workflows: readonly WorkflowDefinition[] };
};

/** The workflows that a reading of a module has registered. */
const registeredBy = new Map<string, string[]>();

async function readAny(file: string, shown: string): Promise<Any> {
  if (!/\.m?[jt]s$/.test(file)) return readConfig(file, shown);
  let data: unknown;
  // What has not changed since is not run again, and registers nothing.
  const reading = `${file} ${statSync(file).mtimeMs}`;
  const names = await registeredDuring(async () => {
    ({ data } = await readConfig(file, shown, { optional: true }));
  });
  const known = names.length > 0 ? names : (registeredBy.get(reading) ?? []);
  registeredBy.set(reading, known);
  const made = await Promise.all(known.map((name) => makeRegistered(name)));
  const registered = { agents: made.flatMap(({ agents }) => agents), workflows: made.map(({ workflow }) => workflow) };
  return { data, locate: (problem) => problem, registered };
}

function sectionOf(section: unknown): RawDefinitions["agents"] {
  return Array.isArray(section) || isObject(section) ? section : {};
}

function isDefinition(value: unknown): value is WorkflowDefinition {
  return isObject(value) && "hash" in value && "kind" in value;
}

function isAgent(value: unknown): value is Agent {
  return isObject(value) && "instructions" in value && "handoffs" in value;
}

function isObject(value: unknown): value is { [key: string]: unknown } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
