/** A folder of definitions: every file in it adds agents and workflows to those of the configuration. */
import { readdir } from "node:fs/promises";
import { join, relative } from "node:path";
import type { Agent } from "../../actors/agent.ts";
import { problemAt, showValue } from "../../actors/schema-problems.ts";
import { DefinitionError, type Problem } from "../../errors.ts";
import type { CheckedConfig } from "./load-config.ts";
import { othersIn, type RawDefinitions, readDefinitionFile } from "./load-definition-file.ts";
import { readAgents } from "./read-agents.ts";
import { readWorkflows } from "./read-workflows.ts";

/** Files that are read; what begins with a dot or an underscore is not. */
const DEFINITION = /^[^._].*\.(ya?ml|json|m?[jt]s)$/;
const DECLARATIONS = /\.d\.m?ts$/;

/** Whether a file of the folder is read. */
export function isDefinitionFile(name: string): boolean {
  return DEFINITION.test(name) && !DECLARATIONS.test(name);
}

type ReadFile = { fileName: string; raw: RawDefinitions };

/**
 * Gives a configuration with what stands in the folder beside it. Agents may be named from anywhere to anywhere.
 *
 * @throws DefinitionError with everything that is wrong in any of the files.
 */
export async function withWorkflowsDir<Config extends CheckedConfig>(config: Config, dir: string): Promise<Config> {
  const problems: Problem[] = [];
  const files = await readFiles(dir, problems);
  const agents = new Map(config.agents);
  const known = new Map(config.agents);
  const others = [...config.agents.keys(), ...files.flatMap(({ raw }) => namesIn(raw.agents))];
  for (const { fileName: file, raw } of files) {
    const found: Problem[] = [];
    const context = {
      file,
      tools: config.tools,
      providers: config.providers,
      mcpServers: [...config.mcpServers.keys()],
      problems: found,
      others,
    };
    const read = readAgents(raw.agents, context);
    for (const [name, agent] of read.known) {
      if (known.has(name)) found.push(taken({ file, path: `agents.${name}` }, "agent", name));
      known.set(name, agent);
    }
    for (const [name, agent] of read.agents) agents.set(name, agent);
    problems.push(...found.map(raw.locate));
  }
  const workflows = new Map(config.workflows);
  for (const { fileName: file, raw } of files) {
    const found: Problem[] = [];
    const read = readWorkflows(raw.workflows, {
      file,
      agents: known,
      tools: [...config.tools.keys()],
      problems: found,
    });
    for (const [name, workflow] of read) {
      const path = `workflows.${name}`;
      if (workflows.has(name)) found.push(taken({ file, path }, "workflow", name));
      // Its schedule is called like the workflow.
      if (workflow.schedule && config.schedules.some((schedule) => schedule.name === name)) {
        found.push(taken({ file, path: `${path}.schedule` }, "schedule", name));
      }
      workflows.set(name, workflow);
    }
    problems.push(...found.map(raw.locate));
  }
  problems.push(...problemsOfModels(agents, config));
  if (problems.length > 0) throw new DefinitionError(problems);
  return { ...config, agents, workflows };
}

async function readFiles(dir: string, problems: Problem[]): Promise<ReadFile[]> {
  const names = await readdir(dir).catch((error: unknown) => {
    const got = error instanceof Error ? error.message : String(error);
    throw new DefinitionError([problemAt({ path: "daemon.workflows" }, "a folder that can be read", got)]);
  });
  const files: ReadFile[] = [];
  for (const name of names.filter(isDefinitionFile).sort()) {
    const file = join(dir, name);
    const fileName = relative(process.cwd(), file) || file;
    try {
      const raw = await readDefinitionFile(file, fileName);
      problems.push(...strangeSections(raw, fileName).map(raw.locate));
      files.push({ fileName, raw });
    } catch (error) {
      if (!(error instanceof DefinitionError)) throw error;
      problems.push(...error.problems);
    }
  }
  return files;
}

/** Each belongs to one process, and a folder may be for many. */
function strangeSections({ data }: RawDefinitions, file: string): Problem[] {
  if (typeof data !== "object" || data === null || Array.isArray(data)) return [];
  return othersIn(data as { [key: string]: unknown }).map((key) => {
    const expected = "agents and workflows alone; this belongs into the configuration";
    return problemAt({ file, path: key }, expected, `the section \`${key}\``);
  });
}

function namesIn(section: RawDefinitions["agents"]): string[] {
  if (!Array.isArray(section)) return Object.keys(section);
  return section.flatMap((item: unknown) => {
    const name = typeof item === "object" && item !== null && "name" in item ? item.name : undefined;
    return typeof name === "string" ? [name] : [];
  });
}

function taken(place: { file: string; path: string }, what: string, name: string): Problem {
  return problemAt(place, `a name that no other ${what} has`, showValue(name));
}

function problemsOfModels(agents: ReadonlyMap<string, Agent>, config: CheckedConfig): Problem[] {
  return [...agents.values()].flatMap((agent) => {
    if (agent.remote || config.agents.has(agent.name)) return [];
    try {
      config.modelOf(agent);
      return [];
    } catch (error) {
      if (error instanceof DefinitionError) return [...error.problems];
      throw error;
    }
  });
}
