/**
 * Sends a named signal to a run, and tells its sender what the run made of it.
 *
 * Invariants
 * G1  Only the run's journal says what became of a signal. What is wrong with one is looked for before it is sent, so that the
 *     journal is not filled with mistakes; whoever is second in a race is told by the journal.
 * G2  The same id is the same signal: asked again, because an answer was lost, the answer is that of the first time.
 */
import { PayloadTooLargeError, TroupeError, UsageError } from "../../errors.ts";
import { APPROVAL_SIGNAL } from "../../workflows/check-step-kinds.ts";
import { misfit, unknownSignal, wrongDecision } from "../../workflows/outside-waits.ts";
import { readDecision } from "../../workflows/read-decision.ts";
import { isTerminal, type RunEvent } from "../../workflows/run-events.ts";
import { applyEvents, type RunRecord } from "../../workflows/run-record.ts";
import { signalStepsOf } from "../../workflows/step-waits.ts";
import { MAX_SIGNALS } from "../../workflows/supervisor-machine.ts";
import type { Definitions } from "../hosts/definitions.ts";
import type { Signal } from "../hosts/signals.ts";
import type { Bus } from "../nats/connection.ts";
import { nuid } from "../nats/nats.ts";
import type { Subjects } from "../subjects.ts";
import { ConflictError } from "./api-errors.ts";
import type { ApiRequest } from "./api-requests.ts";
import type { RunWatch } from "./run-watch.ts";

export type SendSignalParts = {
  bus: Bus;
  subjects: Subjects;
  watch: RunWatch;
  definitions: Pick<Definitions, "pinned">;
  /** The run's journal, without large values; undefined where there is none. */
  journalOf(runId: string): Promise<readonly RunEvent[] | undefined>;
  /** Throws where the run is unknown or over. */
  checkUnfinished(runId: string): Promise<void>;
};

/** `taken` says whether the run has it on record; one that nobody drives at the moment takes it later. */
export type SignalAnswer = { runId: string; seq: number; taken: boolean };

// Below the time after which a client asks another daemon.
const TAKEN_WITHIN_MS = 1_500;
const PUBLISH_TIMEOUT_MS = 5_000;
const ENVELOPE_BYTES = 256;

/** Makes the function that sends signals. */
export function signalSender(parts: SendSignalParts) {
  const { bus, subjects, watch, definitions, journalOf, checkUnfinished } = parts;
  return async function send({
    runId,
    name,
    payload,
    id = nuid.next(),
  }: ApiRequest<"runs.signal">): Promise<SignalAnswer> {
    const taken = watch.first(runId, (events) => verdictIn(events, id));
    try {
      const journal = await journalOf(runId);
      // G2: also where the run is over by now
      const before = journal && verdictIn(journal, id);
      if (before && !before.ended) return answerOf(runId, before, journal);
      await checkUnfinished(runId);
      // G1
      if (journal) check(runId, journal, name, payload);
      const seq = await publish(runId, {
        v: 1,
        kind: "signal",
        id,
        at: new Date().toISOString(),
        name,
        ...(payload !== undefined && { payload }),
      });
      const verdict = await taken.within(TAKEN_WITHIN_MS);
      if (!verdict) return { runId, seq, taken: false };
      return answerOf(runId, verdict, verdict.refusal && (await journalOf(runId)));
    } finally {
      taken.stop();
    }
  };

  /** What speaks against a signal before it is sent. */
  function check(runId: string, journal: readonly RunEvent[], name: string, payload: unknown) {
    const sent = journal.filter(({ type, data }) => type === "signal.received" && data.kind === "signal").length;
    if (sent >= MAX_SIGNALS) {
      throw new ConflictError("too_many_signals", `run ${runId} has had ${MAX_SIGNALS} signals and takes no more`);
    }
    const record = applyEvents(undefined, journal);
    if (name === APPROVAL_SIGNAL) return checkDecision(record, payload);
    const definition = record.hash === undefined ? undefined : definitions.pinned(record.workflow, record.hash);
    // Another daemon's; the run's owner says what is wrong.
    if (definition?.kind !== "deterministic") return;
    if (record.status === "cancelling" || (record.status === "failing" && !definition.onFailure)) {
      throw refusal({ code: "not_waiting", message: `run ${runId} is ${record.status} and waits for no signals` });
    }
    const steps = signalStepsOf(definition);
    const asking = steps.flatMap((step) =>
      step.kind === "wait" && step.wait.signal === name ? [misfit(step.wait, payload ?? null)] : [],
    );
    if (asking.length === 0) throw refusal({ code: "unknown_signal", message: unknownSignal(name, steps) });
    const [problem] = asking;
    if (problem !== undefined && !asking.includes(undefined))
      throw refusal({ code: "invalid_payload", message: problem });
  }

  async function publish(runId: string, signal: Signal): Promise<number> {
    const subject = subjects.signal(runId);
    const data = Buffer.from(JSON.stringify(signal));
    const limit = bus.nc.info?.max_payload ?? Number.POSITIVE_INFINITY;
    if (data.length + ENVELOPE_BYTES > limit) throw new PayloadTooLargeError(subject, data.length, limit);
    // G2
    const { seq } = await bus.js.publish(subject, data, { msgID: signal.id, timeout: PUBLISH_TIMEOUT_MS });
    return seq;
  }
}

function checkDecision(record: RunRecord, payload: unknown) {
  const open = record.current.flatMap((work) => (work.kind === "approval" ? [work] : []));
  const read = readDecision(
    payload ?? null,
    open.map(({ step }) => step),
  );
  if ("code" in read) throw refusal(read, record, payload);
  const approval = open.find(({ step }) => step === read.step);
  const problem = approval && wrongDecision({ approval }, read);
  if (problem) throw refusal(problem);
}

type Verdict = { seq: number; refusal?: { code: string; message: string }; payload?: unknown; ended?: true };

/** What a journal says of the signal with this id; the end of the run says that it came too late. */
function verdictIn(events: readonly RunEvent[], id: string): Verdict | undefined {
  const received = events.find(
    (event) => event.type === "signal.received" && event.data.kind === "signal" && event.data.id === id,
  );
  if (received?.type !== "signal.received" || received.data.kind !== "signal") {
    return events.some(({ type }) => isTerminal(type)) ? { seq: 0, ended: true } : undefined;
  }
  const { seq, payload } = received.data;
  const refused = events.find((event) => event.type === "signal.refused" && event.data.seq === seq);
  if (refused?.type !== "signal.refused") return { seq };
  return { seq, refusal: refused.data, payload };
}

function answerOf(runId: string, verdict: Verdict, journal: readonly RunEvent[] | undefined): SignalAnswer {
  const { seq, refusal: refused, payload, ended } = verdict;
  if (ended) throw new ConflictError("run_finished", `run ${runId} ended before it took the signal`, { runId });
  if (refused) throw refusal(refused, journal && applyEvents(undefined, journal), payload);
  return { runId, seq, taken: true };
}

/** The error for a signal that is refused. Of an approval that was decided already it says by whom, where a record says so. */
function refusal(
  { code, message }: { code: string; message: string },
  record?: RunRecord,
  payload?: unknown,
): TroupeError {
  switch (code) {
    case "invalid_payload":
    case "unknown_signal":
      return new UsageError(message, code);
    case "not_waiting": {
      const decided = record && decidedBefore(record, payload);
      return decided === undefined
        ? new ConflictError("not_waiting", message)
        : new ConflictError("already_decided", decided);
    }
    case "not_assigned":
      return new ConflictError("not_assigned", message);
    default:
      return new TroupeError(code, message);
  }
}

function decidedBefore({ steps }: RunRecord, payload: unknown): string | undefined {
  const wanted = (payload as { step?: unknown } | null | undefined)?.step;
  const row = steps.findLast(
    ({ id, kind, status }) =>
      kind === "approval" && (status === "completed" || status === "failed") && (wanted === undefined || id === wanted),
  );
  if (!row) return undefined;
  const { choice, by } = (row.output ?? {}) as { choice?: string; by?: string | null };
  const how = choice === undefined ? (row.error?.message ?? row.status) : choice;
  return `step ${row.id} was decided already: ${how}${by ? ` by ${by}` : ""}${row.endedAt ? ` at ${row.endedAt}` : ""}`;
}
