/**
 * The steps a workflow runs because a run failed: a graph of its own, named under `onFailure/`, with the failure in scope. It
 * has its own time, and comes to nothing but its end.
 */
import { APPROVAL_SIGNAL } from "./check-step-kinds.ts";
import { childRunIdOf } from "./child-run-id.ts";
import type { DeterministicDefinition } from "./definition.ts";
import { deterministicPlan } from "./deterministic.ts";
import type { FailureInScope } from "./expressions.ts";
import type { Decision, Move, OpenTask, Plan, RunSetup } from "./plan.ts";
import { graphWith } from "./step-graph.ts";
import type { StepStates } from "./step-states.ts";
import { FAILURE_AROUND } from "./step-surroundings.ts";

const PREFIX = "onFailure/";

export type OnFailure = {
  /** `at` is when it begins, ISO 8601. */
  begin(setup: RunSetup, failure: FailureInScope, at: string): OnFailureProgress;
  proceed(setup: RunSetup, failure: FailureInScope, state: StepStates, ...about: About): OnFailureProgress;
};

/** What a plan is asked about. */
export type About = Parameters<Plan["proceed"]> extends [unknown, unknown, ...infer Rest] ? Rest : never;

/** `isOver`: all its steps have ended, or one of them failed. */
type OnFailureProgress = { state: StepStates; moves: Move[]; isOver: boolean };

/** Whether a path or a timer is of these steps; a group of another name may end in `onFailure` as well. */
export function isOfOnFailure(name: string): boolean {
  return name.startsWith(PREFIX) || name.includes(`.${PREFIX}`);
}

/** Plans the steps in `onFailure`; undefined where there are none. */
export function onFailurePlan(definition: DeterministicDefinition): OnFailure | undefined {
  const { onFailure, output: _output, ...rest } = definition;
  if (!onFailure) return undefined;
  const late = { ...rest, steps: onFailure };
  const plan = deterministicPlan(late, graphWith(late, FAILURE_AROUND));
  return {
    begin: (setup, failure, at) => progressOf(plan.begin(lateSetup(setup, failure), at)),
    proceed(setup, failure, state, fact, open) {
      const bare = open && { ...open, step: open.step?.slice(PREFIX.length) ?? "" };
      return progressOf(plan.proceed(lateSetup(setup, failure), state, bareFact(fact), bare));
    },
  };
}

/** The fact in the graph's own names. */
function bareFact(fact: About[0]): About[0] {
  const bare = (name: string) => name.replace(/(^|\.)onFailure\//, "$1");
  switch (fact.type) {
    case "timer.fired":
      return { ...fact, data: { id: bare(fact.data.id) } };
    case "task.settled":
      return { ...fact, data: { ...fact.data, taskId: bare(fact.data.taskId) } };
    case "agent.handoff":
      return { ...fact, data: { ...fact.data, taskId: bare(fact.data.taskId) } };
    case "signal.received": {
      const { payload } = fact.data;
      if (fact.data.name !== APPROVAL_SIGNAL || !isAboutStep(payload)) return fact;
      return { ...fact, data: { ...fact.data, payload: { ...payload, step: bare(payload.step) } } };
    }
    default:
      return fact satisfies never;
  }
}

function isAboutStep(payload: unknown): payload is { step: string } {
  return typeof payload === "object" && payload !== null && "step" in payload && typeof payload.step === "string";
}

/** The run's time is over, or has nothing to say any more. */
function lateSetup({ request, ...setup }: RunSetup, failure: FailureInScope): RunSetup {
  const { timeoutMs: _over, ...timeless } = request;
  return { ...setup, request: timeless, failure };
}

function progressOf({ state, moves }: { state: StepStates; moves: Move[] }): OnFailureProgress {
  const late = moves.flatMap((move): Move[] => {
    switch (move.type) {
      case "ask":
        return [{ type: "ask", open: namedTask(move.open) }];
      case "timer":
        return [{ ...move, id: namedTimer(move.id) }];
      case "callOff":
        return [{ ...move, ...named(move) }];
      case "clear":
        return [{ ...move, id: namedTimer(move.id) }];
      case "say":
        return [{ type: "say", event: namedDecision(move.event) }];
      case "owe":
      case "complete":
      case "fail":
        return [];
      default:
        return move satisfies never;
    }
  });
  return { state, moves: late, isOver: moves.some(({ type }) => type === "complete" || type === "fail") };
}

function namedTask({ task, step = "", ...open }: OpenTask): OpenTask {
  const taskId = PREFIX + task.taskId;
  const child = task.childId !== undefined && { childId: childRunIdOf(task.runId, taskId) };
  return { ...open, step: PREFIX + step, task: { ...task, taskId, ...child } };
}

/** `retry.notify` of the graph is `retry.onFailure/notify` of the run. */
function namedTimer(id: string): string {
  return id.includes(".") ? id.replace(".", `.${PREFIX}`) : PREFIX + id;
}

function namedDecision(event: Decision): Decision {
  return { ...event, data: { ...event.data, ...named(event.data as Named) } } as Decision;
}

type Named = { step?: string; taskId?: string; timer?: string };

function named({ step, taskId, timer }: Named): Named {
  return {
    ...(step !== undefined && { step: PREFIX + step }),
    ...(taskId !== undefined && { taskId: PREFIX + taskId }),
    ...(timer !== undefined && { timer: namedTimer(timer) }),
  };
}
