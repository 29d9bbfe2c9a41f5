/** How agents, tools, workflows and steps may be named. */
import { z } from "zod";

/** Fits a token of a NATS subject as well as a function name of every provider. */
const NAME = /^[A-Za-z0-9_-]{1,64}$/;

const EXPECTED = `expected a name of 1 to 64 letters, digits, "-" or "_"`;

/** The schema of a name. */
export const nameSchema = z.string({ error: EXPECTED }).regex(NAME, { error: EXPECTED });

/** The tool by which a model hands over to `agent`. */
export function handoffToolName(agent: string): string {
  return `transfer_to_${agent}`;
}

/** Providers refuse tool names beyond 64 characters, and a handoff's tool carries the agent's name. */
export const HANDOFF_NAME_LENGTH = 64 - handoffToolName("").length;
