/** Which agents a daemon hosts, and which it can tell of. */
import type { Agent } from "../../actors/agent.ts";
import { describeModels } from "../../actors/model-choices.ts";
import type { Tool } from "../../actors/tool.ts";
import { UsageError } from "../../errors.ts";
import type { Beat } from "../hosts/presence.ts";
import type { AgentListing } from "./api.ts";

/**
 * The agents to host: all that are not remote, or those of them that are named.
 *
 * @throws UsageError when a name is none of theirs.
 */
export function hostedAgents(agents: readonly Agent[], names: readonly string[] | undefined): Agent[] {
  const local = agents.filter(({ remote }) => !remote);
  if (!names) return local;
  const unknown = names.filter((name) => !local.some((agent) => agent.name === name));
  if (unknown.length > 0) {
    const known = local.map(({ name }) => name).join(", ") || "none";
    throw new UsageError(`agents: expected names of defined agents (${known}), got ${unknown.join(", ")}`);
  }
  return local.filter(({ name }) => names.includes(name));
}

/**
 * The tools whose steps a daemon runs: those of the agents it hosts, and those of the configuration that no agent has. One of
 * the configuration goes before one of an agent that is called the same.
 */
export function hostedTools(hosted: readonly Agent[], defined: readonly Agent[], configured: readonly Tool[]): Tool[] {
  const byName = new Map(hosted.flatMap(({ tools }) => tools.map((tool) => [tool.name, tool] as const)));
  const elsewhere = new Set(defined.flatMap(({ tools }) => tools.map(({ name }) => name)));
  for (const tool of configured) if (byName.has(tool.name) || !elsewhere.has(tool.name)) byName.set(tool.name, tool);
  return [...byName.values()];
}

/** Every agent that is defined here or served by a living daemon, by name. */
export function listAgents(defined: readonly Agent[], living: readonly Beat[]): AgentListing[] {
  const names = new Set([...defined.map(({ name }) => name), ...living.flatMap(({ agents }) => agents)]);
  return [...names].sort().map((name) => {
    const tripped = living.filter((beat) => beat.tripped?.includes(name)).map(({ host }) => host);
    const hosts = living.filter(({ agents }) => agents.includes(name)).map(({ host }) => host);
    const agent = defined.find((other) => other.name === name);
    const waiting = tripped.length > 0 && { tripped };
    if (!agent) return { name, hosts, ...waiting };
    const { description, provider, tools, mcp, handoffs, remote } = agent;
    return {
      name,
      hosts,
      ...(description !== undefined && { description }),
      model: describeModels(agent).join(", "),
      provider,
      tools: tools.map((tool) => tool.name),
      ...(mcp.length > 0 && { mcp: [...mcp] }),
      handoffs: handoffs.map(({ to }) => to),
      ...(remote && { remote }),
      ...waiting,
    };
  });
}
