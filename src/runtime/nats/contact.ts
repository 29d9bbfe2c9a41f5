/**
 * When the broker was last heard. A connection looks well for half a minute after the network or the broker stopped answering;
 * whoever judges others by their silence, or may be judged by its own, has to know sooner.
 */
import type { NatsConnection } from "./nats.ts";

/** How old an answer may be on a connection that is well, in milliseconds. Nothing but the daemon's own parts asks for it. */
export const CONTACT_EVERY_MS = 250;
/** So many may be unanswered; of a broker that does not answer at all nothing is learned by more. */
const MOST_PINGS = 8;
/** A broker that was last heard longer ago than this, in milliseconds, does not answer: one that is well does so at once. */
export const UNHEARD_MS = 800;

export type Contact = {
  /**
   * The instant of `performance.now()` at which the last ping left that was answered. What arrives now left the broker later
   * than that, and what was published before has reached it.
   */
  heardAt(): number;
  /** The broker has just been heard: the connection is back. */
  note(): void;
};

/** Watches a connection, from the first question on. */
export function watchContact(nc: NatsConnection, connected: () => boolean): Contact {
  let heardAt = performance.now();
  let watching = false;
  let pinging = 0;
  return {
    heardAt() {
      if (!watching) watch();
      return heardAt;
    },
    note() {
      heardAt = performance.now();
    },
  };

  function watch() {
    watching = true;
    heardAt = performance.now();
    const timer = setInterval(() => {
      // An answer that takes longer than the time between two questions must not make what is known twice as old.
      if (pinging < MOST_PINGS && connected()) void ping();
    }, CONTACT_EVERY_MS);
    timer.unref();
    void nc.closed().then(() => clearInterval(timer));
  }

  async function ping() {
    pinging += 1;
    const leftAt = performance.now();
    try {
      await nc.flush();
      heardAt = Math.max(heardAt, leftAt);
    } catch {
      // The connection is away: unheard until it is back.
    }
    pinging -= 1;
  }
}
