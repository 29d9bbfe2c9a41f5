/** Loads a configuration: found, read, and everything in it checked, all problems told at once. */
import { dirname, relative } from "node:path";
import { z } from "zod";
import type { Agent } from "../../actors/agent.ts";
import { problemsOf } from "../../actors/schema-problems.ts";
import { strict } from "../../actors/strict.ts";
import type { Tool } from "../../actors/tool.ts";
import { DefinitionError, type Problem } from "../../errors.ts";
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import type { Schedule } from "../../workflows/schedule.ts";
import { type McpServerConfig, readMcpServers } from "../mcp/mcp-config.ts";
import type { Prices } from "../models/prices.ts";
import { type ModelOf, openProviders } from "../models/providers.ts";
import { findConfig } from "./find-config.ts";
import { loadTools } from "./load-tools.ts";
import { readAgents } from "./read-agents.ts";
import { readConfig } from "./read-config.ts";
import { readSchedules } from "./read-schedules.ts";
import { readWorkflows } from "./read-workflows.ts";
import { problemsOfFile } from "./resolve-options.ts";

/** A configuration, checked. */
export type Config = {
  /** The file's absolute path. */
  file: string;
  /** What the file is called in messages: its path from the working directory. */
  fileName: string;
  /** Where relative paths in it start. */
  dir: string;
  agents: ReadonlyMap<string, Agent>;
  workflows: ReadonlyMap<string, WorkflowDefinition>;
  /** Those of the section `schedules`; workflows have theirs. */
  schedules: readonly Schedule[];
  /** Those of the file, by name; steps, and agents that come from elsewhere, may name them. Agents may have others. */
  tools: ReadonlyMap<string, Tool>;
  /** The modules that tools are from, as written. */
  toolModules: readonly string[];
  /** As written. */
  providers: { readonly [name: string]: unknown };
  /** Gives each agent its model. */
  modelOf: ModelOf;
  mcpServers: ReadonlyMap<string, McpServerConfig>;
  /** As written, each value fit; `resolveOptions` settles it against flags and variables. */
  daemon: { readonly [key: string]: unknown };
};

type Section = { [name: string]: unknown };

const mapSchema = z.custom<Section>(isMap, { error: "expected an object" });
const collectionSchema = z.custom<Section | unknown[]>((value) => isMap(value) || Array.isArray(value), {
  error: "expected an object",
});

const amount = z.number().min(0);
/** The section `prices`. */
export const pricesSchema = z.record(z.string(), strict({ input: amount, output: amount, cached: amount.optional() }));

const fileSchema = strict({
  agents: collectionSchema.nullish(),
  tools: mapSchema.nullish(),
  mcpServers: mapSchema.nullish(),
  providers: mapSchema.nullish(),
  prices: pricesSchema.nullish(),
  workflows: collectionSchema.nullish(),
  schedules: collectionSchema.nullish(),
  daemon: mapSchema.nullish(),
});

function isMap(value: unknown): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * Loads the configuration at `path`, or the `troupe.*` in `cwd`.
 *
 * @throws UsageError when there is none.
 * @throws DefinitionError with everything that is wrong in it.
 */
export async function loadConfig(path: string | undefined, cwd: string): Promise<Config> {
  const file = findConfig(path, cwd);
  const fileName = relative(cwd, file) || file;
  const { data, locate } = await readConfig(file, fileName);
  return { file, ...(await checkConfig(data, { fileName, dir: dirname(file), locate })) };
}

/** What a configuration that was not read from a file lacks. */
export type CheckedConfig = Omit<Config, "file">;

/** Where a configuration stands. */
export type ConfigPlace = {
  /** What it is called in messages. */
  fileName: string;
  /** Where relative paths in it start. */
  dir: string;
  /** Gives a problem its line. */
  locate?: (problem: Problem) => Problem;
};

/**
 * Checks a whole configuration and imports the tools and providers it names.
 *
 * @throws DefinitionError with everything that is wrong in it.
 */
export async function checkConfig(
  data: unknown,
  { fileName, dir, locate = (problem) => problem }: ConfigPlace,
): Promise<CheckedConfig> {
  const parsed = fileSchema.safeParse(data);
  if (!parsed.success) throw new DefinitionError(problemsOfSections(parsed.error, data, fileName).map(locate));
  const { providers, daemon } = parsed.data;
  const prices = (parsed.data.prices ?? {}) as Prices;
  const { tools, problems } = await loadTools(parsed.data.tools ?? {}, dir, { file: fileName, path: "tools" });
  const mcpServers = readMcpServers(parsed.data.mcpServers ?? {}, { file: fileName, dir, problems });
  const { agents, known } = readAgents(parsed.data.agents ?? {}, {
    file: fileName,
    tools,
    providers: providers ?? {},
    mcpServers: Object.keys(parsed.data.mcpServers ?? {}),
    problems,
  });
  const workflows = readWorkflows(parsed.data.workflows ?? {}, {
    file: fileName,
    agents: known,
    tools: Object.keys(parsed.data.tools ?? {}),
    problems,
  });
  const schedules = readSchedules(parsed.data.schedules ?? {}, { file: fileName, workflows, problems });
  problems.push(...problemsOfFile(daemon ?? {}, fileName, dir));
  const modelOf = await openProviders(providers ?? {}, { directory: dir, file: fileName, prices }).catch(
    problemsInto(problems),
  );
  if (problems.length > 0 || !modelOf) throw new DefinitionError(problems.map(locate));
  const own = { agents, workflows, schedules, tools, toolModules: modulesIn(parsed.data.tools) };
  return { fileName, dir, ...own, providers: providers ?? {}, modelOf, mcpServers, daemon: daemon ?? {} };
}

function modulesIn(tools: Section | null | undefined): string[] {
  const modules = Object.values(tools ?? {}).map((tool) =>
    typeof tool === "object" && tool !== null && "module" in tool ? tool.module : undefined,
  );
  return [...new Set(modules.filter((module) => typeof module === "string"))];
}

/** So that what is wrong with the providers is told together with the rest. */
function problemsInto(problems: Problem[]): (error: unknown) => undefined {
  return (error) => {
    if (!(error instanceof DefinitionError)) throw error;
    problems.push(...error.problems);
  };
}

function problemsOfSections(error: z.ZodError, data: unknown, file: string): Problem[] {
  return problemsOf(error.issues, data, { file, path: "" }).map((problem) => ({
    ...problem,
    path: problem.path || "the file",
  }));
}
