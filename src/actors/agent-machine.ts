/**
 * An agent as a long-lived actor of its daemon.
 *
 *   starting ──▶ ready ⇄ busy ──drain──▶ draining ──▶ stopped
 *
 * - starting: its mailbox is not subscribed yet; nothing comes
 * - ready:    there is room to begin a task at once
 * - busy:     `concurrency` tasks are at work; up to `maxWaiting` more wait, the rest is refused
 * - draining: nothing new is taken and nothing waits; what is at work may finish
 * - stopped:  no task is left
 *
 * It only decides; what it emits, the host makes known.
 *
 * Invariants
 * A1  A task is exactly one of: at work as a child, waiting, refused, settled, forgotten.
 * A2  A child that ended is not kept, so memory does not grow with the tasks done.
 */
import { enqueueActions, setup } from "xstate";
import { toErrorRecord, type ErrorRecord } from "../errors.ts";
import type { Agent } from "./agent.ts";
import { resumable, type TaskStart } from "./resumable-task.ts";
import type { Outcome } from "./task.ts";
import { taskMachine } from "./task-machine.ts";

/** A task for this agent; `id` is unique among those at work and waiting, and has no meaning here. */
export type GivenTask = { id: string; start: TaskStart };

type TaskDone = { type: `xstate.done.actor.task.${string}`; output: Outcome; actorId: string };
type TaskBroken = { type: `xstate.error.actor.task.${string}`; error: unknown; actorId: string };

export type AgentEvent =
  | { type: "started" }
  | { type: "task"; given: GivenTask }
  /** Ends a task, at work or waiting, as failed with this error. */
  | { type: "stopTask"; id: string; error: ErrorRecord }
  /** Drops a task without an outcome. */
  | { type: "forget"; id: string }
  | { type: "drain" }
  | TaskDone
  | TaskBroken;

/** What the host is told. */
export type AgentNews =
  /** The task was taken in; it is at work or waits. */
  | { type: "accepted"; id: string }
  /** There is no room for the task here, or not any more. */
  | { type: "refused"; id: string }
  | { type: "begun"; id: string }
  | { type: "settled"; id: string; outcome: Outcome };

export type AgentContext = {
  readonly concurrency: number;
  readonly maxWaiting: number;
  /** The ids of the tasks at work. */
  readonly running: readonly string[];
  readonly waiting: readonly GivenTask[];
};

const TASK_CHILD = "task.";

function taskChild(id: string): string {
  return `${TASK_CHILD}${id}`;
}

/** The statechart of every agent; the host provides `runTask`. */
export const agentMachine = setup({
  types: {
    context: {} as AgentContext,
    events: {} as AgentEvent,
    emitted: {} as AgentNews,
    input: {} as Pick<Agent, "concurrency" | "maxWaiting">,
  },
  actors: { runTask: resumable(taskMachine) },
  guards: {
    isFull: ({ context }) => context.running.length >= context.concurrency,
    hasRoom: ({ context }) => context.running.length < context.concurrency,
    mayWait: ({ context }) => context.waiting.length < context.maxWaiting,
    mayBegin: ({ context }) => context.running.length < context.concurrency && context.waiting.length > 0,
    isIdle: ({ context }) => context.running.length === 0,
  },
  actions: {
    take: enqueueActions(({ context, event, enqueue }) => {
      if (event.type !== "task") return;
      const { given } = event;
      enqueue.emit({ type: "accepted", id: given.id });
      enqueue.assign({ running: [...context.running, given.id] });
      enqueue.spawnChild("runTask", { id: taskChild(given.id), input: given.start });
      enqueue.emit({ type: "begun", id: given.id });
    }),
    letWait: enqueueActions(({ context, event, enqueue }) => {
      if (event.type !== "task") return;
      enqueue.emit({ type: "accepted", id: event.given.id });
      enqueue.assign({ waiting: [...context.waiting, event.given] });
    }),
    refuseIt: enqueueActions(({ event, enqueue }) => {
      if (event.type === "task") enqueue.emit({ type: "refused", id: event.given.id });
    }),
    refuseWaiting: enqueueActions(({ context, enqueue }) => {
      for (const { id } of context.waiting) enqueue.emit({ type: "refused", id });
      enqueue.assign({ waiting: [] });
    }),
    finish: enqueueActions(({ context, event, enqueue }) => {
      if (!("actorId" in event)) return;
      const id = event.actorId.slice(TASK_CHILD.length);
      const outcome: Outcome =
        "output" in event ? event.output : { type: "failed", error: toErrorRecord(event.error, "internal") };
      enqueue.emit({ type: "settled", id, outcome });
      // A2
      enqueue.stopChild(event.actorId);
      enqueue.assign({ running: without(context.running, id) });
    }),
    beginWaiting: enqueueActions(({ context, enqueue }) => {
      const [given, ...waiting] = context.waiting;
      if (!given) return;
      enqueue.assign({ waiting, running: [...context.running, given.id] });
      enqueue.spawnChild("runTask", { id: taskChild(given.id), input: given.start });
      enqueue.emit({ type: "begun", id: given.id });
    }),
    stopTask: enqueueActions(({ context, event, enqueue }) => {
      if (event.type !== "stopTask") return;
      const { id, error } = event;
      if (context.running.includes(id)) {
        enqueue.sendTo(taskChild(id), { type: "stop", error });
      } else if (context.waiting.some((given) => given.id === id)) {
        enqueue.assign({ waiting: context.waiting.filter((given) => given.id !== id) });
        enqueue.emit({ type: "settled", id, outcome: { type: "failed", error } });
      }
    }),
    forget: enqueueActions(({ context, event, enqueue }) => {
      if (event.type !== "forget") return;
      const { id } = event;
      if (context.running.includes(id)) {
        enqueue.stopChild(taskChild(id));
        enqueue.assign({ running: without(context.running, id) });
      } else {
        enqueue.assign({ waiting: context.waiting.filter((given) => given.id !== id) });
      }
    }),
  },
}).createMachine({
  id: "agent",
  context: ({ input }) => ({ ...input, running: [], waiting: [] }),
  initial: "starting",
  on: {
    stopTask: { actions: "stopTask" },
    forget: { actions: "forget" },
    drain: { target: ".draining" },
    "xstate.done.actor.task.*": { actions: "finish" },
    "xstate.error.actor.task.*": { actions: "finish" },
    task: { actions: "refuseIt" },
  },
  states: {
    starting: { on: { started: "ready" } },
    ready: {
      on: { task: { actions: "take" } },
      always: { guard: "isFull", target: "busy" },
    },
    busy: {
      on: { task: [{ guard: "mayWait", actions: "letWait" }, { actions: "refuseIt" }] },
      always: [
        { guard: "mayBegin", actions: "beginWaiting" },
        { guard: "hasRoom", target: "ready" },
      ],
    },
    draining: {
      entry: "refuseWaiting",
      // A second drain changes nothing.
      on: { drain: {} },
      always: { guard: "isIdle", target: "stopped" },
    },
    stopped: { type: "final" },
  },
});

function without(ids: readonly string[], id: string): string[] {
  return ids.filter((other) => other !== id);
}
