/**
 * The worker side of a daemon: it hosts agents, takes tasks from their mailboxes and sees each through to its outcome. The
 * agents decide (`actors/agent-machine.ts`), `task-effects.ts` does what tasks ask for, `outcome-delivery.ts` ends them; this
 * file is the wire between them: DESIGN section 5, "Task".
 *
 * Invariants
 * H1  A task is at work here at most once; the same task again only changes where its answers go.
 * H2  Every well-formed task is answered: `accepted`, later an outcome or `busy`; or `busy` at once. Only a fenced one is not.
 * H3  Nothing is subscribed or ticking per task: one mailbox an agent, one control inbox, one ticker.
 * H4  A task handed back (`busy`) writes nothing more: its journal is at rest before that is said.
 */
import type { Logger } from "pino";
import { type Actor, createActor } from "xstate";
import type { Agent } from "../../actors/agent.ts";
import { agentMachine } from "../../actors/agent-machine.ts";
import type { Model } from "../../actors/model.ts";
import { readTask } from "../../actors/read-task.ts";
import { resumable, type TaskStart } from "../../actors/resumable-task.ts";
import type {
  HandoffOption,
  Outcome,
  OutcomeMessage,
  OwnerNotice,
  Task,
  TaskControl,
  TaskEntry,
} from "../../actors/task.ts";
import { foldTask } from "../../actors/task-fold.ts";
import { toErrorRecord } from "../../errors.ts";
import { type Metrics, noMetrics } from "../../tracing/metrics.ts";
import { parseTraceparent } from "../../tracing/traceparent.ts";
import type { SegmentContext, Tracing } from "../../tracing/tracing.ts";
import type { Bus } from "../nats/connection.ts";
import { openJournals } from "../nats/journal.ts";
import { createInbox, type Msg, type NatsError, type Subscription } from "../nats/nats.ts";
import { type Subjects, TRACEPARENT_HEADER } from "../subjects.ts";
import { openLiveFeed } from "./live-feed.ts";
import { type Delivered, deliverOutcome } from "./outcome-delivery.ts";
import { rememberOutcomes } from "./sent-outcomes.ts";
import { taskMachineWith } from "./task-effects.ts";
import { openTaskJournal } from "./task-journal.ts";
import { type TaskWork, taskKey } from "./task-work.ts";

export type AgentHostOptions = {
  bus: Bus;
  subjects: Subjects;
  /** Remote ones are left out: foreign workers serve them. */
  agents: readonly Agent[];
  modelFor: (agent: Agent) => Model;
  tracing: Tracing;
  /** @default noMetrics */
  metrics?: Metrics;
  logger: Logger;
  /** `host/incarnation`, as answers carry it. */
  worker: string;
  /** The prefix of the control inbox, as the connection's own. @default "_INBOX" */
  inboxPrefix?: string;
  /** Whom an agent of a workflow may hand over to; undefined where this daemon does not know the workflow. */
  handoffsOf?: (workflow: string, agent: string) => HandoffOption[] | undefined;
  options?: {
    /** How often a task at work or waiting says so, in milliseconds. @default 5000 */
    workingEveryMs?: number;
    /** How long an owner may take to answer an outcome, in milliseconds. @default 2000 */
    outcomeTimeoutMs?: number;
    /** How often an outcome is sent before it is stored. @default 3 */
    outcomeAttempts?: number;
  };
};

export type AgentHost = {
  /** Tasks at work and waiting. */
  load(): { running: number; waiting: number };
  /** The tasks that are here, whatever their state. */
  taskIds(): { runId: string; taskId: string }[];
  /** Takes nothing new, lets tasks finish for at most `timeoutMs` milliseconds, and hands back the rest. */
  drain(timeoutMs: number): Promise<void>;
  /** Stops at once, without a word about what was at work. */
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
};

/** How long handed-back tasks may take to bring their journals to rest, in milliseconds. */
const SETTLE_MS = 1_000;
const NO_SEGMENT: SegmentContext = { traceId: "0".repeat(32), spanId: "0".repeat(16), sampled: false };
/** setTimeout takes 32 bits; beyond that it would fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Starts hosting agents: subscribes their mailboxes and works until `drain` or `stop`. */
export function startAgentHost(given: AgentHostOptions): AgentHost {
  const { bus, subjects, tracing, logger, worker, metrics = noMetrics } = given;
  const { workingEveryMs = 5_000, outcomeTimeoutMs = 2_000, outcomeAttempts = 3 } = given.options ?? {};
  const { nc } = bus;
  const journals = openJournals<TaskEntry>(bus, subjects.streams.tasks);
  const works = new Map<string, TaskWork>();
  const worksById = new Map<string, TaskWork>();
  const reports = new Set<Promise<void>>();
  const sent = rememberOutcomes();
  const feed = openLiveFeed(bus, subjects);
  const stopping = new AbortController();
  const hurry = new AbortController();
  const controlInbox = createInbox(given.inboxPrefix);
  let draining = false;
  let taken = 0;

  const delivery = {
    bus,
    subjects,
    tracing,
    worker,
    sent,
    outcomeTimeoutMs,
    outcomeAttempts,
    hurry: hurry.signal,
    ...(given.handoffsOf && { handoffsOf: given.handoffsOf }),
  };

  const machine = agentMachine.provide({
    actors: {
      runTask: resumable(
        taskMachineWith({
          workOf: (runId, taskId) => works.get(taskKey(runId, taskId)) as TaskWork,
          abandon,
          modelFor: given.modelFor,
          loggerFor,
          feed,
          tracing,
          metrics,
        }),
      ),
    },
  });

  const hosted = given.agents.filter((agent) => !agent.remote);
  const actors = new Map(hosted.map((agent) => [agent.name, startAgent(agent)] as const));
  const mailboxes = hosted.map((agent) =>
    nc.subscribe(subjects.mailbox(agent.name), {
      queue: subjects.workers,
      callback: (error, msg) => onTask(agent, error, msg),
    }),
  );
  const control = nc.subscribe(`${controlInbox}.*`, { callback: onControl });
  const owners = nc.subscribe(subjects.owners, { callback: onOwner });
  for (const actor of actors.values()) actor.send({ type: "started" });
  // H3
  const ticker = setInterval(sayWorking, workingEveryMs);
  ticker.unref();

  return { load, taskIds, drain, stop, [Symbol.asyncDispose]: stop };

  function startAgent(agent: Agent): Actor<typeof machine> {
    const actor = createActor(machine, { input: agent });
    actor.on("accepted", ({ id }) => onAccepted(id));
    actor.on("refused", ({ id }) => handBack(id));
    actor.on("begun", ({ id }) => onBegun(id));
    actor.on("settled", ({ id, outcome }) => onSettled(id, outcome));
    actor.subscribe({
      error: (error) =>
        logger.error({ agent: agent.name, err: error }, "the agent's actor broke; its tasks are lost here"),
    });
    return actor.start();
  }

  // What comes in

  function onTask(agent: Agent, error: NatsError | null, msg: Msg): void {
    if (error) {
      logger.error({ agent: agent.name, err: error }, `cannot receive tasks for ${agent.name}`);
      return;
    }
    const read = readTask(msg.string(), agent.name);
    if (!read.ok) {
      refuseMalformed(agent, msg, read);
      return;
    }
    const { task } = read;
    const key = taskKey(task.runId, task.taskId);
    const work = works.get(key);
    // H1
    if (work) {
      rejoin(work, task, msg);
      return;
    }
    const outcome = sent.get(key);
    if (outcome) {
      sendAgain(outcome, msg.reply);
      return;
    }
    if (draining) {
      say("busy", { task, delivery: task.delivery, reply: msg.reply });
      return;
    }
    takeIn(agent, task, msg);
  }

  function takeIn(agent: Agent, task: Task, msg: Msg): void {
    taken += 1;
    const segment = segmentOf(msg);
    const work: TaskWork = {
      id: taken.toString(36),
      key: taskKey(task.runId, task.taskId),
      task,
      agent,
      startedAt: performance.now(),
      phase: "recalling",
      delivery: task.delivery,
      reply: msg.reply || undefined,
      segment,
      held: task.forwarded === true,
      journal: journalOf(task, 0),
      toolCalls: 0,
    };
    works.set(work.key, work);
    worksById.set(work.id, work);
    if (work.held) tracing.hold(segment);
    // What nobody has worked on has no journal.
    if (task.delivery === 1) offer(work, { agent: () => agent, task });
    else void recall(work);
  }

  /** Goes on from what another worker has left of the task. */
  async function recall(work: TaskWork): Promise<void> {
    const { task, agent } = work;
    try {
      const entries = await journals.read(subjects.task(task.runId, task.taskId));
      if (!works.has(work.key)) return;
      work.journal = journalOf(task, entries.at(-1)?.seq ?? 0);
      const folded = foldTask(
        agent,
        task,
        entries.map((entry) => entry.value),
      );
      if (folded.type === "ended") {
        // The stored outcome is that of another worker, or of this one before a restart: it goes out as it is.
        gone(work);
        const bytes = Buffer.from(JSON.stringify(folded.outcome satisfies OutcomeMessage));
        sent.remember(work.key, bytes);
        sendAgain(bytes, work.reply);
        return;
      }
      offer(work, { agent: () => agent, task, snapshot: folded.snapshot });
    } catch (error) {
      if (!works.has(work.key)) return;
      const { code, message } = toErrorRecord(error);
      loggerFor(work).warn({ code }, `cannot go on with the task: ${message}`);
      if (code === "cannot_fold") onSettled(work.id, { type: "failed", error: { code, message, retryable: true } });
      else handBack(work.id);
    }
  }

  function offer(work: TaskWork, start: TaskStart): void {
    work.phase = "offered";
    actors.get(work.agent.name)?.send({ type: "task", given: { id: work.id, start } });
  }

  /** The same task again: its owner lost sight of it, or a new owner asks. */
  function rejoin(work: TaskWork, task: Task, msg: Msg): void {
    if (task.delivery > work.delivery) {
      work.delivery = task.delivery;
      work.segment = segmentOf(msg);
    }
    // Whoever sends it again has it from the journal.
    if (!task.forwarded) letGo(work, "release");
    moveTo(work, msg.reply || undefined);
  }

  function moveTo(work: TaskWork, reply: string | undefined): void {
    work.reply = reply;
    if (work.phase === "waiting" || work.phase === "running") sayAccepted(work);
    work.onMoved?.();
  }

  function onOwner(error: NatsError | null, msg: Msg): void {
    const notice = error ? undefined : parse<OwnerNotice>(msg);
    if (!notice || !Array.isArray(notice.tasks)) return;
    for (const taskId of notice.tasks) {
      const key = taskKey(notice.runId, taskId);
      const reply = `${notice.reply}.${taskId}`;
      const work = works.get(key);
      const outcome = work ? undefined : sent.get(key);
      if (work) {
        letGo(work, "release");
        moveTo(work, reply);
      } else if (outcome) {
        sendAgain(outcome, reply);
      }
    }
  }

  function onControl(error: NatsError | null, msg: Msg): void {
    const id = msg?.subject.slice(controlInbox.length + 1) ?? "";
    const work = worksById.get(id);
    const said = error ? undefined : parse<TaskControl>(msg);
    if (!work || said?.taskId !== work.task.taskId) return;
    switch (said.type) {
      case "known":
        letGo(work, "release");
        break;
      case "cancel":
        letGo(work, "release");
        stopTask(work, { code: "cancelled", message: `cancelled: ${said.reason || "no reason given"}` });
        break;
    }
  }

  function refuseMalformed(agent: Agent, msg: Msg, { problem, taskId }: { problem: string; taskId?: string }): void {
    logger.warn({ agent: agent.name, taskId }, problem);
    if (!msg.reply) return;
    const error = { code: "bad_task", message: problem };
    const known = taskId ?? msg.reply.slice(msg.reply.lastIndexOf(".") + 1);
    const outcome: OutcomeMessage = { v: 1, taskId: known, attempt: 1, worker, type: "failed", error };
    sendAgain(Buffer.from(JSON.stringify(outcome)), msg.reply);
  }

  // What the agents decide

  function onAccepted(id: string): void {
    const work = worksById.get(id);
    if (!work) return;
    work.phase = "waiting";
    sayAccepted(work);
  }

  function onBegun(id: string): void {
    const work = worksById.get(id);
    if (!work) return;
    work.phase = "running";
    const { task, agent } = work;
    const ownMs = task.timeoutMs ?? agent.timeoutMs;
    const leftMs = task.deadline === undefined ? Number.POSITIVE_INFINITY : Date.parse(task.deadline) - Date.now();
    const ms = Math.max(0, Math.min(ownMs, leftMs, LONGEST_TIMER_MS));
    const message =
      ownMs <= leftMs
        ? `${agent.name} did not finish within ${ownMs} ms`
        : `the run's deadline ${task.deadline} has passed`;
    work.timer = setTimeout(() => stopTask(work, { code: "timeout", message, retryable: true }), ms);
  }

  function onSettled(id: string, outcome: Outcome): void {
    const work = worksById.get(id);
    if (!work) return;
    clearTimeout(work.timer);
    work.phase = "reporting";
    feed.flush(work);
    const report = settle(work, outcome);
    reports.add(report);
    void report.finally(() => reports.delete(report));
  }

  async function settle(work: TaskWork, outcome: Outcome): Promise<void> {
    const { agent, startedAt, toolCalls } = work;
    metrics.taskEnded({
      agent: agent.name,
      seconds: (performance.now() - startedAt) / 1000,
      modelCalls: outcome.usage?.modelCalls ?? 0,
      toolCalls,
      ...(outcome.type === "failed" && { error: outcome.error.code }),
    });
    const delivered: Delivered = await deliverOutcome(work, outcome, delivery);
    if (delivered !== "recorded")
      loggerFor(work).info({ delivered, outcome: outcome.type }, "the outcome was not recorded by an owner");
    letGo(work, delivered === "recorded" ? "release" : "discard");
    gone(work);
  }

  function stopTask(work: TaskWork, error: { code: string; message: string; retryable?: boolean }): void {
    actors.get(work.agent.name)?.send({ type: "stopTask", id: work.id, error });
  }

  /** Another worker has the task, or this host stops: not a word more. */
  function abandon(work: TaskWork, reason: string): void {
    if (!worksById.has(work.id) || work.phase === "reporting") return;
    loggerFor(work).info(`abandoned: ${reason}`);
    letGo(work, "discard");
    gone(work);
    actors.get(work.agent.name)?.send({ type: "forget", id: work.id });
  }

  /** No room, or no time left: the owner sends it elsewhere. */
  function handBack(id: string): void {
    const work = worksById.get(id);
    if (!work) return;
    letGo(work, "discard");
    gone(work);
    say("busy", work);
  }

  function gone(work: TaskWork): void {
    clearTimeout(work.timer);
    works.delete(work.key);
    worksById.delete(work.id);
  }

  // What goes out

  function say(
    type: "accepted" | "working" | "busy",
    { task, delivery, reply, id }: Pick<TaskWork, "task" | "delivery" | "reply"> & { id?: string },
  ): void {
    if (!reply) return;
    publish(reply, JSON.stringify({ type, taskId: task.taskId, delivery, worker }), id && `${controlInbox}.${id}`);
  }

  function sayAccepted(work: TaskWork): void {
    say("accepted", work);
  }

  function sayWorking(): void {
    for (const work of works.values()) {
      if (work.phase === "waiting" || work.phase === "running") say("working", work);
    }
  }

  /** Whoever asks gets the outcome; whether it still wants it is its own affair. */
  function sendAgain(outcome: Uint8Array, reply: string | undefined): void {
    if (reply) publish(reply, outcome, `${controlInbox}.0`);
  }

  function publish(subject: string, payload: string | Uint8Array, reply?: string): void {
    try {
      nc.publish(subject, payload, reply ? { reply } : {});
    } catch (error) {
      logger.debug({ err: error, subject }, "cannot publish");
    }
  }

  // Odds

  function segmentOf(msg: Msg): SegmentContext {
    const header = msg.headers?.get(TRACEPARENT_HEADER);
    return (header && parseTraceparent(header)) || NO_SEGMENT;
  }

  function letGo(work: TaskWork, how: "release" | "discard"): void {
    if (!work.held) return;
    work.held = false;
    tracing[how](work.segment);
  }

  function journalOf(task: Task, expected: number) {
    return openTaskJournal(journals, subjects.task(task.runId, task.taskId), { expected, signal: stopping.signal });
  }

  function loggerFor({ task, agent, segment }: TaskWork): Logger {
    return logger.child({ runId: task.runId, taskId: task.taskId, agent: agent.name, traceId: segment.traceId });
  }

  function load(): { running: number; waiting: number } {
    const phases = [...works.values()].map((work) => work.phase);
    const waiting = phases.filter((phase) => phase === "waiting").length;
    const reporting = phases.filter((phase) => phase === "reporting").length;
    return { running: phases.length - waiting - reporting, waiting };
  }

  function taskIds(): { runId: string; taskId: string }[] {
    return [...works.values()].map(({ task: { runId, taskId } }) => ({ runId, taskId }));
  }

  // The end

  async function drain(timeoutMs: number): Promise<void> {
    const giveUpAt = performance.now() + timeoutMs;
    draining = true;
    // What the broker has already given to this member of the queue group still comes, and is answered `busy`.
    await within(timeoutMs, Promise.all(mailboxes.map((mailbox) => ended(mailbox))));
    for (const actor of actors.values()) actor.send({ type: "drain" });
    await within(giveUpAt - performance.now(), allDone());
    hurry.abort();
    await handBackTheRest();
    await within(Math.max(giveUpAt - performance.now(), SETTLE_MS), Promise.all(reports));
    await within(
      SETTLE_MS,
      nc.flush().catch(() => {}),
    );
    await stop();
  }

  /** Resolves once no task is left here. */
  async function allDone(): Promise<void> {
    await Promise.all([...actors.values()].map((actor) => stopped(actor)));
    await Promise.all(reports);
  }

  async function handBackTheRest(): Promise<void> {
    const left = [...works.values()].filter((work) => work.phase !== "reporting");
    for (const work of left) actors.get(work.agent.name)?.send({ type: "forget", id: work.id });
    // H4
    await within(SETTLE_MS, Promise.all(left.map((work) => work.journal.settled())));
    for (const work of left) handBack(work.id);
  }

  async function stop(): Promise<void> {
    if (stopping.signal.aborted) return;
    draining = true;
    hurry.abort();
    stopping.abort();
    clearInterval(ticker);
    feed.stop();
    for (const subscription of [...mailboxes, control, owners]) subscription.unsubscribe();
    for (const actor of actors.values()) actor.stop();
    for (const work of [...works.values()]) {
      letGo(work, "discard");
      gone(work);
    }
    await within(SETTLE_MS, Promise.all(reports));
  }
}

function parse<T>(msg: Msg): T | undefined {
  try {
    return msg.json<T>();
  } catch {
    return undefined;
  }
}

async function ended(subscription: Subscription): Promise<void> {
  if (!subscription.isClosed()) await subscription.drain().catch(() => {});
}

function stopped(actor: Actor<typeof agentMachine>): Promise<void> {
  return new Promise((resolve) => {
    if (actor.getSnapshot().status !== "active") resolve();
    else actor.subscribe({ complete: resolve, error: () => resolve() });
  });
}

/** Waits for something, but not longer than `ms` milliseconds. */
async function within(ms: number, something: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, Math.max(0, ms));
  });
  await Promise.race([something, late]);
  clearTimeout(timer);
}
