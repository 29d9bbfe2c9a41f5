/**
 * Results on their way to whoever asked for them. They are core messages: what is published while the connection breaks is
 * lost without a word, and the client drops what is published while it is away.
 *
 * Invariants
 * O1  A result is kept until the broker has answered something that was asked well after it: then it has had the result too.
 * O2  What is kept when the connection is back is sent again, and once more when slower clients are back as well. A result
 *     carries its run id, so hearing it twice is harmless.
 */
import type { Bus } from "../nats/connection.ts";

export type Results = {
  send(subject: string, result: unknown): void;
  stop(): void;
};

type Kept = { subject: string; bytes: Uint8Array; at: number };

// A broker that was killed may have read the message and not passed it on.
const PASSED_ON_MS = 1_000;
// Clients of NATS try to reconnect every two seconds by default.
const CLIENTS_BACK_MS = 3_000;
// What ends within a second at full load, with room; where outputs are huge the oldest go first.
const MAX_KEPT_BYTES = 32 * 1024 * 1024;

/** Opens the way for results of one daemon. */
export function openResults(bus: Bus): Results {
  let kept: Kept[] = [];
  let keptBytes = 0;
  let again: NodeJS.Timeout | undefined;
  const stopListening = bus.onRestored(sayAgain);

  return {
    send(subject, result) {
      const bytes = Buffer.from(JSON.stringify(result));
      // O1
      dropUntil(({ at }) => at + PASSED_ON_MS > bus.reachedAt());
      kept.push({ subject, bytes, at: performance.now() });
      keptBytes += bytes.length;
      dropUntil(() => keptBytes <= MAX_KEPT_BYTES);
      bus.nc.publish(subject, bytes);
    },
    stop() {
      stopListening();
      clearTimeout(again);
      kept = [];
    },
  };

  // O2
  function sayAgain() {
    dropUntil(({ at }) => at + PASSED_ON_MS > bus.reachedAt());
    const unsure = kept;
    const publishAll = () => {
      if (bus.connected()) for (const { subject, bytes } of unsure) bus.nc.publish(subject, bytes);
    };
    publishAll();
    clearTimeout(again);
    again = setTimeout(publishAll, CLIENTS_BACK_MS);
    again.unref();
  }

  function dropUntil(stays: (oldest: Kept) => boolean) {
    const gone = kept.findIndex(stays);
    const dropped = kept.splice(0, gone === -1 ? kept.length : gone);
    for (const { bytes } of dropped) keptBytes -= bytes.length;
  }
}
