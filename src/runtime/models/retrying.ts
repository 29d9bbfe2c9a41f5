/** Repeats a model call while its provider says that trying again may help. */
import type { Model, ModelCallContext, ModelReply, ModelRequest } from "../../actors/model.ts";
import { ModelError } from "../../errors.ts";
import { isProviderDown, LONG_RETRY_AFTER_MS, type Permit } from "./breaker.ts";
import type { ProviderGate } from "./provider-gate.ts";

/** The first delay: shorter ones only add load to a provider that is already short of breath. */
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 30_000;

/** A call that failed and will be made again. */
export type ModelRetry = {
  /** The attempt that failed, from 1. */
  attempt: number;
  /** How long until the next one, in milliseconds. */
  delayMs: number;
  error: ModelError;
  /** Whether pieces of the failed answer went out already: who shows them has to start over. */
  restarted: boolean;
};

export type RetryOptions = {
  /** Tries in all, the first included. */
  maxAttempts: number;
  /** Waits `ms` milliseconds or rejects with the signal's reason. */
  sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  /** A number in [0, 1). */
  random: () => number;
  onRetry?: (retry: ModelRetry) => void;
  /** What calls to this provider share. */
  gate?: ProviderGate;
  /** A piece of an answer is about to go out. */
  onOutput?: () => void;
  /** A call waited so many milliseconds for its turn. */
  onWait?: (ms: number) => void;
};

/**
 * Calls a model, and calls it again after retryable errors: 500 ms, doubled each time up to 30 s, with jitter. A
 * `Retry-After` is honoured up to 60 s; a longer one ends the attempts, and so does a provider that is taken to be down.
 * Rejects with the last error, or with the reason of the signal once that aborts.
 */
export async function retryModelCall(
  model: Model,
  request: ModelRequest,
  context: ModelCallContext,
  options: RetryOptions,
): Promise<ModelReply> {
  const { signal, onDelta, onReasoning } = context;
  const { gate, onOutput } = options;
  let emitted = false;
  // A piece of the reasoning is output as well: who shows it has to start over, too.
  const watched: ModelCallContext = { ...context };
  if (onDelta) {
    watched.onDelta = (text) => {
      emitted = true;
      onOutput?.();
      onDelta(text);
    };
  }
  if (onReasoning) {
    watched.onReasoning = (text) => {
      emitted = true;
      onOutput?.();
      onReasoning(text);
    };
  }
  for (let attempt = 1; ; attempt++) {
    try {
      return await (gate ? callThrough(gate, model, request, watched, options) : model.call(request, watched));
    } catch (error) {
      signal.throwIfAborted();
      const isOver = attempt >= options.maxAttempts || (gate?.ready === false && isProviderDown(error));
      const delayMs = isOver ? undefined : delayBefore(error, attempt, options.random);
      if (delayMs === undefined) throw error;
      options.onRetry?.({ attempt, delayMs, error: error as ModelError, restarted: emitted });
      emitted = false;
      await options.sleep(delayMs, signal);
    }
  }
}

async function callThrough(
  gate: ProviderGate,
  model: Model,
  request: ModelRequest,
  context: ModelCallContext,
  { onWait }: Pick<RetryOptions, "onWait">,
): Promise<ModelReply> {
  let permit = gate.enter(context.signal);
  if (typeof permit !== "string") permit = await timed(permit, onWait);
  try {
    const reply = await model.call(request, context);
    gate.leave(permit, reply);
    return reply;
  } catch (error) {
    // An interrupted call says nothing of its provider.
    gate.leave(permit, { error: context.signal.aborted ? context.signal.reason : error });
    throw error;
  }
}

async function timed(turn: Promise<Permit>, onWait: ((ms: number) => void) | undefined): Promise<Permit> {
  const since = performance.now();
  try {
    return await turn;
  } finally {
    onWait?.(performance.now() - since);
  }
}

/** Milliseconds until the attempt after this one; undefined when there should be none. */
function delayBefore(error: unknown, attempt: number, random: () => number): number | undefined {
  if (!(error instanceof ModelError) || !error.retryable) return undefined;
  const { retryAfterMs } = error;
  if (retryAfterMs === undefined) {
    const full = Math.min(FIRST_DELAY_MS * 2 ** (attempt - 1), LONGEST_DELAY_MS);
    return Math.round(full * (0.5 + random() / 2));
  }
  if (retryAfterMs > LONG_RETRY_AFTER_MS) return undefined;
  // Everybody was told the same instant: never earlier, but not all at once.
  return Math.round(retryAfterMs * (1 + random() / 10));
}
