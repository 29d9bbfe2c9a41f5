/**
 * Knows when what comes from the broker may be old, and when this process may have been missed. To a process that was stopped
 * or blocked the broker went on delivering tasks; their owners have heard nothing, and sent them elsewhere. Begun here as well
 * they would only be done twice. One whose connection was away or dead has been missed just the same.
 *
 * Invariants
 * B1  Everything that was delivered before the process ran again counts as old: the broker's answer to a ping that is sent now
 *     comes after all of it.
 * B2  It is noticed on the first look, whichever comes first after a pause: the tick or a message.
 * B3  A connection on which no ping is answered is one on which nobody hears this process, whatever the client knows of it:
 *     that counts as missed before others can have taken this process for dead.
 */
import type { Bus } from "../nats/connection.ts";

export type Backlog = {
  /** Whether what arrives now may have been waiting for this process. */
  isOld(): boolean;
  /** Whether others may have missed this process since an instant of `performance.now()`: it did not run, or was not heard. */
  missedSince(instant: number): boolean;
  stop(): void;
};

const TICK_MS = 100;
// Well below the time after which owners send a task again, well above what a busy loop takes.
const PAUSED_MS = 500;
// Presence is given up after 2.5 s without a beat (`suspectAfterMs`), and the last beat was at most half a second before the
// last answer; a busy broker answers well within the rest.
const MISSED_MS = 1_200;

/** Starts watching; its timer does not keep the process alive. `awake` is called when all that was old after a pause is through. */
export function watchBacklog(bus: Bus, awake: () => void): Backlog {
  let lastLook = performance.now();
  let pauses = 0;
  let lastMissed = Number.NEGATIVE_INFINITY;
  let old = false;
  const timer = setInterval(tick, TICK_MS);
  timer.unref();
  return {
    isOld() {
      look();
      return old;
    },
    missedSince(instant) {
      look();
      return lastMissed >= instant;
    },
    stop: () => clearInterval(timer),
  };

  function tick() {
    look();
    lastLook = performance.now();
  }

  // B2, B3
  function look() {
    const now = performance.now();
    if (now - lastLook > PAUSED_MS) notePause();
    if (now - bus.heardAt() > MISSED_MS) lastMissed = now;
  }

  function notePause() {
    lastLook = performance.now();
    lastMissed = lastLook;
    old = true;
    pauses += 1;
    const mine = pauses;
    // B1
    void bus.nc
      .flush()
      .catch(() => {})
      .then(() => {
        if (mine !== pauses) return;
        old = false;
        awake();
      });
  }
}
