/**
 * The plan of deterministic workflows: a graph of steps, each decided on as soon as all it comes after have ended. It is asked,
 * or skipped, as its `needs` and its condition say. A chain is the graph in which every step comes after the one before.
 *
 * Invariants
 * P1  A step ends once: completed, skipped, or failed where the run goes on; the run completes when all have ended.
 * P2  A step is decided on once, by the end of the last step it comes after, so that a fold finds the same ends in scope.
 * P3  What is kept of an end is dropped when all that may speak of it have ended; what a sink gave is kept for the result.
 */
import type { Task } from "../actors/task.ts";
import { type ErrorRecord, TroupeError, toErrorRecord } from "../errors.ts";
import { backoff } from "./backoff.ts";
import { childRunIdOf, MAX_DEPTH } from "./child-run-id.ts";
import type { DeterministicDefinition, StepDefinition } from "./definition.ts";
import type { StepEnd } from "./expressions.ts";
import {
  NO_WAITS,
  type OutsideWaits,
  openWait,
  takeSignal,
  takeTimer,
  type Waited,
  type WaitingStep,
} from "./outside-waits.ts";
import { deadlineOf, ENTRY_TOO_LARGE, later, type Move, type OpenTask, type Plan, type RunSetup } from "./plan.ts";
import type { Fact, NamedKind, StepWorker } from "./run-events.ts";
import { graphOf, type Node } from "./step-graph.ts";
import {
  atAttempt,
  attemptOf,
  endOf,
  forget,
  haveEnded,
  notBegun,
  type StepStates,
  statusOf,
  withEnd,
} from "./step-states.ts";
import { endIn, judge } from "./step-verdict.ts";

/** What is remembered of a run: where its steps are, and what they wait for from outside. */
type PlanState = { readonly steps: StepStates; readonly waits: OutsideWaits };

type Progress = { state: PlanState; moves: Move[] };

/** A progress that is being made at an instant; `due` are steps to be decided on. */
type Making = {
  readonly setup: RunSetup;
  readonly at: string;
  state: StepStates;
  waits: OutsideWaits;
  readonly moves: Move[];
  readonly due: Node[];
};

const RETRY_TIMER = "retry.";

/** Plans a deterministic workflow. */
export function deterministicPlan(definition: DeterministicDefinition): Plan<PlanState> {
  const graph = graphOf(definition);
  const first = [...graph.nodes.values()].filter(({ before }) => before.length === 0);
  const stepAt = (path: string) => nodeOf(path).step;
  return {
    begin(setup, at) {
      const state: PlanState = { steps: notBegun(definition.steps.length), waits: NO_WAITS };
      return proceedFrom(setup, at, state, (making) => making.due.push(...first));
    },

    proceed(setup, state, fact, open) {
      return proceedFrom(setup, fact.at, state, (making) => {
        if (fact.type === "timer.fired") {
          const waited = takeTimer(making.waits, fact, stepAt);
          if (waited) after(making, waited);
          else askAgain(making, fact.data.id);
        } else if (fact.type === "signal.received") {
          after(making, takeSignal(making.waits, fact, { steps: definition.steps, stepAt }));
        } else if (open?.step === undefined) return;
        else if (fact.type === "agent.handoff") {
          const error = { code: "handoff_not_allowed", message: "a deterministic workflow has no handoffs" };
          fail(making, nodeOf(open.step), { taskId: open.task.taskId, error });
        } else settle(making, nodeOf(open.step), fact);
      });
    },
  };

  /** Does one thing, and then decides on every step it makes due, in turn. */
  function proceedFrom(setup: RunSetup, at: string, before: PlanState, act: (making: Making) => void): Progress {
    const making: Making = { setup, at, state: before.steps, waits: before.waits, moves: [], due: [] };
    act(making);
    // Skipped steps make others due meanwhile; a chain of thousands of them must not become as many calls.
    for (const node of making.due) decide(making, node);
    const { state, waits, moves } = making;
    if (state.ended > before.steps.ended && state.ended === graph.nodes.size)
      moves.push({ type: "complete", output: resultOf(state) });
    return { state: { steps: state, waits }, moves };
  }

  /** Goes on from what a waiting step, or a signal, has come to. */
  function after(making: Making, { waits, moves, settled }: Waited): void {
    making.waits = waits;
    making.moves.push(...moves);
    if (!settled) return;
    const node = nodeOf(settled.path);
    if (settled.status === "failed") fail(making, node, { error: settled.error });
    else {
      const { path, status, output } = settled;
      const said: Move = { type: "say", event: { type: "step.completed", data: { step: path, output } } };
      end(making, node, { end: { status, output }, said });
    }
  }

  function settle(making: Making, node: Node, { at, data }: Fact & { type: "task.settled" }): void {
    const { taskId, outcome } = data;
    if (outcome.type === "completed") {
      const said: Move = { type: "say", event: { type: "step.completed", data: { step: node.step.id, taskId } } };
      end(making, node, { end: { status: "completed", output: outcome.output }, said });
      return;
    }
    const { id, retry } = node.step;
    const attempt = attemptOf(making.state, node);
    const { error } = outcome;
    if (error.retryable === false || attempt >= retry.maxAttempts) {
      fail(making, node, { taskId, error });
      return;
    }
    const dueAt = later(at, backoff(retry, attempt, `${making.setup.runId}/${taskId}`));
    making.state = atAttempt(making.state, node, attempt + 1);
    making.moves.push(
      { type: "say", event: { type: "step.retrying", data: { step: id, attempt: attempt + 1, dueAt, error } } },
      { type: "timer", id: `${RETRY_TIMER}${id}`, dueAt },
    );
  }

  // P1
  function end(making: Making, node: Node, { end, said }: { end: StepEnd; said: Move }): void {
    making.state = withEnd(making.state, node, end);
    making.moves.push(said);
    for (const follower of node.followers) if (haveEnded(making.state, follower.before)) making.due.push(follower); // P2
    const over = [node, ...node.uses].filter((used) => !graph.sinks.has(used) && haveEnded(making.state, used.users));
    making.state = forget(making.state, over); // P3
  }

  function decide(making: Making, node: Node): void {
    const { setup, state } = making;
    const { id } = node.step;
    const verdict = judge(graph, node, { states: state, setup });
    if (verdict.type === "skip") {
      const said: Move = {
        type: "say",
        event: { type: "step.skipped", data: { step: id, ...workerOf(node.step), reason: verdict.reason } },
      };
      end(making, node, { end: { status: "skipped" }, said });
      return;
    }
    making.state = atAttempt(state, node, 1);
    making.moves.push({ type: "say", event: { type: "step.started", data: { step: id, ...workerOf(node.step) } } });
    if (verdict.type === "start") open(making, node);
    else fail(making, node, { ...namedTask(node), error: verdict.error });
  }

  /** Begins a step: its first task is sent, or it waits. */
  function open(making: Making, node: Node): void {
    const { step } = node;
    if (step.kind === "approval" || step.kind === "wait") wait(making, node, step);
    else ask(making, node, 1);
  }

  function wait(making: Making, node: Node, step: WaitingStep): void {
    const { setup, state, at } = making;
    const path = step.id;
    try {
      const words = graph.scopes.wordsOf(path, { endOf: (id) => endIn(graph, state, id), setup });
      after(making, openWait(making.waits, step, { path, at, words }));
    } catch (error) {
      fail(making, node, { error: toErrorRecord(error, "template_failed") });
    }
  }

  function askAgain(making: Making, timer: string): void {
    if (!timer.startsWith(RETRY_TIMER)) return;
    const node = nodeOf(timer.slice(RETRY_TIMER.length));
    ask(making, node, attemptOf(making.state, node));
  }

  function ask(making: Making, node: Node, attempt: number): void {
    const { setup, state, moves } = making;
    const { step } = node;
    const taskId = taskIdOf(node, attempt);
    try {
      const input = graph.scopes.inputOf(step.id, { endOf: (id) => endIn(graph, state, id), setup });
      if (step.kind === "approval" || step.kind === "wait") throw new Error(`step ${step.id} has no task`);
      if (step.kind === "workflow" && depthOf(setup) >= MAX_DEPTH) {
        const message = `expected at most ${MAX_DEPTH} runs one below the other, got one more, of ${step.workflow}`;
        throw new TroupeError("too_deep", message);
      }
      const task = taskFor(step, { taskId, attempt, input, setup });
      moves.push({ type: "ask", open: { task, step: step.id, forwarded: false } });
    } catch (error) {
      // A template that finds nothing is the definition's or the input's fault; asking again would not help.
      fail(making, node, { taskId, error: toErrorRecord(error, "template_failed") });
    }
  }

  function fail(making: Making, node: Node, { taskId, error }: { taskId?: string; error: ErrorRecord }): void {
    const { id, onError } = node.step;
    const data = { step: id, ...(taskId !== undefined && { taskId }), error };
    if (onError !== undefined && error.code !== ENTRY_TOO_LARGE) {
      const said: Move = { type: "say", event: { type: "step.failed", data: { ...data, continued: true } } };
      end(making, node, { end: { status: "failed", error }, said });
      return;
    }
    making.moves.push(
      { type: "say", event: { type: "step.failed", data } },
      { type: "fail", error: { ...error, message: `step ${id}: ${error.message}` } },
    );
  }

  type Attempt = { taskId: string; attempt: number; input: unknown; setup: RunSetup };

  function taskFor(step: AskedStep, { taskId, attempt, input, setup }: Attempt): OpenTask["task"] {
    const deadline = deadlineOf(setup);
    const task: Task = {
      v: 1,
      taskId,
      runId: setup.runId,
      workflow: definition.name,
      definition: definition.hash,
      ...workerOf(step),
      attempt,
      delivery: 1,
      input,
      handoffs: [],
      hops: [],
      limits: {},
    };
    if (step.kind === "workflow") task.childId = childRunIdOf(setup.runId, taskId);
    if (setup.request.sessionId !== undefined) task.sessionId = setup.request.sessionId;
    if (step.timeoutMs !== undefined) task.timeoutMs = step.timeoutMs;
    if (deadline !== undefined) task.deadline = deadline;
    return task;
  }

  function nodeOf(id: string): Node {
    const node = graph.nodes.get(id);
    if (!node) throw new Error(`${definition.name}: no step ${JSON.stringify(id)}`);
    return node;
  }

  /** What the sinks that completed gave: by id where there are several of them in the definition, whichever completed. */
  function resultOf(state: StepStates): unknown {
    const completed = [...graph.sinks].filter((node) => statusOf(state, node) === "completed");
    if (completed.length === 0) return null;
    const outputs = completed.map((node) => [node.step.id, outputIn(state, node)] as const);
    return graph.sinks.size === 1 ? outputs[0]?.[1] : Object.fromEntries(outputs);
  }
}

function outputIn(state: StepStates, node: Node): unknown {
  const end = endOf(state, node);
  return end.status === "completed" ? end.output : undefined;
}

function taskIdOf({ step }: Node, attempt: number): string {
  return `${step.id}-${attempt}`;
}

/** How many runs there are down to this one, itself included. */
function depthOf({ request: { parent } }: RunSetup): number {
  return (parent?.depth ?? 0) + 1;
}

/** A step that somebody is asked to do. */
type AskedStep = Exclude<StepDefinition, WaitingStep>;

/** The task that a step was never sent as; steps that wait have none. */
function namedTask(node: Node): { taskId?: string } {
  const { kind } = node.step;
  return kind === "approval" || kind === "wait" ? {} : { taskId: taskIdOf(node, 1) };
}

/** Whose a step is, as events say it. */
function workerOf(step: AskedStep): { agent: string; kind?: NamedKind };
function workerOf(step: StepDefinition): StepWorker;
function workerOf(step: StepDefinition): StepWorker {
  switch (step.kind) {
    case "agent":
      return { agent: step.agent };
    case "tool":
      return { agent: step.tool, kind: "tool" };
    case "workflow":
      return { agent: step.workflow, kind: "workflow" };
    case "approval":
    case "wait":
      return { kind: step.kind };
  }
}
