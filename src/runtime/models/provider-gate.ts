/**
 * What all calls to one provider share on a daemon: its limits (`call-limits.ts`) and what is known of its health (`breaker.ts`).
 * A call enters, is made, and leaves.
 */
import type { Model, Usage } from "../../actors/model.ts";
import { ModelError } from "../../errors.ts";
import { Breaker, type BreakerOptions, type Permit } from "./breaker.ts";
import { type CallLimitOptions, limitCalls } from "./call-limits.ts";

export type GateOptions = CallLimitOptions & {
  /** When to stop asking a provider that is down. `false`: never. */
  breaker?: BreakerOptions | false;
};

export type ProviderGate = {
  /** The provider's name in the configuration, with the address where that is an agent's own. */
  readonly name: string;
  /** Whether a call may be made: false while the provider is down. */
  readonly ready: boolean;
  /** What it last failed with; undefined where it is taken to work. */
  readonly reason: string | undefined;
  /** Calls that wait for their turn. */
  readonly waiting: number;
  /** Lets a call in, once it is its turn. Throws or rejects with a `ModelError` `provider_down`, or with the signal's reason. */
  enter(signal: AbortSignal): Permit | Promise<Permit>;
  /** Takes note of how a call ended: with usage, or with an error. */
  leave(permit: Permit, end: { usage: Usage } | { error: unknown }): void;
  /** Calls `wake` once, when a call may be made again; gives back what calls it off. */
  wait(wake: () => void): () => void;
  /** Calls `changed` whenever `ready` may have changed; gives back what ends it. */
  watch(changed: () => void): () => void;
};

/** A model with what all calls to its provider share. */
export type ProvidedModel = Model & { readonly gate?: ProviderGate };

/** Opens the gate of one provider. */
export function openProviderGate(name: string, options: GateOptions): ProviderGate {
  const limits = limitCalls(options);
  const breaker = options.breaker === false ? undefined : new Breaker(options.breaker);

  return {
    name,
    get ready() {
      return breaker?.ready ?? true;
    },
    get reason() {
      return breaker?.reason;
    },
    get waiting() {
      return limits?.waiting() ?? 0;
    },
    enter(signal) {
      const turn = limits?.enter(signal);
      return turn ? turn.then(begin) : begin();
    },
    leave(permit, end) {
      const failed = "error" in end;
      limits?.leave(failed ? 0 : end.usage.inputTokens + end.usage.outputTokens);
      breaker?.end(permit, failed ? end.error : undefined);
    },
    wait: (wake) => breaker?.wait(wake) ?? nothing,
    watch: (changed) => breaker?.watch(changed) ?? nothing,
  };

  function begin(): Permit {
    if (!breaker) return "go";
    const permit = breaker.begin();
    if (permit) return permit;
    limits?.leave(undefined);
    throw new ModelError("provider_down", `provider ${name} is down: ${breaker.reason}`, { retryable: true });
  }
}

/** Resolves when one of the gates may be ready; rejects with the signal's reason. */
export function whenReady(gates: readonly ProviderGate[], signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const over = (end: () => void) => () => {
      signal.removeEventListener("abort", giveUp);
      for (const callOff of waits) callOff();
      end();
    };
    const giveUp = over(() => reject(signal.reason));
    const wake = over(resolve);
    const waits = gates.map((gate) => gate.wait(wake));
    signal.addEventListener("abort", giveUp, { once: true });
  });
}

function nothing(): void {}
