/** Makes agents, from TypeScript and from configuration files alike: one schema, every default in one place. */
import type { z } from "zod";
import { DefinitionError, type Problem } from "../errors.ts";
import type { Agent, HandoffEdge } from "./agent.ts";
import { type AgentDraft, agentSchema, type EdgeOptions } from "./agent-schema.ts";
import { problemsOfAgent } from "./check-agent.ts";
import { handoff } from "./handoff.ts";
import type { JsonSchema, ModelSettings } from "./model.ts";
import type { ModelDraft, ModelOptions, ModelsOption } from "./model-choices.ts";
import { type Read, readBySchema } from "./read-by-schema.ts";
import { joinPath, oneOf, type Place, placeAt, problemAt, showValue } from "./schema-problems.ts";
import type { Tool } from "./tool.ts";

/** What {@link defineAgent} takes; the defaults are those of {@link Agent}. */
export type AgentOptions = {
  name: string;
  description?: string;
  /** The system message. Only a remote agent may leave it out. */
  instructions?: string;
  /** A model by its name as the provider knows it, or several in the order to try them. Only a remote agent may leave it out. */
  model?: ModelsOption;
  /** Of the models that name none. */
  provider?: string;
  baseURL?: string;
  apiKey?: string;
  /** Of the models that have none of their own. */
  settings?: ModelSettings;
  tools?: readonly Tool[];
  /** Tools of MCP servers: `files` for all of a server, `files.read` or `files.read_*` for some. */
  mcp?: readonly string[];
  /** Agents, their names, or edges made with `handoff`. */
  handoffs?: readonly (Agent | string | HandoffEdge)[];
  output?: z.ZodType | JsonSchema;
  maxTurns?: number;
  timeoutMs?: number;
  toolTimeoutMs?: number;
  maxParallelTools?: number;
  maxModelAttempts?: number;
  concurrency?: number;
  maxWaiting?: number;
  remote?: boolean;
};

/** What an agent read from a file may refer to. */
export type AgentSources = Place & {
  /** Tools by the name the file gives them. */
  tools?: ReadonlyMap<string, Tool>;
};

/** The agent, or everything that is wrong with it. */
export type ParsedAgent = { agent: Agent; problems: [] } | { agent?: undefined; problems: Problem[] };

/**
 * Defines an agent: immutable, every default resolved.
 *
 * @throws DefinitionError with everything that is wrong with it.
 */
export function defineAgent(options: AgentOptions): Agent {
  const name = (options as Partial<AgentOptions> | undefined)?.name;
  const { agent, problems } = parseAgent(options, {
    path: typeof name === "string" && name !== "" ? joinPath("agents", [name]) : "agent",
  });
  if (!agent) throw new DefinitionError(problems);
  return agent;
}

/** Reads an agent from what somebody wrote; `sources` says where it stands and what its names mean. */
export function parseAgent(raw: unknown, sources: AgentSources): ParsedAgent {
  const { value, problems } = readBySchema(agentSchema, raw, placeAt(sources), (draft) => finish(draft, sources));
  return value ? { agent: value, problems: [] } : { problems };
}

function finish({ tools: references, handoffs: targets, ...rest }: AgentDraft, sources: AgentSources): Read<Agent> {
  const problems: Problem[] = [];
  const tools = resolveTools(references, sources, problems);
  const handoffs = targets.map(toEdge);
  problems.push(...problemsOfAgent({ ...rest, tools, handoffs }, placeAt(sources)));
  if (problems.length > 0) return { problems };
  const settings = present(rest.settings);
  const { instructions = "", model: written = "" } = rest;
  const model = Array.isArray(written) ? Object.freeze(written.map(freezeModel)) : freezeModel(written);
  return { value: freeze({ ...present(rest), instructions, model, settings, tools, handoffs }), problems: [] };
}

function freezeModel(model: string | ModelDraft): string | ModelOptions {
  return typeof model === "string" ? model : Object.freeze(present(model));
}

function resolveTools(refs: readonly (Tool | string)[], sources: AgentSources, problems: Problem[]): Tool[] {
  return refs.flatMap((ref, index) => {
    if (typeof ref !== "string") return [ref];
    const tool = sources.tools?.get(ref);
    if (tool) return [tool];
    problems.push(problemAt(placeAt(sources, "tools", index), expectedTool(sources.tools), showValue(ref)));
    return [];
  });
}

function expectedTool(tools: AgentSources["tools"]): string {
  if (!tools) return "a tool made with defineTool";
  if (tools.size === 0) return "the name of a tool from the section `tools`, which has none";
  return `the name of a tool: ${oneOf([...tools.keys()])}`;
}

function toEdge(target: Agent | string | EdgeOptions): HandoffEdge {
  if (typeof target === "string" || "instructions" in target) return handoff(target);
  const { to, ...options } = target;
  return handoff(to, present(options));
}

/** Drops what was left out, so that absent stays absent. */
function present<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>;
  };
}

function freeze(agent: Agent): Agent {
  Object.freeze(agent.tools);
  Object.freeze(agent.mcp);
  Object.freeze(agent.handoffs);
  Object.freeze(agent.settings);
  return Object.freeze(agent);
}
