/**
 * Large values that belong to no run: a daemon died between storing one and writing the entry that names it, or between
 * deleting a run and deleting what it had. They are deleted a few at a time.
 *
 * Invariants
 * Q1  Only what an index that has caught up knows no run for is deleted, and only a day after something of it was stored: a
 *     run's first value is there before its first entry, which may have to wait for room.
 */
import type { Logger } from "pino";
import type { PayloadAreas } from "../nats/payload-areas.ts";
import { chooseOwner, type Presence } from "./presence.ts";
import type { RunIndex } from "./run-index.ts";
import { type Sweeping, sweepEvery } from "./sweeping.ts";

export type PayloadSweepOptions = {
  areas: PayloadAreas;
  index: Pick<RunIndex, "get" | "caughtUp">;
  presence: Presence;
  incarnation: string;
  logger: Logger;
  /** Whether what is stored can be believed. */
  maySweep: () => boolean;
  /** How old what belongs to no run has to be, in milliseconds. @default a day */
  ageMs?: number;
};

// What is swept is rare and does no harm meanwhile.
const EVERY_MS = 3_600_000;
const AGE_MS = 86_400_000;
const PAUSE_MS = 20;

/** Starts sweeping; of the living daemons one deletes what a run had, chosen as its owner would be. */
export function startPayloadSweep(options: PayloadSweepOptions): Sweeping {
  const { areas, index, presence, incarnation, logger, ageMs = AGE_MS } = options;
  return sweepEvery(EVERY_MS, sweep, (error) => {
    logger.debug({ err: error }, "large values that belong to no run will be looked for again");
  });

  async function sweep(isStopped: () => boolean) {
    if (!mayGo()) return;
    let swept = 0;
    for (const runId of await areas.list()) {
      if (isStopped() || !mayGo()) return;
      if (index.get(runId) || chooseOwner(runId, presence.living())?.incarnation !== incarnation) continue;
      const storedAt = await areas.storedAt(runId);
      if (storedAt === undefined || storedAt > Date.now() - ageMs || index.get(runId)) continue;
      // That an index is damaged may be found out by asking it, and then it knows nothing.
      if (!mayGo()) return;
      await areas.remove(runId);
      swept += 1;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
    if (swept > 0) logger.warn({ runs: swept }, "deleted large values that belonged to no run");
  }

  // Q1
  function mayGo(): boolean {
    return index.caughtUp() && options.maySweep();
  }
}
