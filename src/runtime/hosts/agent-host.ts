/**
 * The worker side of a daemon: it hosts agents, takes tasks from their mailboxes and sees each through to its outcome
 * (docs/protocol.md). `task-desk.ts` is the other side.
 *
 * Who does what: the agents decide (`actors/agent-machine.ts`); `task-intake.ts` hears, `task-answers.ts` says,
 * `task-effects.ts` does what tasks ask for, `outcome-delivery.ts` ends them. This file starts, connects and stops them.
 *
 * Invariants
 * H1  Every well-formed task is answered: `accepted`, later an outcome or `busy`; or `busy` at once. There is silence only where
 *     another worker has the task, or may have it because this process did not run for a while.
 * H2  Nothing is subscribed or ticking per task: one mailbox an agent, one control inbox, two tickers.
 * H3  A task handed back (`busy`) writes nothing more: its journal is at rest before that is said.
 * H4  An agent that is replaced ends the tasks it has at work as the agent it is; what waits goes back, and new ones go to the
 *     other. Its mailbox is subscribed throughout.
 */
import type { Logger } from "pino";
import { type Actor, createActor } from "xstate";
import type { Agent } from "../../actors/agent.ts";
import { type AgentEvent, agentMachine } from "../../actors/agent-machine.ts";
import { resumable } from "../../actors/resumable-task.ts";
import type { HandoffOption, Outcome, TaskEntry } from "../../actors/task.ts";
import type { Tool } from "../../actors/tool.ts";
import { toolHost } from "../../actors/tool-task.ts";
import { type Metrics, noMetrics } from "../../tracing/metrics.ts";
import type { Tracing } from "../../tracing/tracing.ts";
import type { RunEvent } from "../../workflows/run-events.ts";
import { type McpTools, startMcp } from "../mcp/start-mcp.ts";
import type { ModelOf } from "../models/providers.ts";
import type { Bus } from "../nats/connection.ts";
import { openJournals } from "../nats/journal.ts";
import type { Msg, Subscription } from "../nats/nats.ts";
import { openPayloads } from "../nats/payloads.ts";
import type { Subjects } from "../subjects.ts";
import { withinTime } from "../within-time.ts";
import { openAcceptances } from "./acceptances.ts";
import { watchBacklog } from "./backlog.ts";
import { openBeginnings } from "./beginnings.ts";
import { storeDeadLetter, taskOriginOf } from "./dead-letters.ts";
import type { JournalLimits } from "./journal-limits.ts";
import { openLiveFeed } from "./live-feed.ts";
import { watchLoop } from "./loop-watch.ts";
import { deliverOutcome } from "./outcome-delivery.ts";
import { type ProviderDown, type ProviderStanding, watchProviders } from "./provider-watch.ts";
import { openRunLogs } from "./run-logs.ts";
import { rememberOutcomes } from "./sent-outcomes.ts";
import { openStanding } from "./standing.ts";
import { sweepEvery } from "./sweeping.ts";
import { openTaskAnswers } from "./task-answers.ts";
import { taskMachineWith } from "./task-effects.ts";
import { openTaskIntake } from "./task-intake.ts";
import { openTaskRegistry } from "./task-registry.ts";
import { type TaskWork, taskKey, timeLeft } from "./task-work.ts";
import { unlisted } from "./unlisted-actors.ts";

export type AgentHostOptions = {
  bus: Bus;
  subjects: Subjects;
  /** Remote ones are left out: foreign workers serve them. */
  agents: readonly Agent[];
  /** The tools that steps may run here. @default none */
  tools?: readonly Tool[];
  modelFor: ModelOf;
  /** @default none */
  mcp?: McpTools;
  tracing: Tracing;
  /** @default noMetrics */
  metrics?: Metrics;
  logger: Logger;
  /** `host/incarnation`, as answers carry it. */
  worker: string;
  /** The prefix of the control inbox, as the connection's own. @default "_INBOX" */
  inboxPrefix?: string;
  /** Whom an agent of a workflow may hand over to; undefined where this daemon does not know the workflow. */
  handoffsOf?: (workflow: string, agent: string, definition?: string) => HandoffOption[] | undefined;
  /** The most one value may take as JSON, in bytes. @default 64 MiB */
  maxPayloadBytes?: number;
  options?: {
    /** How often a task at work or waiting says so, in milliseconds. @default 5000 */
    workingEveryMs?: number;
    /** How long an owner may take to answer an outcome, in milliseconds. @default 2000 */
    outcomeTimeoutMs?: number;
    /** How often an outcome is sent before it is stored. @default 3 */
    outcomeAttempts?: number;
    /** A warning names the tools at work when the event loop was blocked for this long, in milliseconds. @default 1000 */
    blockedMs?: number;
    /** How much the journal of one task may hold. @default 50,000 entries, 64 MiB */
    journalLimits?: JournalLimits;
  };
};

export type AgentHost = {
  /** The agents and tools hosted are these from now on: others begin, change or end. Remote agents are left out. */
  host(agents: readonly Agent[], tools?: readonly Tool[]): void;
  /** The names of the agents whose mailboxes are served. */
  hosted(): string[];
  /** The names of the tools whose mailboxes are served. */
  hostedTools(): string[];
  /** Tasks at work and waiting. */
  load(): { running: number; waiting: number };
  /** The tasks that are here, whatever their state. */
  taskIds(): { runId: string; taskId: string }[];
  /** The agents that wait for a provider of theirs to be back, by name. */
  tripped(): string[];
  /** Providers of agents here that are not asked, because they are down. */
  providersDown(): readonly ProviderDown[];
  /** The providers of all agents here. */
  providers(): ProviderStanding[];
  /** Takes nothing new, lets tasks finish for at most `timeoutMs` milliseconds, and hands back the rest. */
  drain(timeoutMs: number): Promise<void>;
  /** Stops at once, without a word about what was at work. */
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
};

/** An agent's subscription, and as which agent its tasks are taken. */
type Mailbox = Offered & { agent: Agent; readonly subscription: Subscription };

/** Who takes the tasks of a mailbox: an agent, or with `kind` the host of a tool. */
type Offered = { given: Agent; readonly kind?: "tool" };

/** How long the last writes and messages of a host that ends may take, in milliseconds. */
const SETTLE_MS = 1_000;

/** Starts hosting agents: subscribes their mailboxes and works until `drain` or `stop`. */
export function startAgentHost(given: AgentHostOptions): AgentHost {
  const { bus, subjects, tracing, logger, worker, metrics = noMetrics, handoffsOf } = given;
  const {
    workingEveryMs = 5_000,
    outcomeTimeoutMs = 2_000,
    outcomeAttempts = 3,
    blockedMs = 1_000,
    journalLimits = { events: 50_000, bytes: 64 * 1_024 * 1_024 },
  } = given.options ?? {};
  const { nc } = bus;
  const payloads = openPayloads(bus.objects, subjects, { maxBytes: given.maxPayloadBytes });
  const taskJournals = openJournals<TaskEntry>(bus, subjects.streams.tasks);
  const stopping = new AbortController();
  const hurry = new AbortController();
  const registry = openTaskRegistry(tracing);
  const answers = openTaskAnswers(bus, worker, logger, given.inboxPrefix);
  const acceptances = openAcceptances(answers, (work) => registry.byId(work.id) === work && isTaken(work));
  const sent = rememberOutcomes();
  const feed = openLiveFeed(bus, subjects);
  const runLogs = openRunLogs(bus, subjects, worker);
  const backlog = watchBacklog(bus, () => looking.soon());
  const loop = watchLoop({ logger, blockedMs });
  const reports = new Set<Promise<void>>();
  /** Tasks that are being looked up by themselves. */
  const reviewed = new Set<TaskWork>();
  let draining = false;

  const delivery = {
    bus,
    subjects,
    payloads,
    tracing,
    worker,
    sent,
    outcomeTimeoutMs,
    outcomeAttempts,
    hurry: hurry.signal,
    mayBeStale: (work: TaskWork) => backlog.missedSince(work.startedAt),
    ...(handoffsOf && { handoffsOf }),
  };
  const standing = openStanding({
    bus,
    backlog,
    runs: openJournals<RunEvent[]>(bus, subjects.streams.runs),
    tasks: taskJournals,
    subjects,
    here(work) {
      if (registry.byId(work.id) === work && isTaken(work)) answers.say("working", work);
    },
  });
  const intake = openTaskIntake({
    subjects,
    standing,
    journals: taskJournals,
    payloads,
    registry,
    sent,
    answers,
    loggerFor,
    logger,
    journalLimits,
    stopping: stopping.signal,
    isDraining: () => draining,
    isOld: () => backlog.isOld(),
    offer(work, start) {
      // It was replaced while the task's journal was read.
      if (!actors.has(work.agent)) return handBack(work);
      work.phase = "offered";
      tell(work, { type: "task", given: { id: work.id, start } });
    },
    settle: settled,
    bury: (agent, msg, problem) => void bury(agent, msg, problem),
    stopTask: (work, error) => tell(work, { type: "stopTask", id: work.id, error }),
  });
  const tasks = taskMachineWith({
    workOf: (runId, taskId) => registry.byKey(taskKey(runId, taskId)),
    abandon,
    fail: (work, error) => tell(work, { type: "stopTask", id: work.id, error }),
    fenced,
    standing,
    beginnings: openBeginnings(worker),
    modelFor: given.modelFor,
    mcp: given.mcp ?? startMcp({ servers: [], agents: [], logger }),
    loggerFor: (work) => runLogs.loggerFor(work, loggerFor(work)),
    feed,
    loop,
    tracing,
    metrics,
  });
  const machine = agentMachine.provide({ actors: { runTask: resumable(tasks) } });

  /** By the agent as its tasks know it: one that was replaced may still have some (H4). */
  const actors = new Map<Agent, Actor<typeof machine>>();
  const mailboxes = new Map<string, Mailbox>();
  const providers = watchProviders({
    modelFor: given.modelFor,
    tell: (agent, event) => actors.get(agent)?.send(event),
    logger,
  });
  const unwatch = new Map<Agent, () => void>();
  /** The same tool is the same host: it is not replaced where nothing about it has changed. */
  const toolHosts = new WeakMap<Tool, Agent>();
  host(given.agents, given.tools);
  const others = [
    nc.subscribe(answers.controlSubject, { callback: intake.onControl }),
    nc.subscribe(subjects.owners, { callback: intake.onOwner }),
  ];
  // H2
  const ticker = setInterval(sayWorking, workingEveryMs);
  ticker.unref();
  const looking = sweepEvery(
    workingEveryMs,
    async () => reviewTasks(),
    () => {},
  );
  const stopListening = bus.onRestored(() => looking.soon());

  const hosted = (kind?: "tool") => [...mailboxes.values()].flatMap((one) => (one.kind === kind ? one.agent.name : []));
  const { tripped, down: providersDown, providers: providerStandings } = providers;
  return {
    host,
    hosted: () => hosted(),
    hostedTools: () => hosted("tool"),
    load,
    taskIds,
    tripped,
    providersDown,
    providers: providerStandings,
    drain,
    stop,
    [Symbol.asyncDispose]: stop,
  };

  function host(agents: readonly Agent[], tools: readonly Tool[] = []): void {
    if (draining) return;
    const wanted = new Map([
      ...agents.filter((agent) => !agent.remote).map((agent) => [agent.name, { given: agent }] as const),
      ...tools.map((tool) => [toolKey(tool), { given: hostOf(tool), kind: "tool" }] as const),
    ]);
    for (const [key, mailbox] of mailboxes) {
      const next = wanted.get(key);
      if (next?.given === mailbox.given) {
        wanted.delete(key);
        continue;
      }
      retire(mailbox.agent);
      if (next) continue;
      mailboxes.delete(key);
      closed(mailbox.subscription).catch(() => {});
    }
    for (const [key, offered] of wanted) begin(key, offered);
  }

  function hostOf(tool: Tool): Agent {
    let agent = toolHosts.get(tool);
    if (!agent) {
      agent = toolHost(tool);
      toolHosts.set(tool, agent);
    }
    return agent;
  }

  function begin(key: string, { given, kind }: Offered): void {
    // One that comes back may still end tasks as the agent it was.
    const agent = actors.has(given) ? { ...given } : given;
    const actor = startAgent(agent);
    actors.set(agent, actor);
    actor.send({ type: "started" });
    // A tool asks no model.
    if (!kind) unwatch.set(agent, providers.watch(agent));
    const open = mailboxes.get(key);
    if (open) Object.assign(open, { given, agent });
    else mailboxes.set(key, openMailbox({ given, ...(kind && { kind }) }, agent));
  }

  function openMailbox(offered: Offered, agent: Agent): Mailbox {
    const { kind } = offered;
    const { name } = agent;
    const subscription = nc.subscribe(kind === "tool" ? subjects.toolMailbox(name) : subjects.mailbox(name), {
      queue: subjects.workers,
      callback: (error, msg) => intake.onTask(mailbox.agent, error, msg, kind),
    });
    const mailbox: Mailbox = { ...offered, agent, subscription };
    return mailbox;
  }

  /** H4 */
  function retire(agent: Agent): void {
    const actor = actors.get(agent);
    if (!actor) return;
    const forget = () => {
      actors.delete(agent);
      unwatch.get(agent)?.();
      unwatch.delete(agent);
    };
    actor.subscribe({ complete: forget, error: forget });
    actor.send({ type: "drain" });
  }

  function startAgent(agent: Agent): Actor<typeof machine> {
    const actor = unlisted(createActor(machine, { input: agent }));
    const about = (act: (work: TaskWork) => void) => (news: { id: string }) => {
      const work = registry.byId(news.id);
      if (work) act(work);
    };
    actor.on("accepted", about(accepted));
    actor.on("refused", about(handBack));
    actor.on("begun", about(begun));
    actor.on("settled", ({ id, outcome }) => about((work) => settled(work, outcome))({ id }));
    actor.subscribe({
      error: (error) =>
        logger.error({ agent: agent.name, err: error }, "the agent's actor broke; its tasks are lost here"),
    });
    return actor.start();
  }

  function tell(work: TaskWork, event: AgentEvent): void {
    actors.get(work.agent)?.send(event);
  }

  function accepted(work: TaskWork): void {
    work.phase = "waiting";
    acceptances.add(work);
  }

  function begun(work: TaskWork): void {
    work.phase = "running";
    const { ms, message } = timeLeft(work, Date.now());
    work.timer = setTimeout(() => {
      const waited = work.providerDown === undefined ? "" : `; it was waiting for a provider: ${work.providerDown}`;
      const error = { code: "timeout", message: `${message}${waited}`, retryable: true };
      tell(work, { type: "stopTask", id: work.id, error });
    }, ms);
  }

  function settled(work: TaskWork, outcome: Outcome): void {
    clearTimeout(work.timer);
    work.phase = "reporting";
    feed.flush(work);
    // Before its outcome: whoever sees the run end finds what was logged.
    runLogs.flush(work.task.runId);
    // What a tool's task took is measured with its execution.
    if (work.task.kind !== "tool") {
      metrics.taskEnded({
        agent: work.agent.name,
        seconds: (performance.now() - work.startedAt) / 1000,
        modelCalls: outcome.usage?.modelCalls ?? 0,
        toolCalls: work.toolCalls,
        ...(outcome.type === "failed" && { error: outcome.error.code }),
      });
    }
    const report = deliver(work, outcome);
    reports.add(report);
    void report.finally(() => reports.delete(report));
  }

  async function deliver(work: TaskWork, outcome: Outcome): Promise<void> {
    const delivered = await deliverOutcome(work, outcome, delivery);
    if (delivered !== "recorded") loggerFor(work).info({ delivered }, "no owner recorded the outcome");
    registry.remove(work, delivered === "recorded" ? "release" : "discard");
  }

  /** A message in a mailbox that is no task, and whose sender wants no answer. */
  async function bury({ name }: Agent, { subject, data }: Msg, problem: string): Promise<void> {
    const origin = { subject, agent: name, worker, ...taskOriginOf(Buffer.from(data).toString()) };
    try {
      const reason = { code: "bad_task", message: problem };
      await storeDeadLetter(bus, subjects, { kind: "tasks", name, data, reason, ...origin });
      metrics.deadLettered("tasks");
    } catch (error) {
      logger.error({ agent: name, err: error }, "the dead letter of a malformed task could not be stored; it is lost");
    }
  }

  function sayWorking(): void {
    for (const work of registry.all()) if (isTaken(work)) answers.say("working", work);
  }

  /** W3 of `standing.ts` */
  function reviewTasks(): void {
    for (const work of registry.all()) {
      if (!isTaken(work) || standing.isSure(work) || reviewed.has(work)) continue;
      reviewed.add(work);
      void review(work).finally(() => reviewed.delete(work));
    }
  }

  /** Each by itself: one that cannot be looked up yet does not keep the others. */
  async function review(work: TaskWork): Promise<void> {
    try {
      if ((await standing.lookUp(work, stopping.signal)) === "over") abandon(work, "nobody waits for it any more");
    } catch {
      // The host stops.
    }
  }

  /** Another worker has the task, or this host stops: not a word more. */
  function abandon(work: TaskWork, reason: string): void {
    if (!isHere(work)) return;
    loggerFor(work).info(`abandoned: ${reason}`);
    registry.remove(work, "discard");
    tell(work, { type: "forget", id: work.id });
  }

  /** Whether it is this host's, and has no outcome yet. */
  function isHere(work: TaskWork): boolean {
    return registry.byId(work.id) === work && work.phase !== "reporting";
  }

  /** Another worker was quicker to write. If the run counts on this one all the same, it is given back to be gone on with. */
  function fenced(work: TaskWork, reason: string): void {
    // Tools of one turn find out together, and it is given back once: by then it may have come again.
    if (!isHere(work)) return;
    abandon(work, reason);
    standing.lookUp(work, stopping.signal).then(
      (stand) => {
        // It may have come again meanwhile.
        if ((stand === "here" || stand === "contested") && !registry.byKey(work.key)) giveBack(work);
      },
      // Stopping: nobody is waited for.
      () => {},
    );
  }

  /** No room, or no time left: the owner sends it elsewhere. */
  function handBack(work: TaskWork): void {
    registry.remove(work, "discard");
    giveBack(work);
  }

  /** What was begun may be on record, and only what was acknowledged is lost and looked up by the next: that is said first. */
  function giveBack(work: TaskWork): void {
    if (work.phase === "running" && !work.acknowledged) answers.say("accepted", work);
    answers.busy(work);
  }

  function loggerFor({ task, agent, segment }: TaskWork): Logger {
    const { runId, taskId } = task;
    return logger.child({ runId, taskId, agent: agent.name, traceId: segment.traceId });
  }

  function load(): { running: number; waiting: number } {
    const here = registry.all().filter((work) => work.phase !== "reporting");
    const waiting = here.filter((work) => work.phase === "waiting").length;
    return { running: here.length - waiting, waiting };
  }

  function taskIds(): { runId: string; taskId: string }[] {
    return registry.all().map(({ task: { runId, taskId } }) => ({ runId, taskId }));
  }

  async function drain(timeoutMs: number): Promise<void> {
    const giveUpAt = performance.now() + timeoutMs;
    draining = true;
    // What the broker has already given to this member of the queue group still comes, and is answered `busy`.
    await within(Math.min(timeoutMs, SETTLE_MS), Promise.all(subscriptions().map(closed)));
    for (const actor of actors.values()) actor.send({ type: "drain" });
    // They only wait, and can do so with somebody who stays.
    await handBackAll(({ providerDown }) => providerDown !== undefined);
    await within(giveUpAt - performance.now(), Promise.all([...actors.values()].map(finished)));
    hurry.abort();
    await handBackAll(() => true);
    await within(Math.max(giveUpAt - performance.now(), SETTLE_MS), Promise.all(reports));
    await within(SETTLE_MS, nc.flush());
    await stop();
  }

  function subscriptions(): Subscription[] {
    return [...mailboxes.values()].map(({ subscription }) => subscription);
  }

  async function handBackAll(isMeant: (work: TaskWork) => boolean): Promise<void> {
    const left = registry.all().filter((work) => work.phase !== "reporting" && isMeant(work));
    for (const work of left) tell(work, { type: "forget", id: work.id });
    for (const work of left) if (work.marking) work.journal.append({ type: "returned", worker }).catch(() => {});
    // H3
    await within(SETTLE_MS, Promise.all(left.map((work) => work.journal.settled())));
    for (const work of left) if (registry.byId(work.id)) handBack(work);
  }

  async function stop(): Promise<void> {
    if (stopping.signal.aborted) return;
    draining = true;
    hurry.abort();
    stopping.abort();
    clearInterval(ticker);
    looking.stop();
    stopListening();
    acceptances.stop();
    backlog.stop();
    providers.stop();
    loop.stop();
    feed.stop();
    runLogs.stop();
    for (const subscription of [...subscriptions(), ...others]) subscription.unsubscribe();
    for (const actor of actors.values()) actor.stop();
    for (const work of registry.all()) registry.remove(work, "discard");
    await within(SETTLE_MS, Promise.all(reports));
  }
}

function isTaken({ phase }: TaskWork): boolean {
  return phase === "waiting" || phase === "running";
}

async function closed(subscription: Subscription): Promise<void> {
  if (!subscription.isClosed()) await subscription.drain();
}

function finished(actor: Actor<typeof agentMachine>): Promise<void> {
  return new Promise((resolve) => {
    if (actor.getSnapshot().status !== "active") resolve();
    else actor.subscribe({ complete: resolve, error: () => resolve() });
  });
}

/** Waits for something, but not longer than `ms` milliseconds; that it fails is no news at the end. */
function within(ms: number, something: Promise<unknown>): Promise<void> {
  return withinTime(
    something.catch(() => {}),
    Math.max(0, ms),
  );
}

/** Names of agents have no dot. */
function toolKey({ name }: Tool): string {
  return `tool.${name}`;
}
