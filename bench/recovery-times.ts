/**
 * How long runs stood still after something was done to them, from the journals as the broker has them and from what the model
 * server saw. Instants are milliseconds since the epoch.
 */
import type { RunEvent } from "../src/workflows/run-events.ts";
import type { NumberedCall } from "../test/helpers/numbered-model-server.ts";
import { byRun, type Stored } from "../test/helpers/raw-journals.ts";

/** How long one run stood still; `Infinity` where it still does. */
export type Standstill = { runId: string; ms: number; story: string };

/** A daemon that is lost or told to leave. */
export type Leaving = {
  /** When. */
  at: number;
  incarnation: string;
  pid: number;
  /** From when on time counts. @default at */
  from?: number;
};

/**
 * How long the runs that a daemon had something to do with stood still: those it owned until another claim is on record, and
 * those with a task in its hands until that is on record as sent again; whichever is later.
 */
export function afterLeaving(
  { at, incarnation, pid, from = at }: Leaving,
  runs: readonly Stored<RunEvent[]>[],
  calls: readonly NumberedCall[],
): Standstill[] {
  const inHand = Map.groupBy(
    calls.filter((call) => call.pid === pid && call.at <= at && (call.endedAt ?? Number.POSITIVE_INFINITY) > at),
    ({ runId }) => runId,
  );
  return [...byRun(runs)].flatMap(([runId, entries]) => {
    if (hasEnded(entries, at)) return [];
    const after = entries.filter((entry) => entry.at > at);
    const steps: number[] = [];
    const claim = after.find(({ value }) => value.some(({ type }) => type === "run.claimed"));
    if (ownerAt(entries, at) === incarnation) steps.push(claim?.at ?? Number.POSITIVE_INFINITY);
    const resent = resentIn(after);
    // What was in its hands when it died is lost for sure; what only waited there is known by being sent again.
    for (const { taskId } of inHand.get(runId) ?? []) {
      if (!isSettled(after, taskId)) steps.push(resent.get(taskId) ?? Number.POSITIVE_INFINITY);
    }
    steps.push(...resent.values());
    return steps.length === 0 ? [] : [standstill(runId, entries, { from, until: Math.max(...steps) })];
  });
}

/**
 * How long answers of the model waited to be on record that came while the broker was away or soon after: from the answer, or
 * from when the broker was `back`, to the next entry of the run or of the task.
 */
export function afterBroker(
  { goneAt, backAt, soonMs }: { goneAt: number; backAt: number; soonMs: number },
  entries: readonly Stored<unknown>[],
  calls: readonly NumberedCall[],
): Standstill[] {
  const byToken = Map.groupBy(entries, ({ subject }) => subject.split(".")[2] ?? "");
  return calls.flatMap(({ runId, state, endedAt }) => {
    if (state !== "answered" || endedAt === undefined || endedAt < goneAt || endedAt > backAt + soonMs) return [];
    const from = Math.max(backAt, endedAt);
    const next = byToken.get(runId)?.find((entry) => entry.at >= from);
    return [standstill(runId, [], { from, until: next?.at ?? Number.POSITIVE_INFINITY })];
  });
}

function standstill(
  runId: string,
  entries: readonly Stored<RunEvent[]>[],
  { from, until }: { from: number; until: number },
): Standstill {
  const told = entries
    .filter(({ at }) => at > from && at <= until)
    .map(({ at, value }) => `${Math.round(at - from)} ms ${value.map(({ type }) => type).join(", ")}`);
  return { runId, ms: Math.max(0, until - from), story: told.join("; ") };
}

function hasEnded(entries: readonly Stored<RunEvent[]>[], at: number): boolean {
  const before = entries.findLast((entry) => entry.at <= at);
  return before === undefined || /^run\.(completed|failed|cancelled)$/.test(before.value.at(-1)?.type ?? "");
}

function ownerAt(entries: readonly Stored<RunEvent[]>[], at: number): string | undefined {
  const events = entries.filter((entry) => entry.at <= at).flatMap(({ value }) => value);
  const claim = events.findLast((event) => event.type === "run.claimed");
  return claim?.type === "run.claimed" ? claim.data.incarnation : undefined;
}

/** When each task was first sent again. */
function resentIn(entries: readonly Stored<RunEvent[]>[]): Map<string, number> {
  const resent = new Map<string, number>();
  for (const { at, value } of entries) {
    for (const event of value) {
      if (event.type !== "task.sent" || !event.data.lost) continue;
      if (!resent.has(event.data.taskId)) resent.set(event.data.taskId, at);
    }
  }
  return resent;
}

/** Whether a task's outcome came before it was sent again. */
function isSettled(entries: readonly Stored<RunEvent[]>[], taskId: string): boolean {
  const first = entries
    .flatMap(({ value }) => value)
    .find((event) => "taskId" in event.data && event.data.taskId === taskId);
  return first?.type === "task.settled" || first?.type === "agent.handoff";
}
