/**
 * What follows when a run fails or is cancelled: what it has done is undone, and what is to run then runs.
 *
 * Invariants
 * U1  What is owed is what completed, in the order in which it did; it is undone in reverse, one at a time, each of it at most once
 *     to an end: completed, failed for good, or abandoned.
 * U2  A compensation that fails for good keeps no other from being tried, and makes the run fail with `compensation_failed`.
 * U3  The steps in `onFailure` begin when all compensations have ended, and only where the run fails. How they end changes
 *     nothing about what the run fails with.
 * U4  Neither has to do with the run's own time: no deadline of it goes along with their tasks.
 * U5  Everything follows from what is owed, the cause and the facts, so that a fold makes the same again.
 * U6  One fact leads to so many moves at most, as in `deterministic.ts` (P5): where thousands cannot even be asked, the rest waits
 *     for a timer that is due at once.
 */
import type { Task } from "../actors/task.ts";
import { type ErrorRecord, toErrorRecord } from "../errors.ts";
import { backoff } from "./backoff.ts";
import { COMPENSATE, type Debt } from "./debt.ts";
import type { CompensationDefinition, WorkflowDefinition } from "./definition.ts";
import type { FailureInScope } from "./expressions.ts";
import { type About, isOfOnFailure, onFailurePlan } from "./on-failure.ts";
import type { KeptSignal } from "./outside-waits.ts";
import { later, type Move, type OpenTask, type RunSetup } from "./plan.ts";
import { isTriedAgain } from "./retry-policy.ts";
import { graphOf } from "./step-graph.ts";
import { instanceOf } from "./step-instances.ts";
import type { Undo } from "./step-scope.ts";
import type { StepStates } from "./step-states.ts";
import { undoerOf } from "./step-workers.ts";

/** Why a run ends without a result. */
export type Cause =
  | { readonly type: "fail"; readonly error: ErrorRecord; readonly step?: string }
  | { readonly type: "cancel"; readonly reason?: string };

/** How far a run is undone; plain data. */
export type UnwindingState = {
  /** How many of the debts are left; the last of them is at work. */
  readonly left: number;
  readonly attempt: number;
  /** What could not be undone, in words. */
  readonly failed: readonly string[];
  /** Nothing is left to be done. */
  readonly isOver?: true;
  /** Where the steps in `onFailure` are, once they have begun. */
  readonly after?: StepStates;
  /** Signals that came before them. */
  readonly early?: readonly SignalFact[];
};

export type Unwound = {
  state: UnwindingState;
  moves: Move[];
  /** How the run ends, once nothing is left to be done. */
  end?: Cause;
};

/** A run that is being undone. */
type Unwinding = {
  setup: RunSetup;
  debts: readonly Debt[];
  cause: Cause;
  /** Signals that no step of the run had asked for when it failed. */
  kept: readonly KeptSignal[];
};

type SignalFact = Extract<About[0], { type: "signal.received" }>;

export type UnwindingPlan = {
  /** Whether anything runs only because a run fails. */
  readonly hasOnFailure: boolean;
  /** `at` is when it begins, an ISO 8601 instant; `early` are signals that came since the run failed. */
  begin(run: Unwinding, at: string, early: readonly SignalFact[]): Unwound;
  proceed(run: Unwinding, state: UnwindingState, ...about: About): Unwound;
};

/** A progress that is being made. */
type Making = Unwinding & {
  /** When what is decided on happened, ISO 8601. */
  readonly at: string;
  state: UnwindingState;
  readonly moves: Move[];
  /** The next one has to be undone, or all are. */
  isDue?: boolean;
  end?: Cause;
};

const COMPENSATION_FAILED = "compensation_failed";
const SHOWN = 20;

/** The timer that what was too much for one entry goes on with. */
const GO_ON_TIMER = "go-on";

// Far below a plan's, for nearly every second one of them says at length why a template came to nothing.
const MOST_MOVES = 400;

/** Plans what follows when runs of a workflow fail. */
export function unwindingPlan(definition: WorkflowDefinition): UnwindingPlan {
  const graph = definition.kind === "deterministic" ? graphOf(definition) : undefined;
  const onFailure = definition.kind === "deterministic" ? onFailurePlan(definition) : undefined;

  return {
    hasOnFailure: onFailure !== undefined,

    begin(run, at, early) {
      const kept = early.length > 0 && { early };
      const state: UnwindingState = { left: run.debts.length, attempt: 1, failed: [], ...kept };
      return made({ ...run, at, state, moves: [] }, (making) => {
        making.isDue = true;
      });
    },

    proceed(run, state, fact, open) {
      return made({ ...run, at: fact.at, state, moves: [] }, (making) => {
        const name = fact.type === "timer.fired" ? fact.data.id : (open?.step ?? "");
        if (fact.type === "signal.received" && !state.after) {
          making.state = { ...state, early: [...(state.early ?? []), fact] };
        } else if (fact.type === "signal.received" || isOfOnFailure(name)) {
          if (state.after && onFailure)
            goOn(making, onFailure.proceed(run.setup, failureIn(endOf(making)), state.after, fact, open));
        } else if (name === GO_ON_TIMER) making.isDue = true;
        else if (fact.type === "timer.fired") ask(making);
        else if (fact.type === "task.settled") settle(making, fact);
        else fail(making, fact.data.taskId, { code: "handoff_not_allowed", message: "a compensation has no handoffs" });
      });
    },
  };

  function undoingOf({ step: path }: Debt): { compensate: CompensationDefinition; undo: Undo } {
    const { step, scope } = graph ? instanceOf(graph, path).node : {};
    if (!step?.compensate || !scope?.undo) {
      throw new Error(`${definition.name}: nothing undoes step ${JSON.stringify(path)}`);
    }
    return { compensate: step.compensate, undo: scope.undo };
  }

  function made(making: Making, act: (making: Making) => void): Unwound {
    act(making);
    // Thousands that cannot even be asked must not become as many calls.
    while (making.isDue && making.moves.length < MOST_MOVES) undoNext(making);
    // U6
    if (making.isDue) making.moves.push({ type: "timer", id: GO_ON_TIMER, dueAt: making.at });
    const { state, moves, end } = making;
    return end ? { state: { ...state, isOver: true }, moves, end } : { state, moves };
  }

  // U1
  function undoNext(making: Making): void {
    making.isDue = false;
    const debt = atWork(making);
    if (!debt) {
      finish(making);
      return;
    }
    const undoer = undoerOf(undoingOf(debt).compensate);
    making.moves.push({ type: "say", event: { type: "compensation.started", data: { step: debt.step, ...undoer } } });
    ask(making);
  }

  function ask(making: Making): void {
    const debt = atWork(making);
    if (!debt) return;
    const { setup, state, cause } = making;
    const taskId = taskIdOf(debt, state.attempt);
    try {
      const input = undoingOf(debt).undo.inputOf({ ...debt, setup, error: failureIn(cause) });
      making.moves.push({ type: "ask", open: openTask(debt, { taskId, attempt: state.attempt, input, setup }) });
    } catch (error) {
      fail(making, taskId, toErrorRecord(error, "template_failed"));
    }
  }

  function openTask(debt: Debt, { taskId, attempt, input, setup }: Attempt): OpenTask {
    const { compensate } = undoingOf(debt);
    const { timeoutMs } = compensate;
    const { sessionId } = setup.request;
    // U4
    const task: Task = {
      v: 1,
      taskId,
      runId: setup.runId,
      workflow: definition.name,
      definition: definition.hash,
      ...undoerOf(compensate),
      attempt,
      delivery: 1,
      input,
      ...(sessionId !== undefined && { sessionId }),
      handoffs: [],
      hops: [],
      limits: {},
      ...(timeoutMs !== undefined && { timeoutMs }),
    };
    return { task, step: pathOf(debt), forwarded: false };
  }

  function settle(making: Making, { at, data }: About[0] & { type: "task.settled" }): void {
    const debt = atWork(making);
    if (!debt) return;
    const { taskId, outcome } = data;
    const { step } = debt;
    if (outcome.type === "completed") {
      making.moves.push({ type: "say", event: { type: "compensation.completed", data: { step, taskId } } });
      leave(making);
      return;
    }
    const { error } = outcome;
    const { attempt } = making.state;
    const { retry } = undoingOf(debt).compensate;
    if (!isTriedAgain(retry, attempt, error)) {
      fail(making, taskId, error);
      return;
    }
    const dueAt = later(at, backoff(retry, attempt, `${making.setup.runId}/${taskId}`));
    making.state = { ...making.state, attempt: attempt + 1 };
    making.moves.push(
      { type: "say", event: { type: "compensation.retrying", data: { step, attempt: attempt + 1, dueAt, error } } },
      { type: "timer", id: `retry.${pathOf(debt)}`, dueAt },
    );
  }

  // U2
  function fail(making: Making, taskId: string, error: ErrorRecord): void {
    const debt = atWork(making);
    if (!debt) return;
    const { step } = debt;
    making.moves.push({ type: "say", event: { type: "compensation.failed", data: { step, taskId, error } } });
    const failed = [...making.state.failed, `${step} (${error.code}: ${error.message})`];
    making.state = { ...making.state, failed };
    leave(making);
  }

  function leave(making: Making): void {
    making.state = { ...making.state, left: making.state.left - 1, attempt: 1 };
    making.isDue = true;
  }

  // U3
  function finish(making: Making): void {
    const end = endOf(making);
    if (end.type === "cancel" || !onFailure) {
      making.end = end;
      return;
    }
    const { early = [], ...state } = making.state;
    making.state = state;
    const failure = failureIn(end);
    goOn(making, onFailure.begin({ ...making.setup, kept: making.kept }, failure, making.at));
    for (const fact of early) {
      const { after } = making.state;
      if (making.end || !after) return;
      goOn(making, onFailure.proceed(making.setup, failure, after, fact, undefined));
    }
  }

  function goOn(making: Making, { state, moves, isOver }: { state: StepStates; moves: Move[]; isOver: boolean }): void {
    making.state = { ...making.state, after: state };
    making.moves.push(...moves);
    if (isOver) making.end = endOf(making);
  }
}

type Attempt = { taskId: string; attempt: number; input: unknown; setup: RunSetup };

function atWork({ debts, state }: Making): Debt | undefined {
  return debts[state.left - 1];
}

function endOf({ cause, state: { failed } }: Making): Cause {
  return failed.length === 0 ? cause : { type: "fail", error: notUndone(failed, cause), ...stepOf(cause) };
}

/** What is still owed where a run ends without undoing more, in the order in which it would have been undone. */
export function owedIn(debts: readonly Debt[], state: UnwindingState | undefined): string[] {
  return debts
    .slice(0, state?.left)
    .map(({ step }) => step)
    .reverse();
}

/** How a run ends in which `owed` is not undone any more. */
export function abandonedEnd(cause: Cause, owed: readonly string[], state: UnwindingState | undefined): Cause {
  const left = [...(state?.failed ?? []), ...owed.map((step) => `${step} (abandoned)`)];
  return left.length === 0 ? cause : { type: "fail", error: notUndone(left, cause), ...stepOf(cause) };
}

/** The failure as expressions see it. */
function failureIn(cause: Cause): FailureInScope {
  if (cause.type === "cancel") {
    return { code: "cancelled", message: cause.reason ?? "the run was cancelled", step: null };
  }
  const { error, step = null } = cause;
  return { code: error.code, message: error.message, step };
}

function notUndone(failed: readonly string[], cause: Cause): ErrorRecord {
  const { code, message } = failureIn(cause);
  const shown = failed.slice(0, SHOWN).join("; ");
  const more = failed.length > SHOWN ? `; and ${failed.length - SHOWN} more` : "";
  const why =
    cause.type === "cancel"
      ? `the run was cancelled${cause.reason === undefined ? "" : `: ${cause.reason}`}`
      : `the run failed with ${code}: ${message}`;
  return { code: COMPENSATION_FAILED, message: `not undone: ${shown}${more}; ${why}` };
}

function stepOf(cause: Cause): { step?: string } {
  return cause.type === "fail" && cause.step !== undefined ? { step: cause.step } : {};
}

function pathOf({ step }: Debt): string {
  return step + COMPENSATE;
}

function taskIdOf(debt: Debt, attempt: number): string {
  return `${pathOf(debt)}-${attempt}`;
}
