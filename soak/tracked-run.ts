/** Everything known from outside about one run: what was asked, what the broker keeps, what the model server saw. */
import type { TaskEntry } from "../src/actors/task.ts";
import { isTerminal, type RunEvent } from "../src/workflows/run-events.ts";
import type { Stored } from "../test/helpers/raw-journals.ts";
import type { ModelCall, ToolRunCall } from "./calls.ts";
import type { RunPlan } from "./run-plan.ts";

/** A result as it was told on `replyTo`. */
export type ToldResult = { runId: string; status: string; output?: unknown; error?: { code: string } };

export type TrackedRun = {
  readonly plan: RunPlan;
  /** When the request was first sent, in milliseconds since the epoch; so are the other instants here. */
  readonly askedAt: number;
  /** `notBefore` as it was asked for. */
  readonly notBefore?: string;
  /** When the broker had the request. */
  storedAt?: number;
  /** When a cancel was first sent, and when the API or the broker had it. */
  cancelAskedAt?: number;
  cancelledAt?: number;
  readonly journal: Stored<RunEvent[]>[];
  /** By task id. */
  readonly tasks: Map<string, Stored<TaskEntry>[]>;
  readonly calls: ModelCall[];
  readonly tools: ToolRunCall[];
  readonly told: ToldResult[];
  /** When its journal says that it ended. */
  endedAt?: number;
  /** Cancels and repeated requests still to be made. */
  pending: number;
  /** Seconds in which the system was whole and nothing happened to the run. */
  idleSeconds: number;
};

/** Starts tracking a run. */
export function trackRun(plan: RunPlan, askedAt: number): TrackedRun {
  return {
    plan,
    askedAt,
    ...(plan.notBeforeMs !== undefined && { notBefore: new Date(askedAt + plan.notBeforeMs).toISOString() }),
    journal: [],
    tasks: new Map(),
    calls: [],
    tools: [],
    told: [],
    pending: 0,
    idleSeconds: 0,
  };
}

/** All events of a run, in order. */
export function eventsOf({ journal }: Pick<TrackedRun, "journal">): RunEvent[] {
  return journal.flatMap(({ value }) => value);
}

/** The event that ended a run. */
export function endOf(run: Pick<TrackedRun, "journal">): RunEvent | undefined {
  return eventsOf(run).find(({ type }) => isTerminal(type));
}
