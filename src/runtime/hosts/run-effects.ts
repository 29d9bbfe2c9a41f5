/**
 * What one run has going on in the world: its tasks at the desk and its timers on the clock. Performs what the supervisor
 * wants done, and hears what becomes of it.
 *
 * Only what is in the journal comes here (R1 in `active-run.ts`); what is heard goes back there as a happening.
 */
import type { Task, TaskControl } from "../../actors/task.ts";
import { toErrorRecord } from "../../errors.ts";
import type { Metrics } from "../../tracing/metrics.ts";
import { formatTraceparent } from "../../tracing/traceparent.ts";
import type { RunProjection } from "../../tracing/tracing.ts";
import { childRunIdOf } from "../../workflows/child-run-id.ts";
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import { isInstantTimer } from "../../workflows/outside-waits.ts";
import type { OpenTask } from "../../workflows/plan.ts";
import type { RunEvent } from "../../workflows/run-events.ts";
import { type Effect, isCallingOff, isDone, isEnding, type SupervisorSnapshot } from "../../workflows/supervisor.ts";
import { CANCEL_TIMER, START_TIMER, timerChild } from "../../workflows/supervisor-machine.ts";
import type { ChildRuns } from "./child-runs.ts";
import type { Clock } from "./clock.ts";
import { taskFailed, taskStopped } from "./outcome-fact.ts";
import type { Happening, Resent, Sendings } from "./run-draft.ts";
import { keepStepTimes } from "./step-times.ts";
import type { TaskDesk } from "./task-desk.ts";
import { isAhead } from "./task-hops.ts";
import type { Holder } from "./tracked-task.ts";

export type RunEffectsOptions = {
  runId: string;
  definition: WorkflowDefinition;
  projection: RunProjection;
  desk: TaskDesk;
  children: Pick<ChildRuns, "start" | "cancel">;
  clock: Clock;
  metrics: Metrics;
  /** How often each open task was sent, where the run is taken over. */
  sendings: ReadonlyMap<string, Sendings> | undefined;
  /** The run's time, which never runs backwards, in milliseconds since the epoch. */
  now: () => number;
  /** The supervisor as the journal has it. */
  snapshot: () => SupervisorSnapshot | undefined;
  happen: (happening: Happening) => void;
};

export type RunEffects = {
  /** How often each open task was sent, where that is not once. */
  readonly sendings: ReadonlyMap<string, Sendings>;
  perform(effect: Effect): void;
  /** Sends a task again under its new delivery. */
  resend(again: Resent): void;
  /** Asks once more for the run that a task of kind `workflow` is; in a run whose tasks are called off it counts as stopped instead. */
  askAgain(taskId: string): void;
  /** Sets the timers a takeover found in the journal. */
  resumeTimers(): void;
  /** The context a task travels with. */
  traceparent(taskId: string): string;
  /** Whether every open task waits for a worker. */
  allWait(): boolean;
  /** Measures the tasks that these events settle, leaves them, and calls off those they hand over to in vain. */
  recorded(events: readonly RunEvent[]): void;
  /** The desk: a worker has the task. */
  accepted(taskId: string, worker: string | undefined): void;
  /** The desk: nobody serves the task's agent. */
  unserved(taskId: string): void;
  /** The desk: the broker does not carry the task. */
  unsendable(taskId: string, error: unknown): void;
  /** The desk: a worker has a task that was not sent from here. */
  stray(taskId: string, holder: Holder): void;
  /** Forgets everything; a run that has `ended` also tells workers at tasks it never came to. */
  close(ended: boolean): void;
};

/** How the children begin that are timers. */
const TIMER_CHILD = timerChild("");

/** Opens what a run has going on. */
export function openRunEffects(options: RunEffectsOptions): RunEffects {
  const { runId, definition, projection, desk, children, clock, metrics, snapshot, happen } = options;
  const sendings = new Map(options.sendings);
  const timers = new Map<string, () => void>();
  /** Workers at work on a handed-off task whose handoff is not on record yet. */
  const early = new Map<string, Holder>();
  const waiting = new Set<string>();
  /** Tasks whose worker was told to stop. */
  const calledOff = new Set<string>();
  const times = keepStepTimes(definition.name, clock, metrics);

  return {
    sendings,
    perform(effect) {
      switch (effect.type) {
        case "askAgent":
          return ask(effect.open);
        case "timer":
          return setTimer(effect.id, effect.dueAt);
        case "stop":
          return stop(effect.child);
        default:
          effect satisfies never;
      }
    },
    resend({ task, silences }) {
      metrics.segmentLost(task.agent);
      // Lost and over within one batch.
      if (!isWanted(task.taskId)) return;
      sendings.set(task.taskId, { delivery: task.delivery, silences });
      desk.send(task, traceparent(task.taskId));
    },
    askAgain(taskId) {
      const task = openTask(taskId);
      if (!task) return;
      if (isCalledOff()) happen({ type: "fact", body: taskStopped(taskId, task.agent) });
      else startChild(task);
    },
    resumeTimers() {
      for (const [id, dueAt] of Object.entries(snapshot()?.context.timers ?? {})) setTimer(id, dueAt);
    },
    traceparent,
    allWait: () => openTaskIds().every((taskId) => waiting.has(taskId) || openTask(taskId)?.kind === "workflow"),
    recorded(events) {
      times.recorded(events);
      for (const { type, data } of events) if (type === "step.cancelled") callOff(data);
      // The run goes on to be undone without those that have not stopped.
      if (events.some(({ type, data }) => type === "timer.fired" && data.id === CANCEL_TIMER)) calledOff.forEach(leave);
      const ended = events.filter((event) => event.type === "task.settled" || event.type === "agent.handoff");
      for (const { type, data } of ended) {
        // The chart stopped it when it was called off, and stops nothing twice.
        if (isEnding(snapshot()?.value)) leave(data.taskId);
        if (type !== "agent.handoff") continue;
        // Sent by its worker, and the run is being cancelled: who has it answers to an owner that may be gone.
        const { taskId, forwarded } = data.next;
        const hasEnded = ended.some((event) => event.data.taskId === taskId);
        if (forwarded && !hasEnded && !openTask(taskId)) desk.callOff(runId, taskId);
      }
    },
    accepted(taskId, worker) {
      if (isCalledOff()) return cancelTask(taskId);
      if (!waiting.delete(taskId)) return;
      happen({
        type: "note",
        body: { type: "task.accepted", data: { taskId, ...(worker !== undefined && { worker }) } },
      });
    },
    unserved(taskId) {
      const task = openTask(taskId);
      if (!task || waiting.has(taskId)) return;
      waiting.add(taskId);
      const reason = `no worker serves ${task.kind ?? "agent"} ${task.agent}`;
      happen({ type: "note", body: { type: "task.waiting", data: { taskId, agent: task.agent, reason } } });
    },
    unsendable(taskId, error) {
      const task = openTask(taskId);
      if (!task) return;
      const record = { ...toErrorRecord(error), retryable: false };
      happen({ type: "fact", body: taskFailed(taskId, task.agent, record) });
    },
    stray(taskId, holder) {
      // It was taken for lost, and is about to be sent again: whoever takes it then goes on from what is on record.
      if (openTask(taskId) && !isCalledOff()) return;
      if (isAhead(definition, snapshot(), taskId) && !isCalledOff()) early.set(taskId, holder);
      else desk.tellHolder(holder, notWaitedFor(taskId));
    },
    close(ended) {
      for (const cancel of timers.values()) cancel();
      timers.clear();
      for (const taskId of openTaskIds()) desk.forget(runId, taskId);
      // Tasks of handoffs that never came on record are nobody's.
      if (ended) for (const [taskId, holder] of early) desk.tellHolder(holder, notWaitedFor(taskId));
    },
  };

  function ask({ task, step, forwarded }: OpenTask) {
    const holder = early.get(task.taskId);
    early.delete(task.taskId);
    // Decided and over within one batch.
    if (!isWanted(task.taskId)) return;
    times.sent(task.taskId, step);
    if (task.kind === "workflow") startChild(task);
    else if (forwarded) desk.expect(task, traceparent(task.taskId), holder);
    else desk.send(task, traceparent(task.taskId));
  }

  /** The run goes on without it: who has it is told so here, and who takes it from now on is a stray. */
  function callOff({ taskId, kind }: Extract<RunEvent, { type: "step.cancelled" }>["data"]) {
    if (taskId === undefined) return;
    if (kind === "workflow") children.cancel(childRunIdOf(runId, taskId), `its parent run ${runId} goes on without it`);
    else desk.tell(runId, notWaitedFor(taskId));
  }

  function startChild(task: Task) {
    const setup = snapshot()?.context.setup;
    const step = snapshot()?.context.open[task.taskId]?.step ?? "";
    if (!setup) return;
    const { sessionId, userId, parent } = setup.request;
    children.start(task, {
      parent: { runId, step, taskId: task.taskId, depth: (parent?.depth ?? 0) + 1 },
      traceparent: traceparent(task.taskId),
      ...(sessionId !== undefined && { sessionId }),
      ...(userId !== undefined && { userId }),
    });
  }

  function stop(child: string) {
    if (child.startsWith(TIMER_CHILD)) return clearTimer(child.slice(TIMER_CHILD.length));
    const now = snapshot();
    if (now && openTask(child)) {
      cancelTask(child);
      // A run that has ended waits for nobody.
      if (isDone(now)) desk.forget(runId, child);
      return;
    }
    leave(child);
  }

  /** Nobody has to look after it any more. */
  function leave(taskId: string) {
    waiting.delete(taskId);
    calledOff.delete(taskId);
    sendings.delete(taskId);
    times.forget(taskId);
    desk.forget(runId, taskId);
  }

  /** Tells the worker; where nobody has the task it has stopped already. */
  function cancelTask(taskId: string) {
    calledOff.add(taskId);
    const childId = openTask(taskId)?.childId;
    // Its end settles the task.
    if (childId !== undefined) return children.cancel(childId, `its parent run ${runId} is over or being cancelled`);
    if (desk.tell(runId, { type: "cancel", taskId, reason: "the run is being cancelled" })) return;
    // It may be in a worker's hands without our knowing yet; then the worker is told when it says so.
    if (desk.withdraw(runId, taskId)) return;
    const task = openTask(taskId);
    if (task) happen({ type: "fact", body: taskStopped(taskId, task.agent) });
  }

  function clearTimer(id: string) {
    timers.get(id)?.();
    timers.delete(id);
  }

  function setTimer(id: string, dueAt: string) {
    timers.get(id)?.();
    const due = Date.parse(dueAt);
    const fire = () => {
      timers.delete(id);
      const isSet = Object.hasOwn(snapshot()?.context.timers ?? {}, id);
      if (isSet) happen({ type: "fact", body: { type: "timer.fired", data: { id } } });
    };
    // Some are asked for by the clock on the wall. All others are durations, which go on when that clock is set back.
    const isInstant = id === START_TIMER || isInstantTimer(id);
    timers.set(id, clock.at(due, fire, isInstant ? undefined : Math.max(0, due - options.now())));
  }

  function traceparent(taskId: string): string {
    return formatTraceparent(projection.segment(taskId, sendings.get(taskId)?.delivery ?? 1));
  }

  function openTaskIds(): string[] {
    return Object.keys(snapshot()?.context.open ?? {});
  }

  function openTask(taskId: string): Task | undefined {
    const open = snapshot()?.context.open;
    return open && Object.hasOwn(open, taskId) ? open[taskId]?.task : undefined;
  }

  /** A run that has failed still knows what was open then. */
  function isWanted(taskId: string): boolean {
    const now = snapshot();
    return now !== undefined && !isDone(now) && openTask(taskId) !== undefined;
  }

  function isCalledOff(): boolean {
    return isCallingOff(snapshot()?.value);
  }
}

function notWaitedFor(taskId: string): TaskControl {
  return { type: "cancel", taskId, reason: "the run does not wait for this task" };
}
