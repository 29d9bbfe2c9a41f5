/** The works: agents and workflows whose every agent makes exactly one model call, answered at once. */
import type { Agent } from "../src/actors/agent.ts";
import { defineAgent } from "../src/actors/define-agent.ts";
import { defineWorkflow } from "../src/workflows/define-workflow.ts";
import type { WorkflowDefinition } from "../src/workflows/definition.ts";
import type { WorkName } from "./cases.ts";

/** The provider all agents use; the daemon decides what stands behind it. */
export const PROVIDER = "bench";
/** What the model server answers with where it does not hand over. */
export const ANSWER = "A short answer of one plain sentence.";
/** What every request asks for. */
export const INPUT = "a short question about nothing in particular";

export type Work = { agents: Agent[]; workflow: WorkflowDefinition; modelCalls: number };

/** Makes a work's agents and workflow. */
export function makeWork(name: WorkName): Work {
  switch (name) {
    case "W1":
      return sequence();
    case "W2":
      return twoHandoffs();
    case "W3":
      return fanOut();
  }
}

/** W1: three agents, one after the other. */
function sequence(): Work {
  const agents = [agent("first"), agent("second"), agent("third")];
  return { agents, workflow: defineWorkflow({ name: "W1", agents }), modelCalls: 3 };
}

/** W2: each agent but the last hands over; the model server calls whichever transfer tool it is shown. */
function twoHandoffs(): Work {
  const last = agent("answering");
  const middle = agent("passing", [last.name]);
  const entry = agent("greeting", [middle.name]);
  const agents = [entry, middle, last];
  return { agents, workflow: defineWorkflow({ name: "W2", kind: "handoff", entry, agents }), modelCalls: 3 };
}

/** W3: one agent, ten at once, one that gets what all ten said. */
function fanOut(): Work {
  const start = agent("starting");
  const middle = Array.from({ length: 10 }, (_, i) => agent(`parallel_${i}`));
  const join = agent("joining");
  const steps = [
    { id: "start", agent: start },
    ...middle.map((each) => ({ id: each.name, agent: each, after: "start" })),
    { id: "join", agent: join, after: middle.map(({ name }) => name) },
  ];
  return { agents: [start, ...middle, join], workflow: defineWorkflow({ name: "W3", steps }), modelCalls: 12 };
}

function agent(name: string, handoffs: string[] = []): Agent {
  return defineAgent({
    name,
    instructions: `You are the ${name} agent.`,
    model: "instant",
    provider: PROVIDER,
    handoffs,
  });
}
