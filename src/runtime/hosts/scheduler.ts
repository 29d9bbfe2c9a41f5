/**
 * The scheduler: starts runs when their schedules are due. One of the living daemons does it for each schedule; what makes it
 * one run is not who does it, but the run's id.
 *
 * Invariants
 * C1  The run of an instant has an id made of the schedule's name and the instant. Whoever asks for it, and however often, it is
 *     one run.
 * C2  The request is durable before the schedule is moved on. Dying in between asks again for the same run.
 * C3  A schedule is moved on durably over every instant that is decided about, so none comes twice, wherever the clock is set.
 * C4  An instant is missed only if no living daemon was there for it: if it lies before the time since which any of them has
 *     watched without a break. What a daemon did not come to because it died is late, not missed.
 * C5  A daemon that cannot ask for runs does not watch: while the connection is away, the streams are lost or refuse to
 *     store, while it stands still, and over the time that a clock jumps. Short breaks do not count.
 * C6  Of many instants that are made up for, none leads to a run once somebody has paused, changed or deleted the schedule.
 */
import type { Logger } from "pino";
import { UnavailableError } from "../../errors.ts";
import type { Metrics } from "../../tracing/metrics.ts";
import { dueInstants, dueNow } from "../../workflows/due-instants.ts";
import { type Schedule, scheduledRunId } from "../../workflows/schedule.ts";
import type { Clock } from "./clock.ts";
import { type Beat, chooseOwner } from "./presence.ts";
import type { KeptSchedule, ScheduleStore } from "./schedule-store.ts";

export type SchedulerOptions = {
  store: ScheduleStore;
  clock: Clock;
  logger: Logger;
  metrics: Metrics;
  incarnation: string;
  /** The living daemons, this one among them. */
  living(): readonly Beat[];
  /** Whether requests can be stored now. */
  mayFire(): boolean;
  /** Asks for a run, durably; the same id again is the same run. @throws UnavailableError */
  request(schedule: Schedule, runId: string, dueAt: string): Promise<void>;
  /** Whether a run has not ended yet, also where it waits at the door. */
  isUnfinished(runId: string): Promise<boolean>;
};

export type Scheduler = {
  /** Since when this daemon has watched the clock, in milliseconds since the epoch; undefined while it does not. */
  watchingSince(): number | undefined;
  stop(): Promise<void>;
};

// The wall clock may be set, so it is looked at this often however far ahead the next instant is.
const LOOK_EVERY_MS = 500;
/** C5: as long as others may take to notice that a daemon is gone, and some. */
const BREAK_MS = 10_000;
const SWEEP_EVERY_MS = 60_000;
/** Longer than anybody who follows the schedules is away without starting over. */
const KEEP_GONE_MS = 3_600_000;
/** As long as finished runs are kept by default: until then the list says which run it was. */
const KEEP_DONE_MS = 7 * 86_400_000;

/** Starts looking at the clock; `store` has to be ready. */
export function startScheduler(options: SchedulerOptions): Scheduler {
  const { store, clock, logger, metrics, incarnation } = options;
  /** When each is due next, of the form it was last seen in: to find that out is dear, and looks are many. */
  const nextDue = new Map<string, { kept: KeptSchedule; dueMs: number | undefined }>();
  const firing = new Map<string, Promise<void>>();
  let watchedSince: number | undefined;
  let lastLook = { wall: 0, mono: Number.NEGATIVE_INFINITY };
  let lastSweep = performance.now();
  let cancel: () => void = () => {};
  let stopped = false;
  store.onChange(() => {
    // Whatever is due next may be another one.
    cancel();
    cancel = clock.at(clock.now(), look);
  });
  look();

  return {
    watchingSince: () => watchedSince,
    async stop() {
      stopped = true;
      watchedSince = undefined;
      cancel();
      await Promise.all(firing.values());
    },
  };

  function look() {
    cancel();
    if (stopped) return;
    const now = clock.now();
    let next = now + LOOK_EVERY_MS;
    if (options.mayFire()) {
      watch(now);
      for (const kept of store.all()) {
        const dueMs = nextOf(kept);
        if (dueMs === undefined) continue;
        if (dueMs > now) next = Math.min(next, dueMs);
        else if (isMine(kept)) fire(kept.schedule.name);
      }
      if (performance.now() - lastSweep > SWEEP_EVERY_MS) sweep(now);
    }
    cancel = clock.at(next, look, LOOK_EVERY_MS);
  }

  // C5
  function watch(now: number) {
    const mono = performance.now();
    const brokeOff = now - lastLook.wall > BREAK_MS || mono - lastLook.mono > BREAK_MS;
    if (watchedSince === undefined || brokeOff || now < watchedSince) watchedSince = now;
    lastLook = { wall: now, mono };
  }

  function nextOf(kept: KeptSchedule): number | undefined {
    const { name } = kept.schedule;
    if (kept.paused || firing.has(name)) return undefined;
    const seen = nextDue.get(name);
    if (seen?.kept === kept) return seen.dueMs;
    const dueMs = dueInstants(kept.schedule).next(Date.parse(kept.through));
    nextDue.set(name, { kept, dueMs });
    return dueMs;
  }

  function candidates({ schedule, declared }: KeptSchedule): Beat[] {
    return options
      .living()
      .filter((beat) => beat.watch !== undefined && (!declared || beat.schedules?.includes(schedule.name)));
  }

  function isMine(kept: KeptSchedule): boolean {
    return chooseOwner(ownerKey(kept.schedule.name), candidates(kept))?.incarnation === incarnation;
  }

  function fire(name: string) {
    const fired = fireAll(name)
      .catch((error: unknown) => {
        const level = error instanceof UnavailableError ? "debug" : "error";
        logger[level]({ schedule: name, err: error }, "the schedule could not fire; it is tried again");
      })
      .finally(() => firing.delete(name));
    firing.set(name, fired);
  }

  async function fireAll(name: string) {
    // It may have fired elsewhere, or been changed, since this daemon last heard of it.
    const kept = await store.read(name);
    if (!kept || kept.paused) return;
    const nowMs = clock.now();
    // C4
    const watchedMs = Math.min(nowMs, ...candidates(kept).map(({ watch = nowMs }) => watch));
    const throughMs = Date.parse(kept.through);
    const { fire, missed } = dueNow(dueInstants(kept.schedule), { throughMs, nowMs, watchedMs }, kept.schedule.missed);
    if (missed !== undefined) await skip(kept, missed, "missed");
    let lastRun = kept.last?.runId;
    for (const dueMs of fire) {
      if (stopped || !options.mayFire()) return;
      const isHeld = kept.schedule.overlap === "skip" && lastRun !== undefined && (await options.isUnfinished(lastRun));
      const now = await (isHeld ? skip(kept, dueMs, "overlap") : start(kept, dueMs));
      // C6
      if (now?.changedAt !== kept.changedAt) return;
      lastRun = now.last?.runId;
    }
  }

  async function start({ schedule }: KeptSchedule, dueMs: number): Promise<KeptSchedule | undefined> {
    // C1
    const runId = scheduledRunId(schedule.name, dueMs);
    const dueAt = new Date(dueMs).toISOString();
    await options.request(schedule, runId, dueAt);
    // C2
    const firedAt = new Date(clock.now()).toISOString();
    const now = await moveOn(schedule.name, dueMs, { last: { dueAt, firedAt, runId } });
    tell(schedule, dueMs, "fired");
    logger.info({ schedule: schedule.name, workflow: schedule.workflow, runId, dueAt }, "schedule fired");
    return now;
  }

  async function skip({ schedule }: KeptSchedule, dueMs: number, reason: "missed" | "overlap") {
    const dueAt = new Date(dueMs).toISOString();
    const now = await moveOn(schedule.name, dueMs, { skipped: { dueAt, reason } });
    tell(schedule, dueMs, reason);
    logger.info({ schedule: schedule.name, workflow: schedule.workflow, dueAt, reason }, "schedule skipped");
    return now;
  }

  // C3
  /** Gives what is kept then. */
  function moveOn(name: string, dueMs: number, news: Pick<KeptSchedule, "last" | "skipped">) {
    return store.change(name, (kept) => {
      if (!kept || Date.parse(kept.through) >= dueMs) return kept;
      return { ...kept, through: new Date(dueMs).toISOString(), ...news };
    });
  }

  function tell({ workflow }: Schedule, dueMs: number, outcome: "fired" | "missed" | "overlap") {
    metrics.scheduleDue({ workflow, outcome, lateSeconds: Math.max(0, clock.now() - dueMs) / 1_000 });
  }

  function sweep(now: number) {
    lastSweep = performance.now();
    const names = new Set(store.all().map(({ schedule }) => schedule.name));
    for (const name of nextDue.keys()) if (!names.has(name)) nextDue.delete(name);
    const watching = options.living().filter(({ watch }) => watch !== undefined);
    const mine = (name: string) => chooseOwner(ownerKey(name), watching)?.incarnation === incarnation;
    store
      .sweep({ goneMs: now - KEEP_GONE_MS, doneMs: now - KEEP_DONE_MS }, mine)
      .catch((error: unknown) => logger.debug({ err: error }, "schedules are swept later"));
  }
}

/** No run can have this name, so that no run's owner is chosen with it. */
function ownerKey(name: string): string {
  return `schedule.${name}`;
}
