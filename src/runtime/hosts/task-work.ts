/**
 * One task at this host, from its arrival until its outcome is taken.
 *
 *   recalling ──▶ offered ──▶ waiting ──▶ running ──▶ reporting ──▶ (gone)
 *       └──────────────┴──────────┴──────────┴──▶ (gone: refused, abandoned)
 */
import type { Agent } from "../../actors/agent.ts";
import type { Task } from "../../actors/task.ts";
import type { SegmentContext } from "../../tracing/tracing.ts";
import type { TaskJournal } from "./task-journal.ts";

export type TaskWork = {
  /** A token of the host's own: the agent actor and the control inbox know the task by it. */
  readonly id: string;
  /** The same for every delivery of the task. */
  readonly key: string;
  /** Its large values may be elsewhere while it is recalled. */
  task: Task;
  readonly agent: Agent;
  readonly startedAt: number;
  phase: "recalling" | "offered" | "waiting" | "running" | "reporting";
  /** The newest delivery that came; leaves and answers belong to it. */
  delivery: number;
  /** Where its owner listens; a new owner listens elsewhere. */
  reply: string | undefined;
  segment: SegmentContext;
  /** The segment's leaves are held back until the run's journal knows the task. */
  held: boolean;
  journal: TaskJournal;
  toolCalls: number;
  /** It may have been begun elsewhere, and has a journal to be looked into. */
  readonly recalled: boolean;
  /** How often it was begun elsewhere, or in a life before, without anything coming of it. */
  begunInVain: number;
  /** Calls of tools with the effect `once` that a worker before was about to make; see `call-marks.ts`. */
  calling?: ReadonlySet<string>;
  /** Its mark in the journal, where it needs one; see `beginnings.ts`. */
  marking?: Promise<void>;
  /** Lets the next suspect begin. */
  passOn?: () => void;
  /** Its owner was told that it is here. */
  acknowledged?: true;
  timer?: NodeJS.Timeout;
  /** Why its model call waits, or did: what the provider failed with. Gone once there is a reply. */
  providerDown?: string | undefined;
  /** Called when `reply` changes, by whoever waits for an answer there. */
  onMoved?: () => void;
};

/** What identifies a task: ids of tasks are unique in their run only. */
export function taskKey(runId: string, taskId: string): string {
  return `${runId}.${taskId}`;
}

/** setTimeout takes 32 bits; beyond that it would fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** How long a task that begins at `now` may take, and what to say when that is over. */
export function timeLeft(
  { task, agent }: Pick<TaskWork, "task" | "agent">,
  now: number,
): { ms: number; message: string } {
  const own = task.timeoutMs ?? agent.timeoutMs;
  const left = task.deadline === undefined ? Number.POSITIVE_INFINITY : Date.parse(task.deadline) - now;
  const ms = Math.max(0, Math.min(own, left, LONGEST_TIMER_MS));
  return own <= left
    ? { ms, message: `${agent.name} did not finish within ${own} ms` }
    : { ms, message: `the run's deadline ${task.deadline} has passed` };
}
