/**
 * Retention: the journals of runs that ended long ago are deleted, and of those that ended first when all of them take more room
 * than they may. A few at a time, so that running work is not felt.
 *
 * Invariants
 * D1  Only runs that have ended are deleted, whatever room the others take, and none that ended within the last minute:
 *     whoever waits for a result has it by then.
 * D2  A run goes as a whole: the journals of its tasks, its signals, its snapshot, its logs, its large values, and last its own
 *     journal.
 *     A purge that was interrupted is begun again.
 * D3  One living daemon deletes a run: of those past their time whoever would be its owner, to spare room always the same one.
 *     Each daemon forgets by itself what is past its time; what went to spare room it forgets when it finds the journal gone.
 * D4  Room is what the streams say they hold on one server (`bytes` of their state), runs that have not ended included.
 */
import type { Logger } from "pino";
import type { Bus } from "../nats/connection.ts";
import type { Journals } from "../nats/journal.ts";
import type { NewestMessages } from "../nats/newest.ts";
import type { PayloadAreas } from "../nats/payload-areas.ts";
import type { Subjects } from "../subjects.ts";
import type { Presence } from "./presence.ts";
import { chooseOwner } from "./presence.ts";
import type { RunIndex } from "./run-index.ts";
import { type Sweeping, sweepEvery } from "./sweeping.ts";

export type RetentionOptions = {
  bus: Bus;
  index: RunIndex;
  subjects: Subjects;
  runs: Journals<unknown>;
  tasks: Journals<unknown>;
  signals: Journals<unknown>;
  payloads: Pick<PayloadAreas, "remove">;
  snapshots: Pick<NewestMessages, "purge">;
  logs: Pick<NewestMessages, "purge">;
  presence: Presence;
  incarnation: string;
  logger: Logger;
  retentionMs: number;
  retentionBytes: number;
};

// A purge takes the broker up to 90 ms in a stream of millions; with this pause fifty runs a second are kept up with.
const EVERY_MS = 60_000;
const BATCH = 1_000;
const PAUSE_MS = 20;
// D1
const LEAST_AGE_MS = 60_000;
// Five questions to the broker each time; so many runs too many may go.
const MEASURE_EVERY = 10;
/** Who spares room is chosen like the owner of a run with this name, which no run can have. */
const SPARING = "retention.bytes";

/** Starts deleting. */
export function startRetention(options: RetentionOptions): Sweeping {
  const { bus, index, subjects, presence, incarnation, logger, retentionBytes } = options;
  let isFull = false;
  return sweepEvery(EVERY_MS, sweep, (error) => logger.debug({ err: error }, "retention will try again"));

  async function sweep(isStopped: () => boolean) {
    await deleteOld(isStopped);
    if (isChosen(SPARING)) await spareRoom(isStopped);
    else await forgetDeleted(isStopped);
  }

  async function deleteOld(isStopped: () => boolean) {
    let deleted = 0;
    for (;;) {
      const batch = endedBefore(options.retentionMs, BATCH);
      for (const runId of batch) {
        if (isStopped()) return;
        // D3
        if (isChosen(runId)) {
          await purge(runId);
          deleted += 1;
        }
        index.forget(runId);
        await pause();
      }
      if (batch.length < BATCH) break;
    }
    if (deleted > 0) logger.info({ runs: deleted }, "deleted finished runs past their retention");
  }

  async function spareRoom(isStopped: () => boolean) {
    let deleted = 0;
    let held = await bytesHeld();
    const heldBefore = held;
    while (held > retentionBytes) {
      const batch = endedBefore(LEAST_AGE_MS, MEASURE_EVERY);
      if (batch.length === 0) break;
      for (const runId of batch) {
        if (isStopped()) return;
        await purge(runId);
        index.forget(runId);
        deleted += 1;
        await pause();
      }
      held = await bytesHeld();
    }
    if (deleted > 0) {
      logger.info({ runs: deleted, bytes: heldBefore - held }, "deleted finished runs to keep within retentionBytes");
    }
    const wasFull = isFull;
    isFull = held > retentionBytes;
    if (isFull && !wasFull) {
      logger.warn(
        { held, retentionBytes },
        "runs that have not ended take more than retentionBytes; nothing is left to delete",
      );
    }
  }

  // D3: they go in the order they ended, so the first one that is there ends the search.
  async function forgetDeleted(isStopped: () => boolean) {
    for (;;) {
      const [runId] = endedBefore(LEAST_AGE_MS, 1);
      if (isStopped() || runId === undefined || (await options.runs.last(subjects.run(runId)))) return;
      index.forget(runId);
    }
  }

  // D2
  async function purge(runId: string) {
    await options.tasks.purge(subjects.tasksOf(runId));
    await options.signals.purge(subjects.signal(runId));
    await options.snapshots.purge(subjects.snapshot(runId));
    await options.logs.purge(subjects.log(runId));
    await options.payloads.remove(runId);
    // Last, because the index forgets the run with it.
    await options.runs.purge(subjects.run(runId));
  }

  // D4
  async function bytesHeld(): Promise<number> {
    const jsm = await bus.jsm();
    const { runs, tasks, signals, snapshots, logs, payloads } = subjects.streams;
    const infos = await Promise.all(
      [runs, tasks, signals, snapshots, logs, payloads].map((stream) => jsm.streams.info(stream)),
    );
    return infos.reduce((sum, { state }) => sum + state.bytes, 0);
  }

  function endedBefore(ageMs: number, limit: number): string[] {
    return index.olderThan(new Date(Date.now() - ageMs).toISOString(), limit).map(({ runId }) => runId);
  }

  function isChosen(name: string): boolean {
    return chooseOwner(name, presence.living())?.incarnation === incarnation;
  }
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
}
