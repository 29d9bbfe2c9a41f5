/** Time and randomness as the hosts see them, so that tests can hold them still. */
export type Clock = {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Calls `fire` once at an instant; gives back how to forget it. Instants in the past fire soon. */
  at(instant: number, fire: () => void): () => void;
};

// Longer delays overflow to "at once"; such timers are set again when they come due.
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

/** The real clock. Its timers do not keep the process alive. */
export const systemClock: Clock = {
  now: () => Date.now(),
  at(instant, fire) {
    let timer: NodeJS.Timeout;
    arm();
    return () => clearTimeout(timer);

    function arm() {
      const wait = Math.max(0, instant - Date.now());
      timer = setTimeout(() => (Date.now() < instant ? arm() : fire()), Math.min(wait, LONGEST_TIMEOUT_MS));
      timer.unref();
    }
  },
};
