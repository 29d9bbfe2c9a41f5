/**
 * A run's journal as whoever takes the run over reads it: whole, or from its newest snapshot on.
 *
 * Invariants
 * J1  A snapshot counts only where the journal has the entry it names, at that place (P2 in `run-snapshots.ts`).
 * J2  It is gone on from only with the definition it was made with; whatever speaks against it, there is the whole journal.
 */
import { toErrorRecord, UnavailableError } from "../../errors.ts";
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import { hashOf, isTerminal, type RunEvent } from "../../workflows/run-events.ts";
import { FoldError, fold, foldOn, restore, type SupervisorSnapshot, setupOf } from "../../workflows/supervisor.ts";
import type { Entry } from "../nats/journal.ts";
import { LARGE, type Payloads } from "../nats/payloads.ts";
import type { RunHostParts } from "./active-run.ts";
import type { Position } from "./make-events.ts";
import type { RunSnapshot } from "./run-snapshots.ts";

/** A run's journal as it was read. */
export type Journal = {
  runId: string;
  accepted: RunEvent & { type: "run.accepted" };
  /** What stands for the entries that were not read; absent where all were. */
  base?: RunSnapshot;
  entries: readonly Entry<RunEvent[]>[];
  /** Those of `entries`. */
  events: readonly RunEvent[];
  /** The time it has come to by now, where that is known, in milliseconds since the epoch. @default that of its newest entry */
  reachedMs?: number;
};

type ReadRunParts = Pick<RunHostParts, "journals" | "subjectOf" | "snapshots" | "logger" | "stopping">;

const AGAIN_MS = 1_000;

type NewestEntry = Entry<RunEvent[]>;

/** A run's newest entry; undefined where the run has no journal. */
export function readNewest({ journals, subjectOf }: ReadRunParts, runId: string): Promise<NewestEntry | undefined> {
  return journals.last(subjectOf(runId));
}

/** Reads a run's whole journal; undefined where there is none. `newest` is its newest entry, as it was just now. */
export async function readJournal(
  parts: ReadRunParts,
  runId: string,
  newest?: NewestEntry,
): Promise<Journal | undefined> {
  const { journals, subjectOf } = parts;
  const last = newest ?? (await readNewest(parts, runId));
  if (!last) return undefined;
  const entries = isOnly(last) ? [last] : await journals.read(subjectOf(runId), { newest: last });
  const events = entries.flatMap(({ value }) => value);
  const [accepted] = events;
  return accepted?.type === "run.accepted" ? { runId, accepted, entries, events } : undefined;
}

/** Most runs that wait have one entry: their newest is their first, and there is nothing more to be asked for. */
function isOnly({ value }: NewestEntry): boolean {
  return value[0]?.type === "run.accepted";
}

/** Reads a run's newest snapshot and the entries after it; undefined where there is none that can be used. */
export async function readFromSnapshot(
  parts: ReadRunParts,
  runId: string,
  newest?: NewestEntry,
): Promise<Journal | undefined> {
  if (newest && isOnly(newest)) return undefined;
  const { journals, subjectOf, logger } = parts;
  const base = await parts.snapshots.find(runId);
  if (!base) return undefined;
  const [named, ...entries] = await journals.read(subjectOf(runId), { from: base.seq });
  // J1
  if (named?.seq !== base.seq || named.value[0]?.id !== base.entryId) {
    logger.warn(
      { runId, seq: base.seq },
      "the run's snapshot does not belong to its journal; the whole journal is read",
    );
    return undefined;
  }
  return { runId, accepted: base.accepted, base, entries, events: entries.flatMap(({ value }) => value) };
}

/** Reads a run's whole journal, trying until it can be read; rejects when this daemon stops. */
export async function readWhole(parts: ReadRunParts, runId: string): Promise<Journal> {
  while (!parts.stopping.aborted) {
    const journal = await readJournal(parts, runId).catch(() => undefined);
    if (journal) return journal;
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS).unref());
  }
  throw new UnavailableError(`run ${runId}: stopped before its journal was read`);
}

/** What a journal comes to with a definition: the supervisor, or why that cannot be. */
export type Folded = { snapshot: SupervisorSnapshot; problem: undefined } | { snapshot: undefined; problem: string };

/**
 * Folds a journal, or says why that cannot be done.
 *
 * @throws UnavailableError when its large values cannot be read now.
 */
export async function foldJournal(
  { payloads }: Pick<RunHostParts, "payloads">,
  definition: WorkflowDefinition,
  { base, accepted, events }: Journal,
): Promise<Folded> {
  try {
    // J2
    if (base && base.hash !== definition.hash)
      throw new FoldError(`the snapshot: expected ${definition.hash}, got ${base.hash}`);
    const facts = await wholeFacts(payloads, events);
    if (!base) return { snapshot: fold(definition, facts), problem: undefined };
    const setup = setupOf(await payloads.resolve(accepted, { fields: LARGE.event }));
    return { snapshot: foldOn(restore(definition, setup, base.supervisor), facts), problem: undefined };
  } catch (error) {
    if (error instanceof UnavailableError) throw error;
    const { code, message } = toErrorRecord(error, "cannot_fold");
    return { snapshot: undefined, problem: `${code}: ${message}` };
  }
}

/** The events with the values that supervisors see; what only tells of the run's end may stay elsewhere. */
async function wholeFacts(payloads: Payloads, events: readonly RunEvent[]): Promise<RunEvent[]> {
  const whole: RunEvent[] = [];
  for (const event of events) {
    whole.push(isTerminal(event.type) ? event : await payloads.resolve(event, { fields: LARGE.event }));
  }
  return whole;
}

/** Whether a run is over; a snapshot is of one that is not. */
export function hasEnded({ events }: Journal): boolean {
  return events.some(({ type }) => isTerminal(type));
}

/** The hash of the definition the run is bound to; undefined where its request was refused. */
export function boundTo({ base, events }: Journal): string | undefined {
  return hashOf(events) ?? base?.hash;
}

/** Where a journal stands. */
export function positionOf({ base, entries, reachedMs = 0 }: Journal): Required<Position> {
  const bytes = entries.reduce((sum, entry) => sum + entry.bytes, base?.bytes ?? 0);
  const last = entries.at(-1);
  const event = last?.value.at(-1) ?? base;
  return {
    seq: last?.seq ?? base?.seq ?? 0,
    n: event?.n ?? 0,
    epoch: event?.epoch ?? 0,
    at: Math.max(Date.parse(event?.at ?? ""), reachedMs),
    bytes,
  };
}
