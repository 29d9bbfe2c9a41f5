/** Time and randomness as the hosts see them, so that tests can hold them still. */
export type Clock = {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Calls `fire` once at an instant; gives back how to forget it. Instants in the past fire soon. */
  at(instant: number, fire: () => void): () => void;
};

// A timer runs by a clock that nobody sets; so often it is compared with the wall clock, which may be set, or go on while the
// machine sleeps. Delays of more than 2^31 ms would overflow to "at once" anyway.
const LOOK_AGAIN_MS = 10_000;

/** The real clock. Its timers do not keep the process alive. */
export const systemClock: Clock = {
  now: () => Date.now(),
  at(instant, fire) {
    let timer: NodeJS.Timeout;
    arm();
    return () => clearTimeout(timer);

    function arm() {
      const wait = Math.max(0, instant - Date.now());
      timer = setTimeout(() => (Date.now() < instant ? arm() : fire()), Math.min(wait, LOOK_AGAIN_MS));
      timer.unref();
    }
  },
};
