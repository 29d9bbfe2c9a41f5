/** Lets so many work at once; the others wait for their turn, in the order in which they came. */

export type Slots = {
  /** Waits for a place and gives back how to leave it; rejects with the signal's reason when that aborts before. */
  enter(signal: AbortSignal): Promise<() => void>;
};

/** Opens `count` places. */
export function openSlots(count: number): Slots {
  let free = count;
  const waiting = new Set<() => void>();
  return {
    async enter(signal) {
      signal.throwIfAborted();
      if (free > 0) free -= 1;
      else await turn(signal);
      let left = false;
      return () => {
        if (left) return;
        left = true;
        const [next] = waiting;
        if (next) next();
        else free += 1;
      };
    },
  };

  /** A place that somebody left goes straight to who waits. */
  function turn(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const begin = () => {
        waiting.delete(begin);
        signal.removeEventListener("abort", giveUp);
        resolve();
      };
      const giveUp = () => {
        waiting.delete(begin);
        reject(signal.reason);
      };
      waiting.add(begin);
      signal.addEventListener("abort", giveUp, { once: true });
    });
  }
}
