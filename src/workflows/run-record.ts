/**
 * A run as people and clients read it, as docs/protocol.md shows it. Folded from the journal, never stored.
 *
 * Who watches a run of thousands of steps has its record moved on event by event, so a record is not copied whole: the next
 * one shares with it what the events do not touch.
 */
import type { TaskUsage } from "../actors/task.ts";
import { sumUsage } from "../actors/usage.ts";
import { refsUnder, type WithRefs } from "../actors/value-ref.ts";
import { type ErrorRecord, TroupeError } from "../errors.ts";
import { isOfOnFailure } from "./on-failure.ts";
import { type CompensationRecord, takeCompensation } from "./record-compensations.ts";
import { isTerminal, type NamedKind, type RunEvent, type RunParent, type StepGroup } from "./run-events.ts";
import { advanceStanding, initialStanding, type RunStanding } from "./run-status.ts";

/** One node of a deterministic run, an item or an iteration of one, or one task of a handoff run. */
export type StepRecord = {
  /** The step's path: its id, in groups as in `revise/2/score`; in handoff runs the task's. */
  id: string;
  /** Whose it is, where somebody is asked: an agent's name, or that of what `kind` says. */
  agent?: string;
  /** Absent where it is an agent's, and where it is a group, a list or a repetition. */
  kind?: NamedKind | "approval" | "wait";
  /** The child run of the last attempt at a step of kind `workflow`. */
  runId?: string;
  /** What it holds; the steps in it are others, with its path before theirs. */
  group?: StepGroup;
  /** It was repeated as often as it may be, and is not what was wanted yet. */
  exhausted?: true;
  /** `waiting`: for something from outside. `cancelled`: the run, or what it is a part of, ended before it did. */
  status: "running" | "waiting" | "retrying" | "completed" | "failed" | "cancelled" | "skipped";
  /** 0 where it was skipped or reused. */
  attempts: number;
  /** Absent where it was skipped or reused. */
  startedAt?: string;
  endedAt?: string;
  /** Stays readable when the run fails later. */
  output?: unknown;
  /** Of the last attempt that failed. */
  error?: ErrorRecord;
  /** It failed for good, and the run went on. */
  continued?: true;
  /** It ran in the run before, and its output was taken over. */
  reused?: true;
  /** Why it was skipped, in words. */
  reason?: string;
  /** Which models answered in the last attempt, where its agent has several. */
  models?: NonNullable<TaskUsage["models"]>;
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
  /**
   * `completed` counts what is done with, also steps that were skipped or without which the run went on. A handoff run counts
   * as one thing to do: how many tasks it takes is known at its end. `total` grows as it becomes known what groups hold.
   */
  progress: { completed: number; total: number; percent: number };
  steps: StepRecord[];
  /** In the order in which they began. */
  compensations: CompensationRecord[];
  handoffs: { from: string; to: string; at: string; reason?: string }[];
  usage: RunUsage;
  sessionId?: string;
  userId?: string;
  metadata?: { [key: string]: unknown };
  notBefore?: string;
  replyTo?: string;
  /** The run it tries again, and the step from which on it was asked to. */
  retryOf?: { runId: string; from?: string };
  /** The run and the step that asked for this one; `depth` counts the runs above it. */
  parent?: RunParent;
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
  let next = record && unfold(record, events.length);
  for (const event of events) {
    if (!next) {
      next = unfold(opened(event), events.length);
      continue;
    }
    const { run } = next;
    if (event.n <= run.events) continue;
    if (event.n !== run.events + 1) throw damaged(event.runId, `event ${run.events + 1}`, `event ${event.n}`);
    run.events = event.n;
    // What an event means for a step can depend on the open tasks before it.
    take(next, event);
    advanceStanding(run, [event]);
  }
  if (!next) throw new TroupeError("damaged_journal", "a run's journal: expected at least one event, got none");
  next.run.progress = progressOf(next.run);
  return next.run;
}

/** A record that is being made. */
type Unfolded = {
  run: RunRecord;
  /** The row of a step, to be changed; undefined where there is none. */
  row(id: string): StepRecord | undefined;
  add(row: StepRecord): void;
};

// With as many events a table of all rows is made sooner than each row is looked for.
const MANY_EVENTS = 16;

function unfold(record: RunRecord, events: number): Unfolded {
  const { current, timers, steps, compensations, handoffs, usage } = record;
  const run: RunRecord = {
    ...record,
    current: structuredClone(current),
    timers: [...timers],
    steps: [...steps],
    compensations: [...compensations],
    handoffs: [...handoffs],
    usage: { ...usage },
    progress: { ...record.progress },
  };
  const places = events < MANY_EVENTS ? undefined : new Map(steps.map(({ id }, place) => [id, place]));
  const own = new Set<StepRecord>();
  return {
    run,
    row(id) {
      // What happens is mostly about the newest.
      const place = places ? (places.get(id) ?? -1) : run.steps.findLastIndex((row) => row.id === id);
      const found = run.steps[place];
      if (!found || own.has(found)) return found;
      const copy = { ...found };
      own.add(copy);
      run.steps[place] = copy;
      return copy;
    },
    add(row) {
      places?.set(row.id, run.steps.length);
      own.add(row);
      run.steps.push(row);
    },
  };
}

function damaged(runId: string, expected: string, got: string): TroupeError {
  return new TroupeError("damaged_journal", `run ${runId}: expected ${expected}, got ${got}`);
}

function opened(event: RunEvent): RunRecord {
  if (event.type !== "run.accepted" || event.n !== 1) {
    throw damaged(event.runId, "run.accepted as event 1", `${event.type} as event ${event.n}`);
  }
  const { data } = event;
  const { workflow, version, hash, kind, input, sessionId, userId, metadata, notBefore, replyTo, parent } = data;
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
    compensations: [],
    handoffs: [],
    usage: { inputTokens: 0, outputTokens: 0, totalTokens: 0, modelCalls: 0 },
    ...given({ sessionId, userId, metadata, notBefore, replyTo, parent }),
    ...(data.retryOf && { retryOf: { runId: data.retryOf.runId, ...given({ from: data.retryOf.from }) } }),
    ...given({ sessionId, userId, metadata, notBefore, replyTo, parent }),
    traceId: data.trace.traceId,
    createdAt: event.at,
    events: event.n,
  };
}

function stepsIn({ kind, steps }: Accepted["data"]): number {
  return kind === "deterministic" ? (steps ?? 0) : kind === "handoff" ? 1 : 0;
}

function take(to: Unfolded, event: RunEvent): void {
  const { run } = to;
  if (takeCompensation(run, event)) return;
  switch (event.type) {
    case "step.started":
      begin(to, event);
      break;
    case "approval.requested":
    case "wait.begun": {
      const row = to.row(event.data.step);
      if (row) row.status = "waiting";
      break;
    }
    case "task.sent": {
      const { step, taskId, attempt, childId } = event.data;
      const row = start(to, step ?? taskId, event.data, event.at);
      row.status = "running";
      if (childId !== undefined) row.runId = childId;
      row.attempts = Math.max(row.attempts, attempt);
      break;
    }
    case "task.settled":
      settle(to, event);
      break;
    case "agent.handoff":
      handOver(to, event);
      break;
    case "step.completed":
      finish(to, event.data.step, { status: "completed", at: event.at });
      if (event.data.exhausted) Object.assign(to.row(event.data.step) ?? {}, { exhausted: true });
      if ("output" in event.data) Object.assign(to.row(event.data.step) ?? {}, { output: event.data.output });
      break;
    case "step.failed": {
      const { step, error, continued } = event.data;
      finish(to, step, { status: "failed", at: event.at, error, ...given({ continued }) });
      if (continued && !isOfOnFailure(step)) run.progress.completed += unfinishedIn(run.steps, step);
      break;
    }
    case "step.cancelled":
      finish(to, event.data.step, { status: "cancelled", at: event.at });
      if (!isOfOnFailure(event.data.step)) run.progress.completed += 1;
      break;
    case "step.skipped": {
      const { step, agent, kind, reason } = event.data;
      to.add({ id: step, ...given({ agent, kind }), status: "skipped", attempts: 0, endedAt: event.at, reason });
      if (!isOfOnFailure(step)) run.progress.completed += 1;
      break;
    }
    case "step.reused": {
      const { step, agent, kind, output, exhausted } = event.data;
      const known = { id: step, ...given({ agent, kind, exhausted }), output, reused: true as const };
      to.add({ ...known, status: "completed", attempts: 0, endedAt: event.at });
      run.progress.completed += 1;
      break;
    }
    case "step.retrying": {
      const row = to.row(event.data.step);
      if (!row) break;
      Object.assign(row, { status: "retrying", error: event.data.error });
      delete row.output;
      break;
    }
    case "run.failing":
    case "run.cancelling":
      // Nothing from outside is waited for any more.
      for (const { id, status } of run.steps)
        if (status === "waiting") finish(to, id, { status: "cancelled", at: event.at });
      break;
    case "run.claimed": {
      const { version, hash } = event.data;
      Object.assign(run, given({ version, hash }));
      break;
    }
    case "run.completed":
      run.output = event.data.output;
      break;
    case "run.failed":
      run.error = event.data.error;
      break;
    case "run.cancelled":
      run.error = { code: "cancelled", message: event.data.reason ?? "the run was cancelled" };
      break;
    default:
      break;
  }
  if (isTerminal(event.type)) end(to, event.at);
}

function begin(to: Unfolded, { data, at }: Extract<RunEvent, { type: "step.started" }>): void {
  const { step, group } = data;
  start(to, step, data, at);
  const { run } = to;
  // What runs because the run failed is no part of what it had to do.
  if (isOfOnFailure(step)) return;
  if (group && group.type !== "repeat") run.progress.total += group.size;
  // How many iterations there will be is known when there are.
  const isIteration =
    step.includes("/") && rowOf(run.steps, step.slice(0, step.lastIndexOf("/")))?.group?.type === "repeat";
  if (isIteration) run.progress.total += 1;
}

function rowOf(steps: readonly StepRecord[], id: string): StepRecord | undefined {
  return steps.findLast((row) => row.id === id);
}

function start(
  { run, row, add }: Unfolded,
  id: string,
  { agent, kind, group }: Pick<StepRecord, "agent" | "kind" | "group">,
  at: string,
): StepRecord {
  run.startedAt ??= at;
  const known = row(id);
  if (known) return known;
  const made: StepRecord = { id, ...given({ agent, kind, group }), status: "running", attempts: 1, startedAt: at };
  add(made);
  return made;
}

/** How much of what a group holds has neither ended nor been begun, now that the run goes on without it. */
function unfinishedIn(steps: readonly StepRecord[], path: string): number {
  const isGivenUp = (row: StepRecord) => row.continued === true && row.group !== undefined;
  /** Groups in it that were given up before, and are done with. */
  const closed = steps.filter((row) => isGivenUp(row) && row.id.startsWith(`${path}/`)).map(({ id }) => `${id}/`);
  let left = 0;
  for (const row of steps) {
    if (row.id !== path && !row.id.startsWith(`${path}/`)) continue;
    if (closed.some((prefix) => row.id.startsWith(prefix))) continue;
    const isClosed = row.id !== path && isGivenUp(row);
    if (row.group && row.group.type !== "repeat" && !isClosed) left += row.group.size;
    if (row.id === path) continue;
    if (rowOf(steps, row.id.slice(0, row.id.lastIndexOf("/")))?.group?.type === "repeat") left += 1;
    const isDone = !isOpen(row) && (row.status !== "failed" || row.continued);
    if (isDone) left -= 1;
  }
  return left;
}

function settle(to: Unfolded, { data: { taskId, outcome }, at }: Settled): void {
  count(to.run.usage, outcome.usage);
  const task = to.run.current.find((open) => open.taskId === taskId);
  const id = task?.step ?? taskId;
  const row = to.row(id);
  if (row && outcome.usage?.models) row.models = outcome.usage.models;
  if (row && outcome.type === "completed") {
    row.output = outcome.output;
    delete row.error;
  }
  // A step says itself how it goes on after an attempt; the tasks of handoff runs have only this.
  if (task?.step !== undefined) return;
  finish(to, id, { status: outcome.type, at, ...(outcome.type === "failed" && { error: outcome.error }) });
}

function handOver(to: Unfolded, { data, at }: Extract<RunEvent, { type: "agent.handoff" }>): void {
  count(to.run.usage, data.usage);
  const row = to.row(data.taskId);
  if (row && data.usage?.models) row.models = data.usage.models;
  finish(to, data.taskId, { status: "completed", at });
  to.run.handoffs.push({ from: data.from, to: data.to, at, ...given({ reason: data.reason }) });
}

type Finish = { status: "completed" | "failed" | "cancelled"; at: string; error?: ErrorRecord; continued?: true };

function finish({ run, row }: Unfolded, id: string, { status, at, error, continued }: Finish): void {
  const known = row(id);
  if (!known) return;
  const isDone = continued || (status === "completed" && known.status !== "completed");
  if (isDone && !isOfOnFailure(id)) run.progress.completed += 1;
  if (continued) known.continued = true;
  known.status = status;
  known.endedAt = at;
  if (error) known.error = error;
  // What an attempt gave that does not fit is no output of the step; the journal has it.
  if (status === "failed") delete known.output;
}

function end(to: Unfolded, at: string): void {
  to.run.endedAt = at;
  for (const { id, status } of to.run.steps) {
    if (isOpen({ status })) finish(to, id, { status: "cancelled", at });
  }
}

function isOpen({ status }: Pick<StepRecord, "status">): boolean {
  return status === "running" || status === "waiting" || status === "retrying";
}

function count(total: RunUsage, usage: TaskUsage | undefined): void {
  if (!usage) return;
  Object.assign(total, sumUsage(total, usage));
  total.totalTokens += usage.inputTokens + usage.outputTokens;
}

/** Of a deterministic run `completed` was counted on the way. */
function progressOf({ kind, status, progress: { completed, total } }: RunRecord): RunRecord["progress"] {
  const done = status === "completed";
  if (kind === "handoff") return { completed: done ? 1 : 0, total, percent: done ? 100 : 0 };
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
