/**
 * Journals: append-only logs, one subject each, in a JetStream stream.
 *
 * Invariants
 * J1  One entry is one message; what was decided together is in one entry, so it is stored whole or not at all.
 * J2  Every append carries the sequence its writer believes is the subject's last one. A writer that is wrong about it has
 *     been superseded and gets `FencedError`; nothing of it is stored.
 * J3  An append that did not come back with a clean acknowledgement is *unknown*, never "failed": the last entry is read
 *     back from the stream's leader and compared by id. Mine: it is stored. The one I expected: nothing is stored, the same
 *     entry is sent again. Another's: fenced.
 * J4  Entry ids are unique per attempt to write and never derived from content; no `Nats-Msg-Id` is used, because broker
 *     versions disagree on whether deduplication or the expectation is checked first.
 * J5  `append` settles only when the answer is known, or when its signal aborts (the daemon stops): never on a timeout.
 * J6  A read is whole, or as long as was asked for, or throws (`read-subject.ts`).
 * J7  What the broker refuses to store (no room, above all) waits like what is unknown, and `bus.store` is told.
 */
import { FencedError, PayloadTooLargeError, UnavailableError } from "../../errors.ts";
import type { Bus } from "./connection.ts";
import { NatsError } from "./nats.ts";
import { openSubjectReader } from "./read-subject.ts";
import { NoRespondersError } from "./requests.ts";

/** One stored entry: the parsed JSON, where it stands in the stream, and how long it is. */
export type Entry<T> = { seq: number; value: T; bytes: number };

type AppendOptions = {
  /** The sequence of the subject's last entry; 0 means the subject must be empty. */
  expected: number;
  /** The entry's id, as it stands in its body: `id` of an object, `id` of an array's first element. */
  id: string;
  signal?: AbortSignal;
};

type ReadOptions<T> = {
  /** The sequence to begin at. @default 1 */
  from?: number;
  /** How much is enough. @default all */
  bytes?: number;
  /** The newest entry, where it was asked for just now. */
  newest?: Entry<T>;
};

/** The journals of one stream. */
export type Journals<T> = {
  /**
   * Stores one entry and gives back its stream sequence.
   *
   * @throws FencedError when another writer appended; PayloadTooLargeError; PermissionError; UnavailableError when the signal
   * aborted before the outcome was known.
   */
  append(subject: string, body: Uint8Array, options: AppendOptions): Promise<number>;
  /** The entries of a subject, oldest first; empty when there are none. @throws UnavailableError when they cannot be read now. */
  read(subject: string, options?: ReadOptions<T>): Promise<Entry<T>[]>;
  /** The newest entry of a subject, from the stream's leader. */
  last(subject: string): Promise<Entry<T> | undefined>;
  /** Deletes a subject's entries. */
  purge(subject: string): Promise<void>;
};

/** One entry on its way. */
type Append = { readonly body: Uint8Array; readonly expected: number };

type PubAck = { seq?: number; duplicate?: boolean; error?: { code: number; err_code?: number; description: string } };
type StoredMessage = { message?: { seq: number; data?: string }; error?: { err_code?: number; description: string } };

const REQUEST_TIMEOUT_MS = 5_000;
const RETRY_MIN_MS = 50;
const RETRY_MAX_MS = 2_000;
const EXPECTED_LAST = "Nats-Expected-Last-Subject-Sequence";
// The subject is empty. A missing stream answers with the same `code` 404, but says nothing about the subject.
const NO_MESSAGE_FOUND = 10_037;
// The expectation was wrong, which is for whoever appends to judge; since 2.12 there are two of them.
const WRONG_LAST_SEQUENCE = new Set([10_071, 10_164]);

/** Opens the journals kept in `stream`. */
export function openJournals<T>(bus: Bus, stream: string): Journals<T> {
  const { nc } = bus;
  const decoder = new TextDecoder();
  const readSubject = openSubjectReader(bus, stream);

  return {
    async append(subject, body, { expected, id, signal }) {
      const limit = nc.info?.max_payload ?? Number.POSITIVE_INFINITY;
      if (body.length + 128 > limit) throw new PayloadTooLargeError(subject, body.length, limit);
      const append = { body, expected };
      try {
        return await store(subject, append, id, signal);
      } finally {
        bus.store.settled(append);
      }
    },

    async read(subject, { from = 1, bytes = Number.POSITIVE_INFINITY, newest } = {}) {
      // Many journals are empty, or are asked for from their end on: one question answers for them.
      const last = newest ?? (await lastEntry(subject));
      if (!last || last.seq < from) return [];
      if (last.seq === from) return [last];
      // J6
      const messages = await readSubject(subject, { from, bytes });
      return messages.map(({ seq, data }) => ({
        seq,
        value: JSON.parse(decoder.decode(data)) as T,
        bytes: data.length,
      }));
    },

    last: lastEntry,

    async purge(subject) {
      const jsm = await bus.jsm();
      await jsm.streams.purge(stream, { filter: subject });
    },
  };

  async function lastEntry(subject: string): Promise<Entry<T> | undefined> {
    const last = await lastStored(subject);
    return last && { seq: last.seq, value: JSON.parse(last.text) as T, bytes: Buffer.byteLength(last.text) };
  }

  /** Tries until it is known what became of an append. */
  async function store(subject: string, append: Append, id: string, signal?: AbortSignal): Promise<number> {
    for (let wait = RETRY_MIN_MS; ; wait = Math.min(wait * 2, RETRY_MAX_MS)) {
      const seq = await publish(subject, append);
      if (seq !== undefined) return seq;
      // J3
      const verdict = await readBack(subject, append.expected, id, signal);
      if (verdict.type === "mine") return verdict.seq;
      if (verdict.type === "fenced") throw new FencedError(subject);
      await pause(wait, signal, subject);
    }
  }

  /** One try; undefined means unknown. */
  async function publish(subject: string, append: Append): Promise<number | undefined> {
    try {
      const reply = await bus.request(subject, append.body, {
        header: [EXPECTED_LAST, String(append.expected)],
        timeoutMs: REQUEST_TIMEOUT_MS,
      });
      const ack = JSON.parse(decoder.decode(reply.data)) as PubAck;
      if (!ack.error) return ack.duplicate ? undefined : ack.seq;
      // J7
      const { code, err_code: reason, description } = ack.error;
      if (!WRONG_LAST_SEQUENCE.has(reason ?? 0)) bus.store.refused(append, stream, description || `error ${code}`);
      return undefined;
    } catch (error) {
      throwIfFinal(error, subject);
      return undefined;
    }
  }

  type Verdict = { type: "mine"; seq: number } | { type: "nothing stored" } | { type: "fenced" };

  async function readBack(subject: string, expected: number, id: string, signal?: AbortSignal): Promise<Verdict> {
    for (let wait = RETRY_MIN_MS; ; wait = Math.min(wait * 2, RETRY_MAX_MS)) {
      try {
        const last = await lastStored(subject);
        if (last && entryId(last.text) === id) return { type: "mine", seq: last.seq };
        if ((last?.seq ?? 0) === expected) return { type: "nothing stored" };
        // A journal that was there is gone: somebody purged it, or this is another stream.
        if (!last) bus.store.doubt();
        return { type: "fenced" };
      } catch (error) {
        throwIfFinal(error, subject);
        bus.store.doubt();
      }
      await pause(wait, signal, subject);
    }
  }

  async function lastStored(subject: string): Promise<{ seq: number; text: string } | undefined> {
    const request = JSON.stringify({ last_by_subj: subject });
    // STREAM.MSG.GET is answered by the leader; a direct get may come from a replica that lags.
    const reply = await bus.request(`$JS.API.STREAM.MSG.GET.${stream}`, request, { timeoutMs: REQUEST_TIMEOUT_MS });
    const { message, error } = JSON.parse(decoder.decode(reply.data)) as StoredMessage;
    if (error?.err_code === NO_MESSAGE_FOUND) return undefined;
    if (!message) throw new UnavailableError(`${subject}: ${error?.description ?? "no message in the answer"}`);
    return { seq: message.seq, text: Buffer.from(message.data ?? "", "base64").toString("utf8") };
  }
}

/** Undefined for what is no entry: it is surely not the one that was appended here. */
function entryId(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    const head: unknown = Array.isArray(value) ? value[0] : value;
    return typeof head === "object" && head !== null && "id" in head ? head.id : undefined;
  } catch {
    return undefined;
  }
}

/** Rethrows what waiting cannot mend. */
function throwIfFinal(error: unknown, subject: string): void {
  if (error instanceof NoRespondersError || error instanceof SyntaxError) return;
  if (error instanceof UnavailableError) return;
  if (error instanceof NatsError && (error.code === "CONNECTION_CLOSED" || error.code === "CONNECTION_DRAINING")) {
    throw new UnavailableError(`${subject}: the connection is closed`, { cause: error });
  }
  throw error;
}

async function pause(ms: number, signal: AbortSignal | undefined, subject: string): Promise<void> {
  if (signal?.aborted) throw new UnavailableError(`${subject}: stopped before the append was answered`);
  await new Promise<void>((resolve) => {
    const timer = setTimeout(done, ms);
    signal?.addEventListener("abort", done, { once: true });
    function done() {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    }
  });
}
