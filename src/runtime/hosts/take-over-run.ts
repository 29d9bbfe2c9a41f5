/**
 * Takes a run over from an owner that is gone: folds its journal, from its newest snapshot on where that can be, claims it, makes
 * again what may not have been exported, and learns where its tasks are. What cannot be continued is parked with the reason.
 *
 * Invariants
 * V1  A snapshot only saves time: whatever does not fit, the whole journal is folded before anything is decided about the run.
 */
import type { TaskEntry } from "../../actors/task.ts";
import { FencedError } from "../../errors.ts";
import type { JournalPart, Tracing } from "../../tracing/tracing.ts";
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import type { RunEventBody } from "../../workflows/run-events.ts";
import { FoldError, isDone } from "../../workflows/supervisor.ts";
import type { Journals } from "../nats/journal.ts";
import type { TransientMap } from "../transient-map.ts";
import { type ActiveRun, activateRun, type RunHostParts } from "./active-run.ts";
import { callHooks, newestOf, stepsIn } from "./call-hooks.ts";
import type { ChildRuns } from "./child-runs.ts";
import type { Definitions } from "./definitions.ts";
import { type Claim, exportedUpTo, lastClaimIn, type Mark } from "./exports.ts";
import { findTasks } from "./find-tasks.ts";
import type { AppendLoneEntry } from "./lone-entry.ts";
import { type ClaimReason, claimedEvent } from "./make-events.ts";
import {
  boundTo,
  type Folded,
  foldJournal,
  hasEnded,
  type Journal,
  positionOf,
  readFromSnapshot,
  readJournal,
  readNewest,
  readWhole,
} from "./read-run.ts";
import { sendingsOf } from "./run-draft.ts";

export type TakeOverParts = {
  /** The runs that are driven here. */
  runs: TransientMap<string, ActiveRun>;
  host: RunHostParts;
  taskJournals: Journals<TaskEntry>;
  taskSubject: (runId: string, taskId: string) => string;
  definitions: Definitions;
  children: Pick<ChildRuns, "lookAfter">;
  tracing: Tracing;
  /** How far a host said that its durable spans are exported. */
  exportMark: (host: string) => Mark | undefined;
  appendAlone: AppendLoneEntry;
};

/** What came of taking a run over; `unknown` has no journal. */
export type TakenOver = "adopted" | "ended" | "elsewhere" | "parked" | "unknown";

/** How a `run.parked` begins that ends by itself when a daemon with the definition appears. */
export const NO_DEFINITION = "no_definition:";

const OUT_OF_STEP = "the journal's facts end the run, its events do not";

/** Takes a run over; `from` is the incarnation it is taken from, where that is known: nobody else's is taken. */
export async function takeOverRun(
  parts: TakeOverParts,
  runId: string,
  reason: ClaimReason,
  from?: string,
  reachedMs = 0,
): Promise<TakenOver> {
  const { runs, definitions } = parts;
  const newest = await readNewest(parts.host, runId);
  if (!newest && !runs.has(runId)) return "unknown";
  for (const read of [readFromSnapshot, readJournal]) {
    if (runs.has(runId)) return "adopted";
    const found = await read(parts.host, runId, newest);
    if (runs.has(runId)) return "adopted";
    // V1
    if (!found && read === readFromSnapshot) continue;
    if (!found) return "unknown";
    const journal = { ...found, reachedMs };
    if (hasEnded(journal)) return "ended";
    // Somebody was quicker than the index told.
    if (from !== undefined && lastClaim(journal)?.incarnation !== from) return "elsewhere";
    const hash = boundTo(journal);
    const definition = hash === undefined ? undefined : definitions.pinned(journal.accepted.data.workflow, hash);
    const folded = definition && (await foldJournal(parts.host, definition, journal));
    if (runs.has(runId)) return "adopted";
    // V1
    if (journal.base && !(folded && canGoOn(parts.tracing, journal, folded))) continue;
    return definition && folded
      ? driveOn(parts, journal, { definition, ...folded }, reason)
      : parkUnread(parts, journal);
  }
  return "unknown";
}

/** Whether a run can be gone on with from its snapshot, its spans too: whoever wrote it may have traced nothing. */
export function canGoOn(tracing: Tracing, { runId, accepted, base }: Journal, { snapshot }: Folded): boolean {
  const { workflow, trace } = accepted.data;
  if (!snapshot || isDone(snapshot)) return false;
  if (!base || tracing.destination === "nowhere" || !trace.sampled) return true;
  if (!base.projection) return false;
  try {
    tracing.run(runId, workflow, trace).restore(accepted, base.projection);
    return true;
  } catch {
    return false;
  }
}

/**
 * Claims a run and drives it on with a definition and what its journal came to with it; a run that came to nothing is parked.
 *
 * Rejects with what reading and appending reject with.
 */
export async function driveOn(
  parts: TakeOverParts,
  journal: Journal,
  folded: Folded & { definition: WorkflowDefinition },
  reason: ClaimReason,
): Promise<"adopted" | "elsewhere" | "parked"> {
  const { host } = parts;
  const { runId, events, accepted, base } = journal;
  const { definition } = folded;
  const { workflow } = accepted.data;
  const claim = lastClaim(journal);
  const exported = exportedUpTo(claim, parts.exportMark);
  const { run, problem } = reopen(parts, journal, folded);
  try {
    const isRebound = definition.hash !== boundTo(journal);
    await run.claim(claimedEvent(host.writer, reason, isRebound ? definition : undefined));
  } catch (error) {
    run.close("fenced");
    if (error instanceof FencedError) return "elsewhere";
    throw error;
  }
  exportAgain(parts, journal, exported, run.lastSeq);
  // Who has handed it over has said what there was to say.
  if (reason !== "handed-over") {
    const newest = newestOf(journal.entries);
    callHooks({ runId, definition, logger: host.logger }, newest, stepsIn(events));
    for (const { type, data } of newest) {
      if (type === "step.cancelled" && data.taskId !== undefined) host.desk.callOff(runId, data.taskId);
    }
  }
  if (problem !== undefined) {
    run.park(new FoldError(problem));
    return "parked";
  }
  host.logger.info(
    { runId, workflow, reason, epoch: run.epoch, folded: events.length, ...(base && { after: base.n }) },
    "run taken over",
  );
  // It may rest by now.
  if (run.isOpen) run.resumeTimers();
  // Not waited for: claims are what there is little time for, and those who answer have all the time they need.
  findTasks(parts, run, reason === "handed-over" ? workerOf(claim) : undefined).catch((error: unknown) =>
    host.logger.error({ runId, err: error }, "could not look for the run's tasks"),
  );
  return "adopted";
}

/** Puts a run into this daemon's hands where its journal stands; a `problem` says why it cannot be continued from there. */
export function reopen(
  { runs, host, tracing }: TakeOverParts,
  journal: Journal,
  { definition, snapshot, problem }: Folded & { definition: WorkflowDefinition },
) {
  const { runId, events, accepted, base } = journal;
  const { workflow, trace } = accepted.data;
  const projection = tracing.run(runId, workflow, trace);
  const claimSeq = lastClaim(journal)?.seq;
  if (base?.projection) projection.restore(accepted, base.projection);
  projection.replayed(events);
  const run = activateRun(host, {
    runId,
    definition,
    projection,
    position: positionOf(journal),
    ...(snapshot && { snapshot }),
    sendings: sendingsOf(events, base?.sendings),
    accepted,
    ...(claimSeq !== undefined && { claimSeq }),
    ...(base && { snapshotAt: base }),
  });
  runs.set(runId, run);
  return { run, problem: snapshot && isDone(snapshot) ? OUT_OF_STEP : problem };
}

/** Says on record why a run stands still that no living daemon has the definition for. */
async function parkUnread(parts: TakeOverParts, journal: Journal): Promise<"parked" | "elsewhere"> {
  const { runId, accepted } = journal;
  const { workflow } = accepted.data;
  const hash = boundTo(journal);
  const trouble = parts.definitions.trouble(workflow, hash);
  const why = trouble === undefined ? "" : `; here it is not understood: ${trouble}`;
  const reason = `${NO_DEFINITION} no living daemon has workflow ${workflow} as this run is bound to it (${hash})${why}`;
  const exported = exportedUpTo(lastClaim(journal), parts.exportMark);
  try {
    const claimSeq = await claimAlone(parts, journal, [{ type: "run.parked", data: { reason } }]);
    exportAgain(parts, journal, exported, claimSeq);
  } catch (error) {
    if (error instanceof FencedError) return "elsewhere";
    throw error;
  }
  parts.host.logger.warn({ runId, workflow, hash }, "run parked: no living daemon has its definition");
  return "parked";
}

/** Claims a run only to say something about it, in one entry; its whole journal was read. */
export function claimAlone(parts: TakeOverParts, journal: Journal, words: readonly RunEventBody[]): Promise<number> {
  const { runId, accepted, events } = journal;
  const { workflow, trace } = accepted.data;
  const { seq, n, epoch } = positionOf(journal);
  const bodies = [claimedEvent(parts.host.writer, "takeover"), ...words];
  return parts.appendAlone({ runId, workflow, trace, bodies, position: { seq, n, epoch: epoch + 1 }, before: events });
}

/** What the last owner recorded it may not have exported any more; the same spans twice are one span. */
function exportAgain({ tracing, host }: TakeOverParts, journal: Journal, exported: number, claimSeq: number) {
  const { runId, accepted, base } = journal;
  // Spans that entries before the snapshot caused are made from the whole journal, which nobody has to wait for.
  const isBehind = base !== undefined && exported < base.seq;
  const read = async () => partOf(await readWhole(host, runId), claimSeq);
  void tracing.reproject(isBehind ? { accepted, read } : partOf(journal, claimSeq), exported, claimSeq);
}

/** A journal up to the claim at `claimSeq`, for its spans. */
function partOf({ accepted, base, entries }: Journal, claimSeq: number): JournalPart {
  const before = entries.filter(({ seq }) => seq < claimSeq).map(({ seq, value }) => ({ seq, events: value }));
  return { accepted, entries: before, ...(base?.projection && { saved: base.projection }) };
}

function lastClaim({ entries, base }: Journal): Claim | undefined {
  return lastClaimIn(entries) ?? base?.claim;
}

/** The worker of the daemon that owned a run. */
function workerOf(owner: Claim | undefined): string | undefined {
  return owner && `${owner.host}/${owner.incarnation}`;
}
