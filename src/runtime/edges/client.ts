/** The client: starts runs, watches them and gets their results, from any process that reaches the same NATS. */
import type { WithRefs } from "../../actors/value-ref.ts";
import { RunFailedError, TroupeError, UnavailableError } from "../../errors.ts";
import type { RunEvent } from "../../workflows/run-events.ts";
import { type RunMetrics, runMetrics } from "../../workflows/run-metrics.ts";
import { applyEvents, type RunRecord, type RunResult } from "../../workflows/run-record.ts";
import type { ScheduleOptions } from "../../workflows/schedule.ts";
import type { RunListQuery, RunPage } from "../hosts/run-list.ts";
import type { LogLine } from "../hosts/run-logs.ts";
import { connectBus, type NatsOptions } from "../nats/connection.ts";
import { type NatsConnection, NatsError, nuid } from "../nats/nats.ts";
import { LARGE, openPayloads } from "../nats/payloads.ts";
import { subjectsFor } from "../subjects.ts";
import { followAllRuns } from "./all-runs-feed.ts";
import type { AgentListing } from "./api.ts";
import { apiCaller } from "./api-call.ts";
import type { DeadLetterAnswer, DeadLetterDone, DeadLetterPage } from "./dead-api.ts";
import { type DeadLetterRecord, openDeadLetter } from "./dead-letter-record.ts";
import { followRunLog } from "./follow-run-log.ts";
import type { JournalPage } from "./journal-pages.ts";
import { objectsOver } from "./objects-over.ts";
import type { OpenApproval } from "./open-approvals.ts";
import { readTranscript } from "./read-transcript.ts";
import { followRun, type LiveEvent } from "./run-feed.ts";
import { awaitRunEnd } from "./run-result.ts";
import type { ScheduleListing } from "./schedule-api.ts";
import type { SignalAnswer } from "./send-signal.ts";
import { watchRun } from "./watch-run.ts";
import { type WorkflowCalls, workflowCalls } from "./workflow-calls.ts";

export type ConnectOptions = Partial<Omit<NatsOptions, "waitAtStart">> & {
  /** A connection to use instead of an own one; `close` leaves it open. */
  connection?: NatsConnection;
  /** @default "troupe" */
  prefix?: string;
  /** How long a question is asked again while no daemon answers it, in milliseconds. @default 10000 */
  timeoutMs?: number;
  /** The most an input or an output may take as JSON, in bytes. @default 64 MiB */
  maxPayloadBytes?: number;
  /** Waits for a broker that is not there yet instead of failing. @default false */
  waitForBroker?: boolean;
};

export type StartOptions = {
  /** The version to run: a label, a hash, or a number as in `#3`. @default the current one */
  version?: string;
  /** Starting a second run with the same id gives the first one. @default a new id */
  runId?: string;
  sessionId?: string;
  userId?: string;
  metadata?: { [key: string]: unknown };
  /** When to start, at the earliest. */
  notBefore?: string | Date;
  /** How long the run may take, in milliseconds. */
  timeoutMs?: number;
  /** A NATS subject that gets the result as well. */
  replyTo?: string;
  /** W3C trace context of the caller; the run joins its trace. */
  traceparent?: string;
};

export type ResultOptions = {
  /** How long to wait, in milliseconds. @default as long as it takes */
  timeoutMs?: number;
  /** Stops waiting; the run goes on. */
  signal?: AbortSignal;
};

export type EventsOptions = {
  /** The number of the first event. @default 1 */
  from?: number;
  signal?: AbortSignal;
  /** Whether to pass on what is only live, such as `model.delta`. @default true */
  live?: boolean;
  /** Whether values that were too large for a message are read; an event without them says in `refs` where they are. @default true */
  whole?: boolean;
};

export type LogsOptions = {
  /** Goes on with what is logged from now on, to the run's end. @default false */
  follow?: boolean;
  signal?: AbortSignal;
};

export type FeedOptions = {
  /** @default all */
  workflow?: string;
  signal?: AbortSignal;
};

export type Client = WorkflowCalls & {
  /**
   * Starts a run; it is durable when this resolves.
   *
   * @throws NotFoundError `unknown_workflow`; PayloadTooLargeError.
   */
  start(workflow: string, input: unknown, options?: StartOptions): Promise<{ runId: string }>;
  /**
   * Waits for a run's output.
   *
   * @throws RunFailedError when it failed or was cancelled; TroupeError `not_finished` after `timeoutMs`; NotFoundError
   * `unknown_run`.
   */
  result<T = unknown>(runId: string, options?: ResultOptions): Promise<T>;
  /** Starts a run and waits for its output; `timeoutMs` is the run's own. Throws what `start` and `result` throw. */
  run<T = unknown>(
    workflow: string,
    input: unknown,
    options?: StartOptions & Pick<ResultOptions, "signal">,
  ): Promise<T>;
  /** A run's events, from the beginning and then live, without gap or repeat, to its end. */
  events(runId: string, options: EventsOptions & { live: false }): AsyncIterable<RunEvent>;
  events(runId: string, options?: EventsOptions): AsyncIterable<RunEvent | LiveEvent>;
  /** Events of all runs, or those of one workflow, from now on until `signal` aborts. Some may be missing. */
  feed(options?: FeedOptions): AsyncIterable<RunEvent | LiveEvent>;
  get(runId: string): Promise<RunRecord>;
  /**
   * The run as it is now, and again whenever something has happened, to its end. What happens while nobody reads is taken
   * together. A connection that is lost for a while loses nothing.
   */
  watch(runId: string, options?: { signal?: AbortSignal }): AsyncIterable<RunRecord>;
  /** What the run's agents and tools logged, in order. @throws NotFoundError `unknown_run`. */
  logs(runId: string, options?: LogsOptions): AsyncIterable<LogLine>;
  /** What the run took so far, in sum and by step. @throws NotFoundError `unknown_run`. */
  metrics(runId: string): Promise<RunMetrics>;
  /** Runs, newest first, a page at a time. */
  list(query?: RunListQuery): Promise<RunPage>;
  /**
   * Asks for a run to be stopped; what has to be undone then is. With `force` nothing is waited for and nothing more is undone,
   * also where the run is being undone already.
   *
   * @throws TroupeError `run_finished`; NotFoundError `unknown_run`.
   */
  cancel(runId: string, options?: { reason?: string; by?: string; force?: boolean }): Promise<void>;
  /**
   * Makes a new run of one that failed or was cancelled: with its input and the definition it was bound to. What the steps had
   * given that completed is taken over, unless it was undone, or comes after something that runs again; the rest runs. With
   * `from` that step and what comes after it run again in any case, also of a run that completed. Asked again with the same
   * `newRunId` (default a new id), it is the same run.
   *
   * @throws TroupeError `cannot_retry`; NotFoundError `unknown_run`.
   */
  retry(
    runId: string,
    options?: { from?: string; newRunId?: string; traceparent?: string },
  ): Promise<{ runId: string }>;
  /**
   * Takes a parked run up again, with its own definition or the one a daemon has now.
   *
   * @throws TroupeError `cannot_resume` with the reason where its journal fits neither, `not_parked`, `run_finished`;
   * NotFoundError `unknown_run`.
   */
  resume(runId: string): Promise<void>;
  /** Ends a parked run as failed, with the code `parked`. Throws what `resume` throws, but `cannot_resume`. */
  fail(runId: string, options?: { reason?: string }): Promise<void>;
  /**
   * Sends a run a named signal; one that comes before its step begins is kept for it. `taken` is false where nobody drives the
   * run at the moment: it is durable, and taken later.
   *
   * @throws UsageError `unknown_signal`, `invalid_payload` with the path; TroupeError `too_many_signals`, `run_finished`;
   * NotFoundError `unknown_run`.
   */
  signal(runId: string, name: string, payload?: unknown): Promise<{ taken: boolean }>;
  /**
   * Decides an approval; the first decision counts.
   *
   * @throws TroupeError `already_decided`, `not_waiting`, `not_assigned`, `run_finished`; UsageError `invalid_payload` where
   * there is no such choice.
   */
  approve(runId: string, decision?: DecideOptions): Promise<{ taken: boolean }>;
  /** The approvals that wait for a decision, those of the oldest runs first, at most `limit` (default 100). */
  approvals(query?: { workflow?: string; assignee?: string; limit?: number }): Promise<OpenApproval[]>;
  /** All events recorded so far, from number `from` (default 1) on. */
  journal(runId: string, from?: number): Promise<RunEvent[]>;
  /**
   * The run as text: who said what, tools, handoffs. The same for the same run: no ids, no times, steps as the definition has
   * them.
   */
  transcript(runId: string): Promise<string>;
  agents(): Promise<AgentListing[]>;
  /** All schedules by name: what they are, when they are due next, and what they started last. */
  schedules(): Promise<ScheduleListing[]>;
  /**
   * Makes a schedule, or puts another one in its place; with `paused` it does not fire. Of one that is in a daemon's
   * configuration only `paused` can be changed.
   *
   * @throws UsageError with everything that is wrong with it; NotFoundError `unknown_workflow`; TroupeError `schedule_declared`.
   */
  putSchedule(name: string, schedule: ScheduleOptions): Promise<ScheduleListing>;
  /** Deletes a schedule; its runs stay. @throws NotFoundError `unknown_schedule`; TroupeError `schedule_declared`. */
  deleteSchedule(name: string): Promise<void>;
  /** What could not be handled, newest first, a page of at most 100 at a time (`limit`, default 50). */
  deadLetters(query?: { limit?: number; cursor?: string }): Promise<DeadLetterPage>;
  /** One of them with its message. @throws NotFoundError `unknown_dead_letter`. */
  deadLetter(seq: number): Promise<DeadLetterRecord>;
  /**
   * Sends its message again to where it came from and removes the letter. A request is for the same run as before.
   *
   * @throws TroupeError `cannot_redrive` where not all of the message is kept, or no worker takes the task; NotFoundError
   * `unknown_dead_letter`.
   */
  redrive(seq: number): Promise<{ runId?: string }>;
  /** Removes a dead letter for good. @throws NotFoundError `unknown_dead_letter`. */
  drop(seq: number): Promise<void>;
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
};

export type DecideOptions = {
  /** @default "approve" */
  choice?: string;
  /** The step that asks. @default the only one that waits */
  step?: string;
  /** Who decides. */
  by?: string;
  comment?: string;
};

const DEFAULT_SERVER = "nats://127.0.0.1:4222";
const DEFAULT_TIMEOUT_MS = 10_000;
// A run just started cannot be over sooner than the live feed says so.
const FIRST_ASK_AFTER_START_MS = 2_000;
// For these, "unknown" means "still at the door".
const MAX_STARTED = 10_000;

/**
 * Connects to the NATS of a troupe: `options.servers`, or `NATS_URL`, or nats://127.0.0.1:4222.
 *
 * @throws UnavailableError when the broker cannot be reached.
 */
export async function connect(options: ConnectOptions = {}): Promise<Client> {
  const { nc, disconnect } = await reach(options);
  const subjects = subjectsFor(options.prefix);
  const { timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  const call = apiCaller({ nc, root: subjects.api, timeoutMs });
  const payloads = openPayloads(objectsOver(nc), subjects, { maxBytes: options.maxPayloadBytes });
  const started = new Set<string>();

  return {
    start,
    async result<T>(runId: string, { timeoutMs, signal }: ResultOptions = {}) {
      const end = listenForEnd(runId, 0);
      try {
        const result = await end.wait(withTimeout(runId, timeoutMs, signal));
        return outputOf<T>(await payloads.resolve(result));
      } finally {
        end.stop();
      }
    },
    async run<T>(
      workflow: string,
      input: unknown,
      { signal, ...options }: StartOptions & { signal?: AbortSignal } = {},
    ) {
      const { runId = nuid.next() } = options;
      const fresh = options.runId === undefined;
      const end = listenForEnd(runId, fresh ? FIRST_ASK_AFTER_START_MS : 0);
      try {
        await start(workflow, input, { ...options, runId });
        return outputOf<T>(await payloads.resolve(await end.wait(signal)));
      } finally {
        end.stop();
      }
    },
    events: events as Client["events"],
    feed: ({ workflow, signal } = {}) =>
      wholeEvents(
        followAllRuns(nc, workflow === undefined ? subjects.allEvents : subjects.event(workflow, "*", ">"), signal),
      ),
    get,
    watch: (runId, { signal } = {}) =>
      watchRun((until) => (events as Client["events"])(runId, { live: false, signal: until }), signal),
    logs: (runId, { follow = false, signal } = {}) =>
      followRunLog({
        nc,
        subject: subjects.event("*", runId, "log.line"),
        follow,
        signal,
        page: (from) => call("runs.logs", { runId, from }, { signal }),
        async ended(over) {
          const end = listenForEnd(runId, 0);
          await end.wait(over).finally(() => end.stop());
        },
        mayCome: () => started.has(runId),
      }),
    metrics,
    list: (query = {}) => call<RunPage>("runs.list", query),
    async cancel(runId, options = {}) {
      await call("runs.cancel", { runId, ...options });
    },
    async retry(runId, { from, newRunId = nuid.next(), traceparent } = {}) {
      await call("runs.retry", { runId, newRunId, ...(from !== undefined && { from }) }, { traceparent });
      remember(newRunId);
      return { runId: newRunId };
    },
    async resume(runId) {
      await call("runs.resume", { runId });
    },
    async fail(runId, options = {}) {
      await call("runs.fail", { runId, ...options });
    },
    signal,
    approve: (runId, { choice = "approve", step, by, comment } = {}) =>
      signal(runId, "approval", { choice, step, by, comment }),
    approvals: async (query = {}) => (await call<{ approvals: OpenApproval[] }>("approvals.list", query)).approvals,
    journal,
    transcript: (runId) =>
      readTranscript({
        journal: () => journal(runId),
        taskPage: (taskId, from) => call("tasks.journal", { runId, taskId, from }),
        whole: (entry) => payloads.resolve(entry),
        workflow: (name) => call("workflows.get", { workflow: name }),
      }),
    ...workflowCalls(call),
    agents: async () => (await call<{ agents: AgentListing[] }>("agents.list", {})).agents,
    deadLetters: (query = {}) => call<DeadLetterPage>("dead.list", query),
    schedules: async () => (await call<{ schedules: ScheduleListing[] }>("schedules.list", {})).schedules,
    putSchedule: (name, schedule) => call("schedules.put", { ...schedule, name }),
    async deleteSchedule(name) {
      await call("schedules.delete", { name });
    },
    deadLetter: async (seq) => openDeadLetter(await call<DeadLetterAnswer>("dead.show", { seq })),
    async redrive(seq) {
      const { runId } = await call<DeadLetterDone>("dead.redrive", { seq });
      return runId === undefined ? {} : { runId };
    },
    async drop(seq) {
      await call("dead.drop", { seq });
    },
    close: disconnect,
    [Symbol.asyncDispose]: disconnect,
  };

  async function start(workflow: string, input: unknown, options: StartOptions = {}): Promise<{ runId: string }> {
    const { traceparent, runId = nuid.next(), notBefore, ...rest } = options;
    const instant = notBefore instanceof Date ? notBefore.toISOString() : notBefore;
    // JSON has no undefined, and a request needs an input.
    const body = {
      workflow,
      input: input ?? null,
      runId,
      ...rest,
      ...(instant !== undefined && { notBefore: instant }),
    };
    await call("runs.start", body, {
      traceparent,
      async smaller(bytes) {
        const signal = AbortSignal.timeout(timeoutMs);
        const about = { what: "runs.start", fields: LARGE.request, bytes, room: payloads.room(0), signal };
        const [left] = await payloads.detach([body], about);
        return { ...left, input: null };
      },
    });
    remember(runId);
    return { runId };
  }

  function remember(runId: string) {
    started.add(runId);
    if (started.size > MAX_STARTED) started.delete(started.values().next().value as string);
  }

  /** The id makes it one signal however often it has to be asked. */
  async function signal(runId: string, name: string, payload?: unknown): Promise<{ taken: boolean }> {
    const { taken } = await call<SignalAnswer>("runs.signal", { runId, name, payload, id: nuid.next() });
    return { taken };
  }

  async function get(runId: string): Promise<RunRecord> {
    try {
      return await payloads.resolve(await call<RunRecord>("runs.get", { runId }));
    } catch (error) {
      if (!(error instanceof TroupeError) || error.code !== "payload_too_large") throw error;
      // The record does not fit into one answer; its journal comes in pages.
      return applyEvents(undefined, await journal(runId));
    }
  }

  async function metrics(runId: string): Promise<RunMetrics> {
    try {
      return await call<RunMetrics>("runs.metrics", { runId });
    } catch (error) {
      if (!(error instanceof TroupeError) || error.code !== "payload_too_large") throw error;
      const measured = runMetrics(await journal(runId));
      if (!measured) throw error;
      return measured;
    }
  }

  async function journal(runId: string, from = 1): Promise<RunEvent[]> {
    const all: RunEvent[] = [];
    for (let next: number | undefined = from; next !== undefined; ) {
      const page: JournalPage = await call("runs.journal", { runId, from: next });
      for (const event of page.events) all.push(await payloads.resolve(event));
      next = page.next;
    }
    return all;
  }

  function events(runId: string, { from = 1, live = true, whole = true, signal }: EventsOptions = {}) {
    const run = followRun({
      nc,
      subject: subjects.eventsOf(runId),
      from,
      live,
      signal,
      journal: (next) => call("runs.journal", { runId, from: next }, { signal }),
      mayCome: () => started.has(runId),
    });
    return whole ? wholeEvents(run) : run;
  }

  /** One at a time, when it is asked for: what is not read yet stays where it is. */
  async function* wholeEvents<Event extends RunEvent | LiveEvent>(
    events: AsyncGenerator<Event, void, undefined>,
  ): AsyncGenerator<Event, void, undefined> {
    for await (const event of events) yield await payloads.resolve<Event>(event as Event & WithRefs);
  }

  function listenForEnd(runId: string, firstAskMs: number) {
    return awaitRunEnd({
      nc,
      subject: subjects.endsOf(runId),
      ask: (signal) => call("runs.result", { runId }, { signal }),
      mayCome: () => started.has(runId),
      firstAskMs,
    });
  }
}

function outputOf<T>(result: RunResult): T {
  if (result.status === "completed") return result.output as T;
  throw new RunFailedError(result.runId, result.status, result.error);
}

function withTimeout(runId: string, timeoutMs: number | undefined, signal: AbortSignal | undefined) {
  if (timeoutMs === undefined) return signal;
  const timeout = new AbortController();
  const reason = new TroupeError("not_finished", `run ${runId} is not finished after ${timeoutMs} ms`);
  setTimeout(() => timeout.abort(reason), timeoutMs).unref();
  return signal ? AbortSignal.any([signal, timeout.signal]) : timeout.signal;
}

async function reach(options: ConnectOptions): Promise<{ nc: NatsConnection; disconnect(): Promise<void> }> {
  const {
    connection,
    waitForBroker = false,
    prefix: _prefix,
    timeoutMs: _ms,
    maxPayloadBytes: _most,
    ...rest
  } = options;
  if (connection) return { nc: connection, disconnect: async () => {} };
  const servers = rest.servers ?? process.env.NATS_URL ?? DEFAULT_SERVER;
  try {
    const bus = await connectBus({
      name: "troupe-client",
      inboxPrefix: "_INBOX_client",
      ...rest,
      servers: typeof servers === "string" ? servers.split(",") : servers,
      waitAtStart: waitForBroker,
    });
    return { nc: bus.nc, disconnect: () => bus.close() };
  } catch (error) {
    if (!(error instanceof NatsError)) throw error;
    throw new UnavailableError(`cannot connect to NATS at ${String(servers)}: ${error.message}`, { cause: error });
  }
}
