/** One task's journal as its worker writes it: turns in progress and, where nobody takes it, the outcome. */
import type { TaskEntry } from "../../actors/task.ts";
import type { Journals } from "../nats/journal.ts";
import { nuid } from "../nats/nats.ts";

type WithoutHead<T> = T extends unknown ? Omit<T, "v" | "id" | "at"> : never;
/** An entry before it is written. */
type TaskEntryBody = WithoutHead<TaskEntry>;

export type TaskJournal = {
  /** Stores an entry after those given before it; rejects as `Journals.append` does. */
  append(body: TaskEntryBody): Promise<void>;
  /** Resolves once no append is under way. */
  settled(): Promise<void>;
};

/** Opens the journal at `subject`; `expected` is the sequence of its last entry, 0 when it must be empty. */
export function openTaskJournal(
  journals: Journals<TaskEntry>,
  subject: string,
  { expected, signal }: { expected: number; signal: AbortSignal },
): TaskJournal {
  let last = expected;
  // Tools of one turn end at once, but each append has to name the one before it.
  let tail: Promise<unknown> = Promise.resolve();
  return {
    append(body) {
      const writing = tail.then(async () => {
        const entry = { v: 1, id: nuid.next(), at: new Date().toISOString(), ...body };
        const bytes = Buffer.from(JSON.stringify(entry));
        last = await journals.append(subject, bytes, { expected: last, id: entry.id, signal });
      });
      tail = writing.catch(() => {});
      return writing;
    },
    async settled() {
      await tail;
    },
  };
}
