/** What happens in all runs, as it happens: the live feed as it is. What was before, or while the broker was away, is not in it. */
import type { RunEvent } from "../../workflows/run-events.ts";
import type { NatsConnection } from "../nats/nats.ts";
import type { LiveEvent } from "./run-feed.ts";

/** Follows the live feed until `signal` aborts or the connection closes. */
export async function* followAllRuns(
  nc: NatsConnection,
  subject: string,
  signal?: AbortSignal,
): AsyncGenerator<RunEvent | LiveEvent, void, undefined> {
  if (signal?.aborted) return;
  const subscription = nc.subscribe(subject);
  const stop = () => subscription.unsubscribe();
  signal?.addEventListener("abort", stop);
  try {
    for await (const message of subscription) {
      let event: RunEvent | LiveEvent;
      try {
        event = message.json();
      } catch {
        // Not of Troupe.
        continue;
      }
      yield event;
    }
  } finally {
    signal?.removeEventListener("abort", stop);
    stop();
  }
}
