/**
 * What the API does with dead letters: list, show, send again, drop. Their ids are their sequences in the stream.
 *
 * Invariants
 * V1  A letter is removed only after its message is where it belongs: a request in its queue, a task with a worker. Dying in
 *     between leaves both, and the request is the same run again.
 * V2  A message goes back only to where requests or tasks of this prefix go, whatever its letter says.
 */
import type { TaskAnswer } from "../../actors/task.ts";
import { NotFoundError, PayloadTooLargeError, UsageError } from "../../errors.ts";
import { type DeadLetter, messageOf } from "../hosts/dead-letters.ts";
import type { Bus } from "../nats/connection.ts";
import { headers, NatsError, type StoredMsg } from "../nats/nats.ts";
import { NoRespondersError } from "../nats/requests.ts";
import { RUN_ID_HEADER, SENT_AGAIN_HEADER, type Subjects, TRACEPARENT_HEADER } from "../subjects.ts";
import { ConflictError } from "./api-errors.ts";
import type { ApiRequest } from "./api-requests.ts";
import { limitConcurrency } from "./limit-concurrency.ts";

/** A dead letter as `dead.show` gives it; the message is as it is stored. */
export type DeadLetterAnswer = DeadLetter & {
  /** Its id: the sequence in the stream. */
  seq: number;
  kind: "requests" | "tasks";
  /** Whether it holds all of the message, so that it can be sent again. */
  whole: boolean;
};

/** A dead letter in a list. */
export type DeadLetterSummary = Omit<DeadLetterAnswer, "v" | "data" | "encoding" | "cut">;

export type DeadLetterPage = {
  /** Newest first. */
  letters: DeadLetterSummary[];
  /** How many there are in all. */
  total: number;
  /** Where the next page begins; absent on the last one. */
  cursor?: string;
};

/** What became of a letter. */
export type DeadLetterDone = { seq: number; subject: string; runId?: string };

export type DeadApi = {
  list(request: ApiRequest<"dead.list">): Promise<DeadLetterPage>;
  show(request: ApiRequest<"dead.show">): Promise<DeadLetterAnswer>;
  redrive(request: ApiRequest<"dead.redrive">): Promise<DeadLetterDone>;
  drop(request: ApiRequest<"dead.drop">): Promise<DeadLetterDone>;
};

// A page is read letter by letter, and each may be as long as a message can be.
const MAX_READS = 8;
const PUBLISH_TIMEOUT_MS = 5_000;
// A worker says at once whether it takes a task; one that looks into the task's journal first takes a moment.
const TASK_TIMEOUT_MS = 2_500;
// What the broker counts beside the body.
const HEADER_BYTES = 512;
// There is a stream, and nothing at this sequence.
const NO_MESSAGE_FOUND = 10_037;

/** Makes the handlers of `dead.*`. */
export function openDeadApi({ bus, subjects }: { bus: Bus; subjects: Subjects }): DeadApi {
  const stream = subjects.streams.dead;
  const reading = limitConcurrency(MAX_READS);

  return {
    async list({ limit, cursor }) {
      const jsm = await bus.jsm();
      const { state } = await jsm.streams.info(stream, { deleted_details: true });
      const gone = new Set(state.deleted ?? []);
      const wanted: number[] = [];
      const start = cursor === undefined ? state.last_seq : Math.min(state.last_seq, sequenceOf(cursor) - 1);
      // An empty stream's first sequence is the next one, or 0.
      for (let seq = start; seq >= Math.max(1, state.first_seq) && wanted.length <= limit; seq -= 1) {
        if (!gone.has(seq)) wanted.push(seq);
      }
      const page = wanted.slice(0, limit);
      const found = await Promise.all(page.map((seq) => reading(() => find(seq))));
      const letters = found.flatMap((letter) => (letter ? [summaryOf(letter)] : []));
      return {
        letters,
        total: state.messages,
        ...(wanted.length > limit && { cursor: String(page.at(-1)) }),
      };
    },

    show: ({ seq }) => get(seq),

    async redrive({ seq }) {
      const letter = await get(seq);
      const message = messageOf(letter);
      if (!message) throw cannotRedrive(letter, whyNotWhole(letter));
      if (letter.kind === "requests") await sendRequest(letter, message);
      else await sendTask(letter, message);
      // V1
      await remove(seq);
      return doneWith(letter);
    },

    async drop({ seq }) {
      const letter = await get(seq);
      await remove(seq);
      return doneWith(letter);
    },
  };

  async function get(seq: number): Promise<DeadLetterAnswer> {
    const letter = await find(seq);
    if (!letter) throw new NotFoundError(`no dead letter ${seq}`, "unknown_dead_letter");
    return letter;
  }

  async function find(seq: number): Promise<DeadLetterAnswer | undefined> {
    const jsm = await bus.jsm();
    try {
      return readLetter(await jsm.streams.getMessage(stream, { seq }), subjects);
    } catch (error) {
      if (error instanceof NatsError && error.api_error?.err_code === NO_MESSAGE_FOUND) return undefined;
      throw error;
    }
  }

  async function remove(seq: number): Promise<void> {
    const jsm = await bus.jsm();
    try {
      await jsm.streams.deleteMessage(stream, seq);
    } catch (error) {
      // Somebody else was at it at the same time.
      if (await find(seq)) throw error;
    }
  }

  async function sendRequest(letter: DeadLetterAnswer, message: Uint8Array): Promise<void> {
    const { subject, runId, traceparent } = letter;
    // V2
    if (!matches(subject, subjects.request("*"))) throw cannotRedrive(letter, `${subject} is no subject of requests`);
    const limit = bus.nc.info?.max_payload ?? Number.POSITIVE_INFINITY;
    if (message.length + HEADER_BYTES > limit) throw new PayloadTooLargeError(subject, message.length, limit);
    const hdrs = headers();
    // Not `Nats-Msg-Id`: within two minutes the broker would take it for the first one and store nothing.
    if (runId !== undefined) hdrs.set(RUN_ID_HEADER, runId);
    if (traceparent !== undefined) hdrs.set(TRACEPARENT_HEADER, traceparent);
    await bus.js.publish(subject, message, {
      headers: hdrs,
      timeout: PUBLISH_TIMEOUT_MS,
      expect: { streamName: subjects.streams.requests },
    });
  }

  /** Nobody waits for its outcome here: the worker stores it in the task's journal, where the run's owner looks. */
  async function sendTask(letter: DeadLetterAnswer, message: Uint8Array): Promise<void> {
    const { subject } = letter;
    // V2
    if (!matches(subject, subjects.mailbox("*"))) throw cannotRedrive(letter, `${subject} is no mailbox`);
    const answer = await askWorker(subject, message).catch((error: unknown) => {
      if (error instanceof NoRespondersError) throw cannotRedrive(letter, `no worker serves ${subject}`);
      throw error;
    });
    if (answer.type === "busy") throw cannotRedrive(letter, `no worker of ${subject} has room now; try it later`);
    if (answer.type === "failed" && answer.error.code === "bad_task") {
      throw cannotRedrive(letter, `the worker still refuses it: ${answer.error.message}`);
    }
  }

  async function askWorker(subject: string, message: Uint8Array): Promise<TaskAnswer> {
    const options = { timeoutMs: TASK_TIMEOUT_MS, header: [SENT_AGAIN_HEADER, "1"] as const };
    return (await bus.request(subject, message, options)).json<TaskAnswer>();
  }
}

/** The letter in a stored message; what is none is shown as well, so that it can be looked at and dropped. */
function readLetter(stored: StoredMsg, subjects: Subjects): DeadLetterAnswer {
  const { seq, subject } = stored;
  const kind = subject.startsWith(subjects.dead("tasks", "")) ? "tasks" : "requests";
  try {
    const letter = stored.json<DeadLetter>();
    if (letter.v === 1 && typeof letter.data === "string" && typeof letter.reason.code === "string") {
      return { ...letter, seq, kind, whole: messageOf(letter) !== undefined };
    }
  } catch {
    // Falls through to the same words.
  }
  const text = stored.string();
  return {
    seq,
    kind,
    whole: false,
    v: 1,
    at: stored.time.toISOString(),
    subject,
    reason: { code: "no_dead_letter", message: "somebody else wrote this to the dead letters" },
    bytes: stored.data.length,
    data: text,
  };
}

function summaryOf({ v: _v, data: _data, encoding: _encoding, cut: _cut, ...rest }: DeadLetterAnswer) {
  return rest;
}

function doneWith({ seq, subject, runId }: DeadLetterAnswer): DeadLetterDone {
  return { seq, subject, ...(runId !== undefined && { runId }) };
}

function whyNotWhole({ bytes, data, cut }: DeadLetterAnswer): string {
  if (!cut) return "its message is damaged";
  return `the message had ${bytes} bytes, more than a letter can hold, and only the first ${Buffer.byteLength(data)} are kept; publish it again where it came from`;
}

function cannotRedrive({ seq }: DeadLetterAnswer, why: string): ConflictError {
  return new ConflictError("cannot_redrive", `dead letter ${seq} cannot be sent again: ${why}`);
}

/** Whether a subject is `pattern` with one token in the place of its last, `*`. */
function matches(subject: string, pattern: string): boolean {
  const start = pattern.slice(0, -1);
  return subject.startsWith(start) && /^[^\s.*>]+$/.test(subject.slice(start.length));
}

function sequenceOf(cursor: string): number {
  const seq = Number(cursor);
  if (Number.isInteger(seq) && seq > 0) return seq;
  throw new UsageError(`cursor: expected one from an earlier page, got ${JSON.stringify(cursor)}`, "invalid_request");
}
