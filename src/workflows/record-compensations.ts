/** What a run's record says of the undoing of its steps. */
import type { ErrorRecord } from "../errors.ts";
import { COMPENSATE } from "./debt.ts";
import type { RunEvent } from "./run-events.ts";

/** The undoing of a step that had completed. */
export type CompensationRecord = {
  /** The path of the step that is undone. */
  step: string;
  /** Absent where it was abandoned before it began. */
  agent?: string;
  /** It is a tool that undoes it. */
  kind?: "tool";
  /** `failed` for good; `abandoned` when the run was ended by force, or its journal was full. */
  status: "running" | "retrying" | "completed" | "failed" | "abandoned";
  attempts: number;
  startedAt?: string;
  endedAt?: string;
  output?: unknown;
  /** Of the last attempt that failed. */
  error?: ErrorRecord;
};

type Compensated = {
  compensations: CompensationRecord[];
  current: { taskId?: string; step?: string }[];
};

/** Takes an event into the record where it is about a compensation, and says whether it is that alone. */
export function takeCompensation(run: Compensated, event: RunEvent): boolean {
  switch (event.type) {
    case "compensation.started": {
      const { step, agent, kind } = event.data;
      run.compensations.push({
        step,
        agent,
        ...(kind && { kind }),
        status: "running",
        attempts: 1,
        startedAt: event.at,
      });
      return true;
    }
    case "compensation.completed":
      change(run, event.data.step, { status: "completed", endedAt: event.at });
      return true;
    case "compensation.retrying":
      change(run, event.data.step, { status: "retrying", error: event.data.error });
      return true;
    case "compensation.failed":
      change(run, event.data.step, { status: "failed", endedAt: event.at, error: event.data.error });
      return true;
    case "compensation.abandoned":
      for (const step of event.data.steps) abandon(run, step, event.at);
      return true;
    case "task.sent": {
      const step = undoneBy(event.data.step);
      if (step === undefined) return false;
      change(run, step, { status: "running", attempts: event.data.attempt });
      return true;
    }
    case "task.settled": {
      const { taskId, outcome } = event.data;
      const step = undoneBy(run.current.find((task) => task.taskId === taskId)?.step);
      if (step !== undefined && outcome.type === "completed") change(run, step, { output: outcome.output });
      // Its usage counts as any task's.
      return false;
    }
    default:
      return false;
  }
}

/** The step that a task undoes, by the path of the task's step. */
function undoneBy(path: string | undefined): string | undefined {
  return path?.endsWith(COMPENSATE) ? path.slice(0, -COMPENSATE.length) : undefined;
}

/** One is at work at a time, so it is the newest. */
function change({ compensations }: Compensated, step: string, changes: Partial<CompensationRecord>): void {
  const place = compensations.findLastIndex((row) => row.step === step);
  const before = compensations[place];
  if (!before) return;
  const { error: _error, ...rest } = before;
  compensations[place] = changes.status === "completed" ? { ...rest, ...changes } : { ...before, ...changes };
}

function abandon(run: Compensated, step: string, at: string): void {
  const isBegun = run.compensations.some((row) => row.step === step);
  if (isBegun) change(run, step, { status: "abandoned", endedAt: at });
  else run.compensations.push({ step, status: "abandoned", attempts: 0, endedAt: at });
}
