/** A tool: a typed function an agent's model may call. */
import type { z } from "zod";

/** A logger in pino's call style: an optional object of fields, then the message. */
export type ToolLogger = {
  [level in "debug" | "info" | "warn" | "error"]: {
    (message: string): void;
    (fields: object, message?: string): void;
  };
};

/** What a tool gets besides its arguments. */
export type ToolContext = {
  /** Aborts when the run is cancelled, the tool or its task times out, or the daemon stops. */
  signal: AbortSignal;
  runId: string;
  taskId: string;
  agent: string;
  /** The same for every execution of this one call, over retries, crashes and resumes: hand it to APIs that take one. */
  idempotencyKey: string;
  logger: ToolLogger;
};

/** A tool as agents hold it. Make one with {@link defineTool}. */
export type Tool = {
  readonly name: string;
  readonly description: string;
  readonly parameters: z.ZodType;
  /** How long one execution may take, in milliseconds; absent means the agent's `toolTimeoutMs`. */
  readonly timeoutMs?: number;
  readonly execute: (args: never, context: ToolContext) => unknown;
};
