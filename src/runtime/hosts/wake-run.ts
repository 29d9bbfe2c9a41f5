/**
 * Wakes a run that rests here: it goes on under the claim it has, from its journal as this daemon left it. One that an owner
 * who is gone left behind is taken over as any other.
 */
import { FoldError } from "../../workflows/supervisor.ts";
import type { ActiveRun } from "./active-run.ts";
import { boundTo, foldJournal, positionOf, readFromSnapshot, readJournal, readNewest } from "./read-run.ts";
import type { RestingRun } from "./resting-runs.ts";
import { canGoOn, reopen, type TakeOverParts, takeOverRun } from "./take-over-run.ts";

export type WakeParts = TakeOverParts & {
  /** Whether a daemon other than this one beats. */
  isElsewhere: (incarnation: string) => boolean;
};

/** Brings a run that rests into this daemon's hands; undefined where it is another's. Rejects with what reading rejects with. */
export async function wakeRun(parts: WakeParts, row: RestingRun): Promise<ActiveRun | undefined> {
  const { runId, left } = row;
  if (!left) return goOn(parts, row);
  // It was silent only for a while, and goes on with it itself.
  if (parts.isElsewhere(left.by)) return undefined;
  await takeOverRun(parts, runId, left.reason, left.by, reachedBy(parts, row));
  return parts.runs.get(runId);
}

async function goOn(parts: WakeParts, row: RestingRun): Promise<ActiveRun | undefined> {
  const { runId, workflow, seq } = row;
  const newest = await readNewest(parts.host, runId);
  // Nothing else appends under this daemon's claim.
  if (newest?.seq !== seq) return undefined;
  for (const read of [readFromSnapshot, readJournal]) {
    const found = await read(parts.host, runId, newest);
    if (!found && read === readFromSnapshot) continue;
    if (!found || positionOf(found).seq !== seq) return undefined;
    const journal = { ...found, reachedMs: reachedBy(parts, row) };
    const hash = boundTo(journal);
    const definition = hash === undefined ? undefined : parts.definitions.pinned(workflow, hash);
    // Whoever looks for runs that nobody drives finds it, and says why it stands still.
    if (!definition) return undefined;
    const folded = await foldJournal(parts.host, definition, journal);
    if (journal.base && !canGoOn(parts.tracing, journal, folded)) continue;
    const { run, problem } = reopen(parts, journal, { definition, ...folded });
    if (problem === undefined) {
      run.resumeTimers();
      // What ended meanwhile may have been told before the run rested.
      void parts.children.lookAfter(run);
      return run;
    }
    run.park(new FoldError(problem));
    return undefined;
  }
  return undefined;
}

/** The time of a run's journal by now: what it waited for while the clock was set back has passed all the same. */
function reachedBy({ host }: WakeParts, { aheadMs = 0 }: RestingRun): number {
  return host.clock.now() + aheadMs;
}
