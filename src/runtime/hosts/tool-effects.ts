/**
 * The calls of an agent's tools, done for real: executed, tried again, found out about, and journaled before the task machine
 * sees what came of them.
 *
 * Invariants
 * O1  A tool never fails its task or its siblings: what goes wrong becomes an answer the model reads. The one exception is asked
 *     for: `onUnknown: "stop"`.
 * O2  Every answer is in the task's journal before it is given back. Interrupted is no answer: whoever resumes the task makes
 *     the call again, or finds out about it (O3).
 * O3  A tool with the effect `once` is executed only after a mark of this writer is in the task's journal, and where another
 *     mark was found in it before, not by itself: `onUnknown` decides. The journal has one writer, so of two workers that have
 *     one task only one executes it.
 * O4  The signal of an execution aborts when its child is stopped; nobody waits for a tool that ignores it.
 * O5  Before every execution, also one that is tried again or follows on a mark or on finding out, the task is still this
 *     worker's and has not been stopped: what came before may have taken long.
 */
import type { ToolInput, ToolResult } from "../../actors/task-machine.ts";
import type { ExecutableTool, FoundOut, ToolContext, ToolLogger, ToolRetry } from "../../actors/tool.ts";
import { type ErrorRecord, PayloadTooLargeError, ToolError, toErrorRecord } from "../../errors.ts";
import type { McpTools } from "../mcp/start-mcp.ts";
import { sleep } from "../models/sleep.ts";
import { callKey } from "./call-marks.ts";
import { crashPoints } from "./crash-points.ts";
import {
  contentOf,
  type Executed,
  type ExecutionSeams,
  executeTool,
  OUTCOME_UNKNOWN,
  type Returned,
  returnedBy,
} from "./execute-tool.ts";
import type { LiveFeed } from "./live-feed.ts";
import { openSlots, type Slots } from "./slots.ts";
import type { TaskWork } from "./task-work.ts";
import { openProgressReport, type ProgressReport } from "./tool-progress.ts";

export type ToolEffectsOptions = ExecutionSeams & {
  /** Resolves when something may be begun for the task; rejects where not, and when the signal aborts. */
  ready(work: TaskWork, signal: AbortSignal): Promise<void>;
  /** Writes to the task's journal, and lets go of the task where that cannot be. */
  journaled(work: TaskWork, write: () => Promise<void>): Promise<void>;
  /** Ends a task as failed. */
  fail(work: TaskWork, error: ErrorRecord): void;
  /** Where tools are that are not the agent's own. */
  mcp: Pick<McpTools, "find">;
  loggerFor(work: TaskWork): ToolLogger;
  feed: LiveFeed;
};

type Call = {
  work: TaskWork;
  run: ToolInput["run"];
  tool: ExecutableTool;
  context: Omit<ToolContext, "signal" | "attempt">;
  signal: AbortSignal;
};

/** `value` and `error` are for a step that is the tool's alone; what a model reads is `content`. */
type Answer = { content: string; failed: boolean; value?: unknown; error?: ErrorRecord };

/** Gives what makes one call of a tool. */
export function openToolEffects(options: ToolEffectsOptions) {
  const { ready, journaled, loggerFor, feed } = options;
  const slots = new WeakMap<TaskWork, Slots>();
  return { runTool };

  async function runTool(work: TaskWork, run: ToolInput["run"], signal: AbortSignal): Promise<ToolResult> {
    const leave = await slotsOf(work).enter(signal);
    try {
      await ready(work, signal);
      return await answered(work, run, signal);
    } finally {
      leave();
    }
  }

  async function answered(work: TaskWork, run: ToolInput["run"], signal: AbortSignal): Promise<ToolResult> {
    const { call, turn } = run;
    work.toolCalls += 1;
    const about = { turn, tool: call.name, callId: call.id };
    feed.say(work, "tool.started", about);
    const tool = run.tool ?? (await options.mcp.find(work.agent, call.name, signal));
    const progress = openProgressReport((how) => feed.say(work, "tool.progress", { ...about, ...how }));
    let answer: Answer;
    try {
      answer = await answerTo({ work, run, tool, context: contextOf(work, run, progress), signal });
    } finally {
      progress.end();
    }
    // O2
    signal.throwIfAborted();
    if (work.task.kind === "tool") {
      feed.say(work, "tool.completed", { ...about, failed: answer.failed });
      // It ends the task, so it is recorded with the outcome.
      return onlyAnswer(call.id, answer);
    }
    const entry = () => {
      const { content, failed } = answer;
      return work.journal.append({ type: "tool", turn, callId: call.id, content, failed });
    };
    if (crashPoints.armed) await crashPoints.before("before-tool-entry");
    await journaled(work, async () => {
      try {
        await entry();
      } catch (error) {
        if (!(error instanceof PayloadTooLargeError)) throw error;
        answer = { content: `error: what ${tool.name} returned is too large (${error.message})`, failed: true };
        await entry();
      }
    });
    work.passOn?.();
    crashPoints.at("after-tool-entry");
    feed.say(work, "tool.completed", { ...about, failed: answer.failed });
    return { callId: call.id, content: answer.content };
  }

  function slotsOf(work: TaskWork): Slots {
    let open = slots.get(work);
    if (!open) {
      open = openSlots(work.agent.maxParallelTools);
      slots.set(work, open);
    }
    return open;
  }

  function contextOf(work: TaskWork, { call, turn }: ToolInput["run"], progress: ProgressReport): Call["context"] {
    const { agent, task } = work;
    const { runId, taskId } = task;
    const isStep = task.kind === "tool";
    return {
      runId,
      taskId,
      agent: isStep ? "" : agent.name,
      // Replies are journaled, so the turn and the call's id are the same whenever this call is made again.
      idempotencyKey: isStep ? `${runId}.${taskId}` : `${runId}.${taskId}.${turn}.${call.id}`,
      progress: progress.report,
      logger: loggerFor(work),
    };
  }

  async function answerTo(call: Call): Promise<Answer> {
    const { work, run, tool, signal } = call;
    if (tool.effect !== "once") return answerOf(await attempts(call));
    const { turn } = run;
    // O3
    if (work.calling?.has(callKey(turn, run.call.id))) {
      const message = `the worker that was to execute ${tool.name} was lost before it had said what came of it`;
      return afterUnknown(call, { code: OUTCOME_UNKNOWN, message });
    }
    if (crashPoints.armed) await crashPoints.before("before-calling-entry");
    await journaled(work, () => work.journal.append({ type: "calling", turn, callId: run.call.id }));
    crashPoints.at("after-calling-entry");
    const executed = await attempts(call);
    // O2
    signal.throwIfAborted();
    return executed.type === "unknown" ? afterUnknown(call, executed.error) : answerOf(executed);
  }

  async function afterUnknown(call: Call, error: ErrorRecord): Promise<Answer> {
    const { work, tool, signal } = call;
    const { onUnknown = "fail" } = tool;
    const message = `it is not known whether ${tool.name} was executed (${error.message})`;
    loggerFor(work).warn({ tool: tool.name, callId: call.run.call.id }, message);
    if (onUnknown === "fail") return unknownAnswer(message);
    if (onUnknown === "stop") {
      options.fail(work, { code: OUTCOME_UNKNOWN, message, retryable: false });
      throw new ToolError(message, { code: OUTCOME_UNKNOWN });
    }
    let isDone = false;
    const found = await attempts(call, async (context) => {
      const finding = readFinding(await onUnknown(call.run.args as never, context));
      isDone = finding.done;
      return finding.done ? returnedBy(tool, finding.result) : { value: undefined, text: "" };
    });
    signal.throwIfAborted();
    if (found.type !== "returned") return unknownAnswer(`${message}, and finding out failed: ${found.error.message}`);
    if (isDone) return answerOf(found);
    const executed = await attempts(call);
    signal.throwIfAborted();
    // Once is enough: a service that always takes too long would be asked for ever.
    if (executed.type === "unknown") return unknownAnswer(`${message}, and again: ${executed.error.message}`);
    return answerOf(executed);
  }

  /** Tries as often as the tool's `retry` says. */
  async function attempts(call: Call, execute?: (context: ToolContext) => Promise<Returned>): Promise<Executed> {
    const { work, run, tool, signal } = call;
    const { retry } = tool;
    for (let attempt = 1; ; attempt += 1) {
      // O5
      await ready(work, signal);
      signal.throwIfAborted();
      const executed = await executeTool(
        {
          work,
          tool,
          call: run.call,
          execute: execute ?? (async (context) => returnedBy(tool, await tool.execute(run.args as never, context))),
          context: { ...call.context, attempt },
          signal,
        },
        options,
      );
      if (!retry || attempt >= retry.maxAttempts || signal.aborted || !isWorthAnother(tool, executed)) return executed;
      const delayMs = delayBefore(retry, attempt);
      loggerFor(work).warn({ tool: tool.name, attempt, delayMs }, `a tool failed: ${contentOf(executed)}`);
      await sleep(delayMs, signal);
    }
  }
}

// O1
function answerOf(executed: Executed): Answer {
  const content = contentOf(executed);
  if (executed.type === "returned") return { content, failed: false, value: executed.value };
  return { content, failed: true, error: executed.error };
}

/** Another attempt at a step would be another call, so none is made by itself. */
function unknownAnswer(message: string): Answer {
  const error = { code: OUTCOME_UNKNOWN, message, retryable: false };
  return { content: `error: ${message}; do not call it again before you know`, failed: true, error };
}

/** What a tool's own task is ended with. */
function onlyAnswer(callId: string, { value, error }: Answer): ToolResult {
  if (error) return { callId, content: "", error };
  try {
    return { callId, content: "", output: asJson(value) };
  } catch (thrown) {
    return { callId, content: "", error: { ...toErrorRecord(thrown, "tool_failed"), retryable: false } };
  }
}

/** What a tool gave as it travels; what JSON cannot say is the tool's mistake. */
function asJson(value: unknown): unknown {
  return value === undefined ? null : JSON.parse(JSON.stringify(value) ?? "null");
}

function isWorthAnother({ effect }: ExecutableTool, executed: Executed): boolean {
  if (executed.type !== "failed") return false;
  return effect === "read" ? executed.retryable !== false : executed.retryable === true;
}

/** Spread between half and all of it, so that what failed together is not tried again together. */
function delayBefore({ backoff, delayMs, maxDelayMs }: ToolRetry, attempt: number): number {
  if (backoff === "fixed") return delayMs;
  return Math.round(Math.min(delayMs * 2 ** (attempt - 1), maxDelayMs) * (0.5 + Math.random() / 2));
}

function readFinding(found: unknown): FoundOut {
  if (typeof found === "object" && found !== null && "done" in found) {
    if (found.done === false) return { done: false };
    if (found.done === true) return { done: true, result: "result" in found ? found.result : undefined };
  }
  throw new ToolError(`onUnknown: expected { done: true, result } or { done: false }, got ${typeof found}`);
}
