/**
 * The instants at which a schedule is due, and which of those that have come lead to a run. Pure: what time it is is told.
 *
 * Daylight saving, as cron users expect it: a fixed time of day that a day does not have is due when the gap is over, one that
 * a day has twice is due the first time; what comes every so many minutes or hours is due as often as the clock shows it.
 */
import { Cron } from "croner";
import { type MissedPolicy, type ScheduleTiming, timingOf } from "./schedule.ts";

/** The instants of one schedule, in milliseconds since the epoch. */
export type DueInstants = {
  /** The first one after an instant; undefined where there is none any more. */
  next(afterMs: number): number | undefined;
  /** Those up to an instant, that one included, the newest first. */
  back(fromMs: number): Generator<number, void, undefined>;
};

/** What has been due. */
export type DueNow = {
  /** Instants to start runs for, the oldest first. */
  fire: number[];
  /** The newest instant that leads to no run, because it was missed and is not made up for. */
  missed?: number;
};

/** More instants than this are not made up for at once; whoever was away for so long has the newest of them. */
export const MOST_AT_ONCE = 1_000;
/** Looking back is as dear as looking ahead, and nearly always one instant is enough. */
const LOOK_BACK = 16;

/**
 * The instants of a timing.
 *
 * @throws Error with a message in words where the expression or the time zone is none.
 */
export function dueInstants(timing: ScheduleTiming): DueInstants {
  if ("cron" in timing) return cronInstants(timing.cron, timing.timezone);
  if ("at" in timing) return oneInstant(Date.parse(timing.at));
  return everyInstant(timing.everyMs);
}

/** Whether two schedules are due at the same instants, as far as can be seen from how they are written. */
export function sameTiming(one: ScheduleTiming, other: ScheduleTiming): boolean {
  return JSON.stringify(timingOf(one)) === JSON.stringify(timingOf(other));
}

/**
 * Which of the instants after `throughMs` and up to `nowMs` lead to runs. Those from `watchedMs` on are only late: a daemon
 * was there for them. Those before were missed by all, and `policy` decides.
 */
export function dueNow(
  instants: DueInstants,
  { throughMs, nowMs, watchedMs }: { throughMs: number; nowMs: number; watchedMs: number },
  policy: MissedPolicy,
): DueNow {
  const fire: number[] = [];
  let missed: number | undefined;
  for (const dueMs of instants.back(nowMs)) {
    if (dueMs <= throughMs || fire.length >= MOST_AT_ONCE) break;
    if (dueMs < watchedMs && policy === "skip") {
      missed = dueMs;
      break;
    }
    fire.push(dueMs);
    if (dueMs < watchedMs && policy === "once") break;
  }
  return { fire: fire.reverse(), ...(missed !== undefined && { missed }) };
}

function cronInstants(expression: string, timezone: string): DueInstants {
  const cron = new Cron(expression, { timezone, mode: "5-or-6-parts" });
  // It knows about its zone only once it is asked.
  cron.nextRun(new Date(0));
  return {
    next: (afterMs) => cron.nextRun(new Date(afterMs))?.getTime(),
    *back(fromMs) {
      // The instant it starts from is not among those it gives.
      for (let before = fromMs + 1; ; ) {
        const found = cron.previousRuns(LOOK_BACK, new Date(before)).map((date) => date.getTime());
        yield* found;
        const oldest = found.at(-1);
        if (oldest === undefined) return;
        before = oldest;
      }
    },
  };
}

function oneInstant(at: number): DueInstants {
  return {
    next: (afterMs) => (afterMs < at ? at : undefined),
    *back(fromMs) {
      if (at <= fromMs) yield at;
    },
  };
}

function everyInstant(everyMs: number): DueInstants {
  return {
    next: (afterMs) => (Math.floor(afterMs / everyMs) + 1) * everyMs,
    *back(fromMs) {
      for (let due = Math.floor(fromMs / everyMs) * everyMs; ; due -= everyMs) yield due;
    },
  };
}
