/**
 * The events of one run, from any number on: first those in the journal, then as they happen.
 *
 * Invariants
 * E1  Journal events come in the order of their number, each once, none left out: the journal says what is next, the live
 *     feed only brings it sooner. On a gap, after a silence, or when too much has piled up, the journal is read again.
 * E2  It listens to the live feed before it first reads the journal.
 * E3  What is only ever live (pieces of a model's text) has no number. It is passed on as it comes, unless its task is known
 *     to be over; some may be missing.
 * E4  It ends after the event that ends the run.
 */
import { NotFoundError, UnavailableError } from "../../errors.ts";
import { isTerminal, type RunEvent } from "../../workflows/run-events.ts";
import type { Msg, NatsConnection } from "../nats/nats.ts";
import type { JournalPage } from "./journal-pages.ts";

/** An event that is on the live feed and nowhere else, such as `model.delta`. */
export type LiveEvent = {
  v: 1;
  type: string;
  runId: string;
  n?: never;
  at?: string;
  data: { taskId?: string; agent?: string; text?: string; [key: string]: unknown };
};

export type RunFeedOptions = {
  nc: NatsConnection;
  /** The live feed's subject. */
  subject: string;
  /** The number of the first event wanted. */
  from: number;
  /** Whether events that are only live are wanted. */
  live: boolean;
  signal: AbortSignal | undefined;
  journal(from: number): Promise<JournalPage>;
  /** Whether a run the API does not know may still come. */
  mayCome(): boolean;
};

// How long the live feed may be silent before the journal is asked whether something was missed.
const SILENCE_MS = 3_000;
const NOT_YET_MS = 250;
// More than this unread, and the reader is better served from the journal.
const MAX_UNREAD = 10_000;

/** Follows a run to its end. */
export async function* followRun(options: RunFeedOptions): AsyncGenerator<RunEvent | LiveEvent, void, undefined> {
  const { nc, subject, live, signal } = options;
  const unread: (RunEvent | LiveEvent)[] = [];
  const settled = new Set<string>();
  let expected = options.from;
  let readAt = 0;
  let wake = () => {};
  // E2
  const subscription = nc.subscribe(subject, { callback: (error, message) => error ?? hear(message) });
  const onAbort = () => wake();
  signal?.addEventListener("abort", onAbort);

  try {
    for (;;) {
      signal?.throwIfAborted();
      if (performance.now() >= readAt) {
        readAt = performance.now() + SILENCE_MS;
        if (yield* fromJournal()) return;
      }
      if (yield* fromLiveFeed()) return;
      if (unread.length === 0) await newsOr(readAt - performance.now());
    }
  } finally {
    signal?.removeEventListener("abort", onAbort);
    subscription.unsubscribe();
  }

  /** True when the run is over. */
  async function* fromJournal(): AsyncGenerator<RunEvent, boolean, undefined> {
    for (;;) {
      const page = await readPage();
      if (!page) return false;
      for (const event of page.events) {
        if (event.n !== expected) continue;
        note(event);
        yield event;
      }
      // E4: also when whoever asks starts after the end.
      if (page.next === undefined) return page.ended;
    }
  }

  async function readPage(): Promise<JournalPage | undefined> {
    try {
      return await options.journal(expected);
    } catch (error) {
      const notYet = error instanceof NotFoundError && options.mayCome();
      if (!notYet && !(error instanceof UnavailableError)) throw error;
      readAt = performance.now() + NOT_YET_MS;
      return undefined;
    }
  }

  /** True when the run is over. */
  function* fromLiveFeed(): Generator<RunEvent | LiveEvent, boolean, undefined> {
    for (let event = unread.shift(); event; event = unread.shift()) {
      if (event.n === undefined) {
        // E3
        if (live && !settled.has(event.data.taskId ?? "")) yield event;
      } else if (event.n > expected) {
        // E1: the journal has what is missing, and this.
        readAt = 0;
        return false;
      } else if (event.n === expected) {
        note(event);
        yield event;
        if (isTerminal(event.type)) return true;
      }
      readAt = Math.max(readAt, performance.now() + SILENCE_MS);
    }
    return false;
  }

  function note(event: RunEvent) {
    expected = event.n + 1;
    if (event.type === "task.settled" || event.type === "agent.handoff") settled.add(event.data.taskId);
  }

  function hear(message: Msg) {
    try {
      unread.push(message.json());
    } catch {
      // Not of Troupe; the journal is what counts.
      return;
    }
    if (unread.length > MAX_UNREAD) {
      unread.length = 0;
      readAt = 0;
    }
    wake();
  }

  function newsOr(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => wake(), Math.max(0, ms));
      wake = () => {
        clearTimeout(timer);
        wake = () => {};
        resolve();
      };
      if (signal?.aborted) wake();
    });
  }
}
