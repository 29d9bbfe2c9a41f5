/**
 * The supervisor: the statechart that owns a run and decides what happens next.
 *
 *   scheduled ──start──▶ running ──▶ completed
 *       │                  │  └────▶ failed
 *       └────cancel──▶ cancelling ─▶ cancelled
 *
 * It only decides. What it wants done it spawns by name (`askAgent`, `timer`) or stops; what it wants on record it emits.
 * The host (`runtime/hosts/active-run.ts`) interprets both, after they are in the journal.
 */
import { assertEvent, enqueueActions, fromPromise, setup } from "xstate";
import { type ErrorRecord, JournalFullError, toErrorRecord } from "../errors.ts";
import { type Decision, deadlineOf, later, type Move, type OpenTask, type Plan, type RunSetup } from "./plan.ts";
import type { Fact } from "./run-events.ts";

/** How long cancelled tasks get to stop before the run is `cancelled` without them, where the fact does not say. */
const CANCEL_GRACE_MS = 10_000;

/** The timer of a start that lies ahead. */
export const START_TIMER = "start";
const TIMEOUT_TIMER = "timeout";
const CANCEL_TIMER = "cancel";

type End = { type: "complete"; output: unknown } | { type: "fail"; error: ErrorRecord };

export type SupervisorContext = {
  readonly setup: RunSetup;
  readonly plan: Plan;
  readonly state: unknown;
  /** Tasks somebody has or should have, by id. */
  readonly open: { readonly [taskId: string]: OpenTask };
  /** Due dates by timer id. */
  readonly timers: { readonly [id: string]: string };
  readonly cancelReason?: string;
  readonly end?: End;
};

/** Names for what the host does; the machine itself never runs them. */
const performedByHost = <Input>() =>
  fromPromise<void, Input>(() => Promise.reject(new Error("supervisors are interpreted by a run host")));

export const supervisorMachine = setup({
  types: {
    context: {} as SupervisorContext,
    events: {} as Fact,
    emitted: {} as Decision,
    input: {} as { setup: RunSetup; plan: Plan },
  },
  actors: {
    askAgent: performedByHost<OpenTask>(),
    timer: performedByHost<{ id: string; dueAt: string }>(),
  },
  guards: {
    isBorn: ({ context }) => context.setup !== undefined,
    notBeforeAhead: ({ context: { setup } }) =>
      setup !== undefined &&
      setup.request.notBefore !== undefined &&
      Date.parse(setup.request.notBefore) > Date.parse(setup.acceptedAt),
    isStart: ({ event }) => event.type === "timer.fired" && event.data.id === START_TIMER,
    isTimeout: ({ event }) => event.type === "timer.fired" && event.data.id === TIMEOUT_TIMER,
    isCancelTimer: ({ event }) => event.type === "timer.fired" && event.data.id === CANCEL_TIMER,
    concernsOpenTask: ({ context, event }) => "taskId" in event.data && Object.hasOwn(context.open, event.data.taskId),
    concernsSetTimer: ({ context, event }) =>
      event.type === "timer.fired" && Object.hasOwn(context.timers, event.data.id),
    isComplete: ({ context }) => context.end?.type === "complete",
    isFailed: ({ context }) => context.end?.type === "fail",
    nothingOpen: ({ context }) => Object.keys(context.open).length === 0,
  },
  actions: {
    setStartTimer: enqueueActions(({ context, enqueue }) => {
      const dueAt = context.setup.request.notBefore as string;
      enqueue.assign({ timers: { ...context.timers, [START_TIMER]: dueAt } });
      enqueue.emit({ type: "timer.set", data: { id: START_TIMER, dueAt } });
      enqueue.spawnChild("timer", { id: timerChild(START_TIMER), input: { id: START_TIMER, dueAt } });
    }),
    begin: enqueueActions(({ context, enqueue }) => {
      const deadline = deadlineOf(context.setup);
      const { state, moves } = context.plan.begin(context.setup);
      const timeout: Move[] = deadline ? [{ type: "timer", id: TIMEOUT_TIMER, dueAt: deadline }] : [];
      perform({ ...context, state, timers: {} }, [...timeout, ...moves], enqueue);
    }),
    proceed: enqueueActions(({ context, event, enqueue }) => {
      if (event.type === "run.cancelling" || event.type === "run.exceeded") return;
      const settled = closed(context, event);
      // Also a timer that has fired: what is done with is not remembered.
      enqueue.stopChild(event.type === "timer.fired" ? timerChild(event.data.id) : event.data.taskId);
      const open = event.type === "timer.fired" ? undefined : context.open[event.data.taskId];
      const { state, moves } = context.plan.proceed(context.setup, context.state, event, open);
      perform({ ...settled, state }, moves, enqueue);
    }),
    /** Takes note of a task that ended while the run is being cancelled. */
    close: enqueueActions(({ context, event, enqueue }) => {
      enqueue.assign(closed(context, event));
    }),
    timeOut: enqueueActions(({ context, enqueue }) => {
      const after = context.setup.request.timeoutMs;
      enqueue.assign({
        end: { type: "fail", error: { code: "timeout", message: `the run took longer than ${after} ms` } },
      });
    }),
    exceed: enqueueActions(({ event, enqueue }) => {
      assertEvent(event, "run.exceeded");
      const error = toErrorRecord(new JournalFullError("the run's journal", event.data.limit, event.data));
      enqueue.assign({ end: { type: "fail", error } });
    }),
    stopTasks: enqueueActions(({ context, enqueue }) => {
      for (const taskId of Object.keys(context.open)) enqueue.stopChild(taskId);
    }),
    cancel: enqueueActions(({ context, event, enqueue }) => {
      assertEvent(event, "run.cancelling");
      const { reason, graceMs = CANCEL_GRACE_MS } = event.data;
      const dueAt = later(event.at, graceMs);
      const waiting = Object.keys(context.open).length > 0;
      enqueue.assign({
        timers: waiting ? { [CANCEL_TIMER]: dueAt } : {},
        ...(reason !== undefined && { cancelReason: reason }),
      });
      if (!waiting) return;
      enqueue.emit({ type: "timer.set", data: { id: CANCEL_TIMER, dueAt } });
      enqueue.spawnChild("timer", { id: timerChild(CANCEL_TIMER), input: { id: CANCEL_TIMER, dueAt } });
    }),
    sayCompleted: enqueueActions(({ context, enqueue }) => {
      if (context.end?.type === "complete")
        enqueue.emit({ type: "run.completed", data: { output: context.end.output } });
    }),
    sayFailed: enqueueActions(({ context, enqueue }) => {
      if (context.end?.type === "fail") enqueue.emit({ type: "run.failed", data: { error: context.end.error } });
    }),
    sayCancelled: enqueueActions(({ context: { cancelReason }, enqueue }) => {
      enqueue.emit({ type: "run.cancelled", data: cancelReason === undefined ? {} : { reason: cancelReason } });
    }),
  },
}).createMachine({
  id: "supervisor",
  context: ({ input }) => ({ ...input, state: undefined, open: {}, timers: {} }),
  initial: "accepted",
  states: {
    accepted: {
      // XState makes a throw-away actor, without input, for every call of its pure `transition`: that one goes no further.
      always: [
        { guard: "notBeforeAhead", target: "scheduled" },
        { guard: "isBorn", target: "running" },
      ],
    },
    scheduled: {
      entry: "setStartTimer",
      on: {
        "timer.fired": { guard: "isStart", target: "running" },
        "run.cancelling": { target: "cancelling", actions: "cancel" },
        "run.exceeded": { target: "failed", actions: "exceed" },
      },
    },
    running: {
      entry: "begin",
      always: [
        { guard: "isComplete", target: "completed" },
        { guard: "isFailed", target: "failed" },
      ],
      on: {
        "task.settled": { guard: "concernsOpenTask", actions: "proceed" },
        "agent.handoff": { guard: "concernsOpenTask", actions: "proceed" },
        "timer.fired": [
          { guard: "isTimeout", actions: "timeOut" },
          { guard: "concernsSetTimer", actions: "proceed" },
        ],
        "run.cancelling": { target: "cancelling", actions: "cancel" },
        "run.exceeded": { actions: "exceed" },
      },
    },
    cancelling: {
      entry: "stopTasks",
      always: { guard: "nothingOpen", target: "cancelled" },
      on: {
        "task.settled": { guard: "concernsOpenTask", actions: "close" },
        "agent.handoff": { guard: "concernsOpenTask", actions: "close" },
        "timer.fired": { guard: "isCancelTimer", target: "cancelled" },
        "run.exceeded": { target: "cancelled" },
      },
    },
    completed: { type: "final", entry: ["sayCompleted"] },
    failed: { type: "final", entry: ["stopTasks", "sayFailed"] },
    cancelled: { type: "final", entry: ["sayCancelled"] },
  },
});

/** The child id of a timer, apart from those of tasks. */
export function timerChild(id: string): string {
  return `timer.${id}`;
}

/** The context without what the fact settled. */
function closed(context: SupervisorContext, fact: Fact): SupervisorContext {
  if (fact.type === "timer.fired") {
    const { [fact.data.id]: _fired, ...timers } = context.timers;
    return { ...context, timers };
  }
  if (fact.type === "run.cancelling" || fact.type === "run.exceeded") return context;
  const { [fact.data.taskId]: _settled, ...open } = context.open;
  return { ...context, open };
}

type Enqueue = {
  assign(context: Partial<SupervisorContext>): void;
  emit(event: Decision): void;
  stopChild(id: string): void;
  spawnChild(src: "askAgent", options: { id: string; input: OpenTask }): void;
  spawnChild(src: "timer", options: { id: string; input: { id: string; dueAt: string } }): void;
};

/** Turns a plan's moves into actions and the context after them. */
function perform(context: SupervisorContext, moves: readonly Move[], enqueue: Enqueue): void {
  const open = { ...context.open };
  const timers = { ...context.timers };
  let end = context.end;
  for (const move of moves) {
    switch (move.type) {
      case "ask": {
        const { task, step } = move.open;
        const { taskId, agent, attempt } = task;
        open[taskId] = move.open;
        enqueue.emit({ type: "task.sent", data: { taskId, agent, ...(step && { step }), attempt, delivery: 1 } });
        enqueue.spawnChild("askAgent", { id: taskId, input: move.open });
        break;
      }
      case "timer": {
        const { id, dueAt } = move;
        timers[id] = dueAt;
        enqueue.emit({ type: "timer.set", data: { id, dueAt } });
        enqueue.spawnChild("timer", { id: timerChild(id), input: { id, dueAt } });
        break;
      }
      case "callOff": {
        const { taskId, timer } = move;
        if (taskId !== undefined && Object.hasOwn(open, taskId)) {
          delete open[taskId];
          enqueue.stopChild(taskId);
        }
        if (Object.hasOwn(timers, timer)) {
          delete timers[timer];
          enqueue.stopChild(timerChild(timer));
        }
        break;
      }
      case "say":
        enqueue.emit(move.event);
        break;
      case "complete":
      case "fail":
        end ??= move;
        break;
      default:
        move satisfies never;
    }
  }
  enqueue.assign({ state: context.state, open, timers, ...(end && { end }) });
}
