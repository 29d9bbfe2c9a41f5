/** Repeats a model call while its provider says that trying again may help. */
import type { Model, ModelCallContext, ModelReply, ModelRequest } from "../../actors/model.ts";
import { ModelError } from "../../errors.ts";

/** The first delay: shorter ones only add load to a provider that is already short of breath. */
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 30_000;
/** A provider that wants a longer pause than this is down for us: the task fails and its workflow decides. */
const LONGEST_RETRY_AFTER_MS = 60_000;

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
};

/**
 * Calls a model, and calls it again after retryable errors: 500 ms, doubled each time up to 30 s, with jitter. A
 * `Retry-After` is honoured up to 60 s; a longer one ends the attempts. Rejects with the last error, or with the reason of
 * the signal once that aborts.
 */
export async function retryModelCall(
  model: Model,
  request: ModelRequest,
  context: ModelCallContext,
  options: RetryOptions,
): Promise<ModelReply> {
  const { signal, onDelta } = context;
  let emitted = false;
  const watched: ModelCallContext = onDelta
    ? {
        ...context,
        onDelta: (text) => {
          emitted = true;
          onDelta(text);
        },
      }
    : context;
  for (let attempt = 1; ; attempt++) {
    try {
      return await model.call(request, watched);
    } catch (error) {
      signal.throwIfAborted();
      const delayMs = attempt < options.maxAttempts ? delayBefore(error, attempt, options.random) : undefined;
      if (delayMs === undefined) throw error;
      options.onRetry?.({ attempt, delayMs, error: error as ModelError, restarted: emitted });
      emitted = false;
      await options.sleep(delayMs, signal);
    }
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
  if (retryAfterMs > LONGEST_RETRY_AFTER_MS) return undefined;
  // Everybody was told the same instant: never earlier, but not all at once.
  return Math.round(retryAfterMs * (1 + random() / 10));
}
