/**
 * What a task machine asks for, done for real: model calls (`model-calls.ts`) and tools, journaled before the machine sees them.
 *
 * Invariants
 * E1  A reply after which the task goes on, and every tool's result, is in the task's journal before it is acted on.
 *     A task whose journal has come to its limit ends as failed.
 * E2  A fenced journal means another worker has written: the task is abandoned here, and given back if the run still counts
 *     on this worker, so that somebody goes on from what was written.
 * E3  A tool never fails its task or its siblings: what goes wrong becomes an answer the model reads.
 * E4  A task that may have been given to another worker while this process did not run is looked up before anything is begun
 *     for it (`standing.ts`). What it has in hand is recorded all the same if nobody else has begun (E5): it was paid for, and
 *     whoever has the task now is fenced by it, gives the task back (E2) and goes on from it.
 * E5  What may have been begun elsewhere is marked before anything is done for it (`beginnings.ts`).
 * E6  The signal of a call aborts when its child is stopped; nobody waits for a tool that ignores it.
 */
import { fromPromise } from "xstate";
import { asText } from "../../actors/conversation.ts";
import type { ModelReply } from "../../actors/model.ts";
import { type ToolInput, type ToolResult, taskMachine } from "../../actors/task-machine.ts";
import { goesOn, type TaskState } from "../../actors/task-state.ts";
import type { ToolContext, ToolLogger } from "../../actors/tool.ts";
import {
  type ErrorRecord,
  FencedError,
  JournalFullError,
  PayloadTooLargeError,
  toErrorRecord,
  UnavailableError,
} from "../../errors.ts";
import type { Metrics } from "../../tracing/metrics.ts";
import type { LeafResult, Tracing } from "../../tracing/tracing.ts";
import type { ModelOf } from "../models/providers.ts";
import type { Beginnings } from "./beginnings.ts";
import { crashPoints } from "./crash-points.ts";
import type { LiveFeed } from "./live-feed.ts";
import type { LoopWatch } from "./loop-watch.ts";
import { openModelCalls } from "./model-calls.ts";
import type { Standing } from "./standing.ts";
import type { TaskWork } from "./task-work.ts";

export type EffectsOptions = {
  /** The work of a task that is here. */
  workOf(runId: string, taskId: string): TaskWork | undefined;
  /** Stops a task without a word. */
  abandon(work: TaskWork, reason: string): void;
  /** Ends a task as failed. */
  fail(work: TaskWork, error: ErrorRecord): void;
  /** Stops a task whose journal another worker has written to. */
  fenced(work: TaskWork, reason: string): void;
  standing: Standing;
  beginnings: Beginnings;
  modelFor: ModelOf;
  loggerFor(work: TaskWork): ToolLogger;
  feed: LiveFeed;
  loop: Pick<LoopWatch, "begin">;
  tracing: Tracing;
  metrics: Metrics;
};

/** The task machine with the host's effects in it. */
export function taskMachineWith(options: EffectsOptions) {
  const { abandon, standing, beginnings, modelFor, loggerFor, feed, loop, tracing, metrics } = options;
  const models = openModelCalls({ workOf, modelFor, loggerFor, feed, tracing, metrics, confirm: confirmUnlessSure });

  function workOf(runId: string, taskId: string): TaskWork {
    const work = options.workOf(runId, taskId);
    if (!work) throw new Error(`task ${taskId} of run ${runId} is not here any more`);
    return work;
  }

  return taskMachine.provide({
    actors: {
      callModel: fromPromise<ModelReply, TaskState>(({ input, signal }) => callModel(input, signal)),
      runTool: fromPromise<ToolResult, ToolInput>(({ input, signal }) => runTool(input, signal)),
    },
  });

  async function callModel(state: TaskState, signal: AbortSignal): Promise<ModelReply> {
    const work = workOf(state.task.runId, state.task.taskId);
    const { turn } = state;
    if (work.recalled) await begin(work, signal);
    const reply = await models.ask(work, state, signal);
    if (work.providerDown !== undefined) work.providerDown = undefined;
    signal.throwIfAborted();
    feed.flush(work);
    crashPoints.at("after-model-reply");
    // E1
    if (goesOn(state, reply)) {
      if (crashPoints.armed) await crashPoints.before("before-reply-entry");
      await journaled(work, () => work.journal.append({ type: "turn", turn, reply }));
      work.passOn?.();
      crashPoints.at("after-reply-entry");
    }
    return reply;
  }

  async function runTool({ task, run }: ToolInput, signal: AbortSignal): Promise<ToolResult> {
    const work = workOf(task.runId, task.taskId);
    if (work.recalled) await begin(work, signal);
    if (!standing.isSure(work)) await confirm(work, signal);
    const { call, tool, turn } = run;
    work.toolCalls += 1;
    const about = { turn, tool: tool.name, callId: call.id };
    feed.say(work, "tool.started", about);
    let result = await executed(work, run, signal);
    // Interrupted is no result: whoever resumes the task runs the tool again.
    signal.throwIfAborted();
    const entry = () => work.journal.append({ type: "tool", turn, callId: call.id, ...result });
    if (crashPoints.armed) await crashPoints.before("before-tool-entry");
    // E1
    await journaled(work, async () => {
      try {
        await entry();
      } catch (error) {
        if (!(error instanceof PayloadTooLargeError)) throw error;
        result = { content: `error: what ${tool.name} returned is too large (${error.message})`, failed: true };
        await entry();
      }
    });
    work.passOn?.();
    crashPoints.at("after-tool-entry");
    feed.say(work, "tool.completed", { ...about, failed: result.failed });
    return { callId: call.id, content: result.content };
  }

  /** E3, E6 */
  async function executed(work: TaskWork, { call, tool, args, turn }: ToolInput["run"], signal: AbortSignal) {
    const { agent, task, segment } = work;
    const { runId, taskId } = task;
    const timeoutMs = tool.timeoutMs ?? agent.toolTimeoutMs;
    const leaf = tracing.tool(segment, {
      agent: agent.name,
      runId,
      taskId,
      tool: tool.name,
      callId: call.id,
      description: tool.description,
      arguments: call.arguments,
    });
    const aborter = new AbortController();
    const context: ToolContext = {
      signal: aborter.signal,
      runId,
      taskId,
      agent: agent.name,
      // Replies are journaled, so the turn and the call's id are the same whenever this call is made again.
      idempotencyKey: `${runId}.${taskId}.${turn}.${call.id}`,
      logger: loggerFor(work),
    };
    const start = performance.now();
    const ended = loop.begin({ tool: tool.name, agent: agent.name, runId, taskId });
    let result: { content: string; failed: boolean };
    let error: LeafResult["error"];
    try {
      const returned = await limited(() => leaf.within(() => tool.execute(args as never, context)), {
        timeoutMs,
        signal,
        aborter,
        name: tool.name,
      });
      result = { content: asText(returned), failed: false };
    } catch (thrown) {
      error = toErrorRecord(thrown, "tool_failed");
      result = { content: `error: ${error.message}`, failed: true };
    }
    ended();
    leaf.end({ ...(error && { error }), content: result.content });
    const seconds = (performance.now() - start) / 1000;
    metrics.toolCall({ tool: tool.name, agent: agent.name, seconds, ...(error && { error: error.code }) });
    return result;
  }

  /** E5 */
  async function begin(work: TaskWork, signal: AbortSignal): Promise<void> {
    await journaled(work, () => beginnings.mark(work, signal));
  }

  function confirmUnlessSure(work: TaskWork, signal: AbortSignal): Promise<void> | undefined {
    return standing.isSure(work) ? undefined : confirm(work, signal);
  }

  /** E4 */
  async function confirm(work: TaskWork, signal: AbortSignal): Promise<void> {
    if ((await standing.lookUp(work, signal)) === "here") return;
    const reason = "its run went on without this worker";
    abandon(work, reason);
    throw new Error(reason);
  }

  async function journaled(work: TaskWork, write: () => Promise<void>): Promise<void> {
    try {
      await write();
    } catch (error) {
      if (error instanceof FencedError) options.fenced(work, error.message);
      // Where the daemon stops, whoever gets the task next goes on from what was stored.
      else if (error instanceof UnavailableError) abandon(work, error.message);
      // E1
      else if (error instanceof JournalFullError) options.fail(work, toErrorRecord(error));
      throw error;
    }
  }
}

class ToolStoppedError extends Error {}

/** Runs a tool until it ends, its time is up or its task stops. */
async function limited(
  execute: () => unknown,
  {
    timeoutMs,
    signal,
    aborter,
    name,
  }: { timeoutMs: number; signal: AbortSignal; aborter: AbortController; name: string },
): Promise<unknown> {
  let timer: NodeJS.Timeout | undefined;
  let onAbort: (() => void) | undefined;
  const stopped = new Promise<never>((_, reject) => {
    const stop = (why: string) => {
      const error = new ToolStoppedError(why);
      aborter.abort(error);
      reject(error);
    };
    timer = setTimeout(() => stop(`${name} did not finish within ${timeoutMs} ms`), timeoutMs);
    onAbort = () => stop(`${name} was interrupted`);
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
  });
  try {
    // Through a promise, so that a tool that throws at once is like one that throws later.
    return await Promise.race([Promise.resolve().then(execute), stopped]);
  } finally {
    clearTimeout(timer);
    if (onAbort) signal.removeEventListener("abort", onAbort);
  }
}
