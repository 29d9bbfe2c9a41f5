/**
 * Whether a task is still this worker's. A process that was stopped or blocked, or whose connection was away or dead, has not
 * heard that the owner gave its tasks to others, and a model call it was about to make, or to try again, may be on record by now.
 *
 * Invariants
 * W1  Once this process may have been missed nothing is begun for a task that was here before, until the run's journal was read
 *     afterwards. While NATS is away that means: until it is back.
 * W2  The journals decide: a run that is over or gone, an outcome, a later delivery than the one that is here, or an entry of
 *     another worker in the task's own journal. What is lost only after that look was called before anything could be recorded
 *     of it elsewhere.
 * W3  What was at work while this process may have been missed is looked up as well. Where nobody waits for it any more it is
 *     stopped: whoever called it off was not heard. Where it is still this worker's its owner is told, who may not have heard
 *     of it either and is about to send it elsewhere. What another worker has by now goes on to its next entry: it was paid for.
 */
import type { TaskEntry } from "../../actors/task.ts";
import { UnavailableError } from "../../errors.ts";
import { isTerminal, type RunEvent } from "../../workflows/run-events.ts";
import type { Bus } from "../nats/connection.ts";
import type { Journals } from "../nats/journal.ts";
import type { Subjects } from "../subjects.ts";
import type { Backlog } from "./backlog.ts";
import type { TaskWork } from "./task-work.ts";

export type StandingOptions = {
  bus: Pick<Bus, "connected" | "onRestored" | "heardAt">;
  backlog: Pick<Backlog, "missedSince">;
  runs: Pick<Journals<RunEvent[]>, "read">;
  tasks: Pick<Journals<TaskEntry>, "last">;
  subjects: Pick<Subjects, "run" | "task">;
  /** A task that was looked up is this worker's. */
  here(work: TaskWork): void;
};

export type Standing = {
  /** Whether nothing has to be looked up. */
  isSure(work: TaskWork): boolean;
  /** The owner has just said that it counts on this worker. */
  assure(work: TaskWork): void;
  /** Looks the task up, until it is known. Rejects when `signal` aborts. */
  lookUp(work: TaskWork, signal: AbortSignal): Promise<Stand>;
};

/**
 * Whose a task is: this worker's; its own by the run's journal, but another worker has written to the task's; another one's; or
 * nobody's, because nobody waits for it.
 */
type Stand = "here" | "contested" | "elsewhere" | "over";

const AGAIN_MS = 250;

/** Keeps the standing of a worker's tasks. */
export function openStanding({ bus, backlog, runs, tasks, subjects, here }: StandingOptions): Standing {
  /** When each task was last known to be here, where that was later than its arrival. */
  const sureAt = new WeakMap<TaskWork, number>();
  return {
    isSure: (work) => !backlog.missedSince(sureAt.get(work) ?? work.startedAt),
    assure: (work) => void sureAt.set(work, bus.heardAt()),
    async lookUp(work, signal) {
      for (;;) {
        signal.throwIfAborted();
        const since = performance.now();
        try {
          const stand = await overThisConnection(() => standOf(work));
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
  async function standOf(work: TaskWork): Promise<Stand> {
    const { runId, taskId } = work.task;
    const entries = await runs.read(subjects.run(runId));
    const stand = standIn(
      entries.flatMap(({ value }) => value),
      work,
    );
    if (stand !== "here") return stand;
    const last = await tasks.last(subjects.task(runId, taskId));
    // What this worker was just writing is not another one's.
    await work.journal.settled();
    return last && last.seq > work.journal.lastSeq() ? "contested" : "here";
  }

  /** What is asked over the connection there is now: over one that is lost there is no answer. */
  async function overThisConnection<T>(ask: () => Promise<T>): Promise<T> {
    if (!bus.connected()) throw new UnavailableError("NATS is away");
    const { promise: lost, reject } = Promise.withResolvers<never>();
    const stopListening = bus.onRestored(() => reject(new UnavailableError("the connection was lost")));
    try {
      return await Promise.race([ask(), lost]);
    } finally {
      stopListening();
    }
  }
}

function standIn(events: readonly RunEvent[], { task: { taskId }, delivery }: TaskWork): Stand {
  // What was sent was on record before: without a journal the run is over, and past its retention.
  const isOver =
    events.length === 0 ||
    events.some(({ type, data }) => {
      if (type === "task.settled" || type === "agent.handoff") return data.taskId === taskId;
      return isTerminal(type);
    });
  if (isOver) return "over";
  const isElsewhere = events.some(
    ({ type, data }) => type === "task.sent" && data.taskId === taskId && data.delivery > delivery,
  );
  return isElsewhere ? "elsewhere" : "here";
}
