/**
 * Runs at rest: they only wait for their time. Of each there is a small row here and nothing else; its journal has the rest
 * and is folded again when it wakes.
 *
 *   resting ──due──────▶ waking ──▶ (in the run host's hands)
 *      │  └──a message──▶   │
 *      └────────────────────┴──▶ (gone: another daemon goes on with it, or this one let go)
 *
 * Invariants
 * Y1  A run here is in nobody's hands in this process, and a run in hands is not here, but for the moment of its waking.
 * Y2  Nothing is done on the strength of a row: who wakes a run reads its journal, and the next append is fenced by what it
 *     read.
 * Y3  An entry of a run after the one its row knows means that somebody goes on with it: the row goes.
 * Y4  Due dates are instants of the wall clock, which may be set: a slow tick looks again, whatever the timer was set for. A
 *     clock that is set back delays nothing but starts: durations that are under way fall due as much earlier on it, and as much
 *     later again when it is put right.
 * Y5  So many wake at once and no more, and what is due waits for the daemon to have room; what a message wakes does not.
 * Y6  A wake that fails is tried again a few times; then the row goes, and the look around finds a run that nobody drives.
 */
import type { Logger } from "pino";
import type { ActiveRun } from "./active-run.ts";
import type { Clock } from "./clock.ts";
import { openDueQueue } from "./due-queue.ts";
import type { ClaimReason } from "./make-events.ts";

/** What is left of a run while it rests. */
export type RestingRun = {
  readonly runId: string;
  readonly workflow: string;
  /** When it wakes, in milliseconds since the epoch; `Infinity` is for nothing but a message. */
  readonly dueMs: number;
  /**
   * What it waits for is a duration, and the time of its journal is this far ahead of the clock, in milliseconds, because that was
   * set back; absent where it waits for an instant of the clock on the wall.
   */
  readonly aheadMs?: number;
  /** Where its newest entry stands in the stream. */
  readonly seq: number;
  /** Whose it was, where its owner is gone: it is claimed when it wakes. */
  readonly left?: { readonly by: string; readonly reason: ClaimReason };
};

/** What is to be done with a run once it is awake. */
type Wish = (run: ActiveRun) => void;

export type RestingRuns = {
  readonly size: number;
  has(runId: string): boolean;
  isWaking(runId: string): boolean;
  /** Whether some are due that could not be woken yet. */
  isBehind(): boolean;
  add(run: RestingRun): void;
  /** Wakes a run because something concerns it, and gives it to `wish`; false when it is not here. */
  wake(runId: string, wish: Wish): boolean;
  /** An entry of a run was seen in the stream. */
  seen(runId: string, seq: number): void;
  /** How many of each workflow. */
  byWorkflow(): Map<string, number>;
  /** Lets go of all. */
  clear(): void;
  stop(): void;
};

export type RestingRunsOptions = {
  clock: Clock;
  logger: Logger;
  /** Brings a run into the daemon's hands; undefined when it is not this daemon's to go on with. */
  bring: (run: RestingRun) => Promise<ActiveRun | undefined>;
  /** How many more runs there is room for. */
  room: () => number;
  /** Called after a run was woken and given to those who wished for it. */
  awake: (run: ActiveRun) => void;
};

// Each reads a journal; this many at once keep the broker busy and the daemon answering.
const AT_ONCE = 32;
// Y4: within the second in which a run has to wake; a look at the first of the queue costs nothing.
const LOOK_AGAIN_MS = 500;
const NO_ROOM_MS = 100;
// Y4: what a clock that is only adjusted stays below.
const SET_MS = 250;
// Over some seconds: a broker that is restarted is back by then, and a journal that cannot be read stays so.
const TRIES = 6;
const RETRY_MS = 100;
// Rows that went before they were due stay in the queue until there are this many more than it holds.
const SLACK = 1_000;

/** Opens the place where runs rest. */
export function openRestingRuns(options: RestingRunsOptions): RestingRuns {
  const { clock, logger } = options;
  const rows = new Map<string, RestingRun>();
  const due = openDueQueue<RestingRun>();
  /** What is wanted of runs that are still here, in the order in which they are to wake. */
  const wishes = new Map<string, Wish[]>();
  const waking = new Map<string, RestingRun>();
  let allowed = 0;
  let cancelTimer = () => {};
  let timerFor = Number.POSITIVE_INFINITY;
  let again: NodeJS.Timeout | undefined;
  let stopped = false;
  let clockAhead = clock.now() - performance.now();
  const tick = setInterval(wakeNext, LOOK_AGAIN_MS);
  tick.unref();

  return {
    get size() {
      return rows.size;
    },
    has: (runId) => rows.has(runId),
    isWaking: (runId) => waking.has(runId),
    isBehind: () => (due.first()?.dueMs ?? Number.POSITIVE_INFINITY) <= clock.now(),
    add(run) {
      // Those that are here were put here by the clock of before.
      followClock();
      rows.set(run.runId, run);
      due.add(run);
      if (due.size > 2 * rows.size + SLACK) due.reset(rows.values());
      wakeNext();
    },
    wake(runId, wish) {
      if (!rows.has(runId)) return false;
      wishes.set(runId, [...(wishes.get(runId) ?? []), wish]);
      wakeNext();
      return true;
    },
    // Y3; what is being woken has its journal read
    seen(runId, seq) {
      const row = rows.get(runId);
      if (row && seq > row.seq && !waking.has(runId)) drop(runId);
    },
    byWorkflow() {
      const counts = new Map<string, number>();
      for (const { workflow } of rows.values()) counts.set(workflow, (counts.get(workflow) ?? 0) + 1);
      return counts;
    },
    clear,
    stop() {
      stopped = true;
      clear();
      cancelTimer();
      clearInterval(tick);
      clearTimeout(again);
    },
  };

  function clear() {
    rows.clear();
    wishes.clear();
    waking.clear();
    due.reset([]);
  }

  function drop(runId: string) {
    rows.delete(runId);
    wishes.delete(runId);
    waking.delete(runId);
  }

  // Y4
  function followClock() {
    const ahead = clock.now() - performance.now();
    const setBackMs = clockAhead - ahead;
    clockAhead = ahead;
    if (Math.abs(setBackMs) < SET_MS) return;
    for (const [runId, row] of rows) {
      if (row.aheadMs === undefined || waking.has(runId)) continue;
      const ms = Math.max(setBackMs, -row.aheadMs);
      rows.set(runId, { ...row, dueMs: row.dueMs - ms, aheadMs: row.aheadMs + ms });
    }
    due.reset(rows.values());
  }

  /** Y5: wakes what is wanted and what is due, as far as there is room. */
  function wakeNext() {
    followClock();
    while (!stopped && waking.size < AT_ONCE) {
      const row = wanted() ?? firstDue();
      if (!row) break;
      waking.set(row.runId, row);
      void bring(row).finally(wakeNext);
    }
    setTimer();
  }

  function wanted(): RestingRun | undefined {
    for (const runId of wishes.keys()) if (!waking.has(runId)) return rows.get(runId);
    return undefined;
  }

  function firstDue(): RestingRun | undefined {
    const now = clock.now();
    for (let first = due.first(); first && first.dueMs <= now; first = due.first()) {
      if (rows.get(first.runId) !== first || waking.has(first.runId)) {
        due.shift();
        continue;
      }
      // Asked for a handful at a time, because it is counted anew each time.
      if (allowed <= 0) allowed = Math.min(options.room() - waking.size, AT_ONCE);
      if (allowed <= 0) {
        clearTimeout(again);
        again = setTimeout(wakeNext, NO_ROOM_MS);
        again.unref();
        return undefined;
      }
      allowed -= 1;
      return due.shift();
    }
    allowed = 0;
    return undefined;
  }

  async function bring(row: RestingRun): Promise<void> {
    const { runId } = row;
    for (let tries = 1; waking.get(runId) === row; tries += 1) {
      try {
        return awake(row, await options.bring(row));
      } catch (error) {
        // Y6
        if (tries === TRIES) {
          logger.warn({ runId, err: error }, "could not wake the run");
          return drop(runId);
        }
        logger.debug({ runId, err: error }, "could not wake the run; trying again");
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS * 2 ** tries));
    }
  }

  function awake(row: RestingRun, run: ActiveRun | undefined) {
    const { runId } = row;
    // Let go of while its journal was read.
    if (waking.get(runId) !== row) return run?.close("released");
    const wished = wishes.get(runId) ?? [];
    // Y1
    drop(runId);
    if (!run) return logger.debug({ runId }, "the run at rest is not this daemon's any more");
    for (const wish of wished) wish(run);
    options.awake(run);
  }

  /** One timer for all: what is due first says when. */
  function setTimer() {
    const first = due.first()?.dueMs ?? Number.POSITIVE_INFINITY;
    if (stopped || first === timerFor) return;
    cancelTimer();
    cancelTimer = () => {};
    timerFor = first;
    // What is due already waits for a place or for room; both call by themselves.
    if (first === Number.POSITIVE_INFINITY || first <= clock.now()) return;
    cancelTimer = clock.at(first, () => {
      timerFor = Number.POSITIVE_INFINITY;
      wakeNext();
    });
  }
}
