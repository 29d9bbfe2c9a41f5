/** How runs end: why, and what is still to be undone then. */
import { JournalFullError, toErrorRecord } from "../errors.ts";
import type { Debt } from "./debt.ts";
import type { OpenTask, Plan, RunSetup } from "./plan.ts";
import type { Fact } from "./run-events.ts";
import type { Cause } from "./unwinding.ts";

/** How a run ends; of one that is unwound, first why. */
export type End = { readonly type: "complete"; readonly output: unknown } | Cause;

type Running = { setup: RunSetup; plan: Plan; state: unknown; open: { readonly [taskId: string]: OpenTask } };

/** Why a run ends that is cancelled, or whose journal is full; a cause it had before stays. */
export function causeOf(event: Fact, end: End | undefined): Cause {
  if (end && end.type !== "complete") return end;
  if (event.type === "run.exceeded") {
    const error = toErrorRecord(new JournalFullError("the run's journal", event.data.limit, event.data));
    return { type: "fail", error };
  }
  const reason = event.type === "run.cancelling" ? event.data.reason : undefined;
  return { type: "cancel", ...(reason !== undefined && { reason }) };
}

/** What completed although it was called off, of what has to be undone. The plan's state stays as it was: nothing follows. */
export function completedLate({ setup, plan, state, open }: Running, fact: Fact): Debt[] {
  if (fact.type !== "task.settled" || fact.data.outcome.type !== "completed") return [];
  const task = open[fact.data.taskId];
  if (!task?.owes) return [];
  return plan.proceed(setup, state, fact, task).moves.flatMap((move) => (move.type === "owe" ? [move.debt] : []));
}

/** The run as it is undone. */
export function unwindingOf({ setup, plan, state, debts, end }: Running & { debts: readonly Debt[]; end?: End }) {
  if (!end || end.type === "complete") throw new Error("a run is undone that neither failed nor was cancelled");
  const kept = (state === undefined ? undefined : plan.keptIn?.(state)) ?? [];
  return { setup, debts, cause: end, kept };
}
