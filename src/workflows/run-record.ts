/** A run as people and clients read it, as docs/protocol.md shows it. Folded from the journal, never stored. */
import type { TaskUsage } from "../actors/task.ts";
import { refsUnder, type WithRefs } from "../actors/value-ref.ts";
import { type ErrorRecord, TroupeError } from "../errors.ts";
import { isTerminal, type RunEvent } from "./run-events.ts";
import { advanceStanding, initialStanding, type RunStanding } from "./run-status.ts";

/** One node of a deterministic run, or one task of a handoff run. */
export type StepRecord = {
  /** The step's id; in handoff runs the task's. */
  id: string;
  agent: string;
  /** `cancelled`: the run ended before it did. */
  status: "running" | "retrying" | "completed" | "failed" | "cancelled";
  attempts: number;
  startedAt: string;
  endedAt?: string;
  /** Stays readable when the run fails later. */
  output?: unknown;
  /** Of the last attempt that failed. */
  error?: ErrorRecord;
};

export type RunUsage = TaskUsage & { totalTokens: number };

export type RunRecord = RunStanding & {
  runId: string;
  workflow: string;
  /** Absent when the request was refused. */
  version?: string;
  hash?: string;
  kind?: "deterministic" | "handoff";
  input: unknown;
  output?: unknown;
  error?: ErrorRecord;
  /** A handoff run counts as one thing to do: how many tasks it takes is known at its end. */
  progress: { completed: number; total: number; percent: number };
  steps: StepRecord[];
  handoffs: { from: string; to: string; at: string; reason?: string }[];
  usage: RunUsage;
  sessionId?: string;
  userId?: string;
  metadata?: { [key: string]: unknown };
  notBefore?: string;
  replyTo?: string;
  traceId: string;
  createdAt: string;
  /** When the first step or task started. */
  startedAt?: string;
  endedAt?: string;
  /** How many events the journal had. */
  events: number;
};

type Accepted = Extract<RunEvent, { type: "run.accepted" }>;
type Settled = Extract<RunEvent, { type: "task.settled" }>;

/**
 * Folds events of a run's journal into its record; events the record has seen already change nothing.
 *
 * @throws TroupeError `damaged_journal` when the journal does not begin with `run.accepted`, or an event is missing.
 */
export function applyEvents(record: RunRecord | undefined, events: readonly RunEvent[]): RunRecord {
  let next = record && structuredClone(record);
  for (const event of events) {
    if (!next) {
      next = opened(event);
      continue;
    }
    if (event.n <= next.events) continue;
    if (event.n !== next.events + 1) throw damaged(event.runId, `event ${next.events + 1}`, `event ${event.n}`);
    next.events = event.n;
    // What an event means for a step can depend on the open tasks before it.
    take(next, event);
    advanceStanding(next, [event]);
  }
  if (!next) throw new TroupeError("damaged_journal", "a run's journal: expected at least one event, got none");
  next.progress = progressOf(next);
  return next;
}

function damaged(runId: string, expected: string, got: string): TroupeError {
  return new TroupeError("damaged_journal", `run ${runId}: expected ${expected}, got ${got}`);
}

function opened(event: RunEvent): RunRecord {
  if (event.type !== "run.accepted" || event.n !== 1) {
    throw damaged(event.runId, "run.accepted as event 1", `${event.type} as event ${event.n}`);
  }
  const { data } = event;
  const { workflow, version, hash, kind, input, sessionId, userId, metadata, notBefore, replyTo } = data;
  const standing = initialStanding();
  advanceStanding(standing, [event]);
  return {
    ...standing,
    runId: event.runId,
    workflow,
    ...given({ version, hash, kind }),
    input,
    progress: { completed: 0, total: stepsIn(data), percent: 0 },
    steps: [],
    handoffs: [],
    usage: { inputTokens: 0, outputTokens: 0, totalTokens: 0, modelCalls: 0 },
    ...given({ sessionId, userId, metadata, notBefore, replyTo }),
    traceId: data.trace.traceId,
    createdAt: event.at,
    events: event.n,
  };
}

function stepsIn({ kind, steps }: Accepted["data"]): number {
  return kind === "deterministic" ? (steps ?? 0) : kind === "handoff" ? 1 : 0;
}

function take(record: RunRecord, event: RunEvent): void {
  switch (event.type) {
    case "step.started":
      start(record, event.data.step, event.data.agent, event.at);
      break;
    case "task.sent": {
      const { step, taskId, agent, attempt } = event.data;
      const row = start(record, step ?? taskId, agent, event.at);
      row.status = "running";
      row.attempts = Math.max(row.attempts, attempt);
      break;
    }
    case "task.settled":
      settle(record, event);
      break;
    case "agent.handoff":
      handOver(record, event);
      break;
    case "step.completed":
      finish(stepOf(record, event.data.step), "completed", event.at);
      break;
    case "step.failed": {
      const row = stepOf(record, event.data.step);
      finish(row, "failed", event.at);
      if (row) row.error = event.data.error;
      break;
    }
    case "step.retrying": {
      const row = stepOf(record, event.data.step);
      if (row) Object.assign(row, { status: "retrying", error: event.data.error });
      break;
    }
    case "run.claimed": {
      const { version, hash } = event.data;
      Object.assign(record, given({ version, hash }));
      break;
    }
    case "run.completed":
      record.output = event.data.output;
      break;
    case "run.failed":
      record.error = event.data.error;
      break;
    case "run.cancelled":
      record.error = { code: "cancelled", message: event.data.reason ?? "the run was cancelled" };
      break;
    default:
      break;
  }
  if (isTerminal(event.type)) end(record, event.at);
}

function stepOf(record: RunRecord, id: string): StepRecord | undefined {
  return record.steps.find((step) => step.id === id);
}

function start(record: RunRecord, id: string, agent: string, at: string): StepRecord {
  record.startedAt ??= at;
  const known = stepOf(record, id);
  if (known) return known;
  const row: StepRecord = { id, agent, status: "running", attempts: 1, startedAt: at };
  record.steps.push(row);
  return row;
}

function settle(record: RunRecord, { data: { taskId, outcome }, at }: Settled): void {
  count(record.usage, outcome.usage);
  const task = record.current.find((open) => open.taskId === taskId);
  const row = stepOf(record, task?.step ?? taskId);
  if (!row) return;
  if (outcome.type === "completed") {
    row.output = outcome.output;
    delete row.error;
  }
  // A step says itself how it goes on after an attempt; the tasks of handoff runs have only this.
  if (task?.step !== undefined) return;
  finish(row, outcome.type, at);
  if (outcome.type === "failed") row.error = outcome.error;
}

function handOver(record: RunRecord, { data, at }: Extract<RunEvent, { type: "agent.handoff" }>): void {
  count(record.usage, data.usage);
  finish(stepOf(record, data.taskId), "completed", at);
  record.handoffs.push({ from: data.from, to: data.to, at, ...given({ reason: data.reason }) });
}

function finish(row: StepRecord | undefined, status: StepRecord["status"], at: string): void {
  if (!row) return;
  row.status = status;
  row.endedAt = at;
}

function end(record: RunRecord, at: string): void {
  record.endedAt = at;
  for (const row of record.steps) {
    if (row.status === "running" || row.status === "retrying") finish(row, "cancelled", at);
  }
}

function count(total: RunUsage, usage: TaskUsage | undefined): void {
  if (!usage) return;
  total.inputTokens += usage.inputTokens;
  total.outputTokens += usage.outputTokens;
  total.totalTokens += usage.inputTokens + usage.outputTokens;
  total.modelCalls += usage.modelCalls;
}

function progressOf({ kind, status, steps, progress: { total } }: RunRecord): RunRecord["progress"] {
  const done = status === "completed";
  if (kind === "handoff") return { completed: done ? 1 : 0, total, percent: done ? 100 : 0 };
  const completed = steps.filter((step) => step.status === "completed").length;
  const percent = done ? 100 : total > 0 ? Math.min(100, Math.round((100 * completed) / total)) : 0;
  return { completed, total, percent };
}

/** Leaves out what is undefined, so that an absent field stays absent. */
function given<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as never;
}

/** How a run ended; undefined while it has not. */
export type RunResult =
  | ({ runId: string; status: "completed"; output: unknown } & WithRefs)
  | { runId: string; status: "failed" | "cancelled"; error: ErrorRecord };

/** The result told by a terminal event; undefined for any other. */
export function resultOf(event: RunEvent): RunResult | undefined {
  const { runId } = event;
  switch (event.type) {
    case "run.completed":
      return { runId, status: "completed", output: event.data.output, ...refsOf(event) };
    case "run.failed":
      return { runId, status: "failed", error: event.data.error };
    case "run.cancelled":
      return {
        runId,
        status: "cancelled",
        error: { code: "cancelled", message: event.data.reason ?? "the run was cancelled" },
      };
    default:
      return undefined;
  }
}

/** Where the output is, if it is not in the event. */
export function refsOf(terminal: RunEvent): WithRefs {
  const refs = refsUnder(terminal, "/data");
  return refs.length > 0 ? { refs } : {};
}
