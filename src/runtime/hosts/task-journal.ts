/** One task's journal as its worker writes it: turns in progress and, where nobody takes it, the outcome. */
import type { TaskEntry } from "../../actors/task.ts";
import type { Journals } from "../nats/journal.ts";
import { nuid } from "../nats/nats.ts";
import { LARGE, type Payloads } from "../nats/payloads.ts";

type WithoutHead<T> = T extends unknown ? Omit<T, "v" | "id" | "at"> : never;
/** An entry before it is written. */
type TaskEntryBody = WithoutHead<TaskEntry>;

export type TaskJournal = {
  /** Stores an entry after those given before it; rejects as `Journals.append` does. */
  append(body: TaskEntryBody): Promise<void>;
  /** Resolves once no append is under way. */
  settled(): Promise<void>;
};

type TaskJournalOptions = {
  journals: Journals<TaskEntry>;
  payloads: Payloads;
  runId: string;
  subject: string;
  /** The sequence of its last entry; 0 when it must be empty. */
  expected: number;
  signal: AbortSignal;
};

// What an append has beside the entry.
const HEADER_ROOM = 256;

/** Opens the journal of a task. What is too large for an entry is stored before it. */
export function openTaskJournal({
  journals,
  payloads,
  runId,
  subject,
  expected,
  signal,
}: TaskJournalOptions): TaskJournal {
  let last = expected;
  // Tools of one turn end at once, but each append has to name the one before it.
  let tail: Promise<unknown> = Promise.resolve();
  return {
    append(body) {
      const writing = tail.then(async () => {
        const entry = { v: 1, id: nuid.next(), at: new Date().toISOString(), ...body };
        const bytes = await encoded(entry);
        last = await journals.append(subject, bytes, { expected: last, id: entry.id, signal });
      });
      tail = writing.catch(() => {});
      return writing;
    },
    async settled() {
      await tail;
    },
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
}
