/**
 * Where a run stands, folded from its journal: the one definition of a run's status. The record people read and the index
 * both carry it.
 */
import { isTerminal, type NamedKind, type RunEvent } from "./run-events.ts";

/** `pending → running ⇄ waiting → completed | failed | cancelled`, with `failing` and `cancelling` on the way. */
export type RunStatus =
  | "pending"
  | "running"
  | "waiting"
  | "failing"
  | "cancelling"
  | "completed"
  | "failed"
  | "cancelled";

export const RUN_STATUSES: readonly RunStatus[] = [
  "pending",
  "running",
  "waiting",
  "failing",
  "cancelling",
  "completed",
  "failed",
  "cancelled",
];

/** A task somebody has or should have, or a step that waits for something from outside. */
export type CurrentWork = CurrentTask | CurrentWait;

type CurrentTask = {
  taskId: string;
  agent: string;
  kind?: NamedKind;
  /** The child run, of a task of kind `workflow`. */
  runId?: string;
  /** The step it is an attempt at; absent in handoff runs. */
  step?: string;
  attempt: number;
  /** When it was first sent. */
  since: string;
  /** What it waits for, in words; absent while it is at work. */
  waitingFor?: string;
};

type CurrentWait = {
  taskId?: never;
  agent?: never;
  step: string;
  since: string;
  /** What it waits for, in words. */
  waitingFor: string;
  /** When it ends by itself. */
  dueAt?: string;
} & (
  | { kind: "approval"; title: string; prompt?: string; choices: string[]; assignees?: string[] }
  | { kind: "wait"; signal?: string }
);

type RunOwner = { host: string; incarnation: string; epoch: number };

/** Plain data, so that it can be stored and gone on from. */
export type RunStanding = {
  status: RunStatus;
  /** Why nothing happens, in words; present while the status is `waiting`, or while what undoes the run waits for a worker. */
  waitingFor?: string;
  /** Why no daemon can continue the run. */
  parked?: string;
  /** Who wrote the last claim. */
  owner?: RunOwner;
  current: CurrentWork[];
  /** What the clock is watched for. */
  timers: { id: string; dueAt: string }[];
};

/** The timer of how long a group may take; with its path. */
const GROUP_TIMER = "timeout.";

/** The timer that holds a run back until its `notBefore`. */
const START_TIMER = "start";
/** The timer of the time that called-off tasks get to stop. */
const CANCEL_TIMER = "cancel";

/** Where a run stands before its first event. */
export function initialStanding(): RunStanding {
  return { status: "running", current: [], timers: [] };
}

/** Whether a run with this status is over. */
export function isOver(status: RunStatus): status is "completed" | "failed" | "cancelled" {
  return status === "completed" || status === "failed" || status === "cancelled";
}

/** The earliest instant the clock is watched for. */
export function wakeAtOf({ timers }: RunStanding): string | undefined {
  return timers.reduce<string | undefined>(
    (first, { dueAt }) => (first === undefined || dueAt < first ? dueAt : first),
    undefined,
  );
}

/** Whether it waits for nothing but its time, or a message from outside. */
export function isResting({ status, current, timers, parked }: RunStanding): boolean {
  if (isOver(status) || parked !== undefined) return false;
  return current.every(({ taskId }) => taskId === undefined) && current.length + timers.length > 0;
}

/** Moves `standing` on by events of its journal, in place. */
export function advanceStanding(standing: RunStanding, events: readonly RunEvent[]): void {
  for (const event of events) {
    // A run ends once; nothing after its end counts.
    if (isOver(standing.status)) return;
    take(standing, event);
  }
  if (!isOver(standing.status)) settleStatus(standing);
}

function take(standing: RunStanding, event: RunEvent): void {
  switch (event.type) {
    case "run.claimed":
      standing.owner = { host: event.data.host, incarnation: event.data.incarnation, epoch: event.epoch };
      // Whoever claims a parked run means to continue it; if it cannot, it says so again.
      delete standing.parked;
      break;
    case "run.parked":
      standing.parked = event.data.reason;
      break;
    case "run.failing":
    case "run.cancelling":
      // It fails or is cancelled once; no timer it had matters any more.
      if (!isEnding(standing.status)) standing.status = event.type === "run.failing" ? "failing" : "cancelling";
      standing.timers = [];
      // Nothing from outside is waited for any more.
      standing.current = standing.current.filter(({ taskId }) => taskId !== undefined);
      break;

    case "task.sent":
      sent(standing, event.data, event.at);
      break;
    case "task.waiting": {
      const task = standing.current.find(({ taskId }) => taskId === event.data.taskId);
      if (task) task.waitingFor = event.data.reason;
      break;
    }
    case "task.accepted": {
      const task = standing.current.find(({ taskId }) => taskId === event.data.taskId);
      if (task?.taskId !== undefined) delete task.waitingFor;
      break;
    }
    case "task.settled":
    case "agent.handoff":
      standing.current = standing.current.filter(({ taskId }) => taskId !== event.data.taskId);
      if (isEnding(standing.status) && standing.current.length === 0) clear(standing, CANCEL_TIMER);
      break;
    case "step.completed":
    case "step.failed":
      // A group that has ended has its time no more.
      if (standing.timers.length > 0) {
        standing.timers = standing.timers.filter(({ id }) => id !== `${GROUP_TIMER}${event.data.step}`);
      }
      // The others end with their task.
      if (standing.current.some((open) => isWaitOf(open, event.data.step)))
        standing.current = standing.current.filter((open) => !isWaitOf(open, event.data.step));
      break;
    case "step.cancelled":
      standing.current = standing.current.filter((open) =>
        open.taskId === undefined ? open.step !== event.data.step : open.taskId !== event.data.taskId,
      );
      standing.timers = standing.timers.filter(({ id }) => id !== event.data.timer);
      break;
    case "timer.set":
      standing.timers = [...standing.timers.filter(({ id }) => id !== event.data.id), { ...event.data }];
      break;
    case "approval.requested": {
      const waitingFor = `approval: ${event.data.title}`;
      standing.current.push({ kind: "approval", ...event.data, since: event.at, waitingFor });
      break;
    }
    case "wait.begun": {
      const { signal, dueAt } = event.data;
      const waitingFor = signal === undefined ? `until ${dueAt}` : `signal ${signal}`;
      standing.current.push({ kind: "wait", ...event.data, since: event.at, waitingFor });
      break;
    }
    case "timer.cleared":
    case "timer.fired":
      clear(standing, event.data.id);
      // What has not stopped in time is not waited for any more.
      if (event.data.id === CANCEL_TIMER) standing.current = [];
      break;
    default:
      if (isTerminal(event.type)) end(standing, event.type);
  }
}

function sent(standing: RunStanding, data: Extract<RunEvent, { type: "task.sent" }>["data"], at: string): void {
  const { taskId, agent, kind, childId, step, attempt } = data;
  const known = standing.current.find((task) => task.taskId === taskId);
  if (known?.taskId !== undefined) {
    delete known.waitingFor;
    return;
  }
  const whose = { agent, ...(kind && { kind }), ...(childId !== undefined && { runId: childId }) };
  standing.current.push({ taskId, ...whose, ...(step !== undefined && { step }), attempt, since: at });
}

function isWaitOf({ taskId, step }: CurrentWork, path: string): boolean {
  return taskId === undefined && step === path;
}

function end(standing: RunStanding, type: "run.completed" | "run.failed" | "run.cancelled"): void {
  standing.status = type === "run.completed" ? "completed" : type === "run.failed" ? "failed" : "cancelled";
  standing.current = [];
  standing.timers = [];
  delete standing.waitingFor;
  delete standing.parked;
}

function settleStatus(standing: RunStanding): void {
  delete standing.waitingFor;
  const { current, parked, timers } = standing;
  const waiting = current.length > 0 && current.every(({ waitingFor }) => waitingFor !== undefined);
  if (isEnding(standing.status)) {
    if (waiting) standing.waitingFor = wordsOf(current);
  } else if (parked !== undefined) {
    standing.status = "waiting";
    standing.waitingFor = parked;
  } else if (timers.some(({ id }) => id === START_TIMER)) {
    standing.status = "pending";
  } else if (waiting) {
    standing.status = "waiting";
    standing.waitingFor = wordsOf(current);
  } else {
    standing.status = "running";
  }
}

function clear(standing: RunStanding, timer: string): void {
  standing.timers = standing.timers.filter(({ id }) => id !== timer);
}

function isEnding(status: RunStatus): boolean {
  return status === "failing" || status === "cancelling";
}

function wordsOf(waiting: readonly CurrentWork[]): string {
  return waiting
    .map((open) => `${open.taskId === undefined ? open.step : `${open.agent} (${open.taskId})`}: ${open.waitingFor}`)
    .join("; ");
}
