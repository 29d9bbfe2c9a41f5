/** A task's journal in pages, for who asks what was said in a task. */
import type { TaskEntry } from "../../actors/task.ts";
import type { Journals } from "../nats/journal.ts";

export type TaskJournalPage = {
  entries: TaskEntry[];
  /** Where the next page begins; absent on the last one. */
  next?: number;
};

/**
 * Reads one page: the entries from a sequence of the stream on, as many as fit into `room` bytes and at least one. Empty where
 * the task's first answer ended it, or there is no such task.
 */
export async function readTaskPage(
  journals: Pick<Journals<TaskEntry>, "read">,
  subject: string,
  { from, room }: { from: number; room: number },
): Promise<TaskJournalPage> {
  const read = await journals.read(subject, { from, bytes: room });
  const entries: TaskEntry[] = [];
  let left = room;
  for (const { seq, value, bytes } of read) {
    // The comma between two.
    left -= bytes + 1;
    if (left < 0 && entries.length > 0) return { entries, next: seq };
    entries.push(value);
  }
  const last = read.at(-1);
  const length = read.reduce((sum, { bytes }) => sum + bytes, 0);
  return { entries, ...(last && length >= room && { next: last.seq + 1 }) };
}
