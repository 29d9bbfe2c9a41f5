/**
 * How many calls a provider gets at once and in a minute.
 *
 * Invariants
 * L1  Whoever came first begins first; nobody overtakes, also not where there is room in between.
 * L2  In no minute, wherever it begins, do more calls begin than are allowed. Of tokens it is known only afterwards how many they
 *     were: no call begins in a minute that has had its tokens.
 * L3  Who is aborted while it waits has taken nothing.
 */

export type CallLimitOptions = {
  /** Calls under way at once. @default no limit */
  maxConcurrency?: number;
  /** Calls begun in any minute. @default no limit */
  requestsPerMinute?: number;
  /** Tokens of answered calls in any minute, sent and received, after which none begins. @default no limit */
  tokensPerMinute?: number;
};

export type CallLimits = {
  /** Takes a place: at once (undefined), or when the promise resolves. It rejects with the signal's reason. */
  enter(signal: AbortSignal): Promise<void> | undefined;
  /** Gives the place back after a call that took so many tokens; undefined where none was made. */
  leave(tokens: number | undefined): void;
  /** Calls that wait. */
  waiting(): number;
};

const MINUTE_MS = 60_000;

/** The limits of one provider; undefined where there are none. `windowMs` is what counts as a minute. */
export function limitCalls(options: CallLimitOptions, windowMs = MINUTE_MS): CallLimits | undefined {
  const { maxConcurrency, requestsPerMinute, tokensPerMinute } = options;
  if (maxConcurrency === undefined && requestsPerMinute === undefined && tokensPerMinute === undefined)
    return undefined;
  const most = maxConcurrency ?? Number.POSITIVE_INFINITY;
  const begun = requestsPerMinute === undefined ? undefined : new RecentSum(windowMs, requestsPerMinute);
  const spent = tokensPerMinute === undefined ? undefined : new RecentSum(windowMs, tokensPerMinute);
  const queue = new Set<() => void>();
  let underWay = 0;
  let timer: NodeJS.Timeout | undefined;

  return { enter, leave, waiting: () => queue.size };

  function enter(signal: AbortSignal): Promise<void> | undefined {
    if (queue.size === 0 && msUntilRoom() === 0) {
      take();
      return undefined;
    }
    return new Promise((resolve, reject) => {
      const begin = () => {
        signal.removeEventListener("abort", giveUp);
        resolve();
      };
      // L3
      const giveUp = () => {
        queue.delete(begin);
        reject(signal.reason);
      };
      if (signal.aborted) return giveUp();
      signal.addEventListener("abort", giveUp, { once: true });
      queue.add(begin);
      letIn();
    });
  }

  function leave(tokens: number | undefined): void {
    underWay -= 1;
    if (tokens === undefined) begun?.takeBack();
    else if (tokens > 0) spent?.add(performance.now(), tokens);
    letIn();
  }

  // L1: a set is in the order of coming.
  function letIn(): void {
    clearTimeout(timer);
    for (const begin of queue) {
      const ms = msUntilRoom();
      if (ms > 0) {
        if (Number.isFinite(ms)) timer = setTimeout(letIn, ms);
        return;
      }
      queue.delete(begin);
      take();
      begin();
    }
  }

  function take(): void {
    underWay += 1;
    begun?.add(performance.now(), 1);
  }

  /** Infinite where only a call that ends makes room. */
  function msUntilRoom(): number {
    if (underWay >= most) return Number.POSITIVE_INFINITY;
    const now = performance.now();
    return Math.max(begun?.msUntilRoom(now) ?? 0, spent?.msUntilRoom(now) ?? 0);
  }
}

/** A sum over the time just past. */
class RecentSum {
  readonly #windowMs: number;
  readonly #limit: number;
  #parts: { at: number; amount: number }[] = [];
  /** The parts before this one are over. */
  #from = 0;
  #sum = 0;

  constructor(windowMs: number, limit: number) {
    this.#windowMs = windowMs;
    this.#limit = limit;
  }

  add(at: number, amount: number): void {
    this.#parts.push({ at, amount });
    this.#sum += amount;
  }

  /** Undoes the last one. */
  takeBack(): void {
    const part = this.#parts.length > this.#from ? this.#parts.pop() : undefined;
    if (part) this.#sum -= part.amount;
  }

  /** How long until the sum is below the limit. */
  msUntilRoom(now: number): number {
    this.#forget(now);
    let left = this.#sum;
    for (let i = this.#from; left >= this.#limit; i += 1) {
      const part = this.#parts[i];
      if (!part) break;
      left -= part.amount;
      // L2: rounded up, for a timer may be early by a part of a millisecond.
      if (left < this.#limit) return Math.max(1, Math.ceil(part.at + this.#windowMs - now));
    }
    return 0;
  }

  #forget(now: number): void {
    for (let part = this.#parts[this.#from]; part && part.at + this.#windowMs <= now; part = this.#parts[this.#from]) {
      this.#sum -= part.amount;
      this.#from += 1;
    }
    if (this.#from > 0 && this.#from * 2 >= this.#parts.length) {
      this.#parts = this.#parts.slice(this.#from);
      this.#from = 0;
    }
  }
}
