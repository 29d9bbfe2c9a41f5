/**
 * What a run took, in sum and by step: time, attempts, model calls, tokens, tool calls, money. Folded from the journal, never stored.
 */
import type { TaskUsage } from "../actors/task.ts";
import { sumUsage } from "../actors/usage.ts";
import { COMPENSATE } from "./debt.ts";
import type { RunEvent, StepWorker } from "./run-events.ts";
import { advanceStanding, initialStanding, type RunStatus } from "./run-status.ts";
import { CANCEL_TIMER } from "./supervisor-machine.ts";

/** What something took that tasks were sent for. */
type Taken = TaskUsage & {
  /** Attempts begun. */
  attempts: number;
  /** Attempts after a failed one. */
  retries: number;
  /** Tasks sent again because their worker was lost. */
  lost: number;
  /** How long tasks were out, in milliseconds; those side by side count each. */
  workMs: number;
  toolCalls: number;
  totalTokens: number;
};

/** One step; in handoff runs one task. */
export type StepMetrics = Taken & {
  id: string;
  /** Whose it is, where somebody is asked: an agent's name, or that of what `kind` says. */
  agent?: string;
  /** Absent where it is an agent's, and where it holds others. */
  kind?: NonNullable<StepWorker["kind"]>;
  /** From its start to its end or, where it has not ended, to the newest event; in milliseconds. */
  durationMs: number;
};

export type RunMetrics = Taken & {
  runId: string;
  workflow: string;
  status: RunStatus;
  /** From its acceptance to its end or, where it has not ended, to the newest event; in milliseconds. */
  durationMs: number;
  /** How much of that it waited for its first step to begin. */
  pendingMs: number;
  handoffs: number;
  /** Claims after the first: how often another life of a daemon took it over. */
  takeovers: number;
  steps: StepMetrics[];
};

type OpenTask = { step: StepMetrics; sentMs: number };

const NOTHING: Taken = {
  attempts: 0,
  retries: 0,
  lost: 0,
  workMs: 0,
  modelCalls: 0,
  toolCalls: 0,
  inputTokens: 0,
  outputTokens: 0,
  totalTokens: 0,
};

/** Folds a run's events, all from the first on, into its metrics; undefined where there are none. */
export function runMetrics(events: readonly RunEvent[]): RunMetrics | undefined {
  const [first] = events;
  const last = events.at(-1);
  if (first?.type !== "run.accepted" || !last) return undefined;
  const acceptedMs = Date.parse(first.at);
  const lastMs = Date.parse(last.at);
  const standing = initialStanding();
  advanceStanding(standing, events);
  const run: RunMetrics = {
    runId: first.runId,
    workflow: first.data.workflow,
    status: standing.status,
    durationMs: lastMs - acceptedMs,
    pendingMs: lastMs - acceptedMs,
    ...NOTHING,
    handoffs: 0,
    takeovers: 0,
    steps: [],
  };
  const steps = new Map<string, { metrics: StepMetrics; startMs: number; endMs?: number }>();
  const open = new Map<string, OpenTask>();
  for (const event of events) take(event);
  for (const { metrics, startMs, endMs = lastMs } of steps.values()) metrics.durationMs = endMs - startMs;
  for (const task of open.values()) work(task, lastMs);
  run.steps = [...steps.values()].map(({ metrics }) => metrics);
  return run;

  function take(event: RunEvent) {
    const atMs = Date.parse(event.at);
    switch (event.type) {
      case "run.claimed":
        if (event.n > 2) run.takeovers += 1;
        break;
      case "step.started":
        stepOf(event.data.step, event.data, atMs);
        break;
      case "task.sent": {
        const { step = event.data.taskId, taskId, attempt, delivery } = event.data;
        const metrics = stepOf(step, event.data, atMs);
        if (delivery > 1) for (const taken of [run, metrics]) taken.lost += 1;
        else for (const taken of [run, metrics]) taken.attempts += 1;
        if (attempt > 1 && delivery === 1) for (const taken of [run, metrics]) taken.retries += 1;
        if (!open.has(taskId)) open.set(taskId, { step: metrics, sentMs: atMs });
        break;
      }
      case "task.settled":
        settle(event.data.taskId, event.data.outcome.usage, atMs);
        break;
      case "agent.handoff":
        run.handoffs += 1;
        settle(event.data.taskId, event.data.usage, atMs);
        end(event.data.taskId, atMs);
        break;
      case "step.completed":
      case "step.failed":
      case "step.cancelled": {
        const { step, taskId } = event.data;
        // Nobody hears any more of what it takes.
        if (taskId !== undefined) settle(taskId, undefined, atMs);
        end(step, atMs);
        break;
      }
      case "compensation.completed":
      case "compensation.failed":
        end(event.data.step + COMPENSATE, atMs);
        break;
      case "timer.fired":
        if (event.data.id === CANCEL_TIMER) for (const taskId of [...open.keys()]) settle(taskId, undefined, atMs);
        break;
      default:
        break;
    }
  }

  function stepOf(id: string, { agent, kind }: StepWorker, atMs: number): StepMetrics {
    const known = steps.get(id);
    if (known) return known.metrics;
    if (steps.size === 0) run.pendingMs = atMs - acceptedMs;
    const whose = { ...(agent !== undefined && { agent }), ...(kind && { kind }) };
    const metrics: StepMetrics = { id, ...whose, durationMs: 0, ...NOTHING };
    steps.set(id, { metrics, startMs: atMs });
    return metrics;
  }

  function settle(taskId: string, usage: TaskUsage | undefined, atMs: number) {
    const task = open.get(taskId);
    if (!task) return;
    open.delete(taskId);
    work(task, atMs);
    // A task of a handoff run is its own step.
    if (task.step.id === taskId) end(taskId, atMs);
    if (usage) for (const taken of [run, task.step]) count(taken, usage);
  }

  function work({ step, sentMs }: OpenTask, untilMs: number) {
    for (const taken of [run, step]) taken.workMs += untilMs - sentMs;
  }

  function end(id: string, atMs: number) {
    const step = steps.get(id);
    if (step) step.endMs ??= atMs;
  }
}

function count(taken: Taken, usage: TaskUsage) {
  Object.assign(taken, sumUsage(taken, usage));
  taken.totalTokens += usage.inputTokens + usage.outputTokens;
}
