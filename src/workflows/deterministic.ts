/**
 * The plan of deterministic workflows: a graph of steps, each asked as soon as all it comes after have completed. A chain is
 * the graph in which every step comes after the one before.
 */
import type { Task } from "../actors/task.ts";
import { type ErrorRecord, toErrorRecord } from "../errors.ts";
import { type ChunkedList, filledList, itemAt, withItems } from "./chunked-list.ts";
import type { DeterministicDefinition, RetryPolicy, StepDefinition } from "./definition.ts";
import { deadlineOf, later, type Move, type OpenTask, type Plan, type RunSetup } from "./plan.ts";
import type { Fact } from "./run-events.ts";
import { compileStepInputs, type StepInputs } from "./step-inputs.ts";

/**
 * Where a step is: not begun, at an attempt (from 1), or completed. The output of one that completed is kept for as long as a
 * step that is still to come may ask for it.
 */
type StepState = null | number | { readonly output?: unknown };

type State = {
  /** By a step's place in the definition. */
  readonly steps: ChunkedList<StepState>;
  readonly completed: number;
};

/** A step, and what its place among the others means. */
type Node = {
  readonly step: StepDefinition;
  readonly index: number;
  /** The steps it comes directly after. */
  readonly after: Node[];
  /** The steps that come directly after it. */
  readonly followers: Node[];
  /** The steps whose outputs its input is made of. */
  readonly uses: Node[];
  /** The steps whose inputs its output is part of. */
  readonly users: Node[];
};

type Graph = {
  readonly nodes: ReadonlyMap<string, Node>;
  readonly inputs: StepInputs;
  /** Steps nothing comes after: their outputs are the run's. */
  readonly sinks: readonly Node[];
};

type Progress = { state: State; moves: Move[] };

const RETRY_TIMER = "retry.";

/** Plans a deterministic workflow. */
export function deterministicPlan(definition: DeterministicDefinition): Plan<State> {
  const graph = graphOf(definition);
  return {
    begin(setup) {
      const first = definition.steps.filter(({ after }) => after.length === 0).map(({ id }) => nodeOf(id));
      return start(first, { steps: filledList<StepState>(definition.steps.length, null), completed: 0 }, setup);
    },

    proceed(setup, state, fact, open) {
      if (fact.type === "timer.fired") return askAgain(setup, state, fact.data.id);
      if (open?.step === undefined) return { state, moves: [] };
      if (fact.type === "agent.handoff") {
        const error = { code: "handoff_not_allowed", message: "a deterministic workflow has no handoffs" };
        return { state, moves: fail(open.step, open.task.taskId, error) };
      }
      return settle(setup, state, nodeOf(open.step), fact);
    },
  };

  function settle(setup: RunSetup, state: State, node: Node, { at, data }: Fact & { type: "task.settled" }): Progress {
    const { taskId, outcome } = data;
    if (outcome.type === "completed") return complete(setup, state, node, { taskId, output: outcome.output });
    const { id, retry } = node.step;
    const attempt = attemptOf(state, node);
    const { error } = outcome;
    if (error.retryable === false || attempt >= retry.maxAttempts) return { state, moves: fail(id, taskId, error) };
    const dueAt = later(at, backoff(retry, attempt, `${setup.runId}/${taskId}`));
    return {
      state: { ...state, steps: withItems(state.steps, [[node.index, attempt + 1]]) },
      moves: [
        { type: "say", event: { type: "step.retrying", data: { step: id, attempt: attempt + 1, dueAt, error } } },
        { type: "timer", id: `${RETRY_TIMER}${id}`, dueAt },
      ],
    };
  }

  function complete(
    setup: RunSetup,
    before: State,
    node: Node,
    { taskId, output }: { taskId: string; output: unknown },
  ): Progress {
    const step = node.step.id;
    const state = {
      steps: withItems(before.steps, [[node.index, { output }]]),
      completed: before.completed + 1,
    };
    const said: Move = { type: "say", event: { type: "step.completed", data: { step, taskId } } };
    const ready = node.followers.filter(({ after }) => areCompleted(state, after));
    const next = start(ready, state, setup);
    const done = state.completed === graph.nodes.size;
    return {
      state: forget(next.state, node),
      moves: [said, ...next.moves, ...(done ? [{ type: "complete", output: result(state) } as const] : [])],
    };
  }

  /** Drops the outputs that were kept for a step that has completed, and its own where nobody asks for it. */
  function forget(state: State, node: Node): State {
    const over = [node, ...node.uses].filter(
      ({ followers, users }) => followers.length > 0 && areCompleted(state, users),
    );
    if (over.length === 0) return state;
    return {
      ...state,
      steps: withItems(
        state.steps,
        over.map(({ index }) => [index, {}] as const),
      ),
    };
  }

  function start(nodes: readonly Node[], state: State, setup: RunSetup): Progress {
    if (nodes.length === 0) return { state, moves: [] };
    const moves = nodes.flatMap(({ step }): Move[] => [
      { type: "say", event: { type: "step.started", data: { step: step.id, agent: step.agent } } },
      ...ask(step, 1, state, setup),
    ]);
    return {
      state: {
        ...state,
        steps: withItems(
          state.steps,
          nodes.map(({ index }) => [index, 1] as const),
        ),
      },
      moves,
    };
  }

  function askAgain(setup: RunSetup, state: State, timer: string): Progress {
    if (!timer.startsWith(RETRY_TIMER)) return { state, moves: [] };
    const node = nodeOf(timer.slice(RETRY_TIMER.length));
    return { state, moves: ask(node.step, attemptOf(state, node), state, setup) };
  }

  function ask(step: StepDefinition, attempt: number, state: State, setup: RunSetup): Move[] {
    const taskId = `${step.id}-${attempt}`;
    try {
      const outputOf = (id: string) => outputIn(state, nodeOf(id));
      const input = graph.inputs.make(step.id, { outputOf, setup, workflow: definition.name });
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

  function nodeOf(id: string): Node {
    const node = graph.nodes.get(id);
    if (!node) throw new Error(`${definition.name}: no step ${JSON.stringify(id)}`);
    return node;
  }

  function result(state: State): unknown {
    const [only, ...more] = graph.sinks;
    if (only !== undefined && more.length === 0) return outputIn(state, only);
    return Object.fromEntries(graph.sinks.map((node) => [node.step.id, outputIn(state, node)]));
  }
}

function attemptOf({ steps }: State, { index }: Node): number {
  const at = itemAt(steps, index);
  return typeof at === "number" ? at : 1;
}

function isCompleted({ steps }: State, { index }: Node): boolean {
  return typeof itemAt(steps, index) === "object" && itemAt(steps, index) !== null;
}

/** Steps mostly complete in the order of the definition, so the last ones are looked at first. */
function areCompleted(state: State, nodes: readonly Node[]): boolean {
  return nodes.findLast((node) => !isCompleted(state, node)) === undefined;
}

function outputIn({ steps }: State, { index }: Node): unknown {
  const at = itemAt(steps, index);
  return typeof at === "object" ? at?.output : undefined;
}

function graphOf(definition: DeterministicDefinition): Graph {
  const inputs = compileStepInputs(definition);
  const nodes = new Map(
    definition.steps.map((step, index): [string, Node] => [
      step.id,
      { step, index, after: [], followers: [], uses: [], users: [] },
    ]),
  );
  for (const node of nodes.values()) {
    for (const id of node.step.after) {
      const before = nodes.get(id);
      if (!before) continue;
      node.after.push(before);
      before.followers.push(node);
    }
    for (const id of inputs.usedBy(node.step.id)) {
      const used = nodes.get(id);
      if (!used) continue;
      node.uses.push(used);
      used.users.push(node);
    }
  }
  const sinks = [...nodes.values()].filter(({ followers }) => followers.length === 0);
  return { nodes, inputs, sinks };
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
