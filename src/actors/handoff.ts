/** Edges between agents: who may hand over to whom, and what travels along. */
import type { z } from "zod";
import type { Agent, HandoffContextInput, HandoffEdge } from "./agent.ts";
import type { Message } from "./conversation.ts";
import type { JsonSchema } from "./model.ts";
import type { HandoffContext } from "./task.ts";

export type HandoffOptions = {
  /** Tells the model when to use it. @default the other agent's description */
  description?: string;
  /** The typed payload the handing agent's model must give. */
  input?: z.ZodType | JsonSchema;
  /** What the next agent sees of the conversation so far. @default "full" */
  context?: HandoffContext | ((input: HandoffContextInput) => Message[]);
};

/**
 * Refines an edge to another agent. Use the agent's name where the two agents hand over to each other.
 *
 * It is checked with the agent that holds it.
 */
export function handoff(agent: Agent | string, { context = "full", ...rest }: HandoffOptions = {}): HandoffEdge {
  return Object.freeze(
    typeof agent === "string" ? { to: agent, context, ...rest } : edgeTo(agent, { context, ...rest }),
  );
}

function edgeTo(agent: Agent, options: HandoffOptions & Pick<HandoffEdge, "context">): HandoffEdge {
  return { to: agent.name, ...(agent.description === undefined ? {} : { description: agent.description }), ...options };
}
