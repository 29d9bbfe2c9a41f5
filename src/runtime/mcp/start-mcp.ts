/** The MCP servers of a daemon: those that its agents refer to, and which of their tools each agent has. */
import type { Logger } from "pino";
import type { Agent } from "../../actors/agent.ts";
import { fitsPattern, isMcpTool, patternOf, serverOf } from "../../actors/mcp-reference.ts";
import type { ToolSpec } from "../../actors/model.ts";
import type { ExecutableTool } from "../../actors/tool.ts";
import { ToolError, UsageError } from "../../errors.ts";
import type { McpServerConfig } from "./mcp-config.ts";
import { type McpServer, startMcpServer } from "./mcp-server.ts";
import type { McpTool } from "./mcp-tools.ts";

/** What agents need of MCP servers. */
export type McpTools = {
  /**
   * The tools an agent has of servers, as its model is told of them; those with the name of a tool of its own are left out.
   *
   * @throws ToolError `mcp_unavailable` where a server it refers to does not come up.
   */
  specsOf(agent: Agent, signal: AbortSignal): Promise<ToolSpec[]>;
  /** The tool a model has called; where there is none, one that says so when it is executed. */
  find(agent: Agent, name: string, signal: AbortSignal): Promise<ExecutableTool>;
};

export type Mcp = McpTools & {
  /** Stops all servers. */
  stop(): Promise<void>;
};

export type McpOptions = {
  servers: readonly McpServerConfig[];
  /** The agents hosted here: a server none of them refers to is not started. */
  agents: readonly Agent[];
  logger: Logger;
};

/**
 * Starts the servers that are needed; they come up in the background.
 *
 * @throws UsageError when an agent refers to a server that is not configured.
 */
export function startMcp({ servers: configs, agents, logger }: McpOptions): Mcp {
  const references = agents.flatMap(({ mcp }) => mcp);
  const needed = new Set(references.map(serverOf));
  const known = new Map(configs.map((config) => [config.name, config]));
  const missing = [...needed].filter((name) => !known.has(name));
  if (missing.length > 0) {
    const names = [...known.keys()].join(", ") || "none";
    throw new UsageError(`mcp: expected names from mcpServers (${names}), got ${missing.join(", ")}`);
  }
  const servers = new Map<string, McpServer>();
  let stopped = false;
  for (const name of needed) begin(name, references);

  return {
    async specsOf(agent, signal) {
      const own = new Set(agent.tools.map(({ name }) => name));
      const all = await Promise.all(serversOf(agent).map((server) => toolsOf(agent, server, signal)));
      return all.flat().flatMap(({ spec }) => (own.has(spec.name) ? [] : [spec]));
    },
    async find(agent, name, signal) {
      const server = serversOf(agent).find((candidate) => isMcpTool([candidate.name], name));
      try {
        const tools = server ? await toolsOf(agent, server, signal) : [];
        const found = tools.find(({ spec }) => spec.name === name);
        if (found) return found.within(agent.toolTimeoutMs);
        const names = tools.map(({ spec }) => spec.name).join(", ") || "none";
        return failing(name, new ToolError(`there is no tool ${JSON.stringify(name)}; there are: ${names}`));
      } catch (error) {
        signal.throwIfAborted();
        return failing(name, error);
      }
    },
    async stop() {
      stopped = true;
      await Promise.all([...servers.values()].map((server) => server.stop()));
    },
  };

  /** An agent that came later may refer to servers that nobody needed before. */
  function serversOf({ mcp }: Agent): McpServer[] {
    return [...new Set(mcp.map(serverOf))].map((name) => {
      const server = servers.get(name) ?? begin(name, mcp);
      if (!server)
        throw new ToolError(`there is no MCP server ${JSON.stringify(name)} here`, { code: "mcp_unavailable" });
      return server;
    });
  }

  function begin(name: string, mcp: readonly string[]): McpServer | undefined {
    const config = known.get(name);
    if (!config || stopped) return undefined;
    const wanted = new Set(mcp.filter((reference) => serverOf(reference) === name).map(patternOf));
    const server = startMcpServer(config, { wanted, logger });
    servers.set(name, server);
    return server;
  }
}

async function toolsOf({ mcp }: Agent, server: McpServer, signal: AbortSignal): Promise<McpTool[]> {
  const patterns = mcp.filter((reference) => serverOf(reference) === server.name).map(patternOf);
  const tools = await server.tools(signal);
  return [...tools.values()].filter(({ original }) => fitsPattern(patterns, original));
}

/** Stands for a tool that cannot be had. What its effect would have been is not known, so that a mark of it is believed. */
function failing(name: string, error: unknown): ExecutableTool {
  return { name, description: "", effect: "once", execute: () => Promise.reject(error) };
}
