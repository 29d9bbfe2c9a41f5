/** The agents that came with stored definitions, as this daemon can host them: with its own tools and providers. */
import type { Agent } from "../../actors/agent.ts";
import { parseAgent } from "../../actors/define-agent.ts";
import type { Tool } from "../../actors/tool.ts";
import { describeProblem, TroupeError } from "../../errors.ts";
import { canonicalJson } from "../../workflows/definition-hash.ts";
import type { StoredWorkflow } from "./stored-versions.ts";

/** What this daemon gives agents that it has only the words of. */
export type AgentMeans = {
  readonly tools: ReadonlyMap<string, Tool>;
  /** Throws where there is no such provider. */
  readonly modelFor: (agent: Agent) => unknown;
};

export type StoredAgents = {
  /** What is stored of a workflow has changed. */
  store(workflow: StoredWorkflow): void;
  /**
   * All agents of this daemon by name. What new runs need goes before `configured`, and that before what only older versions
   * name; of several the one that was stored last.
   */
  among(configured: readonly Agent[], means: AgentMeans): Agent[];
};

type Held = { raw: object; seq: number; isCurrent: boolean };

/** Holds the agents of stored definitions; `trouble` hears of each that cannot be hosted here, once. */
export function holdStoredAgents(trouble: (agent: string, reason: string) => void): StoredAgents {
  const workflows = new Map<string, StoredWorkflow>();
  // The same words are the same agent: it is not replaced where nothing about it has changed.
  const read = new Map<string, Agent | undefined>();
  let readWith: AgentMeans | undefined;

  return {
    store: (workflow) => void workflows.set(workflow.name, workflow),
    among(configured, means) {
      if (readWith?.tools !== means.tools || readWith.modelFor !== means.modelFor) read.clear();
      readWith = means;
      const agents = new Map(configured.map((agent) => [agent.name, agent]));
      for (const [name, { raw, isCurrent }] of newestByName()) {
        if (!isCurrent && agents.has(name)) continue;
        const agent = readOnce(name, raw, means);
        if (agent) agents.set(name, agent);
      }
      return [...agents.values()];
    },
  };

  function newestByName(): Map<string, Held> {
    const found = new Map<string, Held>();
    for (const { versions, current, last } of workflows.values()) {
      for (const version of versions) {
        const isCurrent = version === current;
        for (const [name, raw] of Object.entries(version.record.agents)) {
          const held = found.get(name);
          const candidate = { raw, seq: isCurrent ? last.seq : 0, isCurrent };
          if (!held || comesBefore(held, candidate)) found.set(name, candidate);
        }
      }
    }
    return found;
  }

  function readOnce(name: string, raw: object, means: AgentMeans): Agent | undefined {
    const words = canonicalJson([name, raw]);
    if (read.has(words)) return read.get(words);
    const agent = readAgent(name, raw, means);
    read.set(words, agent);
    return agent;
  }

  function readAgent(name: string, raw: object, { tools, modelFor }: AgentMeans): Agent | undefined {
    const { agent, problems } = parseAgent({ ...raw, name }, { path: `agents.${name}`, tools });
    if (!agent) {
      trouble(name, problems.map(describeProblem).join("; "));
      return undefined;
    }
    try {
      if (!agent.remote) modelFor(agent);
      return agent;
    } catch (error) {
      if (!(error instanceof TroupeError)) throw error;
      trouble(name, error.message);
      return undefined;
    }
  }
}

function comesBefore(held: Held, next: Held): boolean {
  return held.isCurrent === next.isCurrent ? held.seq <= next.seq : next.isCurrent;
}
