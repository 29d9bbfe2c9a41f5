/**
 * The daemon: puts the hosts together, starts them in the order they need each other, and takes them down in the order in
 * which nothing is lost.
 *
 *   starting ──▶ running ──drain──▶ draining ──▶ stopped
 *
 * Start: NATS → streams → index → presence → agents → runs → door. Stop: the door first, then "I leave" (others claim the
 * runs at once), then tasks in flight get their time, then spans are flushed, then the connection closes.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Logger } from "pino";
import type { Agent } from "../../actors/agent.ts";
import type { Model } from "../../actors/model.ts";
import type { TaskEntry } from "../../actors/task.ts";
import { UsageError } from "../../errors.ts";
import type { Metrics } from "../../tracing/metrics.ts";
import type { Tracing } from "../../tracing/tracing.ts";
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import type { RunEvent } from "../../workflows/run-events.ts";
import { optionOf, type ResolvedOptions } from "../config/options.ts";
import { settleAftermath } from "../hosts/aftermath.ts";
import { startAgentHost } from "../hosts/agent-host.ts";
import { systemClock } from "../hosts/clock.ts";
import { holdDefinitions } from "../hosts/definitions.ts";
import { openDoor } from "../hosts/door.ts";
import { followExports } from "../hosts/exports.ts";
import { takeHostSlot } from "../hosts/host-slot.ts";
import { type Beat, chooseOwner, startPresence } from "../hosts/presence.ts";
import { answerRepeatedRequests } from "../hosts/repeated-requests.ts";
import { startRetention } from "../hosts/retention.ts";
import { startRunHost } from "../hosts/run-host.ts";
import { openRunIndex } from "../hosts/run-index.ts";
import { followSignals } from "../hosts/signals.ts";
import { startTakeover } from "../hosts/takeover.ts";
import { type Bus, connectBus } from "../nats/connection.ts";
import { describePowerLoss } from "../nats/durability.ts";
import { openJournals } from "../nats/journal.ts";
import { nuid } from "../nats/nats.ts";
import { provision } from "../nats/provision.ts";
import { type NatsServerProcess, startNatsServer } from "../nats/server.ts";
import { type Subjects, subjectsFor } from "../subjects.ts";
import { type AgentListing, startApi } from "./api.ts";
import { type HttpEdge, type HttpOptions, PORT_TAKEN, startHttp } from "./http.ts";

export type DaemonOptions = {
  options: ResolvedOptions;
  agents: readonly Agent[];
  workflows: readonly WorkflowDefinition[];
  modelFor: (agent: Agent) => Model;
  logger: Logger;
  tracing: Tracing;
  metrics: Metrics;
  /** The package's version, as the API tells it. */
  version: string;
};

export type Daemon = {
  readonly host: string;
  readonly incarnation: string;
  /** Where its NATS is; the embedded server's URL when it runs its own. */
  readonly natsUrl: string;
  /** Where health and metrics are served. */
  readonly httpUrl: string;
  readonly subjects: Subjects;
  /** The runs and tasks in its hands. */
  load(): { runs: number; tasks: number };
  /** Stops gracefully: nothing new, tasks in flight get `drainTimeoutMs`, the rest is handed over. */
  drain(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
};

// Longer than any span export takes against a collector that answers; one that does not must not hold up the exit.
const TRACING_STOP_MS = 2_000;
const BROKER_WAIT_MS = 500;

/**
 * Starts a daemon and resolves when it takes work.
 *
 * Waits for a broker that is not there yet, for as long as it takes.
 *
 * @throws UsageError when the options cannot be met (an agent to host that is not defined, no nats-server to run).
 */
export async function startDaemon(daemon: DaemonOptions): Promise<Daemon> {
  const { options, modelFor, logger, tracing, metrics, version } = daemon;
  const hosted = hostedAgents(daemon.agents, options.agents);
  const definitions = holdDefinitions(daemon.workflows);
  const subjects = subjectsFor(options.prefix);
  const inboxPrefix = `_INBOX_${options.prefix}_daemon`;
  const incarnation = nuid.next();

  // A model that cannot be had is the configuration's fault and is said before anything starts.
  for (const agent of hosted) modelFor(agent);

  mkdirSync(options.data, { recursive: true });
  const slot = takeHostSlot(options.data, options.hostName);
  const { host } = slot;
  const writer = { host, incarnation };
  const worker = `${host}/${incarnation}`;
  const log = logger.child({ host });

  const health = { natsUp: false, provisioned: false, indexed: false, draining: false };
  const http = await serveHealth(options, log, {
    health: () => readiness(health),
    metrics: () => metrics.render(),
  });

  const embedded = options.nats ? undefined : await startEmbedded(options);
  const servers = options.nats ?? [(embedded as NatsServerProcess).url];
  log.info({ nats: servers, embedded: embedded !== undefined }, "connecting to NATS");
  const bus = await connectBus(natsOptions(options, servers, `troupe ${host}`, inboxPrefix), {
    lost: (reason) => {
      health.natsUp = false;
      log.warn({ reason }, "NATS is away; waiting for it");
    },
    restored: (server) => {
      health.natsUp = true;
      log.info({ server }, "NATS is back");
    },
    failed: (error) => log.error({ err: error }, "a message could not be handled"),
    denied: (subject) => log.error({ subject }, "NATS denied an operation"),
  });
  health.natsUp = true;
  await provisionWhenPossible(bus, subjects, options, log);
  health.provisioned = true;

  const journals = openJournals<RunEvent[]>(bus, subjects.streams.runs);
  const taskJournals = openJournals<TaskEntry>(bus, subjects.streams.tasks);
  const signalJournals = openJournals<unknown>(bus, subjects.streams.signals);
  const index = openRunIndex({ file: join(slot.dir, "index.sqlite"), bus, subjects, logger: log });

  let lastRecorded = 0;
  const exports = followExports({
    bus,
    subjects,
    logger: log,
    writer,
    own: () => (tracing.destination === "nowhere" ? lastRecorded : tracing.exportedThrough()),
  });

  const self = (): Beat => ({
    v: 1,
    host,
    incarnation,
    agents: hosted.map(({ name }) => name),
    workflows: definitions.offers(),
    load: { runs: runs.size(), tasks: agentHost.load().running },
  });

  const agentHost = startAgentHost({
    bus,
    subjects,
    agents: hosted,
    modelFor,
    tracing,
    metrics,
    logger: log,
    worker,
    inboxPrefix,
    // Only by the definition the run is bound to: by another one's edges its owner would refuse the handoff.
    handoffsOf(workflow, agent, hash) {
      const definition = hash === undefined ? undefined : definitions.pinned(workflow, hash);
      return definition?.kind === "handoff" ? definition.agents[agent] : undefined;
    },
    options: { workingEveryMs: options.workingEveryMs },
  });
  const runs = startRunHost({
    bus,
    subjects,
    journals,
    taskJournals,
    definitions,
    tracing,
    clock: systemClock,
    logger: log,
    inbox: `${inboxPrefix}.owner.${incarnation}`,
    writer,
    observer: {
      entry(runId, _workflow, events, seq) {
        lastRecorded = Math.max(lastRecorded, seq);
        index.ownEntry(seq, runId, events);
      },
    },
    acceptTimeoutMs: options.taskAcceptTimeoutMs,
    silenceMs: options.taskSilenceMs,
    cancelGraceMs: options.cancelGraceMs,
    known: (runId) => index.known(runId),
    workersOf: (agent) =>
      presence
        .living()
        .filter(({ agents }) => agents.includes(agent))
        .map((beat) => `${beat.host}/${beat.incarnation}`),
    exportMark: (gone) => exports.mark(gone),
    metrics,
  });
  const presence = startPresence({
    bus,
    subjects,
    logger: log,
    beatMs: options.beatMs,
    suspectAfterMs: options.suspectAfterMs,
    self,
  });
  const takeover = startTakeover({
    presence,
    runs,
    self,
    logger: log,
    lookAroundMs: options.lookAroundMs,
    suspectAfterMs: options.suspectAfterMs,
    unfinished: () => (index.caughtUp() && bus.connected() ? index.unfinished() : []),
    adopted: (runId) => signals.release(runId),
    vanished: (runId) => index.forget(runId),
  });
  const signals = followSignals({
    bus,
    subjects,
    logger: log,
    deliver(runId, seq, { kind, reason, by }) {
      if (kind !== "cancel") return false;
      const cancel = { ...(reason !== undefined && { reason }), ...(by !== undefined && { by }) };
      if (runs.cancel(runId, seq, cancel)) return true;
      if (index.get(runId)?.parked === undefined) return false;
      // Nobody owns a parked run, so one of all has to say that it is over.
      if (chooseOwner(runId, presence.living())?.incarnation !== incarnation) return false;
      runs
        .cancelParked(runId, { ...cancel, seq })
        .catch((error: unknown) => log.warn({ runId, err: error }, "could not cancel a parked run"));
      return true;
    },
  });
  const repeated = answerRepeatedRequests({ bus, subjects, journals, index });

  presence.onChange(() => runs.serversChanged());
  presence.onGone((beat, reason) => {
    // A daemon that leaves finishes its tasks; one that is silent or was restarted has lost them.
    if (reason === "left") return;
    runs.workerGone(beat.incarnation);
    if (firstByName(presence.living()) !== host) return;
    void settleAftermathOf(beat.host, beat.incarnation);
    // Whoever was at this for another host may be the one that is gone.
    const alive = new Set(presence.living().map((living) => living.host)).add(beat.host);
    for (const other of exports.hosts()) if (!alive.has(other)) void settleAftermathOf(other);
  });
  index.onEntry((runId, events) => {
    for (const event of events) {
      if (event.type === "run.claimed" && event.data.incarnation !== incarnation) runs.superseded(runId, event.epoch);
    }
  });

  // Signals come before requests are taken, so that a request whose run was cancelled while it waited finds that out.
  await Promise.all([index.whenCaughtUp(), exports.ready(), signals.ready()]);
  health.indexed = true;
  takeover.takeUpOwn();
  void settleAftermathOf(host).then(() => exports.begin());

  const api = await startApi({
    bus,
    subjects,
    index,
    journals,
    logger: log,
    version,
    workflows: () => definitions.all(),
    offers: (workflow) => presence.living().some((beat) => offersWorkflow(beat, workflow)),
    agents: () => listAgents(daemon.agents, presence.living()),
  });
  const retention = startRetention({
    index,
    subjects,
    runs: journals,
    tasks: taskJournals,
    signals: signalJournals,
    presence,
    incarnation,
    logger: log,
    retentionMs: options.retentionMs,
  });
  const door = openDoor({
    bus,
    subjects,
    logger: log,
    room: () => options.maxRuns - runs.busy(),
    whoRuns(workflow) {
      if (definitions.current(workflow)) return "here";
      const elsewhere = presence
        .living()
        .some((beat) => beat.workflows.some((offer) => offer.startsWith(`${workflow}@`)));
      if (elsewhere) return "elsewhere";
      return presence.offeredLately(workflow) ? "nobody now" : "nobody";
    },
    async accept(incoming) {
      const result = await runs.accept(incoming, signals.cancelOf(incoming.runId));
      if (result === "accepted") signals.release(incoming.runId);
      return result;
    },
    deadLettered: () => metrics.deadLettered("requests"),
    repeated: (incoming) => {
      repeated
        .add(incoming)
        .catch((error: unknown) => log.debug({ err: error }, "could not answer a repeated request"));
    },
  });
  log.info(
    describePowerLoss({
      version: bus.nc.info?.version ?? "unknown",
      ...(embedded && { syncInterval: options.syncInterval }),
    }),
  );
  const observed = [
    metrics.observeActiveRuns(() => runs.byWorkflow()),
    metrics.observeQueueDepth(() => [["requests", door.depth()] as const]),
  ];
  log.info(
    { nats: bus.nc.getServer(), http: http.url, agents: hosted.map(({ name }) => name), traces: tracing.destination },
    "ready",
  );

  let stopping: Promise<void> | undefined;
  const drain = () => {
    stopping ??= stop();
    return stopping;
  };
  return {
    host,
    incarnation,
    natsUrl: servers.join(","),
    httpUrl: http.url,
    subjects,
    load: () => ({ runs: runs.size(), tasks: agentHost.load().running }),
    drain,
    [Symbol.asyncDispose]: drain,
  };

  async function stop() {
    health.draining = true;
    log.info({ runs: runs.size(), tasks: agentHost.load().running }, "draining");
    takeover.stop();
    retention.stop();
    for (const stopObserving of observed) stopObserving();
    await withinTime(door.close(), options.drainTimeoutMs);
    const heirs = presence.living().filter((beat) => beat.incarnation !== incarnation);
    await presence.leave();
    // With somebody there the runs go at once and the tasks here report to their new owners; alone, this daemon stays the
    // owner until its tasks are done.
    if (heirs.length > 0) runs.releaseAll();
    await agentHost.drain(options.drainTimeoutMs);
    await withinTime(runs.settled(), BROKER_WAIT_MS);
    runs.stop();
    repeated.stop();
    await withinTime(Promise.all([api.stop(), signals.stop(), tracing.stop(TRACING_STOP_MS)]), TRACING_STOP_MS + 500);
    await withinTime(exports.stop(), BROKER_WAIT_MS);
    presence.stop();
    await withinTime(index.close(), BROKER_WAIT_MS);
    await metrics.stop();
    await withinTime(bus.close(), BROKER_WAIT_MS);
    await embedded?.stop();
    await http.close();
    slot.release();
    log.info("stopped");
  }

  async function settleAftermathOf(goneHost: string, goneIncarnation?: string) {
    const unnoticedMs = options.suspectAfterMs + options.lookAroundMs;
    try {
      await settleAftermath(
        { bus, subjects, journals, index, tracing, exports, logger: log, unnoticedMs },
        goneHost,
        goneIncarnation,
      );
    } catch (error) {
      log.debug({ err: error, host: goneHost }, "could not settle what a gone daemon left");
    }
  }
}

function hostedAgents(agents: readonly Agent[], names: readonly string[] | undefined): Agent[] {
  const local = agents.filter(({ remote }) => !remote);
  if (!names) return local;
  const unknown = names.filter((name) => !local.some((agent) => agent.name === name));
  if (unknown.length > 0) {
    const known = local.map(({ name }) => name).join(", ") || "none";
    throw new UsageError(`agents: expected names of defined agents (${known}), got ${unknown.join(", ")}`);
  }
  return local.filter(({ name }) => names.includes(name));
}

function startEmbedded({ data, syncInterval, natsServer }: ResolvedOptions): Promise<NatsServerProcess> {
  return startNatsServer({
    storeDir: join(data, "nats"),
    syncInterval,
    ...(natsServer !== undefined && { executable: natsServer }),
  });
}

function natsOptions(options: ResolvedOptions, servers: readonly string[], name: string, inboxPrefix: string) {
  const { creds, nkey, token, user, password, tlsCa, tlsCert, tlsKey } = options;
  return {
    servers,
    name,
    inboxPrefix,
    ...(creds !== undefined && { creds }),
    ...(nkey !== undefined && { nkey }),
    ...(token !== undefined && { token }),
    ...(user !== undefined && { user }),
    ...(password !== undefined && { password }),
    ...(tlsCa !== undefined && { tlsCa }),
    ...(tlsCert !== undefined && { tlsCert }),
    ...(tlsKey !== undefined && { tlsKey }),
  };
}

/** JetStream may come up after the connection does, and the connection may go in between. */
async function provisionWhenPossible(
  bus: Bus,
  subjects: Subjects,
  { ackWaitMs, replicas }: ResolvedOptions,
  logger: Logger,
) {
  for (let said = false; ; said = true) {
    try {
      await provision(bus, subjects, { ackWaitMs, replicas });
      return;
    } catch (error) {
      if (!said) logger.warn({ err: error }, "the streams cannot be made yet; trying on");
      await new Promise((resolve) => setTimeout(resolve, BROKER_WAIT_MS));
    }
  }
}

type Health = { natsUp: boolean; provisioned: boolean; indexed: boolean; draining: boolean };

function readiness({ natsUp, provisioned, indexed, draining }: Health) {
  const reasons = [
    ...(natsUp ? [] : ["NATS is away"]),
    ...(provisioned ? [] : ["the streams are not ready"]),
    ...(provisioned && !indexed ? ["the run index is catching up"] : []),
    ...(draining ? ["draining"] : []),
  ];
  return { live: true, ready: reasons.length === 0, reasons };
}

/** Serves health and metrics; the default port gives way to a second daemon on one machine, a chosen one does not. */
async function serveHealth(
  { httpHost, httpPort }: ResolvedOptions,
  logger: Logger,
  pages: Pick<HttpOptions, "health" | "metrics">,
): Promise<HttpEdge> {
  try {
    return await startHttp({ host: httpHost, port: httpPort, ...pages });
  } catch (error) {
    const isTaken = error instanceof UsageError && error.code === PORT_TAKEN;
    if (!isTaken || httpPort !== optionOf("httpPort").default) throw error;
    const http = await startHttp({ host: httpHost, port: 0, ...pages });
    logger.warn({ wanted: httpPort, http: http.url }, "the default HTTP port is taken; using a free one");
    return http;
  }
}

function offersWorkflow({ workflows }: Beat, workflow: string): boolean {
  return workflows.some((offer) => offer.startsWith(`${workflow}@`));
}

/** Every agent this daemon knows or another one serves. */
function listAgents(defined: readonly Agent[], living: readonly Beat[]): AgentListing[] {
  const names = new Set([...defined.map(({ name }) => name), ...living.flatMap(({ agents }) => agents)]);
  return [...names].sort().map((name) => {
    const hosts = living.filter(({ agents }) => agents.includes(name)).map(({ host }) => host);
    const agent = defined.find((other) => other.name === name);
    if (!agent) return { name, hosts };
    const { description, model, provider, tools, handoffs, remote } = agent;
    return {
      name,
      hosts,
      ...(description !== undefined && { description }),
      model,
      provider,
      tools: tools.map((tool) => tool.name),
      handoffs: handoffs.map(({ to }) => to),
      ...(remote && { remote }),
    };
  });
}

function firstByName(living: readonly Beat[]): string | undefined {
  return living.map(({ host }) => host).sort()[0];
}

async function withinTime(work: Promise<unknown>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([work.catch(() => {}), late]);
  clearTimeout(timer);
}
