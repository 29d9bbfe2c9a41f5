/**
 * The definitions of a daemon, its own and those that are stored, and what follows from a change of either: which agents it
 * hosts, which schedules it has, and what it says of itself.
 */
import type { Logger } from "pino";
import type { Agent } from "../../actors/agent.ts";
import { serverOf } from "../../actors/mcp-reference.ts";
import { modelsOf } from "../../actors/model-choices.ts";
import { oneOf } from "../../actors/schema-problems.ts";
import type { Tool } from "../../actors/tool.ts";
import { UsageError } from "../../errors.ts";
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import type { Schedule } from "../../workflows/schedule.ts";
import type { AgentHost } from "../hosts/agent-host.ts";
import { type HeldDefinitions, offerOf } from "../hosts/definitions.ts";
import { type Beat, canGoOnWith, type Presence } from "../hosts/presence.ts";
import { holdStoredAgents } from "../hosts/stored-agents.ts";
import { followDefinitions, type StoredDefinitions } from "../hosts/stored-definitions.ts";
import type { McpServerConfig } from "../mcp/mcp-config.ts";
import type { ModelOf } from "../models/providers.ts";
import type { Bus } from "../nats/connection.ts";
import type { Subjects } from "../subjects.ts";
import type { DaemonSchedules } from "./daemon-schedules.ts";
import { hostedAgents, hostedTools } from "./hosted-agents.ts";

/** What a configuration gives a daemon. */
export type DaemonFleet = {
  agents: readonly Agent[];
  workflows: readonly WorkflowDefinition[];
  /** Those beside the ones that workflows have. @default none */
  schedules?: readonly Schedule[];
  modelFor: ModelOf;
  /** Tools by name, for steps and for agents that come from elsewhere. @default those of `agents` */
  tools?: ReadonlyMap<string, Tool>;
  /** Servers agents may refer to; they stay as they were at the start. @default none */
  mcpServers?: readonly McpServerConfig[];
};

/** What a change of definitions is told to. */
type Affected = {
  agentHost: Pick<AgentHost, "host">;
  presence: Pick<Presence, "announce" | "living">;
  schedules: Pick<DaemonSchedules, "declare">;
};

export type DaemonDefinitions = {
  readonly stored: StoredDefinitions;
  /** Every agent that is known here, hosted or not. */
  agents(): readonly Agent[];
  /** Those of the configuration, beside the ones that workflows have. */
  schedules(): readonly Schedule[];
  means(): { tools: ReadonlyMap<string, Tool>; modelFor: (agent: Agent) => void };
  readonly modelFor: ModelOf;
  /** The tools that steps can run here. */
  tools(): Tool[];
  /** Begins to host stored agents and to have stored workflows' schedules, and does so at each change from then on. */
  takeEffectIn(affected: Affected): void;
  /** The configuration says this from now on. @throws UsageError, DefinitionError; then everything is as before. */
  configure(fleet: DaemonFleet): void;
  /** Whether a workflow, or a version of it, can be started in this troupe; and that version's hash, where it is known. */
  startable(workflow: string, version: string | undefined): Promise<{ version?: string } | undefined>;
  /** Who can drive a request (see `Door`). */
  whoRuns(workflow: string, version: string | undefined): "here" | "elsewhere" | "nobody now" | "nobody";
};

export type DaemonDefinitionsOptions = {
  bus: Bus;
  subjects: Subjects;
  logger: Logger;
  fleet: DaemonFleet;
  definitions: HeldDefinitions;
  /** The agents to host, by name; without it all, those that are stored too. */
  only: readonly string[] | undefined;
};

/** Starts following stored definitions beside those of the configuration. */
export function startDaemonDefinitions(given: DaemonDefinitionsOptions): DaemonDefinitions {
  const { logger, definitions, only } = given;
  const storedAgents = holdStoredAgents((agent, reason) => {
    logger.warn({ agent, reason }, "a stored agent cannot be hosted here; it is left to others");
  });
  let fleet = given.fleet;
  let means = meansOf(fleet);
  let affected: Affected | undefined;
  const stored = followDefinitions({
    ...given,
    changed(workflow) {
      definitions.store(workflow);
      storedAgents.store(workflow);
      const { name, current, last } = workflow;
      logger.debug({ workflow: name, version: current?.record.version, change: last.number }, "a stored workflow");
    },
    settled: apply,
  });

  return {
    stored,
    agents,
    schedules: () => fleet.schedules ?? [],
    means: () => means,
    tools,
    modelFor: (agent) => fleet.modelFor(agent),
    takeEffectIn(parts) {
      affected = parts;
      apply();
    },
    configure(next) {
      const hosted = hostedAgents(next.agents, only);
      for (const agent of hosted) checkModels(agent, next.modelFor);
      fleet = next;
      means = meansOf(next);
      definitions.configure(next.workflows);
      apply();
    },
    async startable(workflow, version) {
      const look = () => found(workflow, version);
      const known = look();
      if (known) return known;
      // It may have been put through another daemon a moment ago.
      await stored.refresh(workflow);
      return look();
    },
    whoRuns(workflow, version) {
      if (definitions.find(workflow, version)) return "here";
      if (affected?.presence.living().some((beat) => offers(beat, workflow, version))) return "elsewhere";
      // What nobody living understands waits for somebody who does.
      return definitions.trouble(workflow, version) === undefined ? "nobody" : "nobody now";
    },
  };

  function found(workflow: string, version: string | undefined): { version?: string } | undefined {
    const own = definitions.find(workflow, version);
    if (own) return version === undefined ? {} : { version: own.hash };
    if (!affected?.presence.living().some((beat) => offers(beat, workflow, version))) return undefined;
    return version === undefined ? {} : { version };
  }

  function agents(): Agent[] {
    return only ? [...fleet.agents] : storedAgents.among(fleet.agents, means);
  }

  function tools(): Tool[] {
    const known = agents();
    return hostedTools(hostedAgents(known, only), known, [...(fleet.tools?.values() ?? [])]);
  }

  function apply(): void {
    if (!affected) return;
    affected.agentHost.host(hostedAgents(agents(), only), tools());
    affected.schedules.declare();
    affected.presence.announce();
  }
}

/** Whether a daemon takes requests for a workflow, or goes on with a version by its hash. */
function offers(beat: Beat, workflow: string, version: string | undefined): boolean {
  if (version !== undefined) return canGoOnWith(beat, offerOf(workflow, version));
  return beat.workflows.some((offer) => offer.startsWith(`${workflow}@`));
}

/** Throws where an agent names a provider that there is not. */
export function checkModels(agent: Agent, modelFor: ModelOf): void {
  for (const choice of modelsOf(agent)) modelFor({ ...choice, name: agent.name });
}

function meansOf({ agents, tools, modelFor, mcpServers = [] }: DaemonFleet): ReturnType<DaemonDefinitions["means"]> {
  const own = agents.flatMap((agent) => agent.tools.map((tool) => [tool.name, tool] as const));
  const servers = mcpServers.map(({ name }) => name);
  return {
    tools: new Map([...own, ...(tools ?? [])]),
    modelFor(agent) {
      const unknown = agent.mcp.map(serverOf).find((name) => !servers.includes(name));
      if (unknown === undefined) {
        checkModels(agent, modelFor);
        return;
      }
      const expected = servers.length === 0 ? "no MCP server, for there is none here" : oneOf(servers);
      throw new UsageError(`agents.${agent.name}.mcp: expected ${expected}, got ${JSON.stringify(unknown)}`);
    },
  };
}
