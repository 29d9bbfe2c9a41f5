/**
 * The plan of deterministic workflows: a graph of steps, each asked as soon as all it comes after have completed. A chain is
 * the graph in which every step comes after the one before.
 */
import type { Task } from "../actors/task.ts";
import { type ErrorRecord, toErrorRecord } from "../errors.ts";
import type { DeterministicDefinition, RetryPolicy, StepDefinition } from "./definition.ts";
import { deadlineOf, later, type Move, type OpenTask, type Plan, type RunSetup } from "./plan.ts";
import type { Fact } from "./run-events.ts";
import { compileStepInputs, type StepInputs } from "./step-inputs.ts";

type State = {
  /** Outputs of completed steps, by step id, in order of completion. */
  readonly outputs: { readonly [step: string]: unknown };
  /** The attempt each started step is at, from 1. */
  readonly attempts: { readonly [step: string]: number };
};

type Graph = {
  readonly steps: ReadonlyMap<string, StepDefinition>;
  readonly followers: ReadonlyMap<string, readonly StepDefinition[]>;
  readonly inputs: StepInputs;
  /** Steps nothing comes after: their outputs are the run's. */
  readonly sinks: readonly string[];
};

type Progress = { state: State; moves: Move[] };

const RETRY_TIMER = "retry.";

/** Plans a deterministic workflow. */
export function deterministicPlan(definition: DeterministicDefinition): Plan<State> {
  const graph = graphOf(definition);
  return {
    begin(setup) {
      const first = definition.steps.filter(({ after }) => after.length === 0);
      return start(first, { outputs: {}, attempts: {} }, setup);
    },

    proceed(setup, state, fact, open) {
      if (fact.type === "timer.fired") return askAgain(setup, state, fact.data.id);
      if (open?.step === undefined) return { state, moves: [] };
      if (fact.type === "agent.handoff") {
        const error = { code: "handoff_not_allowed", message: "a deterministic workflow has no handoffs" };
        return { state, moves: fail(open.step, open.task.taskId, error) };
      }
      return settle(setup, state, open.step, fact);
    },
  };

  function settle(setup: RunSetup, state: State, id: string, { at, data }: Fact & { type: "task.settled" }): Progress {
    const { taskId, outcome } = data;
    if (outcome.type === "completed") return complete(setup, state, id, taskId, outcome.output);
    const { retry } = stepOf(id);
    const attempt = state.attempts[id] ?? 1;
    const { error } = outcome;
    if (error.retryable === false || attempt >= retry.maxAttempts) return { state, moves: fail(id, taskId, error) };
    const dueAt = later(at, backoff(retry, attempt, `${setup.runId}/${taskId}`));
    return {
      state: { ...state, attempts: { ...state.attempts, [id]: attempt + 1 } },
      moves: [
        { type: "say", event: { type: "step.retrying", data: { step: id, attempt: attempt + 1, dueAt, error } } },
        { type: "timer", id: `${RETRY_TIMER}${id}`, dueAt },
      ],
    };
  }

  function complete(setup: RunSetup, state: State, id: string, taskId: string, output: unknown): Progress {
    const outputs = { ...state.outputs, [id]: output };
    const completed: Move = { type: "say", event: { type: "step.completed", data: { step: id, taskId } } };
    const ready = (graph.followers.get(id) ?? []).filter(({ after }) =>
      after.every((before) => Object.hasOwn(outputs, before)),
    );
    const next = start(ready, { ...state, outputs }, setup);
    const done = Object.keys(outputs).length === graph.steps.size;
    return {
      state: next.state,
      moves: [completed, ...next.moves, ...(done ? [{ type: "complete", output: result(outputs) } as const] : [])],
    };
  }

  function start(steps: readonly StepDefinition[], state: State, setup: RunSetup): Progress {
    const moves: Move[] = [];
    const attempts = { ...state.attempts };
    for (const step of steps) {
      attempts[step.id] = 1;
      moves.push(
        { type: "say", event: { type: "step.started", data: { step: step.id, agent: step.agent } } },
        ...ask(step, 1, state, setup),
      );
    }
    return { state: { ...state, attempts }, moves };
  }

  function askAgain(setup: RunSetup, state: State, timer: string): Progress {
    if (!timer.startsWith(RETRY_TIMER)) return { state, moves: [] };
    const step = stepOf(timer.slice(RETRY_TIMER.length));
    return { state, moves: ask(step, state.attempts[step.id] ?? 1, state, setup) };
  }

  function ask(step: StepDefinition, attempt: number, state: State, setup: RunSetup): Move[] {
    const taskId = `${step.id}-${attempt}`;
    try {
      const input = graph.inputs(step.id, { outputs: state.outputs, setup, workflow: definition.name });
      return [
        { type: "ask", open: { task: taskFor(step, taskId, attempt, input, setup), step: step.id, forwarded: false } },
      ];
    } catch (error) {
      // A template that finds nothing is the definition's or the input's fault; asking again would not help.
      return fail(step.id, taskId, toErrorRecord(error, "template_failed"));
    }
  }

  function taskFor(
    step: StepDefinition,
    taskId: string,
    attempt: number,
    input: unknown,
    setup: RunSetup,
  ): OpenTask["task"] {
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

  function stepOf(id: string): StepDefinition {
    const step = graph.steps.get(id);
    if (!step) throw new Error(`${definition.name}: no step ${JSON.stringify(id)}`);
    return step;
  }

  function result(outputs: State["outputs"]): unknown {
    const [only, ...more] = graph.sinks;
    if (only !== undefined && more.length === 0) return outputs[only];
    return Object.fromEntries(graph.sinks.map((id) => [id, outputs[id]]));
  }
}

function graphOf(definition: DeterministicDefinition): Graph {
  const steps = new Map(definition.steps.map((step) => [step.id, step]));
  const followers = new Map<string, StepDefinition[]>();
  for (const step of definition.steps) {
    for (const before of step.after) followers.set(before, [...(followers.get(before) ?? []), step]);
  }
  const sinks = definition.steps.filter(({ id }) => !followers.has(id)).map(({ id }) => id);
  return { steps, followers, sinks, inputs: compileStepInputs(definition) };
}

function fail(step: string, taskId: string, error: ErrorRecord): Move[] {
  const located: ErrorRecord = { ...error, message: `step ${step}: ${error.message}` };
  return [
    { type: "say", event: { type: "step.failed", data: { step, taskId, error } } },
    { type: "fail", error: located },
  ];
}

/** The delay before the attempt after `attempt`; spread by a hash, because a fold has to find the same. */
function backoff({ backoff, delayMs, maxDelayMs }: RetryPolicy, attempt: number, seed: string): number {
  if (backoff === "fixed") return delayMs;
  const full = Math.min(delayMs * 2 ** (attempt - 1), maxDelayMs);
  return Math.round(full * (0.5 + 0.5 * unitHash(seed)));
}

/** FNV-1a, scaled to 0..1. */
function unitHash(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return (hash >>> 0) / 0xffffffff;
}
