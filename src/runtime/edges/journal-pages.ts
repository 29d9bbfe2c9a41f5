/**
 * A run's journal in pages. Whoever reads a long one from its beginning asks for one page after the other, and whoever watches a
 * run asks again and again whether there is more: neither may read all of it every time.
 *
 * Invariants
 * G1  A page holds the events from a number on, without a gap, as many as fit into one answer and at least one; where more are
 *     there it says the number of the next.
 * G2  Where a page begins in the stream is remembered from the page before, and only saves reading: without it, as at another
 *     daemon, the journal is read from its beginning.
 */
import { isTerminal, type RunEvent } from "../../workflows/run-events.ts";
import type { Entry, Journals } from "../nats/journal.ts";

export type JournalPage = {
  events: RunEvent[];
  /** Where the next page begins; absent on the last one. */
  next?: number;
  /** Whether the run is over. */
  ended: boolean;
};

/** Reads pages; `room` is how long the events of one may be together, in bytes. Undefined where there is no journal. */
export type ReadPage = (subject: string, from: number, room: number) => Promise<JournalPage | undefined>;

// Readers of long journals at the same time; each place is a few numbers.
const MAX_PLACES = 1_000;

/** Opens the pages of journals. */
export function openJournalPages(journals: Pick<Journals<RunEvent[]>, "read" | "last">): ReadPage {
  /** Where reading was to go on: the event's number and the sequence of its entry, by subject. */
  const places = new Map<string, { n: number; seq: number }>();

  return async function readPage(subject, from, room) {
    const newest = await journals.last(subject);
    if (!newest) return undefined;
    const last = newest.value.at(-1);
    // A watcher that has everything.
    if (last && last.n < from) return { events: [], ended: isTerminal(last.type) };
    const place = places.get(subject);
    const begin = place && place.n <= from ? place.seq : undefined;
    const { events, next } = await collect(subject, { from, begin, room });
    if (next) remember(subject, next);
    const ended = [...newest.value, ...events].some(({ type }) => isTerminal(type));
    return { events, ...(next && { next: next.n }), ended };
  };

  // G1
  async function collect(
    subject: string,
    { from, begin = 1, room }: { from: number; begin?: number | undefined; room: number },
  ) {
    const events: RunEvent[] = [];
    let left = room;
    for (let seq = begin; ; ) {
      const entries = await journals.read(subject, { from: seq, bytes: room });
      for (const { seq: at, event, bytes } of eventsIn(entries)) {
        if (event.n < from) continue;
        left -= bytes;
        if (left < 0 && events.length > 0) return { events, next: { n: event.n, seq: at } };
        events.push(event);
      }
      const last = entries.at(-1);
      const length = entries.reduce((sum, { bytes }) => sum + bytes, 0);
      if (!last || length < room) return { events, next: undefined };
      seq = last.seq + 1;
    }
  }

  function remember(subject: string, place: { n: number; seq: number }) {
    places.delete(subject);
    places.set(subject, place);
    if (places.size > MAX_PLACES) places.delete(places.keys().next().value as string);
  }
}

function* eventsIn(entries: readonly Entry<RunEvent[]>[]) {
  for (const { seq, value } of entries) {
    for (const event of value) yield { seq, event, bytes: Buffer.byteLength(JSON.stringify(event)) + 1 };
  }
}
