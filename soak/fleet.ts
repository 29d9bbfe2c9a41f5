/** The agents and workflows of the soak, as a daemon hosts them. */
import { z } from "zod";
import type { Agent } from "../src/actors/agent.ts";
import { defineAgent } from "../src/actors/define-agent.ts";
import { defineTool } from "../src/actors/define-tool.ts";
import { handoff } from "../src/actors/handoff.ts";
import type { ToolContext } from "../src/actors/tool.ts";
import { defineWorkflow } from "../src/workflows/define-workflow.ts";
import type { WorkflowDefinition } from "../src/workflows/definition.ts";
import { CHOOSY, EDGES, HANDOFFS, RETRY_DELAY_MS, STEPS, type StepShape } from "./shapes.ts";

export type Fleet = { agents: Agent[]; workflows: WorkflowDefinition[] };

const common = { instructions: "Answer with your number.", model: "soak", provider: "soak" };

/** Defines the fleet; its tool asks `lookUp` for what it says. */
export function fleetWith(lookUp: (topic: string, context: ToolContext) => Promise<string>): Fleet {
  const lookup = defineTool({
    name: "lookup",
    description: "Looks a topic up",
    parameters: z.object({ topic: z.string() }),
    execute: ({ topic }, context) => lookUp(topic, context),
  });
  const agents = [
    ...["writer", "editor", "critic"].map((name) => defineAgent({ ...common, name })),
    // So few tries that a provider that goes on failing fails the attempt soon, and the step's own retry gets its turn.
    defineAgent({ ...common, name: "brittle", maxModelAttempts: 2 }),
    defineAgent({ ...common, name: "planner", tools: [lookup] }),
    defineAgent({ ...common, name: "former", output: z.object({ mark: z.string(), value: z.number() }) }),
    ...Object.entries(EDGES).map(([name, edges]) =>
      defineAgent({
        ...common,
        name,
        tools: [lookup],
        handoffs: edges.map(({ to, context }) => handoff(to, { context })),
      }),
    ),
  ];
  return { agents, workflows: workflowsOver(agents) };
}

function workflowsOver(agents: readonly Agent[]): WorkflowDefinition[] {
  const named = (name: string) => {
    const agent = agents.find((candidate) => candidate.name === name);
    if (!agent) throw new Error(`no agent of the fleet is named ${name}`);
    return agent;
  };
  const steps = (shapes: readonly StepShape[]) =>
    shapes.map(({ id, agent, after, maxAttempts, timeoutMs, input }) => ({
      id,
      agent: named(agent),
      after: [...after],
      ...(maxAttempts > 1 && { retry: { maxAttempts, backoff: "fixed" as const, delayMs: RETRY_DELAY_MS } }),
      ...(timeoutMs !== undefined && { timeoutMs }),
      ...(input !== undefined && { input }),
    }));
  return [
    ...Object.entries(STEPS).map(([name, shapes]) => defineWorkflow({ name, steps: steps(shapes) })),
    ...Object.entries(HANDOFFS).map(([name, { entry, agents: members, maxHandoffs }]) =>
      defineWorkflow({ name, entry: named(entry), agents: members.map(named), maxHandoffs }),
    ),
    defineWorkflow({ name: CHOOSY, input: z.object({ topic: z.string() }), steps: steps(STEPS.single) }),
  ];
}
