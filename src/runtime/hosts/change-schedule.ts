/** What becomes of a kept schedule when somebody declares or puts one of its name. Pure. */
import { dueInstants, sameTiming } from "../../workflows/due-instants.ts";
import type { Schedule } from "../../workflows/schedule.ts";
import type { KeptSchedule } from "./schedule-store.ts";

/**
 * A daemon has the schedule in its configuration, or with a workflow that was put. What is the same stays, also that somebody
 * has paused it; a change of `paused` there counts. One that `isBack` was declared before, and by nobody for a while that no
 * daemon slept through: what was due meanwhile was nobody's.
 */
export function declareSchedule(
  kept: KeptSchedule | undefined,
  schedule: Schedule,
  nowMs: number,
  { isBack = false } = {},
): KeptSchedule {
  if (kept?.declared && same(kept.schedule, schedule)) {
    return isBack ? { ...kept, through: laterOf(kept.through, nowMs) } : kept;
  }
  const isPaused = schedule.paused ?? false;
  const isSaidAnew = !kept?.declared || (kept.schedule.paused ?? false) !== isPaused;
  return replaced(kept, schedule, { paused: isSaidAnew ? isPaused : kept.paused, declared: true, nowMs, isBack });
}

/** A person has put the schedule. */
export function putSchedule(kept: KeptSchedule | undefined, schedule: Schedule, nowMs: number): KeptSchedule {
  const { paused = false, ...rest } = schedule;
  return replaced(kept, rest, { paused, declared: false, nowMs });
}

/** A person has put a schedule that is in the configuration of a daemon; undefined where more than `paused` differs. */
export function pauseDeclared(kept: KeptSchedule, schedule: Schedule, nowMs: number): KeptSchedule | undefined {
  const { paused: _declared, ...declared } = kept.schedule;
  const { paused = false, ...asked } = schedule;
  if (!same(declared, asked)) return undefined;
  return replaced(kept, kept.schedule, { paused, declared: true, nowMs });
}

/** When a schedule fires next, in milliseconds since the epoch; undefined where it does not. */
export function nextFiring({ schedule, paused, through }: KeptSchedule, nowMs: number): number | undefined {
  return paused ? undefined : dueInstants(schedule).next(Math.max(Date.parse(through), nowMs));
}

/** What was due under another timing, or while it was paused, is nobody's loss: it counts from now on. */
function replaced(
  kept: KeptSchedule | undefined,
  schedule: Schedule,
  { paused, declared, nowMs, isBack = false }: { paused: boolean; declared: boolean; nowMs: number; isBack?: boolean },
): KeptSchedule {
  const now = new Date(nowMs).toISOString();
  const goesOn = kept && sameTiming(kept.schedule, schedule) && !(kept.paused && !paused) && !isBack;
  return { v: 1, ...kept, schedule, paused, declared, through: goesOn ? kept.through : now, changedAt: now };
}

function laterOf(through: string, nowMs: number): string {
  return new Date(Math.max(Date.parse(through), nowMs)).toISOString();
}

function same(one: object, other: object): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}
