/** One execution of a tool: in its time, under its span, its result checked. */
import { asText } from "../../actors/conversation.ts";
import { validateOutput } from "../../actors/schemas.ts";
import type { ExecutableTool, ToolContext } from "../../actors/tool.ts";
import { type ErrorRecord, ToolError, toErrorRecord } from "../../errors.ts";
import type { Metrics } from "../../tracing/metrics.ts";
import type { Tracing } from "../../tracing/tracing.ts";
import type { LoopWatch } from "./loop-watch.ts";
import type { TaskWork } from "./task-work.ts";

/** The code of what nobody knows the outcome of. */
export const OUTCOME_UNKNOWN = "outcome_unknown";
const TIMEOUT = "tool_timeout";

/** What came of one execution. */
export type Executed =
  | ({ type: "returned" } & Returned)
  /** `retryable` is what the error says of itself; undefined where it says nothing. */
  | { type: "failed"; error: ErrorRecord; retryable: boolean | undefined }
  /** It may have been done and may not. */
  | { type: "unknown"; error: ErrorRecord };

export type Execution = {
  work: TaskWork;
  tool: ExecutableTool;
  /** The model's own call. */
  call: { id: string; arguments: string };
  /** What is executed, given its context with the signal of this execution. */
  execute: (context: ToolContext) => Promise<Returned>;
  context: Omit<ToolContext, "signal">;
  /** Aborts when its task stops. */
  signal: AbortSignal;
};

export type ExecutionSeams = { loop: Pick<LoopWatch, "begin">; tracing: Tracing; metrics: Metrics };

/** Executes a tool once. Never rejects. */
export async function executeTool(
  { work, tool, call, execute, context, signal }: Execution,
  { loop, tracing, metrics }: ExecutionSeams,
): Promise<Executed> {
  const { agent, task, segment } = work;
  const { runId, taskId } = task;
  const leaf = tracing.tool(segment, {
    agent: agent.name,
    runId,
    taskId,
    tool: tool.name,
    callId: call.id,
    description: tool.description,
    arguments: call.arguments,
  });
  const start = performance.now();
  const ended = loop.begin({ tool: tool.name, agent: agent.name, runId, taskId });
  let executed: Executed;
  try {
    const timeoutMs = tool.timeoutMs ?? agent.toolTimeoutMs;
    const limits = { timeoutMs, signal, name: tool.name };
    const returned = await limited((own) => leaf.within(() => execute({ ...context, signal: own })), limits);
    executed = { type: "returned", ...returned };
  } catch (thrown) {
    executed = failureOf(tool, thrown);
  }
  ended();
  const error = executed.type === "returned" ? undefined : executed.error;
  leaf.end(error ? { error, content: `error: ${error.message}` } : { content: contentOf(executed) });
  const seconds = (performance.now() - start) / 1000;
  metrics.toolCall({ tool: tool.name, agent: agent.name, seconds, ...(error && { error: error.code }) });
  return executed;
}

/** What the model reads of it. */
export function contentOf(executed: Executed): string {
  return executed.type === "returned" ? executed.text : `error: ${executed.error.message}`;
}

/** What a tool gave, as a value and as what a model reads of it. */
export type Returned = { value: unknown; text: string };

/**
 * What a tool promises to return.
 *
 * @throws ToolError when it is not what the tool promises, or too much.
 */
export function returnedBy({ name, output, maxResultBytes }: ExecutableTool, returned: unknown): Returned {
  const checked = output ? validateOutput(output, returned) : { ok: true as const, value: returned };
  if (!checked.ok) {
    const message = `${name} was executed, and what it returned is not what it promises: ${checked.problems.join("; ")}`;
    throw new ToolError(message, { code: "invalid_tool_output", retryable: false });
  }
  const { value } = checked;
  const text = asText(value);
  // A letter takes up to three bytes, so that most need not be measured.
  if (maxResultBytes === undefined || text.length * 3 <= maxResultBytes) return { value, text };
  const bytes = Buffer.byteLength(text);
  if (bytes <= maxResultBytes) return { value, text };
  const message = `what ${name} returned is too large: expected at most ${maxResultBytes} bytes (its maxResultBytes), got ${bytes}; ask for less of it`;
  throw new ToolError(message, { code: "payload_too_large", retryable: false });
}

function failureOf({ effect, name }: ExecutableTool, thrown: unknown): Executed {
  const error = toErrorRecord(thrown, "tool_failed");
  const isUnknown = codeOf(thrown) === OUTCOME_UNKNOWN || error.code === TIMEOUT;
  if (effect === "once" && isUnknown) {
    return { type: "unknown", error: { code: OUTCOME_UNKNOWN, message: `${name}: ${error.message}` } };
  }
  return { type: "failed", error, retryable: retryableOf(thrown) };
}

/** It may be an error of another copy of Troupe, or of anybody's library. */
function retryableOf(thrown: unknown): boolean | undefined {
  if (typeof thrown !== "object" || thrown === null || !("retryable" in thrown)) return undefined;
  return typeof thrown.retryable === "boolean" ? thrown.retryable : undefined;
}

function codeOf(thrown: unknown): unknown {
  return typeof thrown === "object" && thrown !== null && "code" in thrown ? thrown.code : undefined;
}

type Limits = { timeoutMs: number; signal: AbortSignal; name: string };

/** Runs a tool until it ends, its time is up or its task stops. */
async function limited<T>(
  execute: (signal: AbortSignal) => Promise<T>,
  { timeoutMs, signal, name }: Limits,
): Promise<T> {
  const aborter = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  let onAbort: (() => void) | undefined;
  const stopped = new Promise<never>((_, reject) => {
    const stop = (error: ToolError) => {
      aborter.abort(error);
      reject(error);
    };
    const timeout = { code: TIMEOUT, retryable: true };
    timer = setTimeout(() => stop(new ToolError(`${name} did not finish within ${timeoutMs} ms`, timeout)), timeoutMs);
    onAbort = () => stop(new ToolError(`${name} was interrupted`));
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
  });
  try {
    return await Promise.race([execute(aborter.signal), stopped]);
  } finally {
    clearTimeout(timer);
    if (onAbort) signal.removeEventListener("abort", onAbort);
  }
}
