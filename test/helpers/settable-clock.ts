import type { Clock } from "../../src/runtime/hosts/clock.ts";

const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

/** A wall clock that a test sets; its timers run in real time, as those of a process do when the clock is set. */
export function settableClock(): Clock & { set(instant: number): void } {
  let ahead = 0;
  const now = () => Date.now() + ahead;
  return {
    now,
    set(instant) {
      ahead = instant - Date.now();
    },
    at(instant, fire, atMostMs = LONGEST_TIMEOUT_MS) {
      const timer = setTimeout(fire, Math.min(Math.max(0, instant - now()), atMostMs, LONGEST_TIMEOUT_MS));
      return () => clearTimeout(timer);
    },
  };
}
