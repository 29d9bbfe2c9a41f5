/** A tool: a typed function an agent's model may call. */
import type { z } from "zod";
import type { JsonSchema } from "./model.ts";

/** A logger in pino's call style: an optional object of fields, then the message. */
export type ToolLogger = {
  [level in "debug" | "info" | "warn" | "error"]: {
    (message: string): void;
    (fields: object, message?: string): void;
  };
};

/** How far a tool has come; `percent` is from 0 to 100. */
export type ToolProgress = { percent?: number; message?: string };

/** What a tool gets besides its arguments. */
export type ToolContext = {
  /** Aborts when the run is cancelled, the tool or its task times out, or the daemon stops. */
  signal: AbortSignal;
  runId: string;
  taskId: string;
  agent: string;
  /** The same for every execution of this one call, over retries, crashes and resumes: hand it to APIs that take one. */
  idempotencyKey: string;
  /** Which execution by this worker it is, from 1; see the tool's `retry`. */
  attempt: number;
  /** Tells watchers of the run how far it is: the event `tool.progress`, at most ten a second. Nothing waits for it. */
  progress(how: string | ToolProgress): void;
  logger: ToolLogger;
};

/**
 * What executing a tool a second time would do. `read`: nothing. `idempotent`: the same as once. `once`: something more, so that
 * it is never executed again where nobody knows what came of it.
 */
export type ToolEffect = "read" | "idempotent" | "once";

/** When a tool that failed is executed again, with every default resolved. */
export type ToolRetry = {
  /** Executions of one call, the first included. */
  readonly maxAttempts: number;
  readonly backoff: "exponential" | "fixed";
  /** The delay before the second attempt, in milliseconds. @default 500 */
  readonly delayMs: number;
  /** What an exponential delay grows to, in milliseconds. @default 30000 */
  readonly maxDelayMs: number;
};

/** What was found out about a call: it was done and this is its result, or it was not, and is executed now. */
export type FoundOut<Result = unknown> = { done: true; result: Result } | { done: false };

/** What it takes to execute a tool. */
export type ExecutableTool = {
  readonly name: string;
  readonly description: string;
  /** What it promises to return; absent means anything. */
  readonly output?: z.ZodType | JsonSchema;
  /** How long one execution may take, in milliseconds; absent means the agent's `toolTimeoutMs`. */
  readonly timeoutMs?: number;
  /** The most a result may take as text, in bytes; absent means the daemon's `maxPayloadBytes`. */
  readonly maxResultBytes?: number;
  /** Absent means one attempt. */
  readonly retry?: ToolRetry;
  /** @default "idempotent" */
  readonly effect?: ToolEffect;
  /** Of a tool whose effect is `once`. @default "fail" */
  readonly onUnknown?: "fail" | "stop" | ((args: never, context: ToolContext) => unknown);
  readonly execute: (args: never, context: ToolContext) => unknown;
};

/** A tool as agents hold it. Make one with {@link defineTool}. */
export type Tool = ExecutableTool & { readonly parameters: z.ZodType };
