/**
 * A task of kind `tool`: one execution of a tool without a model. It goes through the same machine as any other; its only turn
 * is there from the beginning, and what the tool gives is its outcome.
 */
import { describeProblem, type ErrorRecord } from "../errors.ts";
import type { Agent } from "./agent.ts";
import type { ToolCall } from "./conversation.ts";
import { problemsOf, showValue } from "./schema-problems.ts";
import type { Outcome, Task } from "./task.ts";
import type { Tool } from "./tool.ts";

/** How long a tool may take that says nothing of it, in milliseconds; an agent's tools have as long. */
const TOOL_TIMEOUT_MS = 60_000;
/** The step's or the tool's own limit holds. */
const NO_LIMIT_MS = 2 ** 31 - 1;

/** The one who takes a tool's tasks: it has the mailbox, the concurrency and the limits an agent has, and no model. */
export function toolHost(tool: Tool): Agent {
  return {
    name: tool.name,
    instructions: "",
    model: "",
    provider: "",
    settings: {},
    tools: [tool],
    mcp: [],
    maxParallelTools: 1,
    handoffs: [],
    maxTurns: 1,
    timeoutMs: tool.timeoutMs ?? TOOL_TIMEOUT_MS,
    toolTimeoutMs: NO_LIMIT_MS,
    maxModelAttempts: 1,
    concurrency: 64,
    maxWaiting: 256,
    remote: false,
  };
}

/** The only execution of a tool's task, its arguments checked. */
type OnlyRun = { turn: number; call: ToolCall; tool: Tool; args: unknown };

/** The execution a task stands for, or why its arguments cannot be the tool's. */
export function runOf({ tools: [tool] }: Agent, { input }: Task): { run: OnlyRun } | { error: ErrorRecord } {
  if (!tool) return { error: { code: "bad_task", message: "there is no tool", retryable: false } };
  const wrong = (message: string) => ({ error: { code: "bad_arguments", message, retryable: false } });
  try {
    const parsed = tool.parameters.safeParse(input);
    if (!parsed.success) {
      return wrong(problemsOf(parsed.error.issues, input, { path: "input" }).map(describeProblem).join("; "));
    }
    const call = { id: "call", name: tool.name, arguments: JSON.stringify(input) };
    return { run: { turn: 1, call, tool, args: parsed.data } };
  } catch (error) {
    // A refinement of the user's own threw.
    return wrong(`input: ${error instanceof Error ? error.message : showValue(error)}`);
  }
}

const NO_USAGE = { inputTokens: 0, outputTokens: 0, modelCalls: 0 };

/** What a tool's task has come to; `called` says whether the tool was executed for that. */
export function toolOutcome(result: { output?: unknown; error?: ErrorRecord }, called: boolean): Outcome {
  const usage = called ? { ...NO_USAGE, toolCalls: 1 } : NO_USAGE;
  return result.error
    ? { type: "failed", error: result.error, usage }
    : { type: "completed", output: result.output ?? null, usage };
}
