/**
 * The run host: every run this daemon owns, how runs get here, and how they leave.
 *
 * Invariants
 * H1  A run is here only after this daemon's claim is in its journal.
 * H2  Whoever has to know about an entry (the index, the spans, the live feed, `replyTo`) hears of it after it is stored and
 *     in its order.
 * H3  A run that is not driven here any more is forgotten whole: memory is that of the runs in flight.
 */
import type { Logger } from "pino";
import { validateOutput } from "../../actors/schemas.ts";
import type { TaskEntry } from "../../actors/task.ts";
import { FencedError, PayloadTooLargeError, toErrorRecord, UnavailableError } from "../../errors.ts";
import type { Metrics } from "../../tracing/metrics.ts";
import { runTrace } from "../../tracing/traceparent.ts";
import type { Tracing } from "../../tracing/tracing.ts";
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import type { RunSetup } from "../../workflows/plan.ts";
import { isTerminal, type RunEvent, type RunEventBody, type RunTrace } from "../../workflows/run-events.ts";
import { FoldError, fold, isDone, setupOf } from "../../workflows/supervisor.ts";
import type { Bus } from "../nats/connection.ts";
import type { Entry, Journals } from "../nats/journal.ts";
import { nuid } from "../nats/nats.ts";
import type { Subjects } from "../subjects.ts";
import { type ActiveRun, activateRun, type CloseReason, type Position, type RunHostParts } from "./active-run.ts";
import type { Clock } from "./clock.ts";
import type { Definitions } from "./definitions.ts";
import { encodeEntry } from "./encode-entry.ts";
import { exportedUpTo, type Mark } from "./exports.ts";
import type { IncomingRequest } from "./request.ts";
import { type DeskListener, openTaskDesk, type TaskDesk } from "./task-desk.ts";

export type ClaimReason = Extract<RunEventBody, { type: "run.claimed" }>["data"]["reason"];

/** What is told about a run when it is over. The wire form of a result. */
export type RunResult = {
  runId: string;
  workflow: string;
  status: "completed" | "failed" | "cancelled";
  output?: unknown;
  error?: { code: string; message: string };
};

/** Hears of every entry this daemon stored. */
type RunObserver = {
  entry(runId: string, workflow: string, events: readonly RunEvent[], seq: number): void;
};

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
  writer: { host: string; incarnation: string };
  observer: RunObserver;
  acceptTimeoutMs: number;
  silenceMs: number;
  cancelGraceMs: number;
  metrics: Metrics;
  /** Whether an id has ever been a run's, as far as this daemon has seen. */
  known: (runId: string) => boolean;
  /** The living daemons that host an agent, each as `host/incarnation`. */
  workersOf: (agent: string) => readonly string[];
  /** How far a host said that its durable spans are exported. */
  exportMark: (host: string) => Mark | undefined;
};

type Cancel = { reason?: string; by?: string };

export type RunHost = {
  /**
   * Makes a request a run, or finds that it is one already; with `cancel` a run that ends before anything of it is done.
   * Rejects with UnavailableError while stopping.
   */
  accept(incoming: IncomingRequest, cancel?: Cancel & { seq: number }): Promise<"accepted" | "exists">;
  /** Takes over a run whose owner is gone; `from` is that owner's incarnation, where it is known: nobody else's is taken. */
  adopt(
    runId: string,
    reason: ClaimReason,
    from?: string,
  ): Promise<"adopted" | "ended" | "elsewhere" | "parked" | "unknown">;
  cancel(runId: string, seq: number, cancel: Cancel): boolean;
  /** Cancels a run that stands still because nobody can continue it. */
  cancelParked(runId: string, cancel: Cancel & { seq: number }): Promise<void>;
  owns(runId: string): boolean;
  /** Another daemon's claim was seen in the journal. */
  superseded(runId: string, epoch: number): void;
  workerGone(incarnation: string): void;
  serversChanged(): void;
  /** Runs in this daemon's hands. */
  size(): number;
  /** Those of them that something is at work on; the others only wait. */
  busy(): number;
  /** The same by workflow. */
  byWorkflow(): Map<string, number>;
  /** Resolves when nothing is on its way to a journal. */
  settled(): Promise<void>;
  /** Lets go of every run, so that other daemons take them. */
  releaseAll(): void;
  stop(): void;
};

/** How a `run.parked` begins that ends by itself when a daemon with the definition appears. */
export const NO_DEFINITION = "no_definition:";

// Enough for the tasks of runs that failed or were cancelled within the last seconds at full load.
const MAX_OVER = 10_000;

/** As much of a run as telling others about it takes. */
type Told = { runId: string; workflow: string; setup: RunSetup | undefined };

/** Starts the run host of a daemon. */
export function startRunHost(options: RunHostOptions): RunHost {
  const {
    bus,
    subjects,
    journals,
    taskJournals,
    definitions,
    tracing,
    clock,
    logger,
    inbox,
    writer,
    observer,
    metrics,
  } = options;
  const runs = new Map<string, ActiveRun>();
  /** Requests whose journal is being opened: a redelivery waits for the answer, because it is acknowledged by it. */
  const beginning = new Map<string, Promise<"accepted" | "exists">>();
  /** Runs that ended here lately, for workers that still hold a task of theirs. */
  const over = new Set<string>();
  const stopping = new AbortController();
  const eventPrefix = nuid.next();
  let eventCount = 0;

  const listener: DeskListener = {
    outcome(runId, message, answer) {
      // Without the run here there is no answer (D4): its owner's inbox will be told to the worker.
      const run = runs.get(runId);
      if (run) run.outcome(message, answer);
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
      else if (over.has(runId)) desk.tellHolder(holder, { type: "cancel", taskId, reason: "the run is over" });
    },
  };
  const desk: TaskDesk = openTaskDesk({
    bus,
    subjects,
    logger,
    inbox,
    listener,
    acceptTimeoutMs: options.acceptTimeoutMs,
    silenceMs: options.silenceMs,
    workersOf: options.workersOf,
    checkOwnership: async () => {
      await Promise.all([...runs.values()].map(checkOwnership));
    },
  });
  const parts: RunHostParts = {
    journals,
    subjectOf: subjects.run,
    desk,
    clock,
    logger,
    newEventId: () => `${eventPrefix}${(eventCount++).toString(36)}`,
    newTaskId: (hop) => `h${hop}-${nuid.next().slice(-6)}`,
    writer,
    stopping: stopping.signal,
    metrics,
    recorded: (run, events, texts, seq) => tell(run, events, texts, seq),
    closed(run, why) {
      if (why === "ended") remember(run.runId);
      if (runs.get(run.runId) === run) runs.delete(run.runId);
      logClose(run, why);
    },
  };

  return {
    async accept(incoming, cancel) {
      const { runId } = incoming;
      const begun = beginning.get(runId);
      if (begun) return begun.then(() => "exists");
      // A journal past its retention is gone, but its id is still taken.
      if (runs.has(runId) || options.known(runId)) return "exists";
      const definition = definitions.current(incoming.workflow);
      if (cancel) return endAtOnce(incoming, cancelledAtOnce(cancel), definition);
      const refusal = refusalOf(incoming, definition);
      if (refusal || !definition)
        return refuse(incoming, refusal ?? { code: "unknown_workflow", message: incoming.workflow });
      const starting = start(incoming, definition);
      beginning.set(runId, starting);
      return starting.finally(() => beginning.delete(runId));
    },

    async adopt(runId, reason, from) {
      if (runs.has(runId)) return "adopted";
      const entries = await journals.read(subjects.run(runId));
      if (runs.has(runId)) return "adopted";
      const events = entries.flatMap(({ value }) => value);
      const [accepted] = events;
      if (accepted?.type !== "run.accepted") return "unknown";
      if (events.some(({ type }) => isTerminal(type))) return "ended";
      // Somebody was quicker than the index told.
      if (from !== undefined && lastClaim(events)?.incarnation !== from) return "elsewhere";
      return takeOver(accepted, entries, events, reason);
    },

    cancel(runId, seq, { reason, by }) {
      const run = runs.get(runId);
      if (!run) return false;
      if (run.cancelling) return true;
      run.note({ type: "signal.received", data: { seq, kind: "cancel" } });
      const data = {
        ...(reason !== undefined && { reason }),
        ...(by !== undefined && { by }),
        graceMs: options.cancelGraceMs,
      };
      run.fact({ type: "run.cancelling", data });
      return true;
    },

    async cancelParked(runId, cancel) {
      const entries = await journals.read(subjects.run(runId));
      const events = entries.flatMap(({ value }) => value);
      const [accepted] = events;
      const last = events.at(-1);
      if (accepted?.type !== "run.accepted" || !last || last.type !== "run.parked") return;
      const position = { seq: entries.at(-1)?.seq ?? 0, n: last.n, epoch: last.epoch + 1 };
      const bodies = [claimedEvent("takeover"), ...cancelledAtOnce(cancel)];
      await appendAlone(runId, accepted.data.workflow, accepted.data.trace, bodies, position, events);
    },
    owns: (runId) => runs.has(runId),
    superseded(runId, epoch) {
      const run = runs.get(runId);
      if (run && epoch > run.epoch) run.close("fenced");
    },
    workerGone: (incarnation) => desk.workerGone(incarnation),
    serversChanged: () => desk.serversChanged(),
    size: () => runs.size,
    busy() {
      let busy = 0;
      for (const run of runs.values()) if (!run.isIdle) busy += 1;
      return busy;
    },
    byWorkflow() {
      const counts = new Map<string, number>();
      for (const { workflow } of runs.values()) counts.set(workflow, (counts.get(workflow) ?? 0) + 1);
      return counts;
    },
    async settled() {
      await Promise.all([...runs.values()].map((run) => run.idle()));
    },
    releaseAll() {
      for (const run of [...runs.values()]) run.close("released");
    },
    stop() {
      stopping.abort();
      for (const run of [...runs.values()]) run.close("released");
      desk.stop();
    },
  };

  async function start(incoming: IncomingRequest, definition: WorkflowDefinition): Promise<"accepted" | "exists"> {
    const { runId, workflow } = incoming;
    const accepted = acceptedEvent(incoming, definition);
    const projection = tracing.run(runId, workflow, accepted.data.trace);
    const run = activateRun(parts, { runId, definition, projection, position: { seq: 0, n: 0, epoch: 1 } });
    runs.set(runId, run);
    try {
      await run.begin(accepted, claimedEvent("accepted"));
      return "accepted";
    } catch (error) {
      run.close("fenced");
      if (error instanceof FencedError) return "exists";
      if (error instanceof UnavailableError) throw error;
      // A supervisor that cannot begin, an input the journal cannot hold: the run fails with the reason.
      return refuse(incoming, toErrorRecord(error), definition);
    }
  }

  /** A request that cannot be a run still becomes one, failed: whoever asked is told, and it is seen in lists. */
  async function refuse(
    incoming: IncomingRequest,
    error: { code: string; message: string },
    definition?: WorkflowDefinition,
  ): Promise<"accepted" | "exists"> {
    return endAtOnce(incoming, [{ type: "run.failed", data: { error } }], definition);
  }

  async function endAtOnce(
    incoming: IncomingRequest,
    end: readonly RunEventBody[],
    definition?: WorkflowDefinition,
  ): Promise<"accepted" | "exists"> {
    const { runId, workflow } = incoming;
    const accepted = acceptedEvent(incoming, definition);
    try {
      await write(accepted);
    } catch (failure) {
      if (failure instanceof FencedError) return "exists";
      if (!(failure instanceof PayloadTooLargeError)) throw failure;
      // Whatever was too large, what remains is small: names, times and the trace.
      const { workflow, replyTo, trace, version, hash, kind } = accepted.data;
      const known = {
        ...(version !== undefined && { version }),
        ...(hash !== undefined && { hash }),
        ...(kind && { kind }),
      };
      await write({
        ...accepted,
        data: { input: null, ...(replyTo !== undefined && { replyTo }), workflow, trace, ...known },
      });
    }
    return "accepted";

    async function write(first: RunEventBody & { type: "run.accepted" }) {
      const bodies: RunEventBody[] = [first, claimedEvent("accepted"), ...end];
      await appendAlone(runId, workflow, first.data.trace, bodies, { seq: 0, n: 0, epoch: 1 });
    }
  }

  async function takeOver(
    accepted: RunEvent & { type: "run.accepted" },
    entries: readonly Entry<RunEvent[]>[],
    events: readonly RunEvent[],
    reason: ClaimReason,
  ): Promise<"adopted" | "elsewhere" | "parked" | "unknown"> {
    const { runId, data } = accepted;
    const definition = data.hash === undefined ? undefined : definitions.pinned(data.workflow, data.hash);
    if (!definition) return parkUnread(accepted, entries);
    const last = events.at(-1) as RunEvent;
    const position = { seq: entries.at(-1)?.seq ?? 0, n: last.n, epoch: last.epoch, at: Date.parse(last.at) };
    const projection = tracing.run(runId, data.workflow, data.trace);
    projection.replayed(events);
    const exported = exportedUpTo(entries, options.exportMark);
    const folded = foldOrReason(definition, events);
    const deliveries = deliveriesOf(events);
    const snapshot = folded.snapshot;
    const run = activateRun(parts, {
      runId,
      definition,
      projection,
      position,
      ...(snapshot && { snapshot }),
      deliveries,
    });
    runs.set(runId, run);
    try {
      await run.claim(claimedEvent(reason));
    } catch (error) {
      run.close("fenced");
      if (error instanceof FencedError) return "elsewhere";
      throw error;
    }
    exportAgain(entries, exported, run.lastSeq);
    if (!snapshot || isDone(snapshot)) {
      run.park(new FoldError(folded.reason ?? "the journal's facts end the run, its events do not"));
      return "parked";
    }
    logger.info({ runId, workflow: data.workflow, reason, epoch: run.epoch }, "run taken over");
    run.resumeTimers();
    // Not waited for: claims are what there is little time for, and those who answer have all the time they need.
    findTasks(run, reason === "handed-over" ? lastOwner(events) : undefined).catch((error: unknown) =>
      logger.error({ runId, err: error }, "could not look for the run's tasks"),
    );
    return "adopted";
  }

  /** What the last owner recorded it may not have exported any more; the same spans twice are one span. */
  function exportAgain(entries: readonly Entry<RunEvent[]>[], exported: number, claimSeq: number) {
    void tracing.reproject(
      entries.map(({ seq, value }) => ({ seq, events: value })),
      exported,
      claimSeq,
    );
  }

  /** Says on record why a run stands still that no living daemon has the definition for. */
  async function parkUnread(
    accepted: RunEvent & { type: "run.accepted" },
    entries: readonly Entry<RunEvent[]>[],
  ): Promise<"parked" | "elsewhere"> {
    const { runId, data } = accepted;
    const events = entries.flatMap(({ value }) => value);
    const { n, epoch } = events.at(-1) as RunEvent;
    const reason = `${NO_DEFINITION} no living daemon has workflow ${data.workflow} as this run started with it (${data.hash})`;
    const parked: RunEventBody[] = [claimedEvent("takeover"), { type: "run.parked", data: { reason } }];
    const exported = exportedUpTo(entries, options.exportMark);
    try {
      const position = { seq: entries.at(-1)?.seq ?? 0, n, epoch: epoch + 1 };
      const claimSeq = await appendAlone(runId, data.workflow, data.trace, parked, position, events);
      exportAgain(entries, exported, claimSeq);
    } catch (error) {
      if (error instanceof FencedError) return "elsewhere";
      throw error;
    }
    logger.warn({ runId, workflow: data.workflow, hash: data.hash }, "run parked: no living daemon has its definition");
    return "parked";
  }

  /** One entry for a run that nobody drives. */
  async function appendAlone(
    runId: string,
    workflow: string,
    trace: RunTrace,
    bodies: readonly RunEventBody[],
    position: Position,
    before: readonly RunEvent[] = [],
  ): Promise<number> {
    const at = new Date(clock.now()).toISOString();
    const { n, epoch } = position;
    const events = bodies.map(
      (body, i) =>
        ({
          v: 1,
          id: parts.newEventId(),
          type: body.type,
          runId,
          n: n + i + 1,
          at,
          epoch,
          data: body.data,
        }) as RunEvent,
    );
    const [{ id }] = events as [RunEvent];
    const { texts, body } = encodeEntry(events);
    const seq = await journals.append(subjects.run(runId), body, {
      expected: position.seq,
      id,
      signal: stopping.signal,
    });
    const projection = tracing.run(runId, workflow, trace);
    if (before.length > 0) projection.replayed(before);
    projection.recorded(events, seq);
    const [accepted] = [...before, ...events];
    const setup = accepted?.type === "run.accepted" ? setupOf(accepted) : undefined;
    tell({ runId, workflow, setup }, events, texts, seq);
    return seq;
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

  /** Learns where a taken-over run's tasks are: done, at work somewhere, or to be sent again. */
  async function findTasks(run: ActiveRun, leaver: string | undefined) {
    const open = run.openTasks();
    if (open.length === 0) return;
    const sought = open.map(({ task }) => ({ task, traceparent: run.traceparent(task.taskId) }));
    const found = desk.whereAre(run.runId, sought, leaver);
    const stored = await Promise.all(open.map(({ task }) => storedOutcome(run.runId, task.taskId)));
    for (const entry of stored) if (entry?.type === "outcome") run.outcome(entry.outcome, () => {});
    await found;
    for (const { task } of open) {
      if (!run.isOpen || desk.isTaken(run.runId, task.taskId)) continue;
      run.redeliver(task.taskId, { reason: "not found after a takeover" });
    }
    // Workers that answered are told once more what their run has come to.
    if (run.cancelling) for (const { task } of open) run.accepted(task.taskId, undefined);
  }

  async function storedOutcome(runId: string, taskId: string): Promise<TaskEntry | undefined> {
    try {
      return (await taskJournals.last(subjects.task(runId, taskId)))?.value;
    } catch (error) {
      logger.debug({ runId, taskId, err: error }, "could not look for a stored outcome");
      return undefined;
    }
  }

  // H2
  function tell(run: Told, events: readonly RunEvent[], texts: readonly Uint8Array[], seq: number) {
    const { runId, workflow } = run;
    observer.entry(runId, workflow, events, seq);
    for (let i = 0; i < events.length; i += 1) {
      const event = events[i] as RunEvent;
      bus.nc.publish(subjects.event(workflow, runId, event.type), texts[i]);
    }
    if (events[0]?.type === "run.accepted") metrics.runAccepted(workflow);
    const last = events.at(-1);
    if (last && isTerminal(last.type)) sendResult(run, last);
  }

  function sendResult({ runId, workflow, setup }: Told, terminal: RunEvent) {
    const result = resultOf(workflow, runId, terminal);
    if (!result) return;
    if (setup?.request.replyTo) bus.nc.publish(setup.request.replyTo, JSON.stringify(result));
    const since = Date.parse(setup?.acceptedAt ?? terminal.at);
    metrics.runEnded({
      workflow,
      status: result.status,
      seconds: (Date.parse(terminal.at) - since) / 1_000,
      ...(result.error && { error: result.error.code }),
    });
  }

  function remember(runId: string) {
    over.add(runId);
    if (over.size > MAX_OVER) over.delete(over.values().next().value as string);
  }

  function acceptedEvent(incoming: IncomingRequest, definition: WorkflowDefinition | undefined) {
    const { runId, workflow, request, traceparent } = incoming;
    const timeoutMs = request.timeoutMs ?? definition?.timeoutMs;
    return {
      type: "run.accepted" as const,
      data: {
        ...request,
        ...(timeoutMs !== undefined && { timeoutMs }),
        workflow,
        ...(definition && { version: definition.version, hash: definition.hash, kind: definition.kind }),
        ...(definition?.kind === "deterministic" && { steps: definition.steps.length }),
        trace: runTrace(runId, traceparent, (traceId) => tracing.decideSampling(traceId)),
      },
    };
  }

  function claimedEvent(reason: ClaimReason): RunEventBody {
    return { type: "run.claimed", data: { ...writer, reason } };
  }

  function logClose(run: ActiveRun, why: CloseReason) {
    logger.debug({ runId: run.runId, workflow: run.workflow, why }, "run closed");
  }
}

function cancelledAtOnce({ seq, reason, by }: Cancel & { seq: number }): RunEventBody[] {
  const why = reason !== undefined && { reason };
  return [
    { type: "signal.received", data: { seq, kind: "cancel" } },
    { type: "run.cancelling", data: { ...why, ...(by !== undefined && { by }) } },
    { type: "run.cancelled", data: { ...why } },
  ];
}

function refusalOf({ problem, workflow, request }: IncomingRequest, definition: WorkflowDefinition | undefined) {
  if (problem !== undefined) return { code: "invalid_request", message: problem };
  if (!definition) return { code: "unknown_workflow", message: `no workflow is named ${JSON.stringify(workflow)}` };
  if (!definition.input) return undefined;
  const checked = validateOutput(definition.input, request.input);
  return checked.ok ? undefined : { code: "invalid_input", message: `input: ${checked.problems.join("; ")}` };
}

function foldOrReason(definition: WorkflowDefinition, events: readonly RunEvent[]) {
  try {
    return { snapshot: fold(definition, events) };
  } catch (error) {
    const { code, message } = toErrorRecord(error, "cannot_fold");
    return { snapshot: undefined, reason: `${code}: ${message}` };
  }
}

/** The worker of the daemon that owned a run last. */
function lastOwner(events: readonly RunEvent[]): string | undefined {
  const claim = lastClaim(events);
  return claim && `${claim.host}/${claim.incarnation}`;
}

function lastClaim(events: readonly RunEvent[]): { host: string; incarnation: string } | undefined {
  const claim = events.findLast((event) => event.type === "run.claimed");
  return claim?.type === "run.claimed" ? claim.data : undefined;
}

function deliveriesOf(events: readonly RunEvent[]): Map<string, number> {
  const deliveries = new Map<string, number>();
  for (const event of events) if (event.type === "task.sent") deliveries.set(event.data.taskId, event.data.delivery);
  return deliveries;
}

/** The result a terminal event stands for. */
export function resultOf(workflow: string, runId: string, event: RunEvent): RunResult | undefined {
  switch (event.type) {
    case "run.completed":
      return { runId, workflow, status: "completed", output: event.data.output };
    case "run.failed":
      return { runId, workflow, status: "failed", error: event.data.error };
    case "run.cancelled":
      return {
        runId,
        workflow,
        status: "cancelled",
        error: { code: "cancelled", message: event.data.reason ?? "the run was cancelled" },
      };
    default:
      return undefined;
  }
}
