/**
 * Knows when what comes from the broker may be old. To a process that was stopped or blocked the broker went on delivering
 * tasks; their owners have heard nothing, and sent them elsewhere. Begun here as well they would only be done twice.
 *
 * Invariants
 * B1  Everything that was delivered before the process ran again counts as old: the broker's answer to a ping that is sent now
 *     comes after all of it.
 * B2  It is noticed on the first look, whichever comes first after a pause: the tick or a message.
 */
import type { Bus } from "../nats/connection.ts";

export type Backlog = {
  /** Whether what arrives now may have been waiting for this process. */
  isOld(): boolean;
  /** Whether this process has not run for a while since an instant of `performance.now()`. */
  pausedSince(instant: number): boolean;
  stop(): void;
};

const TICK_MS = 100;
// Well below the time after which owners send a task again, well above what a busy loop takes.
const PAUSED_MS = 500;

/** Starts watching; its timer does not keep the process alive. */
export function watchBacklog(bus: Bus): Backlog {
  let lastLook = performance.now();
  let pauses = 0;
  let lastPause = Number.NEGATIVE_INFINITY;
  let old = false;
  const timer = setInterval(tick, TICK_MS);
  timer.unref();
  return {
    isOld() {
      look();
      return old;
    },
    pausedSince(instant) {
      look();
      return lastPause >= instant;
    },
    stop: () => clearInterval(timer),
  };

  function tick() {
    look();
    lastLook = performance.now();
  }

  // B2
  function look() {
    if (performance.now() - lastLook > PAUSED_MS) notePause();
  }

  function notePause() {
    lastLook = performance.now();
    lastPause = lastLook;
    old = true;
    pauses += 1;
    const mine = pauses;
    // B1
    void bus.nc
      .flush()
      .catch(() => {})
      .then(() => {
        if (mine === pauses) old = false;
      });
  }
}
