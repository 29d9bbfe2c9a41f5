/**
 * Takes a run over from an owner that is gone: claims it, folds its journal, makes again what may not have been exported, and
 * learns where its tasks are. What cannot be continued is parked with the reason.
 */
import type { TaskEntry } from "../../actors/task.ts";
import { FencedError, toErrorRecord } from "../../errors.ts";
import type { Tracing } from "../../tracing/tracing.ts";
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import { hashOf, isTerminal, type RunEvent, type RunEventBody } from "../../workflows/run-events.ts";
import { FoldError, fold, isDone } from "../../workflows/supervisor.ts";
import type { Entry, Journals } from "../nats/journal.ts";
import { type ActiveRun, activateRun, type RunHostParts } from "./active-run.ts";
import type { Definitions } from "./definitions.ts";
import { exportedUpTo, type Mark } from "./exports.ts";
import { findTasks } from "./find-tasks.ts";
import type { AppendLoneEntry } from "./lone-entry.ts";
import { type ClaimReason, claimedEvent, type Writer } from "./make-events.ts";
import { sendingsOf } from "./run-draft.ts";

export type TakeOverParts = {
  /** The runs that are driven here. */
  runs: Map<string, ActiveRun>;
  host: RunHostParts;
  taskJournals: Journals<TaskEntry>;
  taskSubject: (runId: string, taskId: string) => string;
  definitions: Definitions;
  tracing: Tracing;
  /** How far a host said that its durable spans are exported. */
  exportMark: (host: string) => Mark | undefined;
  appendAlone: AppendLoneEntry;
};

/** What came of taking a run over; `unknown` has no journal. */
export type TakenOver = "adopted" | "ended" | "elsewhere" | "parked" | "unknown";

/** How a `run.parked` begins that ends by itself when a daemon with the definition appears. */
export const NO_DEFINITION = "no_definition:";

/** A run's journal as it was read. */
export type Journal = {
  runId: string;
  entries: readonly Entry<RunEvent[]>[];
  events: readonly RunEvent[];
  accepted: RunEvent & { type: "run.accepted" };
  last: RunEvent;
  lastSeq: number;
};

/** Takes a run over; `from` is the incarnation it is taken from, where that is known: nobody else's is taken. */
export async function takeOverRun(
  parts: TakeOverParts,
  runId: string,
  reason: ClaimReason,
  from?: string,
): Promise<TakenOver> {
  const { runs, definitions } = parts;
  if (runs.has(runId)) return "adopted";
  const journal = await readJournal(parts, runId);
  if (runs.has(runId)) return "adopted";
  if (!journal) return "unknown";
  const { events, accepted } = journal;
  if (events.some(({ type }) => isTerminal(type))) return "ended";
  // Somebody was quicker than the index told.
  if (from !== undefined && lastClaim(events)?.incarnation !== from) return "elsewhere";
  const { workflow } = accepted.data;
  const hash = hashOf(events);
  const definition = hash === undefined ? undefined : definitions.pinned(workflow, hash);
  return definition ? driveOn(parts, journal, definition, reason) : parkUnread(parts, journal);
}

/**
 * Claims a run and drives it on with a definition; where the journal does not fit it, the run is parked.
 *
 * Rejects with what reading and appending reject with.
 */
export async function driveOn(
  parts: TakeOverParts,
  journal: Journal,
  definition: WorkflowDefinition,
  reason: ClaimReason,
): Promise<"adopted" | "elsewhere" | "parked"> {
  const { runs, host, tracing } = parts;
  const { runId, events, accepted, last, lastSeq } = journal;
  const { workflow, trace } = accepted.data;
  const projection = tracing.run(runId, workflow, trace);
  projection.replayed(events);
  const exported = exportedUpTo(journal.entries, parts.exportMark);
  const { snapshot, problem } = foldOrProblem(definition, events);
  const run = activateRun(host, {
    runId,
    definition,
    projection,
    position: { seq: lastSeq, n: last.n, epoch: last.epoch, at: Date.parse(last.at) },
    ...(snapshot && { snapshot }),
    sendings: sendingsOf(events),
  });
  runs.set(runId, run);
  try {
    const isRebound = definition.hash !== hashOf(events);
    await run.claim(claimedEvent(host.writer, reason, isRebound ? definition : undefined));
  } catch (error) {
    run.close("fenced");
    if (error instanceof FencedError) return "elsewhere";
    throw error;
  }
  exportAgain(tracing, journal, exported, run.lastSeq);
  if (!snapshot || isDone(snapshot)) {
    run.park(new FoldError(problem ?? "the journal's facts end the run, its events do not"));
    return "parked";
  }
  host.logger.info({ runId, workflow, reason, epoch: run.epoch }, "run taken over");
  run.resumeTimers();
  // Not waited for: claims are what there is little time for, and those who answer have all the time they need.
  findTasks(parts, run, reason === "handed-over" ? workerOf(lastClaim(events)) : undefined).catch((error: unknown) =>
    host.logger.error({ runId, err: error }, "could not look for the run's tasks"),
  );
  return "adopted";
}

/** Says on record why a run stands still that no living daemon has the definition for. */
async function parkUnread(parts: TakeOverParts, journal: Journal): Promise<"parked" | "elsewhere"> {
  const { runId, accepted } = journal;
  const { workflow } = accepted.data;
  const hash = hashOf(journal.events);
  const reason = `${NO_DEFINITION} no living daemon has workflow ${workflow} as this run is bound to it (${hash})`;
  const exported = exportedUpTo(journal.entries, parts.exportMark);
  try {
    const claimSeq = await claimAlone(parts, journal, [{ type: "run.parked", data: { reason } }]);
    exportAgain(parts.tracing, journal, exported, claimSeq);
  } catch (error) {
    if (error instanceof FencedError) return "elsewhere";
    throw error;
  }
  parts.host.logger.warn({ runId, workflow, hash }, "run parked: no living daemon has its definition");
  return "parked";
}

/** Claims a run only to say something about it, in one entry. */
export function claimAlone(parts: TakeOverParts, journal: Journal, words: readonly RunEventBody[]): Promise<number> {
  const { runId, accepted, events, last, lastSeq } = journal;
  const { workflow, trace } = accepted.data;
  const position = { seq: lastSeq, n: last.n, epoch: last.epoch + 1 };
  const bodies = [claimedEvent(parts.host.writer, "takeover"), ...words];
  return parts.appendAlone({ runId, workflow, trace, bodies, position, before: events });
}

/** What the last owner recorded it may not have exported any more; the same spans twice are one span. */
function exportAgain(tracing: Tracing, { entries }: Journal, exported: number, claimSeq: number) {
  const journal = entries.map(({ seq, value }) => ({ seq, events: value }));
  void tracing.reproject(journal, exported, claimSeq);
}

/** Reads a run's journal; undefined where there is none. */
export async function readJournal({ host }: TakeOverParts, runId: string): Promise<Journal | undefined> {
  const entries = await host.journals.read(host.subjectOf(runId));
  const events = entries.flatMap(({ value }) => value);
  const [accepted] = events;
  const last = events.at(-1);
  if (accepted?.type !== "run.accepted" || !last) return undefined;
  return { runId, entries, events, accepted, last, lastSeq: entries.at(-1)?.seq ?? 0 };
}

/** Folds a journal, or says why that cannot be done. */
export function foldOrProblem(definition: WorkflowDefinition, events: readonly RunEvent[]) {
  try {
    return { snapshot: fold(definition, events), problem: undefined };
  } catch (error) {
    const { code, message } = toErrorRecord(error, "cannot_fold");
    return { snapshot: undefined, problem: `${code}: ${message}` };
  }
}

function lastClaim(events: readonly RunEvent[]): Writer | undefined {
  const claim = events.findLast((event) => event.type === "run.claimed");
  return claim?.type === "run.claimed" ? claim.data : undefined;
}

/** The worker of the daemon that owned a run. */
function workerOf(owner: Writer | undefined): string | undefined {
  return owner && `${owner.host}/${owner.incarnation}`;
}
