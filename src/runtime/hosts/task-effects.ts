/**
 * What a task machine asks for, done for real: model calls (`model-calls.ts`) and tools (`tool-effects.ts`), journaled before
 * the machine sees them.
 *
 * Invariants
 * E1  A reply after which the task goes on, and every tool's result, is in the task's journal before it is acted on.
 *     A task whose journal has come to its limit ends as failed.
 * E2  A fenced journal means another worker has written: the task is abandoned here, and given back if the run still counts
 *     on this worker, so that somebody goes on from what was written.
 * E3  A task that may have been given to another worker while this process did not run is looked up before anything is begun
 *     for it (`standing.ts`). What it has in hand is recorded all the same if nobody else has begun (E4): it was paid for, and
 *     whoever has the task now is fenced by it, gives the task back (E2) and goes on from it.
 * E4  What may have been begun elsewhere is marked before anything is done for it (`beginnings.ts`).
 */
import { fromPromise } from "xstate";
import type { ModelReply } from "../../actors/model.ts";
import { type ToolInput, type ToolResult, taskMachine } from "../../actors/task-machine.ts";
import { goesOn, type TaskState } from "../../actors/task-state.ts";
import type { ToolLogger } from "../../actors/tool.ts";
import { type ErrorRecord, FencedError, JournalFullError, toErrorRecord, UnavailableError } from "../../errors.ts";
import type { Metrics } from "../../tracing/metrics.ts";
import type { Tracing } from "../../tracing/tracing.ts";
import type { McpTools } from "../mcp/start-mcp.ts";
import type { ModelOf } from "../models/providers.ts";
import type { Beginnings } from "./beginnings.ts";
import { crashPoints } from "./crash-points.ts";
import type { LiveFeed } from "./live-feed.ts";
import type { LoopWatch } from "./loop-watch.ts";
import { openModelCalls } from "./model-calls.ts";
import type { Standing } from "./standing.ts";
import type { TaskWork } from "./task-work.ts";
import { openToolEffects } from "./tool-effects.ts";

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
  mcp: McpTools;
  loggerFor(work: TaskWork): ToolLogger;
  feed: LiveFeed;
  loop: Pick<LoopWatch, "begin">;
  tracing: Tracing;
  metrics: Metrics;
};

/** The task machine with the host's effects in it. */
export function taskMachineWith(options: EffectsOptions) {
  const { abandon, standing, beginnings, modelFor, mcp, loggerFor, feed, loop, tracing, metrics } = options;
  const models = openModelCalls({
    workOf,
    modelFor,
    mcp,
    loggerFor,
    feed,
    tracing,
    metrics,
    confirm: confirmUnlessSure,
  });
  const { runTool } = openToolEffects({
    ready,
    journaled,
    fail: options.fail,
    mcp,
    loggerFor,
    feed,
    loop,
    tracing,
    metrics,
  });

  function workOf(runId: string, taskId: string): TaskWork {
    const work = options.workOf(runId, taskId);
    if (!work) throw new Error(`task ${taskId} of run ${runId} is not here any more`);
    return work;
  }

  return taskMachine.provide({
    actors: {
      callModel: fromPromise<ModelReply, TaskState>(({ input, signal }) => callModel(input, signal)),
      runTool: fromPromise<ToolResult, ToolInput>(({ input: { task, run }, signal }) =>
        runTool(workOf(task.runId, task.taskId), run, signal),
      ),
    },
  });

  async function callModel(state: TaskState, signal: AbortSignal): Promise<ModelReply> {
    const work = workOf(state.task.runId, state.task.taskId);
    const { turn } = state;
    if (work.recalled) await begin(work, signal);
    const reply = await models.ask(work, state, signal);
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

  async function ready(work: TaskWork, signal: AbortSignal): Promise<void> {
    if (work.recalled) await begin(work, signal);
    if (!standing.isSure(work)) await confirm(work, signal);
  }

  /** E4 */
  async function begin(work: TaskWork, signal: AbortSignal): Promise<void> {
    await journaled(work, () => beginnings.mark(work, signal));
  }

  function confirmUnlessSure(work: TaskWork, signal: AbortSignal): Promise<void> | undefined {
    return standing.isSure(work) ? undefined : confirm(work, signal);
  }

  /** E3 */
  async function confirm(work: TaskWork, signal: AbortSignal): Promise<void> {
    const stand = await standing.lookUp(work, signal);
    if (stand === "here") return;
    const reason = "its run went on without this worker";
    // E2
    if (stand === "contested") options.fenced(work, reason);
    else abandon(work, reason);
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
