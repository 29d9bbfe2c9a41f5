/**
 * The plan of deterministic workflows: a graph of steps, each decided on as soon as all it comes after have ended. It is begun,
 * or skipped, as its `needs` and its condition say. A chain is the graph in which every step comes after the one before; a
 * group is a step that is such a graph itself, and `forEach` and `repeat` do a step many times.
 *
 * `step-states.ts` is what is remembered, `step-instances.ts` finds a place in it by its path, `step-points.ts` says what can be
 * seen from there, `step-attempts.ts` and `step-ends.ts` say what follows from an end, and `step-waits.ts` is about steps that
 * wait for something from outside. Here things are begun.
 *
 * Invariants
 * P1  The run completes when all steps have ended (E1 to E3 in `step-ends.ts`).
 * P2  A step is decided on once, by the end of the last step it comes after, so that a fold finds the same ends in scope.
 * P3  What is kept of an end is dropped when all that may speak of it have ended; what a sink gave is kept for the result.
 * P4  No more tasks are open than the workflow's `concurrency` says; what waits for room goes in the order it became ready.
 *     What waits for something from outside is no task, and takes no room.
 * P5  One fact leads to so many moves at most; what is due beyond that waits for a timer that is due at once. So an entry fits
 *     into a message, whatever a fact makes due.
 */
import { toErrorRecord } from "../errors.ts";
import { DEFAULT_ITEMS_AT_ONCE, type DeterministicDefinition, MOST_OPEN_TASKS } from "./definition.ts";
import { isWaiting } from "./outside-waits.ts";
import { later, type Move, type OpenTask, type Plan, type RunSetup } from "./plan.ts";
import { attemptOf, endAttempt, failAttempt } from "./step-attempts.ts";
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
import { beginWait, signalled, signalStepsOf, timedOut } from "./step-waits.ts";
import { taskFor, workerOf } from "./step-workers.ts";
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
  const signalSteps = signalStepsOf(definition);
  return {
    begin(setup, at) {
      const { reused, kept = [] } = setup;
      const states = beforeAll(definition.steps.length, kept);
      const making = makingOf(setup, at, reused ? { ...states, reused: Object.fromEntries(reused) } : states);
      for (const node of graph.first) making.ready.push(instanceIn(undefined, node));
      return goOn(making, false);
    },

    proceed(setup, states, fact, open) {
      const making = makingOf(setup, fact.at, states);
      if (fact.type === "timer.fired") {
        if (fact.data.id === GO_ON_TIMER) return goOn(making, true);
        if (!timedOut(making, fact)) timerFired(making, fact.data.id);
      } else if (fact.type === "signal.received") {
        signalled(making, fact, signalSteps);
      } else if (open?.step !== undefined) {
        const instance = instanceOf(graph, open.step);
        making.states = { ...making.states, open: making.states.open - 1 };
        if (fact.type === "agent.handoff") {
          const error = { code: "handoff_not_allowed", message: "a deterministic workflow has no handoffs" };
          fail(making, instance, { taskId: open.task.taskId, error });
        } else {
          const { taskId, outcome } = fact.data;
          if (outcome.type === "failed") failAttempt(making, instance, { taskId, error: outcome.error });
          else endAttempt(making, instance, { taskId, output: outcome.output });
        }
      }
      return goOn(making, false);
    },

    keptIn: ({ waits }) => waits.kept,
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
    const known = { step: path, ...workerOf(node.step) };
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
    const { body, step } = instance.node;
    if (isWaiting(step)) return beginWait(making, instance, step);
    if (!body) return lineUp(making, instance, 1);
    const size = body.nodes.size;
    say(making, { type: "step.started", data: { step: instance.path, group: { type: "steps", size } } });
    making.states = withBody(making.states, instance, notBegun(size));
    if (step.timeoutMs !== undefined) {
      const dueAt = later(making.at, step.timeoutMs);
      making.moves.push({ type: "timer", id: `${GROUP_TIMER}${instance.path}`, dueAt });
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
    const { step, scope } = node;
    if (step.kind === "group" || isWaiting(step)) throw new Error(`step ${path}: nobody is asked for it`);
    if (attempt === 1) say(making, { type: "step.started", data: { step: path, ...workerOf(step) } });
    const taskId = taskIdOf(instance, attempt);
    let task: OpenTask["task"];
    try {
      const input = scope.inputOf(pointAt(making, instance));
      task = taskFor(definition, { step, taskId, attempt, input, setup });
    } catch (error) {
      // A template that finds nothing is the definition's or the input's fault; asking again would not help.
      return fail(making, instance, { taskId, error: toErrorRecord(error, "template_failed") });
    }
    const states = withBody(making.states, instance, attempt);
    making.states = { ...states, open: states.open + 1 };
    const owes = scope.undo && { owes: true as const };
    making.moves.push({ type: "ask", open: { task, step: path, forwarded: false, ...owes } });
  }
}

/** The task of a step that failed before it was asked; what holds others, or waits, has none. */
function taskOf(instance: Instance): { taskId?: string } {
  const { node } = instance;
  return node.body || isMany(node) || isWaiting(node.step) ? {} : { taskId: taskIdOf(instance, 1) };
}
