/**
 * Whether a task is still this worker's. A process that was stopped or blocked, or whose connection was away or dead, has not
 * heard that the owner gave its tasks to others, and a model call it was about to make, or to try again, may be on record by now.
 *
 * Invariants
 * W1  Once this process may have been missed nothing is begun for a task that was here before, until the run's journal was read
 *     afterwards. While NATS is away that means: until it is back.
 * W2  The journal decides: a run that is over or gone, an outcome, or a later delivery than the one that is here. What is lost
 *     only after that look was called before anything could be recorded of it elsewhere.
 * W3  What was at work while this process may have been missed is looked up as well, and stopped where nobody waits for it any
 *     more: whoever called it off was not heard. What another worker has by now goes on to its next entry: it was paid for.
 */
import { UnavailableError } from "../../errors.ts";
import { isTerminal, type RunEvent } from "../../workflows/run-events.ts";
import type { Bus } from "../nats/connection.ts";
import type { Entry, Journals } from "../nats/journal.ts";
import type { Backlog } from "./backlog.ts";
import type { TaskWork } from "./task-work.ts";

export type StandingOptions = {
  bus: Pick<Bus, "connected" | "onRestored" | "heardAt">;
  backlog: Pick<Backlog, "missedSince">;
  journals: Pick<Journals<RunEvent[]>, "read">;
  /** The subject of a run's journal. */
  subjectOf(runId: string): string;
};

export type Standing = {
  /** Whether nothing has to be looked up. */
  isSure(work: TaskWork): boolean;
  /** The owner has just said that it counts on this worker. */
  assure(work: TaskWork): void;
  /** Looks the task up, until it is known. Rejects when `signal` aborts. */
  lookUp(work: TaskWork, signal: AbortSignal): Promise<Stand>;
};

/** Whose a task is: this worker's, another one's, or nobody's because nobody waits for it. */
type Stand = "here" | "elsewhere" | "over";

const AGAIN_MS = 250;

/** Keeps the standing of a worker's tasks. */
export function openStanding({ bus, backlog, journals, subjectOf }: StandingOptions): Standing {
  /** When each task was last known to be here, where that was later than its arrival. */
  const sureAt = new WeakMap<TaskWork, number>();
  return {
    isSure: (work) => !backlog.missedSince(sureAt.get(work) ?? work.startedAt),
    assure: (work) => void sureAt.set(work, bus.heardAt()),
    async lookUp(work, signal) {
      const { runId } = work.task;
      for (;;) {
        signal.throwIfAborted();
        const since = performance.now();
        try {
          const entries = await readOver(runId);
          const events = entries.flatMap(({ value }) => value);
          if (backlog.missedSince(since)) continue;
          // The owner was quicker.
          if ((sureAt.get(work) ?? 0) >= since) return "here";
          const stand = standIn(events, work);
          if (stand === "here") sureAt.set(work, since);
          return stand;
        } catch {
          // The broker is away; so is whoever could record something.
          await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
        }
      }
    },
  };

  /** Reads a run's journal over the connection there is now: what was asked over one that was lost is not answered. */
  async function readOver(runId: string): Promise<Entry<RunEvent[]>[]> {
    if (!bus.connected()) throw new UnavailableError("NATS is away");
    const { promise: lost, reject } = Promise.withResolvers<never>();
    const stopListening = bus.onRestored(() => reject(new UnavailableError("the connection was lost")));
    try {
      return await Promise.race([journals.read(subjectOf(runId)), lost]);
    } finally {
      stopListening();
    }
  }
}

/** W2 */
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
