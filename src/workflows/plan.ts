/**
 * A plan is what differs between kinds of workflows: given what happened, which moves come next. The lifecycle around it
 * (waiting for its time, running, cancelling, the ends) is one statechart for all, in `supervisor-machine.ts`.
 */
import type { Task } from "../actors/task.ts";
import type { ErrorRecord } from "../errors.ts";
import type { Debt } from "./debt.ts";
import type { FailureInScope } from "./expressions.ts";
import type { KeptSignal } from "./outside-waits.ts";
import type { Fact, RunEventBody, RunRequest } from "./run-events.ts";
import type { ReusedOutput } from "./step-states.ts";

/** What a supervisor knows of its run from the start. */
export type RunSetup = {
  runId: string;
  request: RunRequest;
  /** When the run was accepted, as an ISO 8601 instant. */
  acceptedAt: string;
  /** What steps gave that another run had done, by step; told only for the beginning. */
  reused?: ReadonlyMap<string, ReusedOutput>;
  /** What the run has failed with, for the steps that run because of it. */
  failure?: FailureInScope;
  /** Signals that nothing has asked for before these steps; told only for the beginning. */
  kept?: readonly KeptSignal[];
};

export type Decision = Extract<
  RunEventBody,
  {
    type:
      | "step.started"
      | "step.completed"
      | "step.failed"
      | "step.skipped"
      | "step.retrying"
      | "step.cancelled"
      | "task.sent"
      | "timer.set"
      | "compensation.started"
      | "compensation.completed"
      | "compensation.retrying"
      | "compensation.failed"
      | "compensation.abandoned"
      | "run.failing"
      | "timer.cleared"
      | "approval.requested"
      | "approval.resolved"
      | "wait.begun"
      | "signal.refused"
      | "run.completed"
      | "run.failed"
      | "run.cancelled";
  }
>;

/** A task somebody has or should have. */
export type OpenTask = {
  task: Task;
  step?: string;
  /** The agent that handed off has sent it already. */
  forwarded: boolean;
  /** Once it has completed, its step has to be undone when the run fails. */
  owes?: true;
};

export type Move =
  | { type: "ask"; open: OpenTask }
  | { type: "timer"; id: string; dueAt: string }
  /** Nobody waits for this task and this timer any more, where there are such. What is said of the step says so. */
  | { type: "callOff"; taskId?: string; timer?: string }
  /** A timer is not waited for any more. That is on record. */
  | { type: "clear"; id: string }
  | { type: "say"; event: Decision }
  /** Comes with the step's completion. */
  | { type: "owe"; debt: Debt }
  | { type: "complete"; output: unknown }
  /** `step` is the one that failed, where it was one. */
  | { type: "fail"; error: ErrorRecord; step?: string };

/**
 * The code of a failure that a host puts in place of an outcome where all that follows from it does not fit into an entry, not
 * even when the task has failed. It fails the run, whatever else a step's failure leads to: that always fits.
 */
export const ENTRY_TOO_LARGE = "entry_too_large";

/** Facts a plan is asked about. */
type PlanFact = Extract<Fact, { type: "task.settled" | "agent.handoff" | "timer.fired" | "signal.received" }>;

/** `State` is plain data: it is folded from the journal, and stored as JSON where a journal is long (`save` in `supervisor.ts`). */
export type Plan<State = unknown> = {
  /** `at` is when it begins, ISO 8601: not the instant of acceptance where the run had to wait for its time. */
  begin(setup: RunSetup, at: string): { state: State; moves: Move[] };
  /** `open` is the task the fact is about, for facts about a task. */
  proceed(setup: RunSetup, state: State, fact: PlanFact, open: OpenTask | undefined): { state: State; moves: Move[] };
  /** Signals that no step has asked for; a plan without such keeps none. */
  keptIn?(state: State): readonly KeptSignal[];
};

/** An instant `ms` milliseconds after another one. */
export function later(at: string, ms: number): string {
  return new Date(Date.parse(at) + ms).toISOString();
}

/** When a run that was accepted at `at` times out, if it does. */
export function deadlineOf({ request, acceptedAt }: RunSetup): string | undefined {
  if (request.timeoutMs === undefined) return undefined;
  // A `notBefore` that was over when the run was accepted takes nothing from its time.
  const startsAt = Math.max(Date.parse(acceptedAt), Date.parse(request.notBefore ?? acceptedAt));
  return new Date(startsAt + request.timeoutMs).toISOString();
}
