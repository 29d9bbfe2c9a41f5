/**
 * Which task takes its workers down with it, and which were only there when that happened.
 *
 * Invariants
 * V1  What may have been begun elsewhere is marked in the task's journal before anything is done for it. So a death counts
 *     against tasks that were at work in it, and against none that only waited, were never begun, or were not found again; and
 *     of two workers that have one task, one is fenced before it asks for what the other has recorded meanwhile.
 * V2  Whatever is recorded after a mark speaks for the task: it has gone on, or was given back by a worker that lived.
 * V3  A task with several marks in a row is a suspect, and a process works on one suspect at a time: the one that kills does so
 *     alone, and the others have their time.
 */
import type { TaskEntry } from "../../actors/task.ts";
import { crashPoints } from "./crash-points.ts";
import type { TaskWork } from "./task-work.ts";

// From here on a task waits for its turn among suspects.
const SUSPECT_AFTER = 3;
/** How many deaths in a row a task may have been at work in before it fails. */
export const MOST_DEATHS = 10;

/** How often a task was begun lately without anything coming of it, by its journal. */
export function begunInVain(entries: readonly TaskEntry[]): number {
  return entries.length - 1 - entries.findLastIndex(({ type }) => type !== "begun");
}

export type Beginnings = {
  /** Waits for a recalled task's turn and marks it. Rejects as `TaskJournal.append` does, and when `signal` aborts. */
  mark(work: TaskWork, signal: AbortSignal): Promise<void>;
};

/** Keeps the suspects of one process apart; `worker` is how its marks call it. */
export function openBeginnings(worker: string): Beginnings {
  let last: Promise<void> = Promise.resolve();
  return {
    mark(work, signal) {
      // Tools of one turn begin together.
      work.marking ??= begin(work, signal);
      return work.marking;
    },
  };

  async function begin(work: TaskWork, signal: AbortSignal): Promise<void> {
    if (work.begunInVain >= SUSPECT_AFTER) await turnOf(work, signal);
    if (crashPoints.armed) await crashPoints.before("before-begun-entry");
    await work.journal.append({ type: "begun", delivery: work.delivery, worker });
    crashPoints.at("after-begun-entry");
  }

  // V3
  async function turnOf(work: TaskWork, signal: AbortSignal): Promise<void> {
    const before = last;
    const { promise: over, resolve } = Promise.withResolvers<void>();
    last = before.then(() => over);
    work.passOn = resolve;
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const stop = () => reject(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
    try {
      signal.throwIfAborted();
      await Promise.race([before, aborted]);
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }
}
