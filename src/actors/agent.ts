/** What an agent is: plain, immutable data. Nothing here runs. */
import type { z } from "zod";
import type { Message } from "./conversation.ts";
import type { JsonSchema, ModelSettings } from "./model.ts";
import type { ModelsOption } from "./model-choices.ts";
import type { HandoffContext } from "./task.ts";
import type { Tool } from "./tool.ts";

/** What a context function on a handoff is given. */
export type HandoffContextInput = {
  from: string;
  to: string;
  reason?: string;
  input?: unknown;
  /** Everything said so far, legal as it stands. */
  messages: readonly Message[];
};

/** An edge to another agent, refined with `handoff(agent, {...})`. */
export type HandoffEdge = {
  readonly to: string;
  readonly description?: string;
  /** The typed payload the handing agent's model must give. */
  readonly input?: z.ZodType | JsonSchema;
  /** What the next agent sees. @default "full" */
  readonly context: HandoffContext | ((input: HandoffContextInput) => Message[]);
};

/** An agent as the runtime holds it, every default resolved. Make one with `defineAgent`. */
export type Agent = {
  readonly name: string;
  readonly description?: string;
  /** The system message. */
  readonly instructions: string;
  /** A model by its name as the provider knows it, or several in the order to try them; see `modelsOf`. */
  readonly model: ModelsOption;
  /** Where the models are that name none: a name from the configuration's `providers`. @default "openai" */
  readonly provider: string;
  /** An OpenAI-compatible endpoint for this agent alone. */
  readonly baseURL?: string;
  readonly apiKey?: string;
  /** Of the models that have none of their own. */
  readonly settings: ModelSettings;
  readonly tools: readonly Tool[];
  /** Tools of MCP servers from the configuration's `mcpServers`: `files`, `files.read`, `files.read_*`. */
  readonly mcp: readonly string[];
  readonly handoffs: readonly HandoffEdge[];
  /** The shape the answer must have; without it the answer is text. */
  readonly output?: z.ZodType | JsonSchema;
  /** Model turns one task may take. @default 16 */
  readonly maxTurns: number;
  /** How long one task may take, in milliseconds. @default 600000 */
  readonly timeoutMs: number;
  /** How long one execution of a tool may take, in milliseconds. @default 60000 */
  readonly toolTimeoutMs: number;
  /** Tools one task executes at once; further calls of the turn wait. @default 16 */
  readonly maxParallelTools: number;
  /** Tries of one model call, the first included, while the provider's errors are retryable. @default 5 */
  readonly maxModelAttempts: number;
  /** Tasks at work at once on one daemon. @default 64 */
  readonly concurrency: number;
  /** Tasks one daemon lets wait beyond those before it answers `busy`. @default 256 */
  readonly maxWaiting: number;
  /** Served by a foreign worker: no daemon hosts it. @default false */
  readonly remote: boolean;
};
