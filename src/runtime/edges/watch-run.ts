/** A run's record, moved on as its events come. */
import type { RunEvent } from "../../workflows/run-events.ts";
import { applyEvents, type RunRecord } from "../../workflows/run-record.ts";

/** Gives all events of a run, from the first on, until it is over or the signal aborts. */
type OpenEvents = (signal: AbortSignal) => AsyncIterable<RunEvent>;

// Whoever does not read for long is not read for either.
const MOST_UNREAD = 1_000;

/** Gives the record as it is, and again after events; those that are there already, or come while nobody asks, are taken together. */
export async function* watchRun(
  open: OpenEvents,
  signal: AbortSignal | undefined,
): AsyncGenerator<RunRecord, void, undefined> {
  const stop = new AbortController();
  const events = open(signal ? AbortSignal.any([signal, stop.signal]) : stop.signal);
  let record: RunRecord | undefined;
  let unread: RunEvent[] = [];
  let end: { error?: unknown } | undefined;
  let news = Promise.withResolvers<void>();
  let room = Promise.withResolvers<void>();
  void collect();

  try {
    for (;;) {
      await news.promise;
      // What came with the same message is one step.
      await new Promise((resolve) => setImmediate(resolve));
      const batch = unread;
      unread = [];
      news = Promise.withResolvers();
      if (end) news.resolve();
      room.resolve();
      if (batch.length > 0) {
        record = applyEvents(record, batch);
        yield record;
      } else if (end) {
        if ("error" in end) throw end.error;
        return;
      }
    }
  } finally {
    stop.abort();
    room.resolve();
  }

  async function collect() {
    try {
      for await (const event of events) {
        unread.push(event);
        news.resolve();
        if (unread.length < MOST_UNREAD) continue;
        room = Promise.withResolvers();
        await room.promise;
      }
      end = {};
    } catch (error) {
      end = { error };
    }
    news.resolve();
  }
}
