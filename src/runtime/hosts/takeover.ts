/**
 * Takeover: finds runs nobody living owns, and takes those that fall to this daemon.
 *
 * Invariants
 * T1  Who takes a run is only a matter of saving work: all daemons compute the same choice from who is alive, and where they
 *     disagree for a moment the journal's append decides.
 * T2  Every run whose owner is gone is looked at until somebody owns it or it is over: at once when the owner goes, and on a
 *     slow clock from the run index whatever happened to the first try.
 * T3  A daemon that restarts takes up its own runs at once; the others leave them to it for a moment, and then take those it
 *     has not got round to. A moment is never longer than it would have taken to miss its last life, and what is to go on then falls to
 *     those that have started: with a daemon that is slow to start no run stands still for longer than without.
 * T4  A run that rests is not claimed while it does: the daemon it falls to keeps a row of it, and claims it when it wakes.
 *     Where more than one keeps it, its append decides. One that is due already is kept as well: it waits for room like others. A host that was restarted keeps its own. One that nobody could go on
 *     with is not kept: that is said at once.
 */
import type { Logger } from "pino";
import type { RunStatus } from "../../workflows/run-status.ts";
import { offerOf } from "./definitions.ts";
import type { ClaimReason } from "./make-events.ts";
import { type Beat, canGoOnWith, chooseOwner, type GoneReason, type Presence } from "./presence.ts";
import type { RunHost } from "./run-host.ts";
import { NO_DEFINITION } from "./take-over-run.ts";

/** An unfinished run as the index knows it. */
type OrphanRow = {
  runId: string;
  workflow: string;
  hash: string | undefined;
  ownerHost: string | undefined;
  ownerIncarnation: string | undefined;
  parked: string | undefined;
  lastSeq: number;
  wakeMs: number | undefined;
  lastMs: number;
  status: RunStatus;
  rests: boolean;
};

export type TakeoverOptions = {
  presence: Presence;
  runs: RunHost;
  self: () => Beat;
  logger: Logger;
  lookAroundMs: number;
  /** After so long everybody who lives has been heard, in milliseconds. @default lookAroundMs */
  suspectAfterMs?: number;
  /** Unfinished runs, from the index. */
  unfinished: () => OrphanRow[];
  /** Told what was repaired on the slow clock. */
  adopted: (runId: string, reason: ClaimReason) => void;
  /** The run has no journal: it was deleted while this daemon was away. */
  vanished: (runId: string) => void;
};

/** Why a run is wanted, and from whose hands. */
type Wanted = { reason: ClaimReason; from: string | undefined };

export type Takeover = {
  /** Takes up what this host owned before it restarted. */
  takeUpOwn(): void;
  lookAround(): void;
  stop(): void;
};

// Reading and claiming a run costs a few round trips; this many at once keep the broker busy and the daemon answering.
const AT_ONCE = 32;
// The entries of a daemon that just died may still be on their way into the index.
const LATE_ENTRIES_MS = 400;
// From its first beat to the claims of its own runs a daemon needs some tenths of a second.
const RESTART_MS = 1_000;

/** Starts watching for runs without an owner. */
export function startTakeover(options: TakeoverOptions): Takeover {
  const { presence, runs, self, logger, lookAroundMs, unfinished, adopted, vanished } = options;
  const queue = new Map<string, Wanted>();
  const atWork = new Set<string>();
  let stopped = false;

  presence.onGone((beat, reason, silentMs) => {
    if (reason !== "restarted") {
      sweep(beat, reason);
      setTimeout(() => sweep(beat, reason), LATE_ENTRIES_MS).unref();
      return;
    }
    // T3
    const missedInMs = Math.max(0, (options.suspectAfterMs ?? lookAroundMs) - silentMs);
    if (missedInMs < RESTART_MS) setTimeout(() => sweep(beat, reason, { resting: false }), missedInMs).unref();
    setTimeout(() => sweep(beat, reason), RESTART_MS).unref();
  });
  const timer = setInterval(lookAround, lookAroundMs);
  // Nobody tells a daemon that has just started of one that fell silent before.
  const firstLook = setTimeout(lookAround, Math.min(options.suspectAfterMs ?? lookAroundMs, lookAroundMs));

  return {
    takeUpOwn() {
      const me = self();
      for (const row of unfinished()) {
        if (row.ownerHost === me.host && row.ownerIncarnation !== me.incarnation && canRun(me, row))
          enqueue(row, "restart");
      }
    },
    lookAround,
    stop() {
      stopped = true;
      clearInterval(timer);
      clearTimeout(firstLook);
      queue.clear();
    },
  };

  /** Without those that rest: they have time, and their host keeps them (T4) once it has started. */
  function sweep({ host, incarnation }: Beat, reason: GoneReason, { resting = true } = {}) {
    if (stopped) return;
    const claim = reason === "left" ? "handed-over" : "takeover";
    let found = 0;
    for (const row of unfinished()) {
      if (row.rests && !resting) continue;
      // A host that is gone for good may not have got round to the runs of its life before, and may have kept those of others.
      const left = row.ownerIncarnation === incarnation || ((row.ownerHost === host || row.rests) && isOrphaned(row));
      if (!left || !isMine(row)) continue;
      enqueue(row, claim);
      found += 1;
    }
    if (found > 0) logger.info({ incarnation, runs: found, reason }, "taking over runs");
  }

  // T2
  function lookAround() {
    if (stopped) return;
    for (const row of unfinished()) {
      const dropped = row.ownerIncarnation === self().incarnation && !runs.owns(row.runId);
      // Its owner lives, but can only say why the run stands still.
      const waits = row.parked?.startsWith(NO_DEFINITION) ?? false;
      if ((isOrphaned(row) || dropped || waits) && isMine(row)) enqueue(row, waits ? "resume" : "takeover");
    }
  }

  function isOrphaned({ ownerIncarnation }: OrphanRow): boolean {
    return ownerIncarnation === undefined || !presence.isLiving(ownerIncarnation);
  }

  /** Whether an ownerless run falls to this daemon, to drive it on or, where nobody can, to say so. */
  function isMine(row: OrphanRow): boolean {
    if (runs.owns(row.runId)) return false;
    const living = presence.living();
    const able = living.filter((beat) => canRun(beat, row));
    // A journal that could not be folded stays so until a person decides; a definition that was missing may be here now.
    if (row.parked !== undefined && (able.length === 0 || !row.parked.startsWith(NO_DEFINITION))) return false;
    // T4
    const keeper = row.rests ? able.find((beat) => beat.host === row.ownerHost) : undefined;
    const started = able.filter((beat) => !beat.starting);
    const candidates = [started, able, living].find(({ length }) => length > 0) ?? [];
    const chosen = keeper ?? chooseOwner(row.runId, candidates);
    return chosen?.incarnation === self().incarnation;
  }

  function enqueue(row: OrphanRow, reason: ClaimReason) {
    const { runId, ownerIncarnation } = row;
    if (runs.owns(runId) || queue.has(runId) || atWork.has(runId)) return;
    // T4
    if (row.rests && canRun(self(), row) && keep(row, reason)) return adopted(runId, reason);
    queue.set(runId, { reason, from: ownerIncarnation });
    work();
  }

  /** False where the index does not say enough. */
  function keep(row: OrphanRow, reason: ClaimReason) {
    const {
      runId,
      workflow,
      lastSeq: seq,
      lastMs,
      wakeMs: dueMs = Number.POSITIVE_INFINITY,
      ownerIncarnation: by,
    } = row;
    if (by === undefined) return false;
    runs.keep({ runId, workflow, seq, dueMs, lastMs, isStart: row.status === "pending", by }, reason);
    return true;
  }

  function work() {
    while (!stopped && atWork.size < AT_ONCE) {
      const [next] = queue;
      if (!next) return;
      const [runId, wanted] = next;
      queue.delete(runId);
      atWork.add(runId);
      void adopt(runId, wanted).finally(() => {
        atWork.delete(runId);
        work();
      });
    }
  }

  async function adopt(runId: string, { reason, from }: Wanted) {
    try {
      const result = await runs.adopt(runId, reason, from);
      if (result === "adopted") adopted(runId, reason);
      else if (result === "unknown") vanished(runId);
    } catch (error) {
      // T2: the next look around tries again.
      logger.warn({ runId, err: error }, "could not take over the run");
    }
  }
}

function canRun(beat: Beat, { workflow, hash }: OrphanRow): boolean {
  return hash !== undefined && canGoOnWith(beat, offerOf(workflow, hash));
}
