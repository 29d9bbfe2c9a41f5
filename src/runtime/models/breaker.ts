/**
 * Whether a provider is worth asking, by how the calls to it ended.
 *
 *   closed ──failures in a row──▶ open ──its time──▶ half-open ──a call──▶ probing ──▶ closed
 *                                  ▲                    ▲                   │ │
 *                                  └────────────────────┼──── fails ────────┘ │
 *                                                       └─── says nothing ────┘
 *
 * Invariants
 * B1  Only what says that nobody could be served counts: an answer that refuses one request is a provider at work.
 * B2  While it is probing, one call is under way and no other begins.
 * B3  Whoever waits as a call is woken before agents hear of it: a probe comes from the work at hand, and only where there is none
 *     from a new task.
 */
import { ModelError } from "../../errors.ts";

export type BreakerOptions = {
  /** So many failures in a row open it. @default 5 */
  failures?: number;
  /** How long it stays open, in milliseconds; doubled with every probe that fails, up to a minute. @default 5000 */
  cooldownMs?: number;
};

/** How a call was let through. */
export type Permit = "go" | "probe";

/** What a call that has ended says of its provider. */
type Verdict = { is: "up" } | { is: "unknown" } | { is: "down"; reason: string; forMs?: number };

type State =
  | { is: "closed"; failures: number }
  | { is: "open"; reason: string; cooldownMs: number; timer: NodeJS.Timeout }
  | { is: "half-open" | "probing"; reason: string; cooldownMs: number };

const DEFAULT_FAILURES = 5;
const DEFAULT_COOLDOWN_MS = 5_000;
const LONGEST_COOLDOWN_MS = 60_000;
/** A provider that asks for more than this counts as down; below, its calls are only made again. */
export const LONG_RETRY_AFTER_MS = 60_000;
/** Nobody is believed for longer: quotas are raised and clocks are wrong. */
const LONGEST_OPEN_MS = 600_000;

/** The last is that of a call that was not even let in. */
const DOWN: readonly string[] = ["provider_unavailable", "provider_timeout", "connection_failed", "provider_down"];
/** They say neither that it works nor that it does not. */
const UNKNOWN: readonly string[] = ["stream_cut", "malformed_reply", "aborted"];

/** Whether an error says that its provider is down. */
export function isProviderDown(error: unknown): boolean {
  return verdictOn(error).is === "down";
}

export class Breaker {
  readonly #failures: number;
  readonly #cooldownMs: number;
  readonly #waiters = new Set<() => void>();
  readonly #watchers = new Set<() => void>();
  #state: State = { is: "closed", failures: 0 };

  constructor({ failures = DEFAULT_FAILURES, cooldownMs = DEFAULT_COOLDOWN_MS }: BreakerOptions = {}) {
    this.#failures = failures;
    this.#cooldownMs = cooldownMs;
  }

  /** Whether a call may begin now. */
  get ready(): boolean {
    return this.#state.is === "closed" || this.#state.is === "half-open";
  }

  /** What the provider last failed with; undefined where it is taken to work. */
  get reason(): string | undefined {
    return this.#state.is === "closed" ? undefined : this.#state.reason;
  }

  /** Begins a call; undefined where none may begin. */
  begin(): Permit | undefined {
    const state = this.#state;
    if (state.is === "closed") return "go";
    if (state.is !== "half-open") return undefined;
    // B2
    this.#become({ ...state, is: "probing" });
    return "probe";
  }

  /** Takes note of how a call ended; `error` is missing where it was answered. */
  end(permit: Permit, error?: unknown): void {
    const state = this.#state;
    // The hot path: it works, and did before.
    if (error === undefined && state.is === "closed" && state.failures === 0) return;
    const verdict: Verdict = error === undefined ? { is: "up" } : verdictOn(error);
    switch (verdict.is) {
      case "up":
        this.#close();
        break;
      case "unknown":
        if (permit === "probe" && state.is === "probing") this.#halfOpen(state);
        break;
      case "down":
        this.#failed(permit, verdict);
        break;
      default:
        verdict satisfies never;
    }
  }

  /** Calls `wake` once, when a call may begin; gives back what calls it off. */
  wait(wake: () => void): () => void {
    this.#waiters.add(wake);
    return () => this.#waiters.delete(wake);
  }

  /** Calls `changed` whenever `ready` may have changed; gives back what ends it. */
  watch(changed: () => void): () => void {
    this.#watchers.add(changed);
    return () => this.#watchers.delete(changed);
  }

  #failed(permit: Permit, { reason, forMs = 0 }: Extract<Verdict, { is: "down" }>): void {
    const state = this.#state;
    if (state.is === "closed") {
      const failures = state.failures + 1;
      if (failures < this.#failures && forMs === 0) this.#state = { is: "closed", failures };
      else this.#open(reason, this.#cooldownMs, forMs);
    } else if (state.is === "probing" && permit === "probe") {
      this.#open(reason, Math.min(2 * state.cooldownMs, LONGEST_COOLDOWN_MS), forMs);
    }
  }

  #open(reason: string, cooldownMs: number, forMs: number): void {
    const ms = Math.min(Math.max(cooldownMs, forMs), LONGEST_OPEN_MS);
    const timer = setTimeout(() => this.#halfOpen({ reason, cooldownMs }), ms);
    timer.unref();
    this.#become({ is: "open", reason, cooldownMs, timer });
  }

  #halfOpen({ reason, cooldownMs }: { reason: string; cooldownMs: number }): void {
    this.#state = { is: "half-open", reason, cooldownMs };
    // B3
    if (this.#waiters.size > 0) {
      this.#wake();
      setImmediate(() => this.#tell());
    } else this.#tell();
  }

  #close(): void {
    if (this.#state.is === "open") clearTimeout(this.#state.timer);
    const was = this.#state.is;
    this.#state = { is: "closed", failures: 0 };
    if (was === "closed") return;
    this.#wake();
    this.#tell();
  }

  #become(state: State): void {
    this.#state = state;
    this.#tell();
  }

  #wake(): void {
    const waiters = [...this.#waiters];
    this.#waiters.clear();
    for (const wake of waiters) wake();
  }

  #tell(): void {
    for (const changed of this.#watchers) changed();
  }
}

// B1
function verdictOn(error: unknown): Verdict {
  if (!(error instanceof ModelError)) return { is: "unknown" };
  const { code, message, retryAfterMs } = error;
  if (DOWN.includes(code)) return { is: "down", reason: message, ...longWait(retryAfterMs) };
  const wait = longWait(retryAfterMs);
  if (code === "rate_limited" && wait) return { is: "down", reason: message, ...wait };
  return { is: UNKNOWN.includes(code) ? "unknown" : "up" };
}

function longWait(retryAfterMs: number | undefined): { forMs: number } | undefined {
  return retryAfterMs !== undefined && retryAfterMs > LONG_RETRY_AFTER_MS ? { forMs: retryAfterMs } : undefined;
}
