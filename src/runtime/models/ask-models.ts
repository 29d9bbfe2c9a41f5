/**
 * Asks the models of an agent in their order until one answers.
 *
 * Invariants
 * A1  The next model is asked when one has failed for good or its provider is down, and only before a piece of this turn's answer
 *     went out: nobody reads the beginning of one model's answer and the end of another's.
 * A2  Where everybody that could be asked is down, the call waits until one is back instead of failing. Its task's time bounds that,
 *     through the signal.
 * A3  Each walk begins with the first model, and each model of a walk has all its attempts.
 */
import type { ModelCallContext, ModelName, ModelReply, ModelRequest, ModelSettings } from "../../actors/model.ts";
import type { ModelError } from "../../errors.ts";
import { isProviderDown } from "./breaker.ts";
import { type ProvidedModel, type ProviderGate, whenReady } from "./provider-gate.ts";
import { type RetryOptions, retryModelCall } from "./retrying.ts";

/** One of an agent's models, ready to be asked. */
export type Candidate = {
  readonly name: ModelName;
  readonly model: ProvidedModel;
  readonly settings: ModelSettings;
  readonly maxAttempts: number;
};

export type AskOptions = Pick<RetryOptions, "sleep" | "random" | "onRetry"> & {
  /** One has failed, and the next is asked. */
  onFallback?: (from: ModelName, to: ModelName, error: unknown) => void;
  /** A call waited so many milliseconds for a provider: for its limits, or until it was back. */
  onWait?: (gate: ProviderGate, ms: number, why: "limits" | "down") => void;
  /** All providers are down, with what the last one was told; the first time in this call, or again. */
  onDown?: (reason: string, again: boolean) => void;
  /** One of them is asked again. */
  onBack?: () => void;
  /** Pieces of an answer went out that is void now: who shows them has to start over. */
  onRestart?: () => void;
};

/** Rejects with the last error, or with the reason of the signal once that aborts. `request` is that to the first one. */
export async function askModels(
  candidates: readonly [Candidate, ...Candidate[]],
  request: ModelRequest,
  context: ModelCallContext,
  options: AskOptions,
): Promise<ModelReply> {
  const { signal } = context;
  let left: readonly Candidate[] = candidates;
  let waits = 0;
  // A3
  for (;;) {
    let failed: { by: Candidate; error: unknown } | undefined;
    let spoke = false;
    for (const candidate of left) {
      if (!isReady(candidate)) continue;
      if (failed) options.onFallback?.(failed.by.name, candidate.name, failed.error);
      try {
        return await ask(candidate, () => {
          spoke = true;
        });
      } catch (error) {
        signal.throwIfAborted();
        failed = { by: candidate, error };
        // A1
        if (spoke) left = [candidate];
        if (spoke) break;
      }
    }
    // A2
    if (failed && (isReady(failed.by) || !isProviderDown(failed.error))) throw failed.error;
    if (spoke) options.onRestart?.();
    if (!left.some(isReady)) await backAgain(failed?.error);
  }

  async function ask(candidate: Candidate, onOutput: () => void): Promise<ModelReply> {
    const { model, settings, maxAttempts, name } = candidate;
    const { gate } = model;
    const own = candidate === candidates[0] ? request : { ...request, model: name.model, settings };
    const reply = await retryModelCall(model, own, context, {
      sleep: options.sleep,
      random: options.random,
      maxAttempts,
      onOutput,
      ...(options.onRetry && { onRetry: options.onRetry }),
      ...(gate && { gate, onWait: (ms: number) => options.onWait?.(gate, ms, "limits") }),
    });
    return candidates.length === 1 ? reply : { ...reply, answeredBy: name };
  }

  async function backAgain(error: unknown): Promise<void> {
    const gates = left.flatMap(({ model: { gate } }) => gate ?? []);
    options.onDown?.((error as ModelError | undefined)?.message ?? gates[0]?.reason ?? "", waits > 0);
    waits += 1;
    const since = performance.now();
    try {
      await whenReady(gates, signal);
      options.onBack?.();
    } finally {
      for (const gate of gates) options.onWait?.(gate, performance.now() - since, "down");
    }
  }
}

function isReady({ model: { gate } }: Candidate): boolean {
  return gate?.ready ?? true;
}
