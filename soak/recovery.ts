/** How long runs of a killed daemon stood still. */
import { tellEvent } from "./timeline.ts";
import { eventsOf, type TrackedRun } from "./tracked-run.ts";

/** Something done to a process or to the broker. */
export type Loss = {
  at: number;
  deed: string;
  /** The life that was lost, where it was a daemon's. */
  incarnation?: string;
};

const SLOW_MS = 500;

/** How long a run stood still, in milliseconds, and what happened meanwhile. */
export type Recovery = { ms: number; story: string };

/**
 * From each kill of a run's owner to the first entry of another that does more than claim. Left out is
 * whatever says nothing about Troupe: runs that waited for a time, for a slow or failing model, and for a second loss.
 */
export function recoveriesOf(run: TrackedRun, losses: readonly Loss[]): Recovery[] {
  return losses.flatMap((loss) => {
    const { at, deed, incarnation } = loss;
    if (deed !== "kill" || ownerAt(run, at) !== incarnation || !hasOpenTask(run, at)) return [];
    const epoch = run.journal.findLast((entry) => entry.at <= at)?.value[0]?.epoch ?? 0;
    const step = run.journal.find(
      (entry) =>
        entry.at > at &&
        (entry.value[0]?.epoch ?? 0) > epoch &&
        entry.value.some(({ type }) => type !== "run.claimed" && type !== "signal.received"),
    );
    if (!step) return [];
    const again = losses.some((other) => other !== loss && other.at > at - SLOW_MS && other.at <= step.at);
    if (again || waitedForModel(run, at, step.at)) return [];
    const between = run.journal.filter((entry) => entry.at > at && entry.at <= step.at);
    const told = between.map((entry) => `${Math.round(entry.at - at)} ms ${entry.value.map(tellEvent).join(", ")}`);
    return [{ ms: step.at - at, story: `${run.plan.runId}: ${told.join("; ")}` }];
  });
}

function ownerAt({ journal }: TrackedRun, at: number): string | undefined {
  const events = journal.filter((entry) => entry.at <= at).flatMap(({ value }) => value);
  if (events.some(({ type }) => /^run\.(completed|failed|cancelled|parked)$/.test(type))) return undefined;
  const claim = events.findLast((event) => event.type === "run.claimed");
  return claim?.type === "run.claimed" ? claim.data.incarnation : undefined;
}

function hasOpenTask(run: TrackedRun, at: number): boolean {
  const open = new Set<string>();
  for (const event of eventsOf({ journal: run.journal.filter((entry) => entry.at <= at) })) {
    if (event.type === "task.sent") open.add(event.data.taskId);
    if (event.type === "task.settled" || event.type === "agent.handoff") open.delete(event.data.taskId);
    if (event.type === "agent.handoff") open.add(event.data.next.taskId);
  }
  return open.size > 0;
}

function waitedForModel({ calls, tools }: TrackedRun, from: number, to: number): boolean {
  const slowCall = calls.some(
    (call) =>
      call.at <= to &&
      (call.endedAt ?? Number.POSITIVE_INFINITY) >= from - SLOW_MS &&
      (call.fault !== undefined || call.plannedMs > SLOW_MS),
  );
  return slowCall || tools.some(({ at, text }) => at >= from - 2_000 && at <= to && text.includes("slow"));
}
