/** Why a run may stand still for now; without such a reason it is stuck. */
import { eventsOf, type TrackedRun } from "./tracked-run.ts";

/** Seconds without progress and without a reason after which a run is stuck. */
export const STUCK_SECONDS = 30;

const GRACE_MS = 2_000;

/** What a run waits for, or undefined when nothing keeps it from going on. */
export function reasonToWait(run: TrackedRun, now: number): string | undefined {
  if (run.storedAt === undefined) return "its request is not stored yet";
  const timer = openTimers(run).find(({ dueAt }) => Date.parse(dueAt) + GRACE_MS > now);
  if (timer) return `timer ${timer.id}`;
  const call = run.calls.find(({ state, at, plannedMs }) => state === "open" && at + plannedMs + GRACE_MS > now);
  return call && `call ${call.n}`;
}

/** The timer of the run's own time limit is no reason: a run has to get on before it. */
function openTimers(run: TrackedRun): { id: string; dueAt: string }[] {
  const timers = new Map<string, string>();
  for (const event of eventsOf(run)) {
    if (event.type === "timer.set" && event.data.id !== "timeout") timers.set(event.data.id, event.data.dueAt);
    if (event.type === "timer.fired") timers.delete(event.data.id);
  }
  return [...timers].map(([id, dueAt]) => ({ id, dueAt }));
}
