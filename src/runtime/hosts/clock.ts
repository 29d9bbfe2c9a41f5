/** Time and randomness as the hosts see them, so that tests can hold them still. */
export type Clock = {
  /** Milliseconds since the epoch. */
  now(): number;
  /**
   * Calls `fire` once when the clock says an instant, or, where that is given, once `atMostMs` milliseconds have passed whatever
   * the clock says by then; gives back how to forget it. Instants in the past fire soon.
   */
  at(instant: number, fire: () => void, atMostMs?: number): () => void;
};

// A timer runs by a clock that nobody sets; so often it is compared with the wall clock, which may be set, or go on while the
// machine sleeps. It costs next to nothing, and delays of more than 2^31 ms would overflow to "at once" anyway.
const LOOK_AGAIN_MS = 10_000;

/** The real clock. Its timers do not keep the process alive. */
export const systemClock: Clock = {
  now: () => Date.now(),
  at(instant, fire, atMostMs = Number.POSITIVE_INFINITY) {
    const latest = performance.now() + atMostMs;
    let timer: NodeJS.Timeout;
    arm();
    return () => clearTimeout(timer);

    function arm() {
      const wait = Math.max(0, Math.min(left(), LOOK_AGAIN_MS));
      timer = setTimeout(() => (left() > 0 ? arm() : fire()), wait);
      timer.unref();
    }

    function left() {
      return Math.min(instant - Date.now(), latest - performance.now());
    }
  },
};
