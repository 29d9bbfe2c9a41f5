/**
 * Whether a task is still this worker's. A process that was stopped or blocked, or whose connection was away or dead, has not
 * heard that the owner gave its tasks to others, and a model call it was about to make, or to try again, may be on record by now.
 *
 * Invariants
 * W1  Once this process may have been missed nothing is begun for a task that was here before, until the run's journal was read
 *     afterwards. While NATS is away that means: until it is back.
 * W2  The journals decide: a run that is over or gone, an outcome, that the run goes on without the task, a later delivery than
 *     the one that is here, or an entry of another worker in the task's own journal. What is lost only after that look was
 *     called before anything could be recorded of it elsewhere.
 * W3  What was at work while this process may have been missed is looked up as well. Where nobody waits for it any more it is
 *     stopped: whoever called it off was not heard. Where it is still this worker's its owner is told, who may not have heard
 *     of it either and is about to send it elsewhere. What another worker has by now goes on to its next entry: it was paid for.
 * W4  A run's journal is read once for all of its tasks that are looked up together, and what was read of it for a task is not
 *     read again. So looks cost little where a worker has many tasks or is often missed, and one that takes so long that it
 *     counts as a pause itself is not taken in vain.
 */
import type { TaskEntry } from "../../actors/task.ts";
import { UnavailableError } from "../../errors.ts";
import { isTerminal, type RunEvent } from "../../workflows/run-events.ts";
import { CANCEL_TIMER } from "../../workflows/supervisor-machine.ts";
import type { Bus } from "../nats/connection.ts";
import type { Journals } from "../nats/journal.ts";
import type { Subjects } from "../subjects.ts";
import type { Backlog } from "./backlog.ts";
import { openSlots } from "./slots.ts";
import type { TaskWork } from "./task-work.ts";

export type StandingOptions = {
  bus: Pick<Bus, "connected" | "onRestored" | "heardAt">;
  backlog: Pick<Backlog, "missedSince">;
  runs: Pick<Journals<RunEvent[]>, "read" | "last">;
  tasks: Pick<Journals<TaskEntry>, "last">;
  subjects: Pick<Subjects, "run" | "task">;
  /** A task that was looked up is this worker's. */
  here(work: TaskWork): void;
};

export type Standing = {
  /** Whether nothing has to be looked up. */
  isSure(work: TaskWork): boolean;
  /** The owner has just said that it counts on this worker, also for a later `delivery` than the one that is here. */
  assure(work: TaskWork, delivery?: number): void;
  /** Looks the task up, until it is known. Rejects when `signal` aborts. */
  lookUp(work: TaskWork, signal: AbortSignal): Promise<Stand>;
};

/**
 * Whose a task is: this worker's; its own by the run's journal, but another worker has written to the task's; another one's; or
 * nobody's, because nobody waits for it.
 */
type Stand = "here" | "contested" | "elsewhere" | "over";

const AGAIN_MS = 250;
// A worker may have hundreds of tasks, and the broker others to answer.
const MOST_QUESTIONS = 32;

/** What a run's journal says of one task, up to an entry. */
type Seen = { seq: number; isSent: boolean; isOver: boolean; delivery: number };

/** What was asked for at `since`, an instant of `performance.now()`: the events after those that are known; none if it is gone. */
type Reading = { since: number; news: Promise<News | undefined> };
type News = { seq: number; events: readonly RunEvent[]; isAnew: boolean };

/** Keeps the standing of a worker's tasks. */
export function openStanding({ bus, backlog, runs, tasks, subjects, here }: StandingOptions): Standing {
  /** When each task was last known to be here, where that was later than its arrival. */
  const sureAt = new WeakMap<TaskWork, number>();
  /** The delivery that each task counts as, where that is a later one than came. */
  const keptFor = new WeakMap<TaskWork, number>();
  const seen = new WeakMap<TaskWork, Seen>();
  /** W4: by run and where they begin. */
  const readings = new Map<string, Reading>();
  const questions = openSlots(MOST_QUESTIONS);
  return {
    isSure: (work) => !backlog.missedSince(sureAt.get(work) ?? work.startedAt),
    assure(work, delivery = 0) {
      sureAt.set(work, bus.heardAt());
      if (delivery > work.delivery) keptFor.set(work, delivery);
    },
    async lookUp(work, signal) {
      for (;;) {
        signal.throwIfAborted();
        try {
          const { stand, since } = await standOf(work, signal);
          if (backlog.missedSince(since)) continue;
          // The owner was quicker.
          if ((sureAt.get(work) ?? 0) >= since) return "here";
          if (stand === "here") {
            sureAt.set(work, since);
            here(work);
          }
          return stand;
        } catch {
          // The broker is away; so is whoever could record something.
          await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
        }
      }
    },
  };

  // W2
  async function standOf(work: TaskWork, signal: AbortSignal): Promise<{ stand: Stand; since: number }> {
    const { runId, taskId } = work.task;
    const before = seen.get(work) ?? NOTHING_SEEN;
    const { since, news } = readOn(runId, before.seq, signal);
    const found = await news;
    if (!found) return { stand: "over", since };
    const now = seenAfter(found.isAnew ? NOTHING_SEEN : before, found, taskId);
    seen.set(work, now);
    if (now.isOver) return { stand: "over", since };
    if (now.delivery > Math.max(work.delivery, keptFor.get(work) ?? 0)) return { stand: "elsewhere", since };
    const last = await overThisConnection(() => tasks.last(subjects.task(runId, taskId)), signal);
    // What this worker was just writing is not another one's.
    await work.journal.settled();
    return { stand: last && last.seq > work.journal.lastSeq() ? "contested" : "here", since };
  }

  // W4
  function readOn(runId: string, seq: number, signal: AbortSignal): Reading {
    const key = `${runId} ${seq}`;
    const under = readings.get(key);
    if (under) return under;
    const news = overThisConnection(() => readAfter(subjects.run(runId), seq), signal).finally(() =>
      readings.delete(key),
    );
    const reading = { since: performance.now(), news };
    readings.set(key, reading);
    return reading;
  }

  async function readAfter(subject: string, seq: number): Promise<News | undefined> {
    const newest = await runs.last(subject);
    if (!newest) return undefined;
    if (newest.seq === seq) return { seq, events: [], isAnew: false };
    // Fewer than there were: this is another stream.
    const isAnew = newest.seq < seq;
    const entries = await runs.read(subject, { from: isAnew ? 1 : seq + 1, newest });
    const last = entries.at(-1);
    if (!last || last.seq < newest.seq) throw new UnavailableError(`${subject}: what was read is not all there is`);
    return { seq: last.seq, events: entries.flatMap(({ value }) => value), isAnew };
  }

  /** What is asked over the connection there is now: over one that is lost there is no answer. */
  async function overThisConnection<T>(ask: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const leave = await questions.enter(signal);
    const { promise: lost, reject } = Promise.withResolvers<never>();
    const stopListening = bus.onRestored(() => reject(new UnavailableError("the connection was lost")));
    try {
      if (!bus.connected()) throw new UnavailableError("NATS is away");
      return await Promise.race([ask(), lost]);
    } finally {
      stopListening();
      leave();
    }
  }
}

const NOTHING_SEEN: Seen = { seq: 0, isSent: false, isOver: false, delivery: 0 };

function seenAfter(before: Seen, { seq, events }: News, taskId: string): Seen {
  let { isSent, isOver, delivery } = before;
  for (const { type, data } of events) {
    if (type === "task.sent") {
      if (data.taskId !== taskId) continue;
      isSent = true;
      delivery = Math.max(delivery, data.delivery);
    } else if (type === "task.settled" || type === "agent.handoff" || type === "step.cancelled") {
      isOver ||= data.taskId === taskId;
    } else if (type === "timer.fired") {
      // What has not stopped by then is not waited for; what was sent later undoes the run.
      isOver ||= isSent && data.id === CANCEL_TIMER;
    } else {
      isOver ||= isTerminal(type);
    }
  }
  return { seq, isSent, isOver, delivery };
}
