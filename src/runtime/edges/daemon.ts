/**
 * The daemon: puts the parts together, starts them in the order they need each other, and takes them down in the order in
 * which nothing is lost.
 *
 *   starting ──▶ running ──drain──▶ draining ──▶ stopped
 *      └─────────────── fails ─────────────────────▲
 *
 * Start: NATS → streams → index → agents → runs → presence → API → door. Stop: the door first, then "I leave" (others claim
 * the runs at once), then tasks in flight get their time, then spans are flushed, then the connection closes. A start that
 * fails half-way takes down whatever it had started.
 */
import { mkdirSync } from "node:fs";
import type { Logger } from "pino";
import type { Metrics } from "../../tracing/metrics.ts";
import type { Tracing } from "../../tracing/tracing.ts";
import type { ResolvedOptions } from "../config/options.ts";
import { holdDefinitions, offerOf } from "../hosts/definitions.ts";
import { openDoor } from "../hosts/door.ts";
import { takeHostSlot } from "../hosts/host-slot.ts";
import { startPayloadSweep } from "../hosts/payload-sweep.ts";
import { canGoOnWith } from "../hosts/presence.ts";
import { answerRepeatedRequests } from "../hosts/repeated-requests.ts";
import { startRetention } from "../hosts/retention.ts";
import { startMcp } from "../mcp/start-mcp.ts";
import { describePowerLoss } from "../nats/durability.ts";
import { openJournals } from "../nats/journal.ts";
import { nuid } from "../nats/nats.ts";
import { openNewest } from "../nats/newest.ts";
import { openPayloadAreas } from "../nats/payload-areas.ts";
import { guardStreams } from "../nats/stream-guard.ts";
import { type Subjects, subjectsFor } from "../subjects.ts";
import { withinTime } from "../within-time.ts";
import { startApi } from "./api.ts";
import { checkModels, type DaemonFleet, startDaemonDefinitions } from "./daemon-definitions.ts";
import { healthAtStart, serveHealth, warningsOf } from "./daemon-health.ts";
import { startDaemonHosts } from "./daemon-hosts.ts";
import { openDaemonNats } from "./daemon-nats.ts";
import { openDaemonSchedules } from "./daemon-schedules.ts";
import { hostedAgents, listAgents } from "./hosted-agents.ts";
import { keepStartedParts, type StartedParts } from "./started-parts.ts";
import { openWorkflowApi } from "./workflow-api.ts";

export type DaemonOptions = DaemonFleet & {
  options: ResolvedOptions;
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
  /**
   * Goes on with other agents and workflows; runs go on with those they began with.
   *
   * @throws UsageError, DefinitionError when it cannot; then everything is as before.
   */
  reconfigure(fleet: DaemonFleet): void;
  /** Stops gracefully: nothing new, tasks in flight get `drainTimeoutMs`, the rest is handed over. */
  drain(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
};

// Longer than any span export takes against a collector that answers; one that does not must not hold up the exit.
const TRACING_STOP_MS = 2_000;
const FOLLOWER_STOP_MS = 500;
const SERVICE_STOP_MS = TRACING_STOP_MS + 500;
/** A process that does not end when its stdin does gets two signals, with two seconds between them. */
const MCP_STOP_MS = 6_000;
/** How long the last entries may take to be stored, in milliseconds. */
const SETTLE_MS = 500;

/**
 * Starts a daemon and resolves when it takes work.
 *
 * Waits for a broker that is not there yet, for as long as it takes. When it cannot start nothing of it is left running,
 * `tracing` and `metrics` included.
 *
 * @throws UsageError when the options cannot be met (an agent to host that is not defined, no nats-server to run).
 */
export async function startDaemon(daemon: DaemonOptions): Promise<Daemon> {
  const started = keepStartedParts(daemon.logger);
  started.add(daemon.metrics, (metrics) => metrics.stop());
  started.add(daemon.tracing, (tracing) => tracing.stop(TRACING_STOP_MS), SERVICE_STOP_MS);
  try {
    return await start(daemon, started);
  } catch (error) {
    await started.stopAll();
    throw error;
  }
}

async function start(daemon: DaemonOptions, started: StartedParts): Promise<Daemon> {
  const { options, tracing, metrics, version } = daemon;
  const agents = hostedAgents(daemon.agents, options.agents);
  // A model that cannot be had is the configuration's fault and is said before anything starts.
  for (const agent of agents) checkModels(agent, daemon.modelFor);
  const definitions = holdDefinitions(daemon.workflows);
  const subjects = subjectsFor(options.prefix);
  const inboxPrefix = `_INBOX_${options.prefix}_daemon`;
  const incarnation = nuid.next();

  mkdirSync(options.data, { recursive: true });
  const slot = started.add(takeHostSlot(options.data, options.hostName), (part) => part.release());
  const { host } = slot;
  const logger = daemon.logger.child({ host });
  const health = healthAtStart();
  const http = started.add(await serveHealth(options, health, metrics, logger), (part) => part.close());
  const nats = await openDaemonNats({
    options,
    subjects,
    name: `troupe ${host}`,
    inboxPrefix,
    health,
    started,
    logger,
  });
  const { bus, servers, embedded } = nats;
  const mcp = started.add(
    startMcp({ servers: daemon.mcpServers ?? [], agents, logger }),
    (part) => part.stop(),
    MCP_STOP_MS,
  );

  const fleet = startDaemonDefinitions({ bus, subjects, logger, fleet: daemon, definitions, only: options.agents });
  const stored = started.add(fleet.stored, (part) => part.stop(), FOLLOWER_STOP_MS);
  const schedules = started.add(
    openDaemonSchedules({
      bus,
      subjects,
      logger,
      metrics,
      incarnation,
      workflows: () => definitions.all(),
      schedules: () => fleet.schedules(),
      mayFire: () => bus.connected() && !health.draining && health.loss === undefined && health.refusal === undefined,
    }),
    (part) => part.stop(),
    // What it was about to ask for is asked for by another daemon, or the next life of this one.
    SETTLE_MS,
  );
  const hosts = startDaemonHosts({
    options,
    bus,
    subjects,
    slot,
    incarnation,
    inboxPrefix,
    agents,
    tools: fleet.tools(),
    modelFor: fleet.modelFor,
    mcp,
    definitions,
    tracing,
    metrics,
    logger,
    started,
    schedulesInBeat: schedules.inBeat,
    // What is stored may be what a run began with.
    mayTakeOver: () => health.loss === undefined && stored.isReady,
  });
  const { journals, taskJournals, index, exports, agentHost, runs, presence, takeover, signals } = hosts;
  health.warnings = () => warningsOf(agentHost.providersDown(), agentHost.tripped());
  const common = { bus, subjects, index, journals, logger };
  const repeated = started.add(answerRepeatedRequests(common), (part) => part.stop());
  fleet.takeEffectIn({ agentHost, presence, schedules });
  // Signals come before requests are taken, so that a request whose run was cancelled while it waited finds that out.
  await Promise.all([index.whenCaughtUp(), exports.ready(), signals.ready(), stored.ready(), schedules.ready()]);
  health.indexed = true;
  hosts.takePart();
  schedules.begin({ living: () => presence.living(), index, journals });
  void hosts.settleAftermathOf(host).then(() => exports.begin());

  const isOffered = (workflow: string, hash: string) =>
    presence.living().some((beat) => canGoOnWith(beat, offerOf(workflow, hash)));
  const api = started.add(
    await startApi({
      ...common,
      taskJournals,
      maxPayloadBytes: options.maxPayloadBytes,
      version,
      retries: { prepare: (asked) => runs.prepareRetry(asked, isOffered) },
      schedules: schedules.api(() => presence.living()),
      workflows: openWorkflowApi({ definitions, ...fleet, living: () => presence.living() }),
      startable: (workflow, version) => fleet.startable(workflow, version),
      definitions,
      agents: () => listAgents(fleet.agents(), presence.living()),
      parked: {
        async resume(runId) {
          const decided = await runs.resumeParked(runId, isOffered);
          // What was sent to it while it stood still.
          if (decided.is === "done") signals.release(runId);
          return decided;
        },
        fail: (runId, reason) => runs.failParked(runId, reason),
      },
    }),
    (part) => part.stop(),
    SERVICE_STOP_MS,
  );
  const areas = openPayloadAreas(bus, subjects);
  const retention = started.add(
    startRetention({
      bus,
      index,
      subjects,
      runs: journals,
      tasks: taskJournals,
      signals: openJournals<unknown>(bus, subjects.streams.signals),
      payloads: areas,
      snapshots: openNewest(bus, subjects.streams.snapshots),
      logs: openNewest(bus, subjects.streams.logs),
      presence,
      incarnation,
      logger,
      retentionMs: options.retentionMs,
      retentionBytes: options.retentionBytes,
    }),
    (part) => part.stop(),
  );
  const payloadSweep = started.add(
    startPayloadSweep({
      areas,
      index,
      presence,
      incarnation,
      logger,
      maySweep: () => health.loss === undefined && health.refusal === undefined && bus.connected(),
    }),
    (part) => part.stop(),
  );
  const door = started.add(
    openDoor({
      bus,
      subjects,
      logger,
      room: () => (health.refusal === undefined && health.loss === undefined ? runs.room() : 0),
      whoRuns(workflow, version) {
        // What is tried again goes on with its own version, also of a workflow that was deleted.
        if (version !== undefined && definitions.pinned(workflow, version)) return "here";
        const who = fleet.whoRuns(workflow, version);
        return who === "nobody" && presence.offeredLately(workflow) ? "nobody now" : who;
      },
      async accept(incoming) {
        const { workflow, request } = incoming;
        if (!definitions.find(workflow, request.version)) await stored.refresh(workflow);
        const result = await runs.accept(incoming, signals.cancelOf(incoming.runId));
        if (result === "accepted") {
          signals.release(incoming.runId);
          const { parent } = incoming.request;
          if (parent) hosts.checkParent(incoming.runId, parent.runId);
        }
        return result;
      },
      deadLettered: () => metrics.deadLettered("requests"),
      repeated: (incoming) => {
        repeated
          .add(incoming)
          .catch((error: unknown) => logger.debug({ err: error }, "could not answer a repeated request"));
      },
    }),
    (part) => part.close(),
    options.drainTimeoutMs,
  );
  bus.store.onChange((refusal) => {
    if (refusal !== undefined) door.interrupt();
  });
  started.add(
    await guardStreams({
      bus,
      subjects,
      ackWaitMs: options.ackWaitMs,
      everyMs: options.lookAroundMs,
      changed(loss) {
        health.loss = loss;
        if (loss === undefined) logger.info("the streams are those of before again");
        else {
          logger.error({ loss }, "streams are lost; this daemon stands still until they are back or it is restarted");
          door.interrupt();
          // Whoever drives a run on believes that its journal is whole.
          runs.releaseAll();
        }
      },
      doorMade: () => logger.warn("somebody deleted the door's consumer; it was made again"),
    }),
    (part) => part.stop(),
  );
  logger.info(
    describePowerLoss({
      version: bus.nc.info?.version ?? "unknown",
      ...(embedded && { syncInterval: options.syncInterval }),
    }),
  );
  const gauges = started.add(
    [
      metrics.observeActiveRuns(() => runs.byWorkflow()),
      metrics.observeRestingRuns(() => runs.restingByWorkflow()),
      metrics.observeQueueDepth(() => [["requests", door.depth()] as const]),
      metrics.observeProvidersDown(() => agentHost.providers().map(({ name, down }) => [name, down ? 1 : 0] as const)),
      metrics.observeModelQueue(() => agentHost.providers().map(({ name, waiting }) => [name, waiting] as const)),
    ],
    (unobserve) => {
      for (const stopObserving of unobserve) stopObserving();
    },
  );
  logger.info(
    { nats: bus.nc.getServer(), http: http.url, agents: agentHost.hosted(), traces: tracing.destination },
    "ready",
  );

  let stopping: Promise<void> | undefined;
  const drain = () => {
    stopping ??= stop();
    return stopping;
  };
  const load = () => ({ runs: runs.size(), tasks: agentHost.load().running });
  return {
    host,
    incarnation,
    natsUrl: servers.join(","),
    httpUrl: http.url,
    subjects,
    load,
    reconfigure: fleet.configure,
    drain,
    [Symbol.asyncDispose]: drain,
  };

  async function stop() {
    health.draining = true;
    logger.info(load(), "draining");
    try {
      await finishWork();
    } finally {
      await started.stopAll();
    }
    logger.info("stopped");
  }

  async function finishWork() {
    await started.stop(schedules, takeover, retention, payloadSweep, gauges, door);
    const heirs = presence.living().filter((beat) => beat.incarnation !== incarnation);
    await presence.leave();
    // With somebody there the runs go at once and the tasks here report to their new owners; alone, this daemon stays the
    // owner until its tasks are done.
    if (heirs.length > 0) runs.releaseAll();
    await agentHost.drain(options.drainTimeoutMs);
    await withinTime(runs.settled(), SETTLE_MS);
    await started.stop(runs, repeated);
    await started.stop(api, signals, tracing);
    // How far spans are exported is said after they are.
    await started.stop(exports);
  }
}
