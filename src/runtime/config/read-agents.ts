/** The section `agents`. */
import type { Agent } from "../../actors/agent.ts";
import { unknownHandoffs, writtenTargets } from "../../actors/check-agent.ts";
import { parseAgent } from "../../actors/define-agent.ts";
import { serverOf } from "../../actors/mcp-reference.ts";
import { isList, type ModelOptions, modelsOf } from "../../actors/model-choices.ts";
import { joinPath, oneOf, problemAt, showValue } from "../../actors/schema-problems.ts";
import type { Tool } from "../../actors/tool.ts";
import type { Problem } from "../../errors.ts";
import { type NamedEntry, namedEntries } from "./named-entries.ts";

type AgentsContext = {
  file: string;
  tools: ReadonlyMap<string, Tool>;
  /** The section `providers`, as written. */
  providers: { readonly [name: string]: unknown };
  /** Names from the section `mcpServers`. */
  mcpServers: readonly string[];
  problems: Problem[];
  /** Agents that are defined elsewhere. */
  others?: Iterable<string>;
};

/** The agents by name. `known` also holds stand-ins for those that are wrong. */
export function readAgents(
  section: { readonly [name: string]: unknown } | readonly unknown[],
  context: AgentsContext,
): { agents: Map<string, Agent>; known: Map<string, Agent> } {
  const { file, tools, problems } = context;
  const entries = namedEntries(section, "agents", context);
  const agents = new Map<string, Agent>();
  for (const { name, raw, path } of entries) {
    const parsed = parseAgent(isRecord(raw) ? { ...raw, name } : raw, { file, path, tools });
    problems.push(...parsed.problems);
    if (parsed.agent) agents.set(name, parsed.agent);
  }
  const placeOf = (name: string) => ({ file, path: joinPath("agents", [name]) });
  const names = new Set([...entries.map(({ name }) => name), ...(context.others ?? [])]);
  const targets = entries.map(({ name, raw }) => agents.get(name) ?? writtenTargets(name, raw));
  problems.push(...unknownHandoffs(targets, names, placeOf));
  for (const agent of agents.values()) {
    problems.push(...problemsOfModels(agent, context), ...unknownServers(agent, context));
  }
  return { agents, known: withStandIns(agents, entries) };
}

/** Which API alone takes a setting. */
const ONE_API = [
  ["seed", "chat"],
  ["reasoningSummary", "responses"],
] as const;

/** Providers that are not there, or cannot do what is asked of them. */
function problemsOfModels(agent: Agent, { file, providers }: AgentsContext): Problem[] {
  if (agent.remote) return [];
  const known = [...new Set(["openai", ...Object.keys(providers)])];
  const { model: written } = agent;
  const problems = modelsOf(agent).flatMap(({ provider, settings }, index) => {
    const entry = isList(written) ? written[index] : written;
    const own: Partial<ModelOptions> = typeof entry === "object" ? entry : {};
    const keys = isList(written) ? ["model", index] : ["model"];
    const at = (...path: PropertyKey[]) => ({ file, path: joinPath("agents", [agent.name, ...path]) });
    if (!known.includes(provider)) {
      const place = own.provider === undefined ? at("provider") : at(...keys, "provider");
      return [problemAt(place, `the name of a provider: ${oneOf(known)}`, showValue(provider))];
    }
    const api = apiOf(providers[provider]);
    return ONE_API.flatMap(([setting, only]) => {
      const value = settings[setting];
      if (value === undefined || api === undefined || api === only) return [];
      const place = own[setting] === undefined ? at("settings", setting) : at(...keys, setting);
      return [problemAt(place, `none, because provider ${provider} has api: ${api}`, showValue(value))];
    });
  });
  // What entries have from the agent is wrong once.
  return problems.filter(({ path }, index) => problems.findIndex((other) => other.path === path) === index);
}

/** Which API a provider speaks; undefined for a model of one's own, which sees for itself. */
function apiOf(config: unknown): "chat" | "responses" | undefined {
  if (config === undefined) return "chat";
  if (!isRecord(config) || "module" in config || "model" in config || "call" in config) return undefined;
  return config.api === "responses" ? "responses" : "chat";
}

function unknownServers({ name, mcp }: Agent, { file, mcpServers }: AgentsContext): Problem[] {
  return mcp.flatMap((reference, index) => {
    if (mcpServers.includes(serverOf(reference))) return [];
    const path = joinPath("agents", [name, "mcp", index]);
    const expected =
      mcpServers.length === 0 ? "a name from the section `mcpServers`, which has none" : oneOf(mcpServers);
    return [problemAt({ file, path }, `an MCP server: ${expected}`, showValue(reference))];
  });
}

/** One wrong agent is one problem: workflows that name it are read as if it were fine and could hand over to anyone. */
function withStandIns(agents: ReadonlyMap<string, Agent>, entries: readonly NamedEntry[]): Map<string, Agent> {
  const known = new Map(agents);
  for (const { name } of entries) {
    if (known.has(name)) continue;
    const handoffs = entries.map((entry) => entry.name).filter((other) => other !== name);
    const { agent } = parseAgent({ name, remote: true, handoffs }, { path: "" });
    if (agent) known.set(name, agent);
  }
  return known;
}

function isRecord(value: unknown): value is { [key: string]: unknown } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
