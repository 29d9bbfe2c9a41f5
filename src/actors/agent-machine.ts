/**
 * An agent as a long-lived actor of its daemon.
 *
 *   starting ──▶ ready ⇄ busy ──drain──▶ draining ──▶ stopped
 *                  └──┬───┘                 ▲
 *                trip │ ▲ resume            │
 *                     ▼ │                   │
 *                   tripped ──────drain─────┘
 *
 * - starting: its mailbox is not subscribed yet; nothing comes
 * - ready:    there is room to begin a task at once
 * - busy:     `concurrency` tasks are at work; up to `maxWaiting` more wait, the rest is refused
 * - tripped:  none of its models can be had; what waits goes on waiting and new tasks are refused, so that they wait with their
 *             owner or go to a daemon whose provider is there; what is at work may go on, as soon as it can
 * - draining: nothing new is taken and nothing waits; what is at work may finish
 * - stopped:  no task is left
 *
 * It only decides; what it emits, the host makes known.
 *
 * Invariants
 * A1  A task is exactly one of: at work as a child, waiting, refused, settled, forgotten.
 * A2  A child that ended is not kept, and children are named by small numbers that are used again: XState remembers every
 *     type of event it has seen, and those of children carry their ids. So memory does not grow with the tasks done.
 */
import { enqueueActions, setup } from "xstate";
import { type ErrorRecord, toErrorRecord } from "../errors.ts";
import type { Agent } from "./agent.ts";
import { resumable, type TaskStart } from "./resumable-task.ts";
import type { Outcome } from "./task.ts";
import { taskMachine } from "./task-machine.ts";

/** A task for this agent; `id` is unique among those at work and waiting, and has no meaning here. */
type GivenTask = { id: string; start: TaskStart };

type TaskDone = { type: `xstate.done.actor.${number}`; output: Outcome; actorId: string };
type TaskBroken = { type: `xstate.error.actor.${number}`; error: unknown; actorId: string };

export type AgentEvent =
  | { type: "started" }
  | { type: "task"; given: GivenTask }
  /** Ends a task, at work or waiting, as failed with this error. */
  | { type: "stopTask"; id: string; error: ErrorRecord }
  /** Drops a task without an outcome. */
  | { type: "forget"; id: string }
  /** The providers of all its models are down. */
  | { type: "trip" }
  /** One of them is back. */
  | { type: "resume" }
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

type AgentContext = {
  readonly concurrency: number;
  readonly maxWaiting: number;
  /** The ids of the tasks at work; the place in the list is the child's name, `null` is a free place. */
  readonly running: readonly (string | null)[];
  /** The tasks at work. */
  readonly count: number;
  readonly waiting: readonly GivenTask[];
};

const agentSetup = setup({
  types: {
    context: {} as AgentContext,
    events: {} as AgentEvent,
    emitted: {} as AgentNews,
    input: {} as Pick<Agent, "concurrency" | "maxWaiting">,
  },
  actors: { runTask: resumable(taskMachine) },
  guards: {
    isLastPlace: ({ context }) => context.count + 1 >= context.concurrency,
    isAtWork: ({ context, event }) => "actorId" in event && Boolean(context.running[Number(event.actorId)]),
    hasRoom: ({ context }) => context.count < context.concurrency,
    mayWait: ({ context }) => context.waiting.length < context.maxWaiting,
    mayBegin: ({ context }) => context.count < context.concurrency && context.waiting.length > 0,
    isIdle: ({ context }) => context.count === 0,
  },
  actions: {
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
    beginWaiting: enqueueActions(({ context, enqueue }) => {
      const [given, ...waiting] = context.waiting;
      if (!given) return;
      const place = freePlace(context);
      enqueue.assign({ ...withTask(context, place, given.id), waiting });
      enqueue.spawnChild("runTask", { id: String(place), input: given.start });
      enqueue.emit({ type: "begun", id: given.id });
    }),
    stopTask: enqueueActions(({ context, event, enqueue }) => {
      if (event.type !== "stopTask") return;
      const { id, error } = event;
      const place = context.running.indexOf(id);
      if (place >= 0) {
        enqueue.sendTo(String(place), { type: "stop", error });
      } else if (context.waiting.some((given) => given.id === id)) {
        enqueue.assign({ waiting: context.waiting.filter((given) => given.id !== id) });
        enqueue.emit({ type: "settled", id, outcome: { type: "failed", error } });
      }
    }),
    forget: enqueueActions(({ context, event, enqueue }) => {
      if (event.type !== "forget") return;
      const place = context.running.indexOf(event.id);
      if (place >= 0) {
        enqueue.stopChild(String(place));
        enqueue.assign(withoutTask(context, place));
      } else {
        enqueue.assign({ waiting: context.waiting.filter((given) => given.id !== event.id) });
      }
    }),
  },
});

// The two paths of every task are lists of plain actions: collecting them by `enqueueActions` takes nearly twice as long.
const take = [
  agentSetup.emit(({ event }) => ({ type: "accepted", id: givenIn(event).id })),
  agentSetup.assign(({ context, event }) => withTask(context, freePlace(context), givenIn(event).id)),
  agentSetup.spawnChild("runTask", {
    id: ({ context, event }) => String(context.running.indexOf(givenIn(event).id)),
    input: ({ event }) => givenIn(event).start,
  }),
  agentSetup.emit(({ event }) => ({ type: "begun", id: givenIn(event).id })),
];
const finish = [
  agentSetup.emit(({ context, event }) => settledBy(context, endIn(event))),
  // A2
  agentSetup.stopChild(({ event }) => endIn(event).actorId),
  agentSetup.assign(({ context, event }) => withoutTask(context, Number(endIn(event).actorId))),
];

/** The statechart of every agent; the host provides `runTask`. */
export const agentMachine = agentSetup.createMachine({
  id: "agent",
  context: ({ input }) => ({ ...input, running: [], count: 0, waiting: [] }),
  initial: "starting",
  on: {
    stopTask: { actions: "stopTask" },
    forget: { actions: "forget" },
    drain: { target: ".draining" },
    "xstate.done.actor.*": { guard: "isAtWork", actions: finish },
    "xstate.error.actor.*": { guard: "isAtWork", actions: finish },
    task: { actions: "refuseIt" },
  },
  states: {
    starting: { on: { started: "ready" } },
    ready: {
      on: {
        trip: "tripped",
        task: [{ guard: "isLastPlace", target: "busy", actions: take }, { actions: take }],
      },
    },
    busy: {
      on: {
        trip: "tripped",
        task: [{ guard: "mayWait", actions: "letWait" }, { actions: "refuseIt" }],
      },
      always: [
        { guard: "mayBegin", actions: "beginWaiting" },
        { guard: "hasRoom", target: "ready" },
      ],
    },
    // Out by `busy`, which begins what waits as far as there is room, and leaves at once where there is more.
    tripped: { on: { resume: "busy" } },
    draining: {
      entry: "refuseWaiting",
      // A second drain changes nothing.
      on: { drain: {} },
      always: { guard: "isIdle", target: "stopped" },
    },
    stopped: { type: "final" },
  },
});

function givenIn(event: AgentEvent): GivenTask {
  if (event.type !== "task") throw new Error(`expected a task, got ${event.type}`);
  return event.given;
}

function endIn(event: AgentEvent): TaskDone | TaskBroken {
  if (!("actorId" in event)) throw new Error(`expected the end of a child, got ${event.type}`);
  return event;
}

function settledBy({ running }: AgentContext, event: TaskDone | TaskBroken): AgentNews {
  const id = running[Number(event.actorId)] ?? "";
  const outcome: Outcome =
    "output" in event ? event.output : { type: "failed", error: toErrorRecord(event.error, "internal") };
  return { type: "settled", id, outcome };
}

type Places = Pick<AgentContext, "running" | "count">;

function freePlace({ running }: Places): number {
  const free = running.indexOf(null);
  return free < 0 ? running.length : free;
}

function withTask({ running, count }: Places, place: number, id: string): Places {
  const next = [...running];
  next[place] = id;
  return { running: next, count: count + 1 };
}

function withoutTask({ running, count }: Places, place: number): Places {
  return { running: running.with(place, null), count: count - 1 };
}
