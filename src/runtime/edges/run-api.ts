/** What the API answers about runs. An answer about one run rests on its journal; the index lists, and wakes who waits. */
import type { TaskEntry } from "../../actors/task.ts";
import { NotFoundError, PayloadTooLargeError, UnavailableError } from "../../errors.ts";
import { CannotRetryError } from "../../workflows/reused-steps.ts";
import { isTerminal, type RunEvent } from "../../workflows/run-events.ts";
import { type RunMetrics, runMetrics } from "../../workflows/run-metrics.ts";
import { applyEvents, type RunRecord, type RunResult, resultOf } from "../../workflows/run-record.ts";
import type { Definitions } from "../hosts/definitions.ts";
import type { Decided } from "../hosts/parked-runs.ts";
import type { PreparedRetry } from "../hosts/retried-run.ts";
import type { RunIndex } from "../hosts/run-index.ts";
import type { RunPage } from "../hosts/run-list.ts";
import type { CancelSignal, Signal } from "../hosts/signals.ts";
import type { Bus } from "../nats/connection.ts";
import type { Journals } from "../nats/journal.ts";
import { standIns, withRefs } from "../nats/large-values.ts";
import { headers, type MsgHdrs, nuid } from "../nats/nats.ts";
import { LARGE, type Payloads } from "../nats/payloads.ts";
import { type Subjects, TRACEPARENT_HEADER } from "../subjects.ts";
import { ConflictError } from "./api-errors.ts";
import type { ApiRequest } from "./api-requests.ts";
import { mayWaitAtDoor } from "./door-search.ts";
import { type JournalPage, openJournalPages } from "./journal-pages.ts";
import { limitConcurrency } from "./limit-concurrency.ts";
import { type OpenApproval, openApprovals } from "./open-approvals.ts";
import { openRunLogPages, type RunLogPage } from "./run-log-pages.ts";
import { watchRuns } from "./run-watch.ts";
import { type SignalAnswer, signalSender } from "./send-signal.ts";
import { readTaskPage, type TaskJournalPage } from "./task-pages.ts";

export type RunApiParts = {
  bus: Bus;
  subjects: Subjects;
  index: RunIndex;
  journals: Journals<RunEvent[]>;
  taskJournals: Pick<Journals<TaskEntry>, "read">;
  payloads: Payloads;
  /** Whether a workflow, or a version of it, can be started in this troupe; and that version's hash, where it is known. */
  startable(workflow: string, version: string | undefined): Promise<{ version?: string } | undefined>;
  /** The definitions this daemon has. */
  definitions: Pick<Definitions, "pinned">;
  parked: ParkedRuns;
  retries: RunRetries;
};

/** Says what a request has to say that tries a run again; throws where that cannot be. */
export type RunRetries = {
  prepare(asked: { runId: string; from?: string | undefined }): Promise<PreparedRetry>;
};

/** Decides about runs that no daemon could continue. */
export type ParkedRuns = {
  resume(runId: string): Promise<Decided>;
  fail(runId: string, reason?: string): Promise<Decided>;
};

export type RunApi = {
  start(request: ApiRequest<"runs.start">, sent: MsgHdrs | undefined): Promise<{ runId: string; existing?: true }>;
  get(request: ApiRequest<"runs.get">): Promise<RunRecord>;
  list(request: ApiRequest<"runs.list">): RunPage;
  taskJournal(request: ApiRequest<"tasks.journal">): Promise<TaskJournalPage>;
  result(request: ApiRequest<"runs.result">): Promise<RunResult>;
  cancel(request: ApiRequest<"runs.cancel">): Promise<{ runId: string }>;
  retry(request: ApiRequest<"runs.retry">, sent: MsgHdrs | undefined): Promise<{ runId: string; existing?: true }>;
  resume(request: ApiRequest<"runs.resume">): Promise<{ runId: string }>;
  fail(request: ApiRequest<"runs.fail">): Promise<{ runId: string }>;
  signal(request: ApiRequest<"runs.signal">): Promise<SignalAnswer>;
  approvals(request: ApiRequest<"approvals.list">): { approvals: OpenApproval[] };
  journal(request: ApiRequest<"runs.journal">): Promise<JournalPage>;
  logs(request: ApiRequest<"runs.logs">): Promise<RunLogPage>;
  metrics(request: ApiRequest<"runs.metrics">): Promise<RunMetrics>;
  /** Answers everyone who waits that this daemon stops. */
  close(): void;
};

// From the door to the first entry of a journal is milliseconds, unless no daemon has room.
const GRACE_MS = 1_000;
// Each read is a consumer of its own while it lasts.
const MAX_READS = 16;
const PUBLISH_TIMEOUT_MS = 5_000;
// What the broker counts beside the body: headers, and the envelope of an answer.
const ENVELOPE_BYTES = 256;

/** Makes the handlers of `runs.*`. */
export function openRunApi(parts: RunApiParts): RunApi {
  const { bus, subjects, index, journals, taskJournals, payloads, startable, definitions, parked, retries } = parts;
  const watch = watchRuns(index);
  const reading = limitConcurrency(MAX_READS);
  const readPage = openJournalPages(journals);
  const readLog = openRunLogPages(bus, subjects);
  let closed = false;
  const signal = signalSender({
    bus,
    subjects,
    watch,
    definitions,
    checkUnfinished,
    async journalOf(runId) {
      const entries = await reading(() => journals.read(subjects.run(runId)));
      if (entries.length === 0) return undefined;
      return entries.flatMap(({ value }) => value.map((event) => (event.refs ? standIns(event) : event)));
    },
  });

  return {
    async start({ workflow, runId = nuid.next(), version, ...request }, sent) {
      const found = await startable(workflow, version);
      if (!found) throw await unknownTo(workflow, version);
      // The door would find the same; this saves the way.
      if (index.known(runId)) return { runId, existing: true };
      await publish(
        subjects.request(workflow),
        await fitting({ runId, ...found, ...request }),
        sent?.get(TRACEPARENT_HEADER),
      );
      return { runId };
    },

    async get({ runId }) {
      const events = await eventsOf(runId);
      // Nothing is read that whoever asks can read: where values are is all that has to be known.
      const hasRefs = events.some(({ refs }) => refs !== undefined);
      return hasRefs ? withRefs(applyEvents(undefined, events.map(standIns))) : applyEvents(undefined, events);
    },

    list: (request) => index.list(request),

    taskJournal: ({ runId, taskId, from }) =>
      reading(() => readTaskPage(taskJournals, subjects.task(runId, taskId), { from, room: roomInAnswer() })),

    async result({ runId, waitMs }) {
      const giveUpAt = performance.now() + waitMs;
      const end = watch.first(runId, terminalIn);
      try {
        const newest = (await newestOf(runId)) ?? (await whenThere(runId, Math.max(waitMs, GRACE_MS)));
        const event =
          terminalIn(newest) ??
          (await end.within(giveUpAt - performance.now())) ??
          // The index may be behind.
          (waitMs > 0 ? terminalIn((await newestOf(runId)) ?? []) : undefined);
        const result = event && resultOf(event);
        if (result) return result;
      } finally {
        end.stop();
      }
      checkOpen();
      const status = index.get(runId)?.status ?? "running";
      throw new ConflictError("not_finished", `run ${runId} is ${status}, not finished`, { runId, status });
    },

    async cancel({ runId, reason, by, force }) {
      await checkUnfinished(runId);
      const why = { ...(reason !== undefined && { reason }), ...(by !== undefined && { by }) };
      await sendCancel(runId, { ...why, ...(force && { force }) });
      return { runId };
    },

    async retry({ runId, from, newRunId = nuid.next() }, sent) {
      if (newRunId === runId)
        throw new CannotRetryError(`newRunId: expected another id than that of the run, got ${runId}`);
      // Asked a second time, it is there.
      if (index.known(newRunId)) return { runId: newRunId, existing: true };
      const { workflow, retryOf } = await retries.prepare({ runId, from });
      // Its input is that of the run before.
      const request = { runId: newRunId, input: null, retryOf };
      await publish(subjects.request(workflow), request, sent?.get(TRACEPARENT_HEADER));
      return { runId: newRunId };
    },

    async resume({ runId }) {
      return answerOf(runId, await parked.resume(runId));
    },

    async fail({ runId, reason }) {
      return answerOf(runId, await parked.fail(runId, reason));
    },

    signal,
    approvals: (request) => ({ approvals: openApprovals(index, request) }),

    async journal({ runId, from }) {
      const page = () => reading(() => readPage(subjects.run(runId), from, roomInAnswer()));
      const found = await page();
      if (found) return found;
      await whenThere(runId, GRACE_MS);
      const late = await page();
      if (late) return late;
      throw unknownRun(runId);
    },

    async logs({ runId, from }) {
      const room = (bus.nc.info?.max_payload ?? Number.POSITIVE_INFINITY) - ENVELOPE_BYTES;
      const page = await readLog(runId, from, room);
      // A run that logged nothing is not unknown.
      if (page.lines.length === 0 && !index.known(runId)) await whenThere(runId, GRACE_MS);
      return page;
    },

    async metrics({ runId }) {
      const metrics = runMetrics(await eventsOf(runId));
      if (!metrics) throw unknownRun(runId);
      return metrics;
    },

    close() {
      closed = true;
      watch.close();
    },
  };

  function roomInAnswer(): number {
    return (bus.nc.info?.max_payload ?? Number.POSITIVE_INFINITY) - ENVELOPE_BYTES;
  }

  async function unknownTo(workflow: string, version: string | undefined): Promise<NotFoundError> {
    const name = JSON.stringify(workflow);
    if (version === undefined || !(await startable(workflow, undefined))) {
      return new NotFoundError(`no living daemon has a workflow ${name}`, "unknown_workflow");
    }
    return new NotFoundError(`no living daemon has a version ${JSON.stringify(version)} of ${name}`, "unknown_version");
  }

  function checkOpen() {
    if (closed) throw new UnavailableError("this daemon is stopping; ask again");
  }

  async function eventsOf(runId: string): Promise<RunEvent[]> {
    const subject = subjects.run(runId);
    let entries = await reading(() => journals.read(subject));
    if (entries.length === 0) {
      await whenThere(runId, GRACE_MS);
      entries = await reading(() => journals.read(subject));
    }
    return entries.flatMap(({ value }) => value);
  }

  async function newestOf(runId: string): Promise<RunEvent[] | undefined> {
    return (await journals.last(subjects.run(runId)))?.value;
  }

  /** Waits for a run that may just be on its way from the door into its journal. */
  async function whenThere(runId: string, ms: number): Promise<RunEvent[]> {
    const appeared = watch.first(runId, (events) => events);
    try {
      const newest = (await newestOf(runId)) ?? ((await appeared.within(ms)) && (await newestOf(runId)));
      if (newest) return newest;
    } finally {
      appeared.stop();
    }
    checkOpen();
    const last = await newestOf(runId);
    if (last) return last;
    throw unknownRun(runId);
  }

  async function checkUnfinished(runId: string): Promise<void> {
    // A request leaves the door only after its run is in the journal: looked at in this order, a run cannot slip through.
    const there = (await newestOf(runId)) ?? ((await mayWaitAtDoor(bus, subjects, runId)) ? [] : await newestOf(runId));
    if (!there) throw unknownRun(runId);
    const end = terminalIn(there);
    if (end) {
      throw finishedRun(runId, end);
    }
  }

  async function answerOf(runId: string, decided: Decided): Promise<{ runId: string }> {
    switch (decided.is) {
      case "done":
        return { runId };
      case "unknown":
        await checkUnfinished(runId);
        throw new ConflictError("not_parked", `run ${runId} has not begun yet`);
      case "ended":
        await checkUnfinished(runId);
        throw unknownRun(runId);
      case "not parked":
        throw new ConflictError("not_parked", `run ${runId} is not parked: it goes on by itself`);
      case "elsewhere":
        throw new UnavailableError(`run ${runId}: another daemon has it or its definition; ask again`);
      case "impossible":
        throw new ConflictError("cannot_resume", `run ${runId} cannot go on: ${decided.problem}`);
      default:
        return decided satisfies never;
    }
  }

  async function sendCancel(runId: string, why: Pick<CancelSignal, "reason" | "by">): Promise<void> {
    const message: Signal = { v: 1, kind: "cancel", id: nuid.next(), at: new Date().toISOString(), ...why };
    await publish(subjects.signal(runId), message);
  }

  /** A request as it fits into a message at the door, where it has more around it than here. */
  async function fitting(request: { runId: string; input?: unknown }): Promise<object> {
    const bytes = Buffer.byteLength(JSON.stringify(request));
    const room = payloads.room(ENVELOPE_BYTES);
    if (bytes <= room) return request;
    const [left] = await payloads.detach([request], { what: "runs.start", fields: LARGE.request, bytes, room });
    return { ...left, input: null };
  }

  async function publish(subject: string, body: object, traceparent?: string): Promise<void> {
    const data = Buffer.from(JSON.stringify(body));
    const limit = bus.nc.info?.max_payload ?? Number.POSITIVE_INFINITY;
    if (data.length + ENVELOPE_BYTES > limit) throw new PayloadTooLargeError(subject, data.length, limit);
    const hdrs = headers();
    if (traceparent) hdrs.set(TRACEPARENT_HEADER, traceparent);
    await bus.js.publish(subject, data, { headers: hdrs, timeout: PUBLISH_TIMEOUT_MS });
  }
}

function terminalIn(events: readonly RunEvent[]): RunEvent | undefined {
  return events.find(({ type }) => isTerminal(type));
}

function finishedRun(runId: string, { type }: RunEvent): ConflictError {
  const status = type.slice("run.".length);
  return new ConflictError("run_finished", `run ${runId} is ${status} already`, { runId, status });
}

function unknownRun(runId: string): NotFoundError {
  return new NotFoundError(`no run ${JSON.stringify(runId)}`, "unknown_run");
}
