/** Retention: the journals of runs that ended long ago are deleted, a few at a time, so that running work is not felt. */
import type { Logger } from "pino";
import type { Journals } from "../nats/journal.ts";
import type { PayloadAreas } from "../nats/payload-areas.ts";
import type { Subjects } from "../subjects.ts";
import type { Presence } from "./presence.ts";
import { chooseOwner } from "./presence.ts";
import type { RunIndex } from "./run-index.ts";

export type RetentionOptions = {
  index: RunIndex;
  subjects: Subjects;
  runs: Journals<unknown>;
  tasks: Journals<unknown>;
  signals: Journals<unknown>;
  payloads: Pick<PayloadAreas, "remove">;
  presence: Presence;
  incarnation: string;
  logger: Logger;
  retentionMs: number;
};

// One run every 20 ms keeps up with 50 runs a second, and a purge takes the broker up to 90 ms in a stream of millions.
const EVERY_MS = 60_000;
const BATCH = 1_000;
const PAUSE_MS = 20;

/** Starts deleting; one living daemon purges a run, chosen as its owner would be. */
export function startRetention(options: RetentionOptions): { stop(): void } {
  const { index, subjects, runs, tasks, signals, payloads, presence, incarnation, logger, retentionMs } = options;
  let stopped = false;
  let sweeping = false;
  const timer = setInterval(() => void sweep(), EVERY_MS);
  timer.unref();
  return {
    stop() {
      stopped = true;
      clearInterval(timer);
    },
  };

  async function sweep() {
    if (sweeping || stopped) return;
    sweeping = true;
    try {
      const before = new Date(Date.now() - retentionMs).toISOString();
      let purged = 0;
      for (const { runId } of index.olderThan(before, BATCH)) {
        if (stopped) return;
        if (chooseOwner(runId, presence.living())?.incarnation === incarnation) {
          await tasks.purge(subjects.tasksOf(runId));
          await signals.purge(subjects.signal(runId));
          await payloads.remove(runId);
          // Last, because the index forgets the run with it.
          await runs.purge(subjects.run(runId));
          purged += 1;
        }
        index.forget(runId);
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
      if (purged > 0) logger.info({ runs: purged }, "deleted finished runs past their retention");
    } catch (error) {
      logger.debug({ err: error }, "retention will try again");
    } finally {
      sweeping = false;
    }
  }
}
