/** One task's journal as its worker writes it: turns in progress and, where nobody takes it, the outcome. */
import type { TaskEntry } from "../../actors/task.ts";
import { JournalFullError } from "../../errors.ts";
import type { Entry, Journals } from "../nats/journal.ts";
import { nuid } from "../nats/nats.ts";
import { LARGE, type Payloads } from "../nats/payloads.ts";
import { type JournalLimits, limitReached } from "./journal-limits.ts";

type WithoutHead<T> = T extends unknown ? Omit<T, "v" | "id" | "at"> : never;
/** An entry before it is written. */
type TaskEntryBody = WithoutHead<TaskEntry>;

export type TaskJournal = {
  /**
   * Stores an entry after those given before it; rejects as `Journals.append` does, and with JournalFullError where the journal
   * has come to its limit. An outcome is always taken: it is the last entry.
   */
  append(body: TaskEntryBody): Promise<void>;
  /** Resolves once no append is under way. */
  settled(): Promise<void>;
  /** The sequence of the newest entry this worker knows of; 0 where there is none. */
  lastSeq(): number;
};

type TaskJournalOptions = {
  journals: Journals<TaskEntry>;
  payloads: Payloads;
  runId: string;
  subject: string;
  /** The entries that are there. */
  before: readonly Entry<TaskEntry>[];
  limits: JournalLimits;
  signal: AbortSignal;
};

// What an append has beside the entry.
const HEADER_ROOM = 256;

/** Opens the journal of a task after the entries that are there. What is too large for an entry is stored before it. */
export function openTaskJournal({
  journals,
  payloads,
  runId,
  subject,
  before,
  limits,
  signal,
}: TaskJournalOptions): TaskJournal {
  let last = before.at(-1)?.seq ?? 0;
  let count = before.length;
  let length = before.reduce((sum, { bytes }) => sum + bytes, 0);
  // Tools of one turn end at once, but each append has to name the one before it.
  let tail: Promise<unknown> = Promise.resolve();
  return {
    append(body) {
      const writing = tail.then(async () => {
        if (body.type !== "outcome") checkRoom();
        const entry = { v: 1, id: nuid.next(), at: new Date().toISOString(), ...body };
        const bytes = await encoded(entry);
        last = await journals.append(subject, bytes, { expected: last, id: entry.id, signal });
        count += 1;
        length += bytes.length;
      });
      tail = writing.catch(() => {});
      return writing;
    },
    async settled() {
      await tail;
    },
    lastSeq: () => last,
  };

  /** What is too long is not kept while it is made smaller. */
  function encoded(entry: object & { type: string }): Uint8Array | Promise<Uint8Array> {
    const whole = Buffer.from(JSON.stringify(entry));
    const bytes = whole.length;
    const room = payloads.room(HEADER_ROOM);
    if (bytes <= room) return whole;
    return payloads
      .detach([entry], { what: `${subject}, ${entry.type}`, fields: LARGE.entry, bytes, room, runId, signal })
      .then(([left]) => Buffer.from(JSON.stringify(left)));
  }

  function checkRoom() {
    const reached = limitReached(limits, { events: count + 1, bytes: length });
    if (reached)
      throw new JournalFullError("the task's journal", reached.limit === "events" ? "entries" : "bytes", reached);
  }
}
