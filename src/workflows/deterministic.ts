/**
 * The plan of deterministic workflows: a graph of steps, each decided on as soon as all it comes after have ended. It is begun,
 * or skipped, as its `needs` and its condition say. A chain is the graph in which every step comes after the one before; a
 * group is a step that is such a graph itself, and `forEach` and `repeat` do a step many times.
 *
 * `step-states.ts` is what is remembered, `step-instances.ts` finds a place in it by its path, `step-points.ts` says what can be
 * seen from there, and `step-ends.ts` says what follows from an end. Here things are begun.
 *
 * Invariants
 * P1  The run completes when all steps have ended (E1 to E3 in `step-ends.ts`).
 * P2  A step is decided on once, by the end of the last step it comes after, so that a fold finds the same ends in scope.
 * P3  What is kept of an end is dropped when all that may speak of it have ended; what a sink gave is kept for the result.
 * P4  No more tasks are open than the workflow's `concurrency` says; what waits for room goes in the order it became ready.
 * P5  One fact leads to so many moves at most; what is due beyond that waits for a timer that is due at once. So an entry fits
 *     into a message, whatever a fact makes due.
 */
import type { Task } from "../actors/task.ts";
import { type ErrorRecord, toErrorRecord } from "../errors.ts";
import { backoff } from "./backoff.ts";
import { badOutput } from "./check-output.ts";
import { DEFAULT_ITEMS_AT_ONCE, type DeterministicDefinition, MOST_OPEN_TASKS } from "./definition.ts";
import { deadlineOf, later, type Move, type OpenTask, type Plan, type RunSetup } from "./plan.ts";
import { isTriedAgain } from "./retry-policy.ts";
import type { Fact } from "./run-events.ts";
import { complete, endStep, fail, GROUP_TIMER, type Making, RETRY_TIMER, say, taskIdOf } from "./step-ends.ts";
import { type Graph, graphOf } from "./step-graph.ts";
import {
  bodyOf,
  frameAround,
  type Instance,
  instanceAt,
  instanceIn,
  instanceOf,
  isMany,
  isUndecided,
  withBody,
  withEach,
  withLoop,
} from "./step-instances.ts";
import { pointAt, rememberList } from "./step-points.ts";
import { beforeAll, noneOf, notBegun, type StepStates } from "./step-states.ts";
import { judge } from "./step-verdict.ts";
import { headOf, isEmptyLine, withLast, withoutHead } from "./waiting-line.ts";

/** The timer that what was too much for one entry goes on with. */
const GO_ON_TIMER = "go-on";

// Some 400 bytes each in an entry, of which a broker takes a megabyte where nothing else is said.
const MOST_MOVES = 1_000;

/** Plans a deterministic workflow. */
export function deterministicPlan(
  definition: DeterministicDefinition,
  graph: Graph = graphOf(definition),
): Plan<StepStates> {
  const mostOpen = definition.concurrency ?? MOST_OPEN_TASKS;
  return {
    begin(setup, at) {
      const { reused } = setup;
      const states = beforeAll(definition.steps.length);
      const making = makingOf(setup, at, reused ? { ...states, reused: Object.fromEntries(reused) } : states);
      for (const node of graph.first) making.ready.push(instanceIn(undefined, node));
      return goOn(making, false);
    },

    proceed(setup, states, fact, open) {
      const making = makingOf(setup, fact.at, states);
      if (fact.type === "timer.fired") {
        if (fact.data.id === GO_ON_TIMER) return goOn(making, true);
        timerFired(making, fact.data.id);
      } else if (open?.step !== undefined) {
        const instance = instanceOf(graph, open.step);
        making.states = { ...making.states, open: making.states.open - 1 };
        if (fact.type === "agent.handoff") {
          const error = { code: "handoff_not_allowed", message: "a deterministic workflow has no handoffs" };
          fail(making, instance, { taskId: open.task.taskId, error });
        } else settle(making, instance, fact);
      }
      return goOn(making, false);
    },
  };

  function makingOf(setup: RunSetup, at: string, states: StepStates): Making {
    return { setup, graph, at, states, moves: [], ready: [], isOver: false };
  }

  /** Decides on what is due, in turn, and fills the room there is; `due` whether what was left over before is to be gone on with. */
  function goOn(making: Making, due: boolean): { state: StepStates; moves: Move[] } {
    const { moves, ready } = making;
    const mayDecide = due || isEmptyLine(making.states.due);
    // What one decision makes due comes behind; a chain of thousands of skipped steps must not become as many calls.
    let next = 0;
    while (!making.isOver && moves.length < MOST_MOVES) {
      const instance = (mayDecide ? nextDue(making) : undefined) ?? (mayDecide ? ready[next++] : undefined);
      if (instance) decide(making, instance);
      else if (!fillRoom(making)) break;
    }
    if (making.isOver) return { state: making.states, moves };
    // P5
    for (const { path } of ready.slice(next)) {
      making.states = { ...making.states, due: withLast(making.states.due, path) };
    }
    const isDue = !isEmptyLine(making.states.due);
    // Also where there was no more room in the entry for what there is room for in the run: nothing else may be open any more.
    if ((mayDecide && isDue) || hasRoom(making)) moves.push({ type: "timer", id: GO_ON_TIMER, dueAt: making.at });
    if (!isDue && making.states.reused) {
      const { reused: _decided, ...states } = making.states;
      making.states = states;
    }
    return { state: making.states, moves };
  }

  function nextDue(making: Making): Instance | undefined {
    const path = headOf(making.states.due);
    if (path === undefined) return undefined;
    making.states = { ...making.states, due: withoutHead(making.states.due) };
    return instanceOf(graph, path);
  }

  /** Whether somebody waits for a task to end although there is room. */
  function hasRoom({ states: { open, line } }: Making): boolean {
    return open < mostOpen && !isEmptyLine(line);
  }

  /** Asks for what waits longest, where there is room. False where there is none, or nobody waits. */
  function fillRoom(making: Making): boolean {
    const { line } = making.states;
    const path = headOf(line);
    if (path === undefined || !hasRoom(making)) return false;
    making.states = { ...making.states, line: withoutHead(line) };
    const instance = instanceOf(graph, path);
    const body = bodyOf(making.states, instance);
    // It may have been called off meanwhile.
    if (typeof body === "number" && body < 0) ask(making, instance, -body);
    return true;
  }

  function settle(making: Making, instance: Instance, { data }: Fact & { type: "task.settled" }): void {
    const { taskId, outcome } = data;
    if (outcome.type === "failed") {
      failAttempt(making, instance, { taskId, error: outcome.error });
      return;
    }
    const { output } = outcome;
    const { step, scope } = instance.node;
    const bad = badOutput(step.output, output);
    if (bad) {
      failAttempt(making, instance, { taskId, error: bad });
      return;
    }
    if (scope.undo) {
      // Before the step ends: what its compensation may speak of is still known then.
      const kept = scope.undo.scopeOf(pointAt(making, instance), output);
      making.moves.push({ type: "owe", debt: { step: instance.path, taskId, scope: kept } });
    }
    complete(making, instance, output, taskId);
  }

  /** An attempt came to nothing: it is made again, or the step has failed. */
  function failAttempt(making: Making, instance: Instance, failed: { taskId: string; error: ErrorRecord }): void {
    const { taskId, error } = failed;
    const { retry } = instance.node.step;
    const attempt = attemptOf(making, instance);
    if (!isTriedAgain(retry, attempt, error)) {
      fail(making, instance, failed);
      return;
    }
    const dueAt = later(making.at, backoff(retry, attempt, `${making.setup.runId}/${taskId}`));
    making.states = withBody(making.states, instance, -(attempt + 1));
    say(making, { type: "step.retrying", data: { step: instance.path, attempt: attempt + 1, dueAt, error } });
    making.moves.push({ type: "timer", id: `${RETRY_TIMER}${instance.path}`, dueAt });
  }

  function timerFired(making: Making, timer: string): void {
    if (timer.startsWith(RETRY_TIMER)) {
      const instance = instanceOf(graph, timer.slice(RETRY_TIMER.length));
      lineUp(making, instance, attemptOf(making, instance));
    } else if (timer.startsWith(GROUP_TIMER)) {
      const group = instanceOf(graph, timer.slice(GROUP_TIMER.length));
      const message = `the group took longer than ${group.node.step.timeoutMs} ms`;
      fail(making, group, { error: { code: "timeout", message } });
    }
  }

  function decide(making: Making, instance: Instance) {
    // It may have been called off since it became due.
    if (!isUndecided(making.states, instance)) return;
    if (instance.index !== undefined) return beginBody(making, instance);
    const { node, path } = instance;
    const { agent } = node.step;
    const frame = frameAround(making.states, instance);
    if (!frame) return;
    const verdict = judge(node, frame, pointAt(making, instance));
    if (verdict.type === "start") {
      const { reused } = making.states;
      const known = reused && Object.hasOwn(reused, path) ? reused[path] : undefined;
      if (!known) return begin(making, instance);
      // Another run has done it, and that is on record.
      const { output, exhausted = false } = known;
      return endStep(making, instance, { status: "completed", output, ...(exhausted && { exhausted }) });
    }
    const known = { step: path, ...(agent !== undefined && { agent }) };
    if (verdict.type === "skip") {
      const said = { type: "step.skipped", data: { ...known, reason: verdict.reason } } as const;
      return endStep(making, instance, { status: "skipped" }, said);
    }
    say(making, { type: "step.started", data: known });
    fail(making, instance, { ...taskOf(instance), error: verdict.error });
  }

  function begin(making: Making, whole: Instance) {
    const { step } = whole.node;
    if (step.forEach !== undefined) return beginItems(making, whole);
    if (!step.repeat) return beginBody(making, whole);
    const group = { type: "repeat", size: step.repeat.max } as const;
    say(making, { type: "step.started", data: { step: whole.path, group } });
    making.states = withLoop(making.states, whole, { index: 0, body: 0 });
    making.ready.push(instanceAt(whole, 0));
  }

  function beginItems(making: Making, whole: Instance) {
    const { scope, step } = whole.node;
    let items: readonly unknown[];
    try {
      items = scope.itemsOf(pointAt(making, whole));
    } catch (error) {
      say(making, { type: "step.started", data: { step: whole.path } });
      return fail(making, whole, { error: toErrorRecord(error, "bad_list") });
    }
    const group = { type: "forEach", size: items.length } as const;
    say(making, { type: "step.started", data: { step: whole.path, group } });
    if (items.length === 0) return complete(making, whole, []);
    const begun = Math.min(items.length, step.concurrency ?? DEFAULT_ITEMS_AT_ONCE);
    const first = Array.from({ length: begun }, (_, index) => [index, 0] as const);
    const each = { ...noneOf(items.length), begun, items: first };
    rememberList(each, items);
    making.states = withEach(making.states, whole, each);
    for (const [index] of first) making.ready.push(instanceAt(whole, index));
  }

  /** Begins a step, or one item or iteration of it. */
  function beginBody(making: Making, instance: Instance) {
    const { body } = instance.node;
    if (!body) return lineUp(making, instance, 1);
    const size = body.nodes.size;
    say(making, { type: "step.started", data: { step: instance.path, group: { type: "steps", size } } });
    making.states = withBody(making.states, instance, notBegun(size));
    const { timeoutMs } = instance.node.step;
    if (timeoutMs !== undefined) {
      making.moves.push({
        type: "timer",
        id: `${GROUP_TIMER}${instance.path}`,
        dueAt: later(making.at, timeoutMs),
      });
    }
    for (const node of body.first) making.ready.push(instanceIn(instance, node));
  }

  // P4
  function lineUp(making: Making, instance: Instance, attempt: number) {
    const { open, line } = making.states;
    if (open < mostOpen && isEmptyLine(line)) return ask(making, instance, attempt);
    const states = withBody(making.states, instance, -attempt);
    making.states = { ...states, line: withLast(line, instance.path) };
  }

  function ask(making: Making, instance: Instance, attempt: number) {
    const { setup } = making;
    const { path, node } = instance;
    const { agent } = node.step;
    const known = { step: path, ...(agent !== undefined && { agent }) };
    if (attempt === 1) say(making, { type: "step.started", data: known });
    const taskId = taskIdOf(instance, attempt);
    let input: unknown;
    try {
      input = node.scope.inputOf(pointAt(making, instance));
    } catch (error) {
      // A template that finds nothing is the definition's or the input's fault; asking again would not help.
      return fail(making, instance, { taskId, error: toErrorRecord(error, "template_failed") });
    }
    const states = withBody(making.states, instance, attempt);
    making.states = { ...states, open: states.open + 1 };
    const task = taskFor(instance, { taskId, attempt, input, setup });
    const owes = node.scope.undo && { owes: true as const };
    making.moves.push({ type: "ask", open: { task, step: path, forwarded: false, ...owes } });
  }

  type Asked = { taskId: string; attempt: number; input: unknown; setup: RunSetup };

  function taskFor({ node: { step } }: Instance, { taskId, attempt, input, setup }: Asked): OpenTask["task"] {
    const deadline = deadlineOf(setup);
    const task: Task = {
      v: 1,
      taskId,
      runId: setup.runId,
      workflow: definition.name,
      definition: definition.hash,
      agent: step.agent ?? "",
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
}

/** The attempt an instance is at, or is to begin. */
function attemptOf({ states }: Making, instance: Instance): number {
  const body = bodyOf(states, instance);
  return typeof body === "number" && body !== 0 ? Math.abs(body) : 1;
}

/** The task of a step that failed before it was asked. */
function taskOf(instance: Instance): { taskId?: string } {
  return instance.node.body || isMany(instance.node) ? {} : { taskId: taskIdOf(instance, 1) };
}
