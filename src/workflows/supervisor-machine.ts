/**
 * The supervisor: the statechart that owns a run and decides what happens next.
 *
 *   scheduled ──start──▶ running ──▶ completed
 *       │                 │   └──────▶ failing ──┬──▶ unwinding ──┬──▶ failed
 *       └────cancel──▶ cancelling ───────────────┴────────────────┴──▶ cancelled
 *
 * `failing` and `cancelling` wait for tasks that were called off: what completes all the same has to be undone too. A run that
 * owes nothing and has nothing to do because it failed goes past them and `unwinding`.
 *
 * It only decides. What it wants done it spawns by name (`askAgent`, `timer`) or stops; what it wants on record it emits.
 * The host (`runtime/hosts/active-run.ts`) interprets both, after they are in the journal.
 */
import { assertEvent, enqueueActions, fromPromise, setup } from "xstate";
import type { Debt } from "./debt.ts";
import { type Decision, deadlineOf, later, type Move, type OpenTask, type Plan, type RunSetup } from "./plan.ts";
import { causeOf, completedLate, type End, unwindingOf } from "./run-ends.ts";
import type { Fact } from "./run-events.ts";
import { abandonedEnd, owedIn, type UnwindingPlan, type UnwindingState, type Unwound } from "./unwinding.ts";

/** How long cancelled tasks get to stop before the run is `cancelled` without them, where the fact does not say. */
const CANCEL_GRACE_MS = 10_000;

/** The timer of a start that lies ahead. */
export const START_TIMER = "start";
const TIMEOUT_TIMER = "timeout";
/** The timer of the time that called-off tasks get to stop. */
export const CANCEL_TIMER = "cancel";

export type SupervisorContext = {
  readonly setup: RunSetup;
  readonly plan: Plan;
  readonly unwinding: UnwindingPlan;
  readonly state: unknown;
  /** Tasks somebody has or should have, by id. */
  readonly open: { readonly [taskId: string]: OpenTask };
  /** Due dates by timer id. */
  readonly timers: { readonly [id: string]: string };
  /** What has to be undone when the run fails, in the order in which it completed. */
  readonly debts: readonly Debt[];
  /** The newest signal taken, by its place in the stream, and how many there were. */
  readonly signals: { readonly seq: number; readonly count: number };
  /** Signals that came before the start, or while tasks of a run that fails are called off. */
  readonly early: readonly SignalFact[];
  readonly end?: End;
  /** How far the run is undone. */
  readonly unwound?: UnwindingState;
  /** The outputs of steps that are taken over of another run; gone once it has begun. */
  readonly reused?: RunSetup["reused"] | undefined;
};

type SignalFact = Fact & { type: "signal.received" };
/** What a plan goes on from. */
type Settling = Exclude<Fact, { type: "run.cancelling" | "run.exceeded" }>;

/**
 * Named signals one run takes. Each is an entry of its journal, and those nobody waits for yet are remembered; a run that is
 * sent more is sent them by mistake.
 */
export const MAX_SIGNALS = 1_000;

/** Names for what the host does; the machine itself never runs them. */
const performedByHost = <Input>() =>
  fromPromise<void, Input>(() => Promise.reject(new Error("supervisors are interpreted by a run host")));

export const supervisorMachine = setup({
  types: {
    context: {} as SupervisorContext,
    events: {} as Fact,
    emitted: {} as Decision,
    input: {} as Pick<SupervisorContext, "setup" | "plan" | "unwinding" | "reused">,
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
    nothingOpen: ({ context }) => isIdle(context),
    isToBeUndone: ({ context }) => isIdle(context) && context.debts.length > 0,
    isCancelTimerBeforeUndoing: ({ context, event }) =>
      event.type === "timer.fired" && event.data.id === CANCEL_TIMER && context.debts.length > 0,
    /** Whether anything is to follow the failure; a task at work may still complete, and then has to be undone. */
    hasConsequences: ({ context: { end, debts, open, unwinding } }) =>
      end?.type === "fail" &&
      (unwinding.hasOnFailure || debts.length > 0 || Object.values(open).some(({ owes }) => owes)),
    isUnwound: ({ context }) => context.unwound?.isOver === true,
    isUnwoundToFailure: ({ context: { unwound, end } }) => unwound?.isOver === true && end?.type === "fail",
    isForced: ({ event }) => event.type === "run.cancelling" && event.data.force === true,
  },
  actions: {
    setStartTimer: enqueueActions(({ context, enqueue }) => {
      const dueAt = context.setup.request.notBefore as string;
      enqueue.assign({ timers: { ...context.timers, [START_TIMER]: dueAt } });
      enqueue.emit({ type: "timer.set", data: { id: START_TIMER, dueAt } });
      enqueue.spawnChild("timer", { id: timerChild(START_TIMER), input: { id: START_TIMER, dueAt } });
    }),
    begin: enqueueActions(({ context: { early, reused, ...context }, event, enqueue }) => {
      const { setup, plan } = context;
      const deadline = deadlineOf(setup);
      if (reused) enqueue.assign({ reused: undefined });
      const timeout: Move[] = deadline ? [{ type: "timer", id: TIMEOUT_TIMER, dueAt: deadline }] : [];
      let { state, moves } = plan.begin(reused ? { ...setup, reused } : setup, instantOf(context, event));
      for (const fact of early) {
        const next = plan.proceed(setup, state, fact, undefined);
        state = next.state;
        moves = [...moves, ...next.moves];
      }
      perform({ ...context, early: [], state, timers: {} }, [...timeout, ...moves], enqueue);
    }),
    proceed: enqueueActions(({ context, event, enqueue }) => {
      if (event.type === "run.cancelling" || event.type === "run.exceeded") return;
      stopSettled(event, enqueue);
      const { state, moves } = context.plan.proceed(context.setup, context.state, event, openFor(context, event));
      perform({ ...closed(context, event), state }, moves, enqueue);
    }),
    /** Keeps a signal that came before what may wait for it has begun. */
    keepSignal: enqueueActions(({ context, event, enqueue }) => {
      assertEvent(event, "signal.received");
      enqueue.assign({ ...closed(context, event), early: [...context.early, event] });
    }),
    /** Takes note of a task that ended after it was called off. */
    close: enqueueActions(({ context, event, enqueue }) => {
      const late = completedLate(context, event);
      for (const { step, taskId } of late) {
        enqueue.emit({ type: "step.completed", data: { step, ...(taskId !== undefined && { taskId }) } });
      }
      enqueue.assign({ ...closed(context, event), ...(late.length > 0 && { debts: [...context.debts, ...late] }) });
    }),
    timeOut: enqueueActions(({ context, enqueue }) => {
      const after = context.setup.request.timeoutMs;
      enqueue.assign({
        end: { type: "fail", error: { code: "timeout", message: `the run took longer than ${after} ms` } },
      });
    }),
    /** Ends the run now, whatever is still owed. */
    abandon: enqueueActions(({ context, event, enqueue }) => {
      const { debts, end, unwound } = context;
      const owed = owedIn(debts, unwound);
      if (owed.length > 0) enqueue.emit({ type: "compensation.abandoned", data: { steps: owed } });
      enqueue.assign({ end: abandonedEnd(causeOf(event, end), owed, unwound) });
    }),
    startFailing: enqueueActions(({ context, event, enqueue }) => {
      if (context.end?.type !== "fail") return;
      enqueue.emit({ type: "run.failing", data: { error: context.end.error } });
      waitForTasks(context, later(instantOf(context, event), CANCEL_GRACE_MS), enqueue);
    }),
    unwind: enqueueActions(({ context, event, enqueue }) => {
      // Tasks that did not stop in time are nobody's any more.
      const at = instantOf(context, event);
      const begun = context.unwinding.begin(unwindingOf(context), at, context.early);
      unwound({ ...context, early: [], open: {}, timers: {} }, begun, enqueue);
    }),
    unwindOn: enqueueActions(({ context, event, enqueue }) => {
      if (event.type === "run.cancelling" || event.type === "run.exceeded" || !context.unwound) return;
      stopSettled(event, enqueue);
      const undone = context.unwinding.proceed(unwindingOf(context), context.unwound, event, openFor(context, event));
      unwound(closed(context, event), undone, enqueue);
    }),
    stopTasks: enqueueActions(({ context, enqueue }) => {
      for (const taskId of Object.keys(context.open)) enqueue.stopChild(taskId);
    }),
    cancel: enqueueActions(({ context, event, enqueue }) => {
      assertEvent(event, "run.cancelling");
      enqueue.assign({ end: causeOf(event, undefined) });
      waitForTasks(context, later(event.at, event.data.graceMs ?? CANCEL_GRACE_MS), enqueue);
    }),
    sayCompleted: enqueueActions(({ context, enqueue }) => {
      if (context.end?.type === "complete")
        enqueue.emit({ type: "run.completed", data: { output: context.end.output } });
    }),
    sayFailed: enqueueActions(({ context, enqueue }) => {
      if (context.end?.type === "fail") enqueue.emit({ type: "run.failed", data: { error: context.end.error } });
    }),
    sayCancelled: enqueueActions(({ context: { end }, enqueue }) => {
      const reason = end?.type === "cancel" ? end.reason : undefined;
      enqueue.emit({ type: "run.cancelled", data: reason === undefined ? {} : { reason } });
    }),
  },
}).createMachine({
  id: "supervisor",
  context: ({ input }) => ({
    ...input,
    state: undefined,
    open: {},
    timers: {},
    signals: { seq: 0, count: 0 },
    early: [],
    debts: [],
  }),
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
        "signal.received": { actions: "keepSignal" },
        "run.cancelling": { target: "cancelling", actions: "cancel" },
        "run.exceeded": "abandoning",
      },
    },
    running: {
      entry: "begin",
      always: [
        { guard: "isComplete", target: "completed" },
        { guard: "hasConsequences", target: "failing" },
        { guard: "isFailed", target: "failed" },
      ],
      on: {
        "task.settled": { guard: "concernsOpenTask", actions: "proceed" },
        "agent.handoff": { guard: "concernsOpenTask", actions: "proceed" },
        "timer.fired": [
          { guard: "isTimeout", actions: "timeOut" },
          { guard: "concernsSetTimer", actions: "proceed" },
        ],
        "signal.received": { actions: "proceed" },
        "run.cancelling": [
          { guard: "isForced", target: "abandoning" },
          { target: "cancelling", actions: "cancel" },
        ],
        "run.exceeded": "abandoning",
      },
    },
    failing: {
      entry: ["startFailing", "stopTasks"],
      always: { guard: "nothingOpen", target: "unwinding" },
      on: {
        "task.settled": { guard: "concernsOpenTask", actions: "close" },
        "agent.handoff": { guard: "concernsOpenTask", actions: "close" },
        "timer.fired": { guard: "isCancelTimer", target: "unwinding" },
        "signal.received": { actions: "keepSignal" },
        "run.cancelling": { guard: "isForced", target: "abandoning" },
        "run.exceeded": "abandoning",
      },
    },
    cancelling: {
      entry: "stopTasks",
      always: [
        { guard: "isToBeUndone", target: "unwinding" },
        { guard: "nothingOpen", target: "cancelled" },
      ],
      on: {
        "task.settled": { guard: "concernsOpenTask", actions: "close" },
        "agent.handoff": { guard: "concernsOpenTask", actions: "close" },
        "timer.fired": [
          { guard: "isCancelTimerBeforeUndoing", target: "unwinding" },
          { guard: "isCancelTimer", target: "cancelled" },
        ],
        "run.cancelling": { guard: "isForced", target: "abandoning" },
        "run.exceeded": "abandoning",
      },
    },
    unwinding: {
      entry: "unwind",
      always: [
        { guard: "isUnwoundToFailure", target: "failed" },
        { guard: "isUnwound", target: "cancelled" },
      ],
      on: {
        "task.settled": { guard: "concernsOpenTask", actions: "unwindOn" },
        "agent.handoff": { guard: "concernsOpenTask", actions: "unwindOn" },
        "timer.fired": { guard: "concernsSetTimer", actions: "unwindOn" },
        "signal.received": { actions: "unwindOn" },
        "run.cancelling": { guard: "isForced", target: "abandoning" },
        "run.exceeded": "abandoning",
      },
    },
    abandoning: {
      entry: ["stopTasks", "abandon"],
      always: [{ guard: "isFailed", target: "failed" }, { target: "cancelled" }],
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
  if (fact.type === "signal.received") {
    return { ...context, signals: { seq: fact.data.seq, count: context.signals.count + 1 } };
  }
  // A rest of hundreds of open tasks is five times as slow.
  const open = { ...context.open };
  delete open[fact.data.taskId];
  return { ...context, open };
}

/** When what is decided on happened: no fact led to a run's first entry. */
function instantOf({ setup }: Pick<SupervisorContext, "setup">, event: object): string {
  return (event as Partial<Fact>).at ?? setup.acceptedAt;
}

/** The task that a fact is about, as it was before. */
function openFor({ open }: SupervisorContext, { data }: Settling): OpenTask | undefined {
  return "taskId" in data ? open[data.taskId] : undefined;
}

/** Stops the task that has ended; also a timer that has fired: what is done with is not remembered. */
function stopSettled({ type, data }: Settling, enqueue: Enqueue): void {
  if (type === "timer.fired") enqueue.stopChild(timerChild(data.id));
  else if (type !== "signal.received") enqueue.stopChild(data.taskId);
}

function isIdle({ open }: SupervisorContext): boolean {
  return Object.keys(open).length === 0;
}

/** Gives tasks that are called off until `dueAt`; no other timer matters any more. */
function waitForTasks(context: SupervisorContext, dueAt: string, enqueue: Enqueue): void {
  const isWaiting = !isIdle(context);
  enqueue.assign({ timers: isWaiting ? { [CANCEL_TIMER]: dueAt } : {} });
  if (!isWaiting) return;
  enqueue.emit({ type: "timer.set", data: { id: CANCEL_TIMER, dueAt } });
  enqueue.spawnChild("timer", { id: timerChild(CANCEL_TIMER), input: { id: CANCEL_TIMER, dueAt } });
}

function unwound(context: SupervisorContext, { state, moves, end }: Unwound, enqueue: Enqueue): void {
  perform(context, moves, enqueue);
  enqueue.assign({ unwound: state, ...(end && { end }) });
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
  const owed: Debt[] = [];
  let end = context.end;
  for (const move of moves) {
    switch (move.type) {
      case "ask": {
        const { task, step } = move.open;
        const { taskId, agent, attempt, kind, childId } = task;
        open[taskId] = move.open;
        const whose = { agent, ...(kind && { kind }), ...(childId && { childId }) };
        enqueue.emit({ type: "task.sent", data: { taskId, ...whose, ...(step && { step }), attempt, delivery: 1 } });
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
        if (timer !== undefined && Object.hasOwn(timers, timer)) {
          delete timers[timer];
          enqueue.stopChild(timerChild(timer));
        }
        break;
      }
      case "clear":
        if (!Object.hasOwn(timers, move.id)) break;
        delete timers[move.id];
        enqueue.emit({ type: "timer.cleared", data: { id: move.id } });
        enqueue.stopChild(timerChild(move.id));
        break;
      case "say":
        enqueue.emit(move.event);
        break;
      case "owe":
        owed.push(move.debt);
        break;
      case "complete":
      case "fail":
        end ??= move;
        break;
      default:
        move satisfies never;
    }
  }
  // A run may owe thousands.
  const debts = owed.length === 0 ? context.debts : [...context.debts, ...owed];
  const { state, signals, early } = context;
  enqueue.assign({ state, signals, early, open, timers, debts, ...(end && { end }) });
}
