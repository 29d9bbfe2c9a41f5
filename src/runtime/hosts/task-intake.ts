/**
 * What comes in at a worker: tasks, new owners looking for them, and control messages about them.
 *
 * Invariants
 * N1  A task is at work here at most once; the same task again only changes where its answers go.
 * N2  A task whose outcome was made is answered with it, and nothing is done again.
 * N3  What is sent for the first time has no journal, so none is read; anything else is folded before it is offered to its
 *     agent: a later delivery, and a task that its owner had to send again because no answer came.
 * N4  What may have waited for this process while it did not run is not begun, not joined to what is at work, and not
 *     answered: its owner has sent it elsewhere, or will; a refusal would make it send once more what somebody is about to
 *     take.
 * N5  What was long on its way is begun only after a look into the run's journal: whoever sent it may have been stopped in
 *     between, and may not own the run any more.
 * N6  A task whose large values are elsewhere is offered once it is whole. Where that takes a while its owner is told that it
 *     is here, or it would be sent to somebody else as well.
 * N7  A task that has taken down every worker that was at work on it is not begun once more, but fails (`beginnings.ts`).
 * N8  Only its owner's word, or the owner's message with it, lets go of the leaves of a forwarded task, or makes a worker that
 *     was missed sure of its task: whoever asks who has a task may ask in order to call it off.
 */
import type { Logger } from "pino";
import type { Agent } from "../../actors/agent.ts";
import { problemOfTask, readTask } from "../../actors/read-task.ts";
import type { TaskStart } from "../../actors/resumable-task.ts";
import type { Outcome, OwnerNotice, Task, TaskControl, TaskEntry } from "../../actors/task.ts";
import { foldTask } from "../../actors/task-fold.ts";
import {
  type ErrorRecord,
  PermissionError,
  TroupeError,
  toErrorRecord,
  UnavailableError,
  UsageError,
} from "../../errors.ts";
import { parseTraceparent } from "../../tracing/traceparent.ts";
import type { SegmentContext } from "../../tracing/tracing.ts";
import type { Entry, Journals } from "../nats/journal.ts";
import type { Msg, NatsError } from "../nats/nats.ts";
import { LARGE, type Payloads } from "../nats/payloads.ts";
import { SENT_AGAIN_HEADER, SENT_AT_HEADER, type Subjects, TRACEPARENT_HEADER } from "../subjects.ts";
import { begunInVain, MOST_DEATHS } from "./beginnings.ts";
import { unansweredCalls } from "./call-marks.ts";
import type { JournalLimits } from "./journal-limits.ts";
import type { SentOutcomes } from "./sent-outcomes.ts";
import type { Standing } from "./standing.ts";
import type { TaskAnswers } from "./task-answers.ts";
import { openTaskJournal, type TaskJournal } from "./task-journal.ts";
import type { TaskRegistry } from "./task-registry.ts";
import { type TaskWork, taskKey } from "./task-work.ts";

export type IntakeOptions = {
  subjects: Subjects;
  journals: Journals<TaskEntry>;
  payloads: Payloads;
  registry: TaskRegistry;
  sent: SentOutcomes;
  answers: TaskAnswers;
  loggerFor(work: TaskWork): Logger;
  logger: Logger;
  journalLimits: JournalLimits;
  /** Aborts when the host stops. */
  stopping: AbortSignal;
  /** Whether new tasks are refused. */
  isDraining(): boolean;
  /** Whether what arrives now may be old. */
  isOld(): boolean;
  standing: Pick<Standing, "lookUp" | "assure">;
  /** Gives a task to its agent. */
  offer(work: TaskWork, start: TaskStart): void;
  /** Ends a task that has not begun. */
  settle(work: TaskWork, outcome: Outcome): void;
  /** Keeps what is no task, and came from nobody who could be told. */
  bury(agent: Agent, msg: Msg, problem: string): void;
  /** Ends a task from outside. */
  stopTask(work: TaskWork, error: ErrorRecord): void;
};

export type TaskIntake = {
  /** A message in the mailbox of an agent, or with `kind` of a tool. */
  onTask(agent: Agent, error: NatsError | null, msg: Msg, kind?: "tool"): void;
  onOwner(error: NatsError | null, msg: Msg): void;
  onControl(error: NatsError | null, msg: Msg): void;
};

// Well below the time after which another daemon takes a run over, well above what a message takes.
const LATE_MS = 500;
// Well below the time after which a task that nobody answered for is sent again.
const WHOLE_WITHIN_MS = 500;

const NO_SEGMENT: SegmentContext = { traceId: "0".repeat(32), spanId: "0".repeat(16), sampled: false };

/** Opens the intake of a worker. */
export function openTaskIntake(options: IntakeOptions): TaskIntake {
  const { subjects, journals, payloads, registry, sent, answers, logger } = options;
  let taken = 0;
  return { onTask, onOwner, onControl };

  function onTask(agent: Agent, error: NatsError | null, msg: Msg, kind?: "tool"): void {
    if (error) {
      logger.error({ agent: agent.name, err: error }, `cannot receive tasks for ${agent.name}`);
      return;
    }
    const read = readTask(msg.string(), agent.name, kind);
    if (!read.ok) {
      logger.warn({ agent: agent.name, taskId: read.taskId }, read.problem);
      if (msg.reply) answers.malformed(msg, read.problem, read.taskId);
      else options.bury(agent, msg, read.problem);
      return;
    }
    const { task } = read;
    const key = taskKey(task.runId, task.taskId);
    const work = registry.byKey(key);
    const outcome = work ? undefined : sent.get(key);
    const reply = msg.reply || undefined;
    if (outcome) answers.outcome(outcome, reply);
    // N4
    else if (options.isOld()) logger.debug({ runId: task.runId, taskId: task.taskId }, "a task came too late");
    else if (work) rejoin(work, task, msg);
    else if (options.isDraining()) answers.busy({ task, delivery: task.delivery, reply });
    else takeIn(agent, task, msg);
  }

  function takeIn(agent: Agent, task: Task, msg: Msg): void {
    taken += 1;
    const late = isLate(msg);
    // N3
    const recalled = task.delivery > 1 || late || msg.headers?.has(SENT_AGAIN_HEADER) === true;
    const work: TaskWork = {
      id: taken.toString(36),
      key: taskKey(task.runId, task.taskId),
      task,
      agent,
      startedAt: performance.now(),
      phase: "recalling",
      delivery: task.delivery,
      reply: msg.reply || undefined,
      segment: segmentOf(msg),
      held: task.forwarded === true,
      journal: journalOf(task, []),
      toolCalls: 0,
      recalled,
      begunInVain: 0,
    };
    registry.add(work);
    if (recalled || task.refs !== undefined) void recall(work, { late, isFirst: !recalled });
    else options.offer(work, { agent: () => agent, task });
  }

  /** Goes on from what another worker has left of the task. */
  async function recall(work: TaskWork, { late, isFirst }: { late: boolean; isFirst: boolean }): Promise<void> {
    const { agent } = work;
    try {
      if (work.task.refs) await makeWhole(work);
      if (!isHere(work)) return;
      const { task } = work;
      if (isFirst) return options.offer(work, { agent: () => agent, task });
      const entries = await journals.read(subjects.task(task.runId, task.taskId));
      if (!isHere(work)) return;
      if (entries.length > 0) work.journal = journalOf(task, entries);
      // N5
      if (late && (await options.standing.lookUp(work, options.stopping)) !== "here") {
        if (isHere(work)) registry.remove(work, "discard");
        return;
      }
      if (!isHere(work)) return;
      // Most that are sent again were waiting for their turn.
      if (entries.length === 0) return options.offer(work, { agent: () => agent, task });
      const values: TaskEntry[] = [];
      for (const { value } of entries) {
        values.push(await payloads.resolve(value, { fields: LARGE.entry, of: task }));
      }
      if (!isHere(work)) return;
      const folded = foldTask(agent, task, values);
      if (folded.type === "open") {
        work.begunInVain = begunInVain(values);
        work.calling = unansweredCalls(values);
        // N7
        if (work.begunInVain >= MOST_DEATHS) return giveUp(work);
        options.offer(work, { agent: () => agent, task, snapshot: folded.snapshot });
        return;
      }
      // It was stored by another worker, or by this one before a restart, and goes out as it is.
      const bytes = Buffer.from(JSON.stringify(folded.outcome));
      sent.remember(work.key, bytes);
      registry.remove(work, "discard");
      answers.outcome(bytes, work.reply);
    } catch (error) {
      if (isHere(work)) cannotRecall(work, error);
    }
  }

  // N6
  async function makeWhole(work: TaskWork): Promise<void> {
    const { task, agent } = work;
    const telling = setInterval(() => answers.say("working", work), WHOLE_WITHIN_MS);
    try {
      const whole = await payloads.resolve(task, { fields: LARGE.task, of: task });
      const problem = problemOfTask(whole, agent.name, task.kind);
      if (problem) throw new UsageError(problem, "bad_task");
      work.task = whole;
    } finally {
      clearInterval(telling);
    }
  }

  function giveUp(work: TaskWork): void {
    const message = `its workers died ${work.begunInVain} times in a row while they were at work on it`;
    options.loggerFor(work).error(`given up: ${message}`);
    options.settle(work, { type: "failed", error: { code: "worker_lost", message } });
  }

  function cannotRecall(work: TaskWork, error: unknown): void {
    const record = toErrorRecord(error);
    options.loggerFor(work).warn({ code: record.code }, `cannot go on with the task: ${record.message}`);
    if (isForGood(error)) {
      // Another attempt is another task, with a journal of its own.
      options.settle(work, { type: "failed", error: { ...record, retryable: true } });
      return;
    }
    registry.remove(work, "discard");
    answers.busy(work);
  }

  /** N1: its owner lost sight of it, or it has a new one. */
  function rejoin(work: TaskWork, task: Task, msg: Msg): void {
    // N8: whoever sends it again, and not for the first time, has it from the journal.
    if (!task.forwarded || task.delivery > 1) registry.letGo(work, "release");
    if (task.delivery > work.delivery) {
      work.delivery = task.delivery;
      work.segment = segmentOf(msg);
    }
    options.standing.assure(work);
    moveTo(work, msg.reply || undefined);
  }

  function moveTo(work: TaskWork, reply: string | undefined): void {
    work.reply = reply;
    if (work.phase === "waiting" || work.phase === "running") answers.say("accepted", work);
    work.onMoved?.();
  }

  function onOwner(error: NatsError | null, msg: Msg): void {
    const notice = error ? undefined : parse<OwnerNotice>(msg);
    if (!notice || !Array.isArray(notice.tasks)) return;
    for (const taskId of notice.tasks) {
      const key = taskKey(notice.runId, taskId);
      const reply = `${notice.reply}.${taskId}`;
      const work = registry.byKey(key);
      // N2
      const outcome = work ? undefined : sent.get(key);
      if (outcome) answers.outcome(outcome, reply);
      else if (!work) answers.unknown(taskId, reply);
      // N4
      if (!work || options.isOld()) continue;
      moveTo(work, reply);
    }
  }

  function onControl(error: NatsError | null, msg: Msg): void {
    if (error) return;
    const work = registry.byId(answers.controlled(msg));
    const control = work && parse<TaskControl>(msg);
    if (!control || control.taskId !== work.task.taskId) return;
    // N8: whoever cancels a task without ever having called it known has it in no journal.
    registry.letGo(work, control.type === "cancel" ? "discard" : "release");
    if (control.type === "known") options.standing.assure(work, control.delivery);
    if (control.type !== "cancel") return;
    options.stopTask(work, { code: "cancelled", message: `cancelled: ${control.reason || "no reason given"}` });
  }

  function isHere(work: TaskWork): boolean {
    return registry.byId(work.id) === work;
  }

  function journalOf({ runId, taskId }: Task, before: readonly Entry<TaskEntry>[]): TaskJournal {
    const { journalLimits: limits, stopping: signal } = options;
    const subject = subjects.task(runId, taskId);
    return openTaskJournal({ journals, payloads, runId, subject, before, limits, signal });
  }
}

/** Whether the task cannot be gone on with however often it comes again: its journal, or a large value, is not what it was. */
function isForGood(error: unknown): boolean {
  return error instanceof TroupeError && !(error instanceof UnavailableError || error instanceof PermissionError);
}

/** Clocks of two machines may differ by as much: that costs a look at the journal, and nothing else. */
function isLate(msg: Msg): boolean {
  const sentAt = msg.headers?.get(SENT_AT_HEADER);
  return Boolean(sentAt) && Date.now() - Number(sentAt) > LATE_MS;
}

function segmentOf(msg: Msg): SegmentContext {
  const header = msg.headers?.get(TRACEPARENT_HEADER);
  return (header && parseTraceparent(header)) || NO_SEGMENT;
}

function parse<T>(msg: Msg): T | undefined {
  try {
    return msg.json<T>();
  } catch {
    // Also what the broker sends where nobody hears an answer: nothing to act on.
    return undefined;
  }
}
