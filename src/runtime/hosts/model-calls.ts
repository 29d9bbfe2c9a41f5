/** Asks the models of an agent for a turn, and lets watchers, spans and metrics know of each try. */
import type { Agent } from "../../actors/agent.ts";
import type { ModelCallContext, ModelReply, ModelRequest } from "../../actors/model.ts";
import { modelsOf } from "../../actors/model-choices.ts";
import { modelRequest } from "../../actors/model-request.ts";
import type { TaskState } from "../../actors/task-state.ts";
import type { ToolLogger } from "../../actors/tool.ts";
import { toErrorRecord } from "../../errors.ts";
import type { Metrics } from "../../tracing/metrics.ts";
import type { LeafResult, Tracing } from "../../tracing/tracing.ts";
import type { McpTools } from "../mcp/start-mcp.ts";
import { askModels, type Candidate } from "../models/ask-models.ts";
import type { ProvidedModel } from "../models/provider-gate.ts";
import type { ModelOf } from "../models/providers.ts";
import { type ModelRetry, retryModelCall } from "../models/retrying.ts";
import { sleep } from "../models/sleep.ts";
import type { LiveFeed } from "./live-feed.ts";
import type { TaskWork } from "./task-work.ts";

export type ModelCallsOptions = {
  workOf(runId: string, taskId: string): TaskWork;
  modelFor: ModelOf;
  mcp: Pick<McpTools, "specsOf">;
  loggerFor(work: TaskWork): Pick<ToolLogger, "warn">;
  feed: LiveFeed;
  tracing: Tracing;
  metrics: Metrics;
  /** Makes sure that a task is this worker's to go on with; undefined where that is certain. */
  confirm(work: TaskWork, signal: AbortSignal): Promise<void> | undefined;
};

export type ModelCalls = {
  /** The reply of the turn at work; rejects with what the task fails with. */
  ask(work: TaskWork, state: TaskState, signal: AbortSignal): Promise<ModelReply>;
};

type Candidates = readonly [Candidate, ...Candidate[]];

/** Opens the model calls of a host. */
export function openModelCalls(options: ModelCallsOptions): ModelCalls {
  const { workOf, modelFor, mcp, loggerFor, feed, tracing, metrics, confirm } = options;
  const traced = new WeakMap<ProvidedModel, ProvidedModel>();
  const known = new WeakMap<Agent, Candidates>();

  return { ask };

  function ask(work: TaskWork, state: TaskState, signal: AbortSignal): Promise<ModelReply> {
    const { agent } = work;
    if (agent.mcp.length === 0) return askFor(work, state, modelRequest(state), signal);
    return mcp.specsOf(agent, signal).then((foreign) => askFor(work, state, modelRequest(state, foreign), signal));
  }

  function askFor(work: TaskWork, state: TaskState, request: ModelRequest, signal: AbortSignal): Promise<ModelReply> {
    const { agent, task } = work;
    const { turn } = state;
    const context: ModelCallContext = {
      signal,
      runId: task.runId,
      taskId: task.taskId,
      agent: agent.name,
      turn,
      onDelta: (text) => {
        if (!signal.aborted) feed.delta(work, turn, text);
      },
      onReasoning: (text) => {
        if (!signal.aborted) feed.delta(work, turn, text, "model.reasoning");
      },
    };
    const onRetry = ({ attempt, delayMs, error, restarted }: ModelRetry) => {
      loggerFor(work).warn({ attempt, delayMs, code: error.code }, `model call failed: ${error.message}`);
      if (restarted) feed.say(work, "model.restarted", { turn });
    };
    const candidates = candidatesOf(agent);
    const [{ model, maxAttempts }] = candidates;
    const retrying = { sleep, random: Math.random, onRetry };
    // There is nothing to choose and nothing to share.
    if (candidates.length === 1 && !model.gate) {
      return retryModelCall(model, request, context, { ...retrying, maxAttempts });
    }
    return askModels(candidates, request, context, {
      ...retrying,
      onFallback: (from, to, error) => {
        const { code, message } = toErrorRecord(error, "model_failed");
        loggerFor(work).warn({ from, to, code }, `the next model is asked: ${message}`);
        feed.say(work, "model.fallback", { turn, from, to, error: code });
      },
      onDown: (reason, again) => {
        work.providerDown = reason;
        if (again) return;
        loggerFor(work).warn(`waiting for a provider to be back: ${reason}`);
        feed.say(work, "model.waiting", { turn, reason });
      },
      onBack: () => {
        work.providerDown = undefined;
      },
      onRestart: () => feed.say(work, "model.restarted", { turn }),
      onWait: (gate, ms, why) => metrics.modelWaited({ provider: gate.name, seconds: ms / 1_000, why }),
    });
  }

  function candidatesOf(agent: Agent): Candidates {
    let candidates = known.get(agent);
    if (!candidates) {
      const [first, ...others] = modelsOf(agent).map((choice): Candidate => {
        const { provider, model, settings, maxAttempts } = choice;
        const asked = tracedModel(modelFor({ ...choice, name: agent.name }));
        return { name: { provider, model }, model: asked, settings, maxAttempts };
      });
      // An agent has a model at the least.
      candidates = [first as Candidate, ...others];
      known.set(agent, candidates);
    }
    return candidates;
  }

  /** One leaf for each try, so that retries are seen as what they are. */
  function tracedModel(model: ProvidedModel): ProvidedModel {
    let made = traced.get(model);
    if (!made) {
      const { provider, gate } = model;
      made = { provider, ...(gate && { gate }), call: (request, context) => tracedCall(model, request, context) };
      traced.set(model, made);
    }
    return made;
  }

  async function tracedCall(
    model: ProvidedModel,
    request: ModelRequest,
    context: ModelCallContext,
  ): Promise<ModelReply> {
    const { runId, taskId, agent: name, turn, signal, onDelta } = context;
    const work = workOf(runId, taskId);
    const confirmed = confirm(work, signal);
    if (confirmed) await confirmed;
    const { server } = model;
    const leaf = tracing.chat(work.segment, {
      agent: name,
      runId,
      taskId,
      turn,
      provider: model.provider,
      model: request.model,
      instructions: request.instructions,
      messages: request.messages,
      ...(server && { serverAddress: server.address, serverPort: server.port }),
    });
    const start = performance.now();
    let firstChunkMs: number | undefined;
    const watched: ModelCallContext = {
      ...context,
      onDelta: (text) => {
        firstChunkMs ??= performance.now() - start;
        onDelta?.(text);
      },
    };
    const result: LeafResult = {};
    try {
      const reply = await leaf.within(() => model.call(request, watched));
      result.usage = reply.usage;
      result.responseModel = reply.model;
      if (reply.id !== undefined) result.responseId = reply.id;
      result.finishReason = reply.finishReason;
      result.content = { content: reply.content, toolCalls: reply.toolCalls };
      return reply;
    } catch (error) {
      result.error = toErrorRecord(
        signal.aborted ? new Error("aborted") : error,
        signal.aborted ? "aborted" : "model_failed",
      );
      throw error;
    } finally {
      if (firstChunkMs !== undefined) result.firstChunkMs = firstChunkMs;
      leaf.end(result);
      metrics.modelCall({
        provider: model.provider,
        model: request.model,
        seconds: (performance.now() - start) / 1000,
        ...(result.responseModel !== undefined && { responseModel: result.responseModel }),
        ...(result.usage && { usage: result.usage }),
        ...(firstChunkMs !== undefined && { firstChunkSeconds: firstChunkMs / 1000 }),
        ...(server && { serverAddress: server.address }),
        ...(result.error && { error: result.error.code }),
      });
    }
  }
}
