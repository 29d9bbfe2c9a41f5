/**
 * The run host: every run this daemon owns, how runs get here, and how they leave.
 *
 * Who does what: `accept-run.ts` and `take-over-run.ts` bring runs here, `active-run.ts` drives one, `task-desk.ts` knows where
 * tasks are, `run-telling.ts` tells others, `lone-entry.ts` writes for runs that nobody drives. Runs that only wait are in
 * `resting-runs.ts`, and `wake-run.ts` brings them back.
 *
 * Invariants
 * H1  A run is driven here only after this daemon's claim is in its journal.
 * H2, H4: see `run-telling.ts` and `accept-run.ts`.
 * H3  A run that is not driven here any more is forgotten whole: memory is that of the runs in flight.
 * H5  What is only a message may be lost with the connection, and is said again when it is back: results (`results.ts`), tasks
 *     nobody has answered for, cancels. What is in a journal needs no such care.
 * H6  A run that waits for nothing but its time is let go of and rests. Until it wakes it is this daemon's in every answer.
 */
import type { Logger } from "pino";
import type { OutcomeMessage, TaskEntry } from "../../actors/task.ts";
import type { Metrics } from "../../tracing/metrics.ts";
import type { Tracing } from "../../tracing/tracing.ts";
import type { RunEvent } from "../../workflows/run-events.ts";
import type { Bus } from "../nats/connection.ts";
import type { Journals } from "../nats/journal.ts";
import { nuid } from "../nats/nats.ts";
import { openNewest } from "../nats/newest.ts";
import { openPayloads } from "../nats/payloads.ts";
import type { Subjects } from "../subjects.ts";
import { TransientMap } from "../transient-map.ts";
import { acceptRun } from "./accept-run.ts";
import type { ActiveRun, RunHostParts } from "./active-run.ts";
import { openChildRuns } from "./child-runs.ts";
import type { Clock } from "./clock.ts";
import type { Definitions } from "./definitions.ts";
import type { Mark } from "./exports.ts";
import type { JournalLimits } from "./journal-limits.ts";
import { type Cancel, openLoneEntries } from "./lone-entry.ts";
import type { ClaimReason, Writer } from "./make-events.ts";
import { cancelParked, type Decided, failParked, resumeParked } from "./parked-runs.ts";
import type { IncomingRequest } from "./request.ts";
import { openRestingRuns } from "./resting-runs.ts";
import { openResults } from "./results.ts";
import { type PreparedRetry, prepareRetry } from "./retried-run.ts";
import { openRunSnapshots } from "./run-snapshots.ts";
import { openRunTelling, type RunObserver } from "./run-telling.ts";
import type { NamedSignal } from "./signals.ts";
import { type TakenOver, takeOverRun } from "./take-over-run.ts";
import { type Answer, type DeskListener, openTaskDesk, type TaskDesk, type TaskDeskOptions } from "./task-desk.ts";
import { wakeRun } from "./wake-run.ts";

export type RunHostOptions = {
  bus: Bus;
  subjects: Subjects;
  journals: Journals<RunEvent[]>;
  taskJournals: Journals<TaskEntry>;
  definitions: Definitions;
  tracing: Tracing;
  clock: Clock;
  logger: Logger;
  /** Under it come the answers of workers. */
  inbox: string;
  writer: Writer;
  observer: RunObserver;
  acceptTimeoutMs: number;
  silenceMs: number;
  cancelGraceMs: number;
  metrics: Metrics;
  /** The most one value may take as JSON, in bytes. @default 64 MiB */
  maxPayloadBytes?: number;
  /** Whether an id has ever been a run's, as far as this daemon has seen. */
  known: (runId: string) => boolean;
  /** The living daemons that host an agent or a tool, each as `host/incarnation`. */
  workersOf: TaskDeskOptions["workersOf"];
  /** How far a host said that its durable spans are exported. */
  exportMark: (host: string) => Mark | undefined;
  /** How much the journal of one run may hold. */
  journalLimits: JournalLimits;
  /** Whether a daemon, by its incarnation, is alive. */
  isLiving: (incarnation: string) => boolean;
  /** How many runs may be at work here at once. */
  maxRuns: number;
};

/** A run whose owner is gone and that only waits, as the index knows it. */
type LeftResting = {
  runId: string;
  workflow: string;
  seq: number;
  dueMs: number;
  /** The instant of its newest entry. */
  lastMs: number;
  /** Whether it waits for the instant it was asked to start at. */
  isStart: boolean;
  by: string;
};

export type RunHost = {
  /**
   * Makes a request a run, or finds that it is one already; with `cancel` a run that ends before anything of it is done.
   * Rejects with UnavailableError while stopping.
   */
  accept(incoming: IncomingRequest, cancel?: Cancel & { seq: number }): Promise<"accepted" | "exists">;
  /** Takes over a run whose owner is gone; `from` is that owner's incarnation, where it is known: nobody else's is taken. */
  adopt(runId: string, reason: ClaimReason, from?: string): Promise<TakenOver>;
  /** Keeps a run that only waits, of an owner that is gone: it is taken over when its time has come and there is room for it. */
  keep(run: LeftResting, reason: ClaimReason): void;
  cancel(runId: string, seq: number, cancel: Cancel): boolean;
  /** Gives a named signal to a run; false where the run is not here. What it has taken already changes nothing. */
  signal(runId: string, seq: number, signal: NamedSignal): boolean;
  /** A run that another one asked for has ended; nothing happens where the parent is not here. */
  childEnded(parent: { runId: string; taskId: string }, childId: string): void;
  /** Stops a run whose parent is over. */
  cancelOrphan(childId: string, parentId: string): void;
  /** Cancels a run that stands still because nobody can continue it. */
  cancelParked(runId: string, cancel: Cancel & { seq: number }): Promise<Decided>;
  /** Takes up a run again that stands still; it is left to a daemon that has its definition where `isOffered` knows of one. */
  resumeParked(runId: string, isOffered: (workflow: string, hash: string) => boolean): Promise<Decided>;
  /** Ends a run that stands still as failed. */
  failParked(runId: string, reason?: string): Promise<Decided>;
  /** What a request has to say that tries a run again; `isOffered` knows the definitions of living daemons. */
  prepareRetry(
    asked: { runId: string; from?: string | undefined },
    isOffered: (workflow: string, hash: string) => boolean,
  ): Promise<PreparedRetry>;
  owns(runId: string): boolean;
  /** An entry was seen in the stream of journals. */
  seen(runId: string, events: readonly RunEvent[], seq: number): void;
  workerGone(incarnation: string): void;
  serversChanged(): void;
  /** This daemon's runs. */
  size(): number;
  /** How many more may be at work here; none may come while runs whose time has come wait for room. */
  room(): number;
  /** All of them by workflow. */
  byWorkflow(): Map<string, number>;
  /** Those that rest, by workflow. */
  restingByWorkflow(): Map<string, number>;
  /** Resolves when nothing is on its way to a journal. */
  settled(): Promise<void>;
  /** Lets go of every run, so that other daemons take them. */
  releaseAll(): void;
  stop(): void;
};

// Enough for the tasks of runs that failed or were cancelled within the last seconds at full load.
const MAX_OVER = 10_000;
// Daemons are back within half a second after each other.
const WORKERS_BACK_MS = 1_000;
// To keep a run for so long costs less than to read its journal again.
const REST_AT_LEAST_MS = 5_000;

/** Starts the run host of a daemon. */
export function startRunHost(options: RunHostOptions): RunHost {
  const { bus, subjects, journals, taskJournals, definitions, tracing, clock, logger, metrics } = options;
  const runs = new TransientMap<string, ActiveRun>();
  const payloads = openPayloads(bus.objects, subjects, { maxBytes: options.maxPayloadBytes });
  /** Requests that are being made runs: a redelivery waits for the answer, because it is acknowledged by it. */
  const beginning = new TransientMap<string, Promise<"accepted" | "exists">>();
  /** Runs that ended here lately, for workers that still hold a task of theirs. */
  const over = new Set<string>();
  const stopping = new AbortController();
  const eventPrefix = nuid.next();
  let eventCount = 0;

  const listener: DeskListener = {
    outcome(runId, message, respond) {
      const answer: Answer = (receipt) => {
        respond(receipt);
        if (receipt.type === "superseded") callOffNext(runId, message);
      };
      // Without the run here there is no answer (D4): its owner's inbox will be told to the worker.
      const run = runs.get(runId);
      if (run) run.outcome(message, answer);
      else if (resting.wake(runId, (awake) => awake.outcome(message, answer))) return;
      else if (over.has(runId)) answer({ type: "superseded" });
    },
    lost(runId, taskId, lost) {
      logger.warn({ runId, taskId, ...lost }, "task lost; sending it again");
      runs.get(runId)?.redeliver(taskId, lost);
    },
    unserved: (runId, taskId) => runs.get(runId)?.unserved(taskId),
    accepted: (runId, taskId, worker) => runs.get(runId)?.accepted(taskId, worker),
    unsendable: (runId, taskId, error) => runs.get(runId)?.unsendable(taskId, error),
    stray(runId, taskId, holder) {
      const run = runs.get(runId);
      if (run) run.stray(taskId, holder);
      else if (resting.wake(runId, (awake) => awake.stray(taskId, holder))) return;
      else if (over.has(runId)) desk.tellHolder(holder, { type: "cancel", taskId, reason: "the run is over" });
    },
  };
  const desk: TaskDesk = openTaskDesk({
    bus,
    subjects,
    logger,
    payloads,
    inbox: options.inbox,
    listener,
    acceptTimeoutMs: options.acceptTimeoutMs,
    silenceMs: options.silenceMs,
    workersOf: options.workersOf,
    checkOwnership: async () => {
      await Promise.all([...runs.values()].map(checkOwnership));
    },
  });
  const results = openResults(bus);
  const tell = openRunTelling({ bus, subjects, observer: options.observer, metrics, results });
  const stopListening = bus.onRestored(restored);
  let cancelAgain: NodeJS.Timeout | undefined;
  const children = openChildRuns({
    bus,
    subjects,
    logger,
    journals,
    payloads,
    stopping: stopping.signal,
    owns,
    known: options.known,
    now: () => clock.now(),
  });
  const host: RunHostParts = {
    children,
    journals,
    payloads,
    subjectOf: subjects.run,
    desk,
    clock,
    logger,
    newEventId: () => `${eventPrefix}${(eventCount++).toString(36)}`,
    newTaskId: (hop) => `h${hop}-${nuid.next().slice(-6)}`,
    writer: options.writer,
    stopping: stopping.signal,
    metrics,
    snapshots: openRunSnapshots(openNewest(bus, subjects.streams.snapshots), subjects.snapshot, logger),
    journalLimits: options.journalLimits,
    recorded: tell,
    quiet: rest,
    // H3
    closed(run, why) {
      const { runId, workflow } = run;
      if (why === "ended") remember(runId);
      if (runs.get(runId) === run) runs.delete(runId);
      logger.debug({ runId, workflow, why }, "run closed");
    },
  };
  const appendAlone = openLoneEntries(host, tracing, tell);
  const accepting = { runs, host, definitions, tracing, appendAlone };
  const takingOver = {
    ...accepting,
    children,
    taskJournals,
    taskSubject: subjects.task,
    exportMark: options.exportMark,
  };
  const isElsewhere = (incarnation: string) =>
    incarnation !== options.writer.incarnation && options.isLiving(incarnation);
  const resting = openRestingRuns({
    clock,
    logger,
    bring: (row) => wakeRun({ ...takingOver, isElsewhere }, row),
    room: () => (bus.connected() ? room() : 0),
    awake: rest,
  });

  return {
    async accept(incoming, cancel) {
      const { runId } = incoming;
      const begun = beginning.get(runId);
      if (begun) return begun.then(() => "exists");
      // A journal past its retention is gone, but its id is still taken.
      if (owns(runId) || options.known(runId)) return "exists";
      const starting = acceptRun(accepting, incoming, cancel);
      beginning.set(runId, starting);
      return starting.finally(() => beginning.delete(runId));
    },
    adopt: (runId, reason, from) => takeOverRun(takingOver, runId, reason, from),
    keep({ by, dueMs, lastMs, isStart, ...run }, reason) {
      if (owns(run.runId)) return;
      const aheadMs = isStart ? 0 : Math.max(0, lastMs - clock.now());
      resting.add({ ...run, dueMs: dueMs - aheadMs, ...(!isStart && { aheadMs }), left: { by, reason } });
    },
    cancel(runId, seq, cancel) {
      const run = runs.get(runId);
      if (!run) return resting.wake(runId, (awake) => cancelRun(awake, seq, cancel));
      cancelRun(run, seq, cancel);
      return true;
    },
    signal(runId, seq, { id, name, payload }) {
      const data = { seq, kind: "signal" as const, id, name, ...(payload !== undefined && { payload }) };
      const give = (run: ActiveRun) => run.fact({ type: "signal.received", data });
      const run = runs.get(runId);
      if (!run) return resting.wake(runId, give);
      give(run);
      return true;
    },
    childEnded(parent, childId) {
      const { runId } = parent;
      if (!owns(runId)) return;
      children.ended(parent, childId, (outcome) => {
        const run = runs.get(runId);
        if (run) run.outcome(outcome, () => {});
        else resting.wake(runId, (awake) => awake.outcome(outcome, () => {}));
      });
    },
    cancelOrphan: (childId, parentId) => children.cancel(childId, `its parent run ${parentId} is over`),
    cancelParked: (runId, cancel) => cancelParked(takingOver, runId, cancel),
    resumeParked: (runId, isOffered) => resumeParked(takingOver, runId, isOffered),
    failParked: (runId, reason) => failParked(takingOver, runId, reason),
    prepareRetry: (asked, isOffered) => prepareRetry(takingOver, asked, isOffered),
    owns,
    seen(runId, events, seq) {
      resting.seen(runId, seq);
      for (const { type, epoch, data } of events) {
        if (type !== "run.claimed" || data.incarnation === options.writer.incarnation) continue;
        const run = runs.get(runId);
        if (run && epoch > run.epoch) run.close("fenced");
      }
    },
    workerGone: (incarnation) => desk.workerGone(incarnation),
    serversChanged: () => desk.serversChanged(),
    size: () => runs.size + resting.size,
    room: () => (resting.isBehind() ? 0 : room()),
    restingByWorkflow: () => resting.byWorkflow(),
    byWorkflow() {
      const counts = resting.byWorkflow();
      for (const { workflow } of runs.values()) counts.set(workflow, (counts.get(workflow) ?? 0) + 1);
      return counts;
    },
    async settled() {
      await Promise.all([...runs.values()].map((run) => run.idle()));
    },
    releaseAll,
    stop() {
      stopping.abort();
      stopListening();
      clearTimeout(cancelAgain);
      results.stop();
      releaseAll();
      resting.stop();
      desk.stop();
    },
  };

  function owns(runId: string): boolean {
    return runs.has(runId) || resting.has(runId);
  }

  /** Those that something is at work on take room; the others only wait. */
  function room(): number {
    let busy = 0;
    for (const run of runs.values()) if (!run.isIdle) busy += 1;
    return options.maxRuns - busy;
  }

  function releaseAll() {
    resting.clear();
    for (const run of [...runs.values()]) run.close("released");
  }

  /** H6 */
  function rest(run: ActiveRun) {
    const { runId, workflow, rest, lastSeq: seq } = run;
    // Whoever wakes it has something for it first.
    if (!rest || resting.isWaking(runId)) return;
    if (rest.dueMs - clock.now() < REST_AT_LEAST_MS) return;
    run.close("resting");
    resting.add({ runId, workflow, ...rest, seq });
  }

  function cancelRun(run: ActiveRun, seq: number, { reason, by, force }: Cancel) {
    // One that ends already is hurried at most.
    if (run.ending && !force) return;
    run.note({ type: "signal.received", data: { seq, kind: "cancel" } });
    const data = {
      ...(reason !== undefined && { reason }),
      ...(by !== undefined && { by }),
      graceMs: options.cancelGraceMs,
      ...(force && { force }),
    };
    run.fact({ type: "run.cancelling", data });
  }

  // H5
  function restored() {
    void desk.restored();
    sayCancels();
    clearTimeout(cancelAgain);
    cancelAgain = setTimeout(sayCancels, WORKERS_BACK_MS);
    cancelAgain.unref();
  }

  /** Tells the workers of runs that are being cancelled once more. */
  function sayCancels() {
    if (!bus.connected()) return;
    for (const run of runs.values()) {
      if (run.callingOff) for (const { task } of run.openTasks()) run.accepted(task.taskId, undefined);
    }
  }

  /** Lets go of a run that was taken over while this process did not run. */
  async function checkOwnership(run: ActiveRun) {
    // What is on its way to the journal finds out by itself.
    await run.idle();
    const { lastSeq } = run;
    try {
      const last = await journals.last(subjects.run(run.runId));
      if (run.lastSeq === lastSeq && last && last.seq > lastSeq) run.close("fenced");
    } catch (error) {
      logger.debug({ runId: run.runId, err: error }, "could not check who owns the run");
    }
  }

  /** A handoff that came too late: the task its worker has sent on is nobody's. */
  function callOffNext(runId: string, message: OutcomeMessage) {
    const next = message.type === "handoff" ? message.next : undefined;
    if (!next?.forwarded) return;
    const isOpen = runs
      .get(runId)
      ?.openTasks()
      .some(({ task }) => task.taskId === next.taskId);
    if (!isOpen) desk.callOff(runId, next.taskId);
  }

  function remember(runId: string) {
    over.add(runId);
    if (over.size > MAX_OVER) over.delete(over.values().next().value as string);
  }
}
