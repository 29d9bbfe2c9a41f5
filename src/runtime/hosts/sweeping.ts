/** Work that is done again and again in the background, never twice at once. */

export type Sweeping = {
  /** Sweeps at once, or once more where it is at it. */
  soon(): void;
  stop(): void;
};

/**
 * Calls `sweep` every `everyMs` milliseconds, unless it is still at it; `isStopped` tells it when to end early. What it throws
 * goes to `failed`. The timer does not keep the process alive.
 */
export function sweepEvery(
  everyMs: number,
  sweep: (isStopped: () => boolean) => Promise<void>,
  failed: (error: unknown) => void,
): Sweeping {
  let stopped = false;
  let sweeping = false;
  let again = false;
  const timer = setInterval(() => void once(), everyMs);
  timer.unref();
  return {
    soon() {
      again = true;
      void once();
    },
    stop() {
      stopped = true;
      clearInterval(timer);
    },
  };

  async function once() {
    if (sweeping || stopped) return;
    sweeping = true;
    do {
      again = false;
      try {
        await sweep(() => stopped);
      } catch (error) {
        failed(error);
      }
    } while (again && !stopped);
    sweeping = false;
  }
}
