/**
 * The schedules as they are kept: each is one message that says what it is and how far it has fired, the newest in place of the
 * one before. All daemons follow them.
 *
 * Invariants
 * S1  A change is made of what stood there and put in its place only if that still stands there; else it is made again. So a
 *     firing and a person's change never undo each other.
 * S2  `through` never goes back but by a person's change: what has been due up to there is decided about.
 * S3  What is followed is a hint. Before a schedule fires it is read from the stream's leader.
 */
import type { Logger } from "pino";
import type { Schedule } from "../../workflows/schedule.ts";
import { scheduleSchema } from "../../workflows/schedule-schema.ts";
import type { Bus } from "../nats/connection.ts";
import { followStream } from "../nats/follow.ts";
import { openNewest } from "../nats/newest.ts";
import type { Subjects } from "../subjects.ts";

/** A schedule and how far it is. The wire form of `troupe.schedules.<name>`. */
export type KeptSchedule = {
  v: 1;
  schedule: Schedule;
  /** Whether it does not fire for now. */
  paused: boolean;
  /** Whether it came from the configuration of daemons; it fires while one that has it lives. */
  declared: boolean;
  /** Up to this instant everything that was due is decided about. */
  through: string;
  /** The last instant that led to a run. */
  last?: { dueAt: string; firedAt: string; runId: string };
  /** The last instant that led to none, and why. */
  skipped?: { dueAt: string; reason: "missed" | "overlap" };
  /** When somebody last changed it. */
  changedAt: string;
};

/** What stands in the place of a schedule that was deleted, for a while. */
type Gone = { v: 1; gone: true; name: string; changedAt: string };

/** Makes the next form of what is kept: of a schedule, or none where there is none. */
type Change = (kept: KeptSchedule | undefined) => KeptSchedule | undefined;

export type ScheduleStore = {
  /** Every schedule, as far as this daemon has heard. */
  all(): KeptSchedule[];
  /** A schedule from the stream's leader. @throws UnavailableError */
  read(name: string): Promise<KeptSchedule | undefined>;
  /**
   * Changes a schedule, and gives back what stands there then; nothing is written where `change` gives what it got.
   *
   * @throws UnavailableError when it is not known to be stored; PayloadTooLargeError.
   */
  change(name: string, change: Change): Promise<KeptSchedule | undefined>;
  /** Calls when any of them has changed. */
  onChange(listener: () => void): void;
  /** All that are kept have been read. */
  ready(): Promise<void>;
  /**
   * Takes away for good what was deleted before an instant, and deletes what was due once and put over the API, when that is
   * over since before another one; `mine` says whether this daemon does so for a name.
   */
  sweep(before: { goneMs: number; doneMs: number }, mine: (name: string) => boolean): Promise<void>;
  stop(): Promise<void>;
};

/** Follows the schedules. */
export function openScheduleStore({
  bus,
  subjects,
  logger,
  now,
}: {
  bus: Bus;
  subjects: Subjects;
  logger: Logger;
  now: () => number;
}): ScheduleStore {
  const newest = openNewest(bus, subjects.streams.schedules);
  const kept = new Map<string, KeptSchedule | Gone>();
  const listeners: (() => void)[] = [];
  const { promise: ready, resolve: isReady } = Promise.withResolvers<void>();
  const follower = followStream({
    bus,
    stream: subjects.streams.schedules,
    logger,
    from() {
      // It may be another stream than before, and what was taken away is not told.
      kept.clear();
      return 1;
    },
    entries(batch) {
      for (const { subject, data } of batch) hear(subject.slice(subject.lastIndexOf(".") + 1), data);
      for (const listener of listeners) listener();
    },
    caughtUp: () => isReady(),
  });

  const self: ScheduleStore = {
    all: () => [...kept.values()].flatMap((entry) => (isGone(entry) ? [] : [entry])),
    read: async (name) => (await stored(name)).kept,
    async change(name, change) {
      // S1
      for (;;) {
        const before = await stored(name);
        const next = change(before.kept);
        if (next === before.kept) return next;
        const message = next ?? ({ v: 1, gone: true, name, changedAt: new Date(now()).toISOString() } satisfies Gone);
        const data = Buffer.from(JSON.stringify(message));
        const seq = await newest.put(subjects.schedule(name), data, before.seq);
        if (seq === undefined) continue;
        // Whoever asks this daemon next sees it.
        kept.set(name, message);
        return next;
      }
    },
    onChange: (listener) => void listeners.push(listener),
    ready: () => ready,
    async sweep({ goneMs, doneMs }, mine) {
      for (const [name, entry] of kept) {
        if (isGone(entry)) {
          if (Date.parse(entry.changedAt) > goneMs) continue;
          kept.delete(name);
          if (mine(name) && (await stored(name)).gone) await newest.purge(subjects.schedule(name));
        } else if (isDone(entry, doneMs) && mine(name)) {
          await self.change(name, (found) => (found && isDone(found, doneMs) ? undefined : found));
        }
      }
    },
    stop: () => follower.stop(),
  };
  return self;

  async function stored(name: string): Promise<{ seq: number; kept: KeptSchedule | undefined; gone?: true }> {
    const found = await newest.get(subjects.schedule(name));
    if (!found) return { seq: 0, kept: undefined };
    const entry = parse(found.data, name);
    if (!entry || isGone(entry)) return { seq: found.seq, kept: undefined, ...(entry && { gone: true }) };
    return { seq: found.seq, kept: entry };
  }

  function hear(name: string, data: Uint8Array) {
    const entry = parse(data, name);
    if (entry) {
      kept.set(name, entry);
      return;
    }
    // What stood there before is not kept any more either.
    kept.delete(name);
    logger.warn({ schedule: name }, "what is kept as a schedule is none; put it again");
  }
}

function parse(data: Uint8Array, name: string): KeptSchedule | Gone | undefined {
  try {
    const entry = JSON.parse(Buffer.from(data).toString("utf8")) as KeptSchedule | Gone;
    if (entry.v !== 1) return undefined;
    if (isGone(entry)) return entry;
    const isSchedule = scheduleSchema.safeParse(entry.schedule).success && entry.schedule.name === name;
    return isSchedule && !Number.isNaN(Date.parse(entry.through)) ? entry : undefined;
  } catch {
    return undefined;
  }
}

/** It was due once, and that was before an instant; those of a configuration stay as long as that has them. */
function isDone({ schedule, declared, through }: KeptSchedule, beforeMs: number): boolean {
  if (declared || !("at" in schedule)) return false;
  const at = Date.parse(schedule.at);
  return at < beforeMs && Date.parse(through) >= at;
}

function isGone(entry: KeptSchedule | Gone): entry is Gone {
  return "gone" in entry;
}
