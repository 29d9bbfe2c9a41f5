/**
 * Whether a task is still this worker's. A process that was stopped or blocked, or whose connection was away or dead, has not
 * heard that the owner gave its tasks to others, and a model call it was about to make, or to try again, may be on record by now.
 *
 * Invariants
 * W1  Once this process may have been missed nothing is begun for a task that was here before, until the run's journal was read
 *     afterwards. While NATS is away that means: until it is back.
 * W2  The journal decides: a run that is over, an outcome, or a later delivery than the one that is here. What is lost only
 *     after that look was called before anything could be recorded of it elsewhere.
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
  /** Looks the task up, until it is known; false when somebody else has it or nobody waits for it. Rejects when `signal` aborts. */
  confirm(work: TaskWork, signal: AbortSignal): Promise<boolean>;
};

const AGAIN_MS = 250;

/** Keeps the standing of a worker's tasks. */
export function openStanding({ bus, backlog, journals, subjectOf }: StandingOptions): Standing {
  /** When each task was last known to be here, where that was later than its arrival. */
  const sureAt = new WeakMap<TaskWork, number>();
  return {
    isSure: (work) => !backlog.missedSince(sureAt.get(work) ?? work.startedAt),
    assure: (work) => void sureAt.set(work, bus.heardAt()),
    async confirm(work, signal) {
      const { runId, taskId } = work.task;
      for (;;) {
        signal.throwIfAborted();
        const since = performance.now();
        try {
          const entries = await readOver(runId);
          const events = entries.flatMap(({ value }) => value);
          if (backlog.missedSince(since)) continue;
          // The owner was quicker.
          if ((sureAt.get(work) ?? 0) >= since) return true;
          sureAt.set(work, since);
          return isWanted(events, taskId, work.delivery);
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
function isWanted(events: readonly RunEvent[], taskId: string, delivery: number): boolean {
  return !events.some((event) => {
    if (event.type === "task.sent") return event.data.taskId === taskId && event.data.delivery > delivery;
    if (event.type === "task.settled" || event.type === "agent.handoff") return event.data.taskId === taskId;
    return isTerminal(event.type);
  });
}
