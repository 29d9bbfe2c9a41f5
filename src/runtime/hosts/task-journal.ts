/** One task's journal as its worker writes it: turns in progress and, where nobody takes it, the outcome. */
import type { TaskEntry } from "../../actors/task.ts";
import { JournalFullError } from "../../errors.ts";
import type { Entry, Journals } from "../nats/journal.ts";
import { nuid } from "../nats/nats.ts";
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
};

/** Opens the journal at `subject` after the entries that are there. */
export function openTaskJournal(
  journals: Journals<TaskEntry>,
  subject: string,
  { before, limits, signal }: { before: readonly Entry<TaskEntry>[]; limits: JournalLimits; signal: AbortSignal },
): TaskJournal {
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
        const bytes = Buffer.from(JSON.stringify(entry));
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
  };

  function checkRoom() {
    const reached = limitReached(limits, { events: count + 1, bytes: length });
    if (reached)
      throw new JournalFullError("the task's journal", reached.limit === "events" ? "entries" : "bytes", reached);
  }
}
