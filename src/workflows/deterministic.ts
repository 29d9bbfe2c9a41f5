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
import { type ErrorRecord, toErrorRecord } from "../errors.ts";
import { backoff } from "./backoff.ts";
import { badOutput } from "./check-output.ts";
import { compileCompensations } from "./compensations.ts";
import type { DeterministicDefinition, StepDefinition } from "./definition.ts";
import type { StepEnd } from "./expressions.ts";
import { deadlineOf, ENTRY_TOO_LARGE, later, type Move, type OpenTask, type Plan, type RunSetup } from "./plan.ts";
import { isTriedAgain } from "./retry-policy.ts";
import type { Fact } from "./run-events.ts";
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

type Progress = { state: StepStates; moves: Move[] };

/** A progress that is being made; `due` are steps to be decided on. */
type Making = { readonly setup: RunSetup; state: StepStates; readonly moves: Move[]; readonly due: Node[] };

type FailedAttempt = { at: string; taskId: string; error: ErrorRecord };

const RETRY_TIMER = "retry.";

/** Plans a deterministic workflow. */
export function deterministicPlan(definition: DeterministicDefinition): Plan<StepStates> {
  const graph = graphOf(definition);
  const compensations = compileCompensations(definition);
  const first = [...graph.nodes.values()].filter(({ before }) => before.length === 0);
  return {
    begin(setup) {
      return proceedFrom(setup, notBegun(definition.steps.length), (making) => making.due.push(...first));
    },

    proceed(setup, state, fact, open) {
      return proceedFrom(setup, state, (making) => {
        if (fact.type === "timer.fired") askAgain(making, fact.data.id);
        else if (open?.step === undefined) return;
        else if (fact.type === "agent.handoff") {
          const error = { code: "handoff_not_allowed", message: "a deterministic workflow has no handoffs" };
          fail(making, nodeOf(open.step), { taskId: open.task.taskId, error });
        } else settle(making, nodeOf(open.step), fact);
      });
    },
  };

  /** Does one thing, and then decides on every step it makes due, in turn. */
  function proceedFrom(setup: RunSetup, before: StepStates, act: (making: Making) => void): Progress {
    const making: Making = { setup, state: before, moves: [], due: [] };
    act(making);
    // Skipped steps make others due meanwhile; a chain of thousands of them must not become as many calls.
    for (const node of making.due) decide(making, node);
    const { state, moves } = making;
    if (state.ended > before.ended && state.ended === graph.nodes.size)
      moves.push({ type: "complete", output: resultOf(state) });
    return { state, moves };
  }

  function settle(making: Making, node: Node, { at, data }: Fact & { type: "task.settled" }): void {
    const { taskId, outcome } = data;
    if (outcome.type === "failed") {
      failAttempt(making, node, { at, taskId, error: outcome.error });
      return;
    }
    const bad = badOutput(node.step.output, outcome.output);
    if (bad) failAttempt(making, node, { at, taskId, error: bad });
    else {
      const said: Move = { type: "say", event: { type: "step.completed", data: { step: node.step.id, taskId } } };
      owe(making, node, { taskId, output: outcome.output });
      end(making, node, { end: { status: "completed", output: outcome.output }, said });
    }
  }

  /** An attempt came to nothing: it is made again, or the step has failed. */
  function failAttempt(making: Making, node: Node, { at, taskId, error }: FailedAttempt): void {
    const { id, retry } = node.step;
    const attempt = attemptOf(making.state, node);
    if (!isTriedAgain(retry, attempt, error)) {
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

  /** Before the step ends: what its compensation may speak of is still known then. */
  function owe(making: Making, { step: { id } }: Node, { taskId, output }: { taskId: string; output: unknown }): void {
    const { state } = making;
    const endOfStep = (step: string) => endIn(graph, state, step);
    const debt = compensations.debtOf({ step: id, of: id, taskId, output, endOf: endOfStep });
    if (debt) making.moves.push({ type: "owe", debt });
  }

  // P1
  function end(making: Making, node: Node, { end, said }: { end: StepEnd; said?: Move }): void {
    making.state = withEnd(making.state, node, end);
    if (said) making.moves.push(said);
    for (const follower of node.followers) if (haveEnded(making.state, follower.before)) making.due.push(follower); // P2
    const over = [node, ...node.uses].filter((used) => !graph.sinks.has(used) && haveEnded(making.state, used.users));
    making.state = forget(making.state, over); // P3
  }

  function decide(making: Making, node: Node): void {
    const { setup, state } = making;
    const { id, agent } = node.step;
    const verdict = judge(graph, node, { states: state, setup });
    if (verdict.type === "skip") {
      const said: Move = {
        type: "say",
        event: { type: "step.skipped", data: { step: id, agent, reason: verdict.reason } },
      };
      end(making, node, { end: { status: "skipped" }, said });
      return;
    }
    if (verdict.type === "start" && setup.reused?.has(id)) {
      end(making, node, { end: { status: "completed", output: setup.reused.get(id) } });
      return;
    }
    making.state = atAttempt(state, node, 1);
    making.moves.push({ type: "say", event: { type: "step.started", data: { step: id, agent } } });
    if (verdict.type === "start") ask(making, node, 1);
    else fail(making, node, { taskId: taskIdOf(node, 1), error: verdict.error });
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
      const task = taskFor(step, { taskId, attempt, input, setup });
      const owes = step.compensate && { owes: true as const };
      moves.push({ type: "ask", open: { task, step: step.id, forwarded: false, ...owes } });
    } catch (error) {
      // A template that finds nothing is the definition's or the input's fault; asking again would not help.
      fail(making, node, { taskId, error: toErrorRecord(error, "template_failed") });
    }
  }

  function fail(making: Making, node: Node, { taskId, error }: { taskId: string; error: ErrorRecord }): void {
    const { id, onError } = node.step;
    const data = { step: id, taskId, error };
    if (onError !== undefined && error.code !== ENTRY_TOO_LARGE) {
      const said: Move = { type: "say", event: { type: "step.failed", data: { ...data, continued: true } } };
      end(making, node, { end: { status: "failed", error }, said });
      return;
    }
    making.moves.push(
      { type: "say", event: { type: "step.failed", data } },
      { type: "fail", error: { ...error, message: `step ${id}: ${error.message}` }, step: id },
    );
  }

  type Attempt = { taskId: string; attempt: number; input: unknown; setup: RunSetup };

  function taskFor(step: StepDefinition, { taskId, attempt, input, setup }: Attempt): OpenTask["task"] {
    const deadline = deadlineOf(setup);
    const task: Task = {
      v: 1,
      taskId,
      runId: setup.runId,
      workflow: definition.name,
      definition: definition.hash,
      agent: step.agent,
      attempt,
      delivery: 1,
      input,
      handoffs: [],
      hops: [],
      limits: {},
    };
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
