/**
 * The hosts of a daemon, put together: what follows the broker, what works, and what looks after the others. Each needs some
 * of the others, so they are made in one place, in the order they need each other.
 */
import { join } from "node:path";
import type { Logger } from "pino";
import type { Agent } from "../../actors/agent.ts";
import type { TaskEntry } from "../../actors/task.ts";
import type { Tool } from "../../actors/tool.ts";
import type { Metrics } from "../../tracing/metrics.ts";
import type { Tracing } from "../../tracing/tracing.ts";
import { childRunIdOf } from "../../workflows/child-run-id.ts";
import { isTerminal, type RunEvent } from "../../workflows/run-events.ts";
import { isOver } from "../../workflows/run-status.ts";
import type { ResolvedOptions } from "../config/options.ts";
import { settleAftermath } from "../hosts/aftermath.ts";
import { type AgentHost, startAgentHost } from "../hosts/agent-host.ts";
import { systemClock } from "../hosts/clock.ts";
import { crashPoints } from "../hosts/crash-points.ts";
import type { Definitions } from "../hosts/definitions.ts";
import { type Exports, followExports } from "../hosts/exports.ts";
import type { HostSlot } from "../hosts/host-slot.ts";
import { type Beat, chooseOwner, type Presence, startPresence } from "../hosts/presence.ts";
import { openResults } from "../hosts/results.ts";
import { type RunHost, startRunHost } from "../hosts/run-host.ts";
import { openRunIndex, type RunIndex } from "../hosts/run-index.ts";
import { followSignals, type Signal, type Signals } from "../hosts/signals.ts";
import { startTakeover, type Takeover } from "../hosts/takeover.ts";
import type { McpTools } from "../mcp/start-mcp.ts";
import type { ModelOf } from "../models/providers.ts";
import type { Bus } from "../nats/connection.ts";
import { type Journals, openJournals } from "../nats/journal.ts";
import type { Subjects } from "../subjects.ts";
import type { StartedParts } from "./started-parts.ts";

export type DaemonHostsOptions = {
  options: ResolvedOptions;
  bus: Bus;
  subjects: Subjects;
  slot: HostSlot;
  incarnation: string;
  inboxPrefix: string;
  /** The agents hosted here. */
  agents: readonly Agent[];
  /** The tools that steps can run here. */
  tools: readonly Tool[];
  modelFor: ModelOf;
  mcp: McpTools;
  definitions: Definitions;
  tracing: Tracing;
  metrics: Metrics;
  logger: Logger;
  started: StartedParts;
  /** What this daemon says of schedules in its beats. */
  schedulesInBeat: () => Pick<Beat, "watch" | "schedules">;
  /** Whether the journals can be believed. */
  mayTakeOver: () => boolean;
};

export type DaemonHosts = {
  readonly journals: Journals<RunEvent[]>;
  readonly taskJournals: Journals<TaskEntry>;
  readonly index: RunIndex;
  readonly exports: Exports;
  readonly agentHost: AgentHost;
  readonly runs: RunHost;
  readonly presence: Presence;
  readonly takeover: Takeover;
  readonly signals: Signals;
  /** Takes up what this host owned before, and says that it has started; once it is known which runs there are. */
  takePart(): void;
  /** A run has come here that another one asked for. */
  checkParent(runId: string, parentId: string): void;
  /** Says what a daemon that is gone left unsaid; without an incarnation, what any life of the host did. Never rejects. */
  settleAftermathOf(host: string, incarnation?: string): Promise<void>;
};

/** How long what follows the broker may take to end, in milliseconds. */
const CLOSE_MS = 500;

/** Starts the hosts. They know of each other's work at once, and of the broker's once they have caught up. */
export function startDaemonHosts(given: DaemonHostsOptions): DaemonHosts {
  const { options, bus, subjects, slot, incarnation, inboxPrefix, agents, tools, definitions, tracing, metrics } =
    given;
  const { logger, started } = given;
  const { host } = slot;
  crashPoints.sendThrough(bus.nc);
  const writer = { host, incarnation };
  const journalLimits = { events: options.maxJournalEvents, bytes: options.maxJournalBytes };
  const common = { bus, subjects, logger };
  const journals = openJournals<RunEvent[]>(bus, subjects.streams.runs);
  const taskJournals = openJournals<TaskEntry>(bus, subjects.streams.tasks);
  const index = started.add(
    openRunIndex({ ...common, file: join(slot.dir, "index.sqlite") }),
    (part) => part.close(),
    CLOSE_MS,
  );

  let lastRecorded = 0;
  const exports = started.add(
    followExports({
      ...common,
      writer,
      own: () => (tracing.destination === "nowhere" ? lastRecorded : tracing.exportedThrough()),
    }),
    (part) => part.stop(),
    CLOSE_MS,
  );
  let takesPart = false;
  const self = (): Beat => ({
    v: 1,
    host,
    incarnation,
    agents: agentHost.hosted(),
    tools: agentHost.hostedTools(),
    workflows: definitions.offers(),
    ...(definitions.older().length > 0 && { older: definitions.older() }),
    load: { runs: runs.size(), tasks: agentHost.load().running },
    ...given.schedulesInBeat(),
    ...troubles(agentHost),
    ...(!takesPart && { starting: true }),
  });
  const agentHost = started.add(
    startAgentHost({
      ...common,
      agents,
      tools,
      modelFor: given.modelFor,
      mcp: given.mcp,
      tracing,
      metrics,
      worker: `${host}/${incarnation}`,
      inboxPrefix,
      maxPayloadBytes: options.maxPayloadBytes,
      // Only by the definition the run is bound to: by another one's edges its owner would refuse the handoff.
      handoffsOf(workflow, agent, hash) {
        const definition = hash === undefined ? undefined : definitions.pinned(workflow, hash);
        return definition?.kind === "handoff" ? definition.agents[agent] : undefined;
      },
      // Well before others take this daemon for dead.
      options: {
        workingEveryMs: options.workingEveryMs,
        blockedMs: Math.min(1_000, options.suspectAfterMs / 2),
        journalLimits,
      },
    }),
    (part) => part.stop(),
  );
  const runs = started.add(
    startRunHost({
      ...common,
      journals,
      taskJournals,
      definitions,
      tracing,
      clock: systemClock,
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
      workersOf: (name, kind) =>
        presence
          .living()
          .filter((beat) => (kind === "tool" ? beat.tools : beat.agents).includes(name))
          .map((beat) => `${beat.host}/${beat.incarnation}`),
      exportMark: (gone) => exports.mark(gone),
      journalLimits,
      isLiving: (other) => presence.isLiving(other),
      maxRuns: options.maxRuns,
      metrics,
      maxPayloadBytes: options.maxPayloadBytes,
    }),
    (part) => part.stop(),
  );
  const { beatMs, suspectAfterMs, lookAroundMs } = options;
  const presence = started.add(startPresence({ ...common, beatMs, suspectAfterMs, self }), (part) => part.stop());
  const takeover = started.add(
    startTakeover({
      presence,
      runs,
      self,
      logger,
      lookAroundMs,
      suspectAfterMs,
      unfinished: () => (index.caughtUp() && bus.connected() && given.mayTakeOver() ? index.unfinished() : []),
      adopted(runId) {
        signals.release(runId);
        checkWaitedFor(runId);
      },
      vanished: (runId) => index.forget(runId),
    }),
    (part) => part.stop(),
  );
  const results = started.add(openResults(bus), (part) => part.stop());
  const settling = started.add(new AbortController(), (part) => part.abort());
  const signals = started.add(
    followSignals({ ...common, deliver: deliverSignal, isOver: isKnownToBeOver }),
    (part) => part.stop(),
    CLOSE_MS,
  );

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
  index.onEntry((runId, events, seq) => {
    runs.seen(runId, events, seq);
    signals.seen(runId, events);
    followCallOff(runId, events);
    if (events[0]?.type === "run.accepted" && events[0].data.parent) checkWaitedFor(runId);
    if (events.some(({ type }) => isTerminal(type))) followEnd(runId);
    // A cancel that came before that was waiting for the run to go on, and would wait for ever.
    if (events.at(-1)?.type === "run.parked") signals.release(runId);
  });
  return {
    journals,
    taskJournals,
    index,
    exports,
    agentHost,
    runs,
    presence,
    takeover,
    signals,
    takePart() {
      takesPart = true;
      presence.announce();
      takeover.takeUpOwn();
    },
    checkParent,
    settleAftermathOf,
  };

  /** Tells the parent of a run that has ended, and stops its children that have not. */
  function followEnd(runId: string) {
    const parent = index.parentOf(runId);
    if (parent) runs.childEnded(parent, runId);
    for (const child of index.openChildrenOf(runId)) if (runs.owns(child)) runs.cancelOrphan(child, runId);
  }

  /** A run has come here whose parent may have ended while nobody had it. */
  function checkParent(runId: string, parentId: string) {
    if (isKnownToBeOver(parentId)) runs.cancelOrphan(runId, parentId);
  }

  /**
   * Of a run that was read from its stream: its parent may have gone on without it as well. The task was on record before the
   * request was sent, and so before all that is read here of the run.
   */
  function checkWaitedFor(runId: string) {
    const parent = index.parentOf(runId);
    if (parent && runs.owns(runId) && !index.mayWaitFor(parent.runId, runId)) runs.cancelOrphan(runId, parent.runId);
  }

  /** Stops the children that a run goes on without. */
  function followCallOff(runId: string, events: readonly RunEvent[]) {
    for (const { type, data } of events) {
      if (type !== "step.cancelled" || data.kind !== "workflow" || data.taskId === undefined) continue;
      const child = childRunIdOf(runId, data.taskId);
      if (runs.owns(child)) runs.cancelOrphan(child, runId);
    }
  }

  function isKnownToBeOver(runId: string): boolean {
    const status = index.get(runId)?.status;
    return status !== undefined && isOver(status);
  }

  function deliverSignal(runId: string, seq: number, signal: Signal): boolean {
    if (signal.kind === "signal") return runs.signal(runId, seq, signal);
    const { reason, by, force } = signal;
    const cancel = {
      ...(reason !== undefined && { reason }),
      ...(by !== undefined && { by }),
      ...(force && { force }),
    };
    if (runs.cancel(runId, seq, cancel)) return true;
    if (index.get(runId)?.parked === undefined) return false;
    // Nobody owns a parked run, so one of all has to say that it is over.
    if (chooseOwner(runId, presence.living())?.incarnation !== incarnation) return false;
    runs
      .cancelParked(runId, { ...cancel, seq })
      .catch((error: unknown) => logger.warn({ runId, err: error }, "could not cancel a parked run"));
    return true;
  }

  async function settleAftermathOf(goneHost: string, goneIncarnation?: string) {
    const unnoticedMs = suspectAfterMs + lookAroundMs;
    try {
      await settleAftermath(
        { ...common, journals, index, tracing, definitions, exports, results, unnoticedMs, stopping: settling.signal },
        goneHost,
        goneIncarnation,
      );
    } catch (error) {
      logger.debug({ err: error, host: goneHost }, "could not settle what a gone daemon left");
    }
  }
}

/** What is down for this daemon; nothing is said where nothing is. */
function troubles({ tripped, providersDown }: AgentHost): Pick<Beat, "tripped" | "down"> {
  const down = providersDown();
  if (down.length === 0) return {};
  const agents = tripped();
  return { ...(agents.length > 0 && { tripped: agents }), down };
}

function firstByName(living: readonly Beat[]): string | undefined {
  return living.map(({ host }) => host).sort()[0];
}
