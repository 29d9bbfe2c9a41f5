/**
 * A bucket of JetStream's object store, in the layout every NATS client shares: chunks on `$O.<bucket>.C.<id>`, one message
 * about the object on `$O.<bucket>.M.<name in base64url>`. The client's own store publishes all chunks of an object at once
 * and copies what is left of it for every chunk, which objects of many megabytes do not stand.
 *
 * Invariants
 * B1  An object is there once the message about it is stored, which is after all of its chunks: nobody sees half of one.
 * B2  A chunk that was not cleanly acknowledged may be stored or not, so its id is given up and all chunks go out again under
 *     another one. What is left behind is garbage under the same area.
 * B3  What is read is believed only when length and digest are those asked for.
 */
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { NotFoundError, TroupeError, UnavailableError } from "../../errors.ts";
import { objectSubjects } from "../subjects.ts";
import type { Bus } from "./connection.ts";
import { type Msg, NatsError, nuid } from "./nats.ts";
import { NoRespondersError, type Requests } from "./requests.ts";

/** What a bucket needs of a connection. */
export type ObjectStoreParts = {
  request: Requests["request"];
  /** The most bytes the broker takes in one message. */
  maxPayload: () => number;
  /** Hears of what the broker refuses to store. */
  store?: Pick<Bus["store"], "refused" | "settled">;
};

/** What an object has to be. */
type Expected = { bytes: number; sha256: string };

export type ObjectStore = {
  /**
   * Stores an object, unless it is there already; tries until it is, or until `signal` aborts.
   *
   * @throws UnavailableError when the signal aborted; PermissionError.
   */
  put(name: string, data: Uint8Array, options: PutOptions): Promise<void>;
  /**
   * Reads an object.
   *
   * @throws NotFoundError `payload_missing`; TroupeError `payload_damaged`; UnavailableError.
   */
  get(name: string, expected: Expected): Promise<Uint8Array>;
  /** Deletes an object; one that is not there is no error. */
  remove(name: string): Promise<void>;
};

type PutOptions = {
  sha256: string;
  /** Tokens the chunks' subject goes on with, so that all that was ever put there can be found. @default none */
  area?: string;
  signal?: AbortSignal | undefined;
};

type ObjectInfo = { nuid: string; size: number; chunks: number; digest?: string; deleted?: boolean };
type PubAck = { seq?: number; error?: { code: number; description?: string } };
type StoredMessage = { message?: { seq: number; data?: string }; error?: { err_code?: number; description?: string } };

// A chunk is read back as base64 within JSON, which has to fit into a message as well.
const CHUNK_BYTES = 256 * 1024;
// Two megabytes on their way keep a broker busy; more would only wait in its buffers.
const CHUNKS_AT_ONCE = 8;
const TIMEOUT_MS = 5_000;
const RETRY_MIN_MS = 50;
const RETRY_MAX_MS = 2_000;
const READ_TRIES = 3;
const NO_MESSAGE_FOUND = 10_037;

/** Opens a bucket, which has to be there. */
export function openObjectStore(parts: ObjectStoreParts, bucket: string): ObjectStore {
  const { request, maxPayload, store } = parts;
  const stream = `OBJ_${bucket}`;
  const chunksOf = (id: string) => objectSubjects.chunks(bucket, id);
  const infoOf = (name: string) => objectSubjects.info(bucket, name);

  return {
    async put(name, data, { sha256, area, signal }) {
      const attempt = {};
      try {
        for (let wait = RETRY_MIN_MS; ; wait = Math.min(wait * 2, RETRY_MAX_MS)) {
          if (await tried(name, data, { sha256, area }, attempt)) return;
          await sleep(wait, undefined, { signal }).catch(() => {});
          if (signal?.aborted) throw new UnavailableError(`${bucket}/${name}: stopped before the object was stored`);
        }
      } finally {
        store?.settled(attempt);
      }
    },

    async get(name, expected) {
      for (let tries = 1; ; tries += 1) {
        try {
          return await read(name, expected);
        } catch (error) {
          if (!(error instanceof UnavailableError) || tries === READ_TRIES) throw error;
          await sleep(RETRY_MIN_MS * 2 ** tries);
        }
      }
    },

    async remove(name) {
      const info = await findInfo(name);
      if (!info) return;
      await purge(infoOf(name));
      await purge(chunksOf(info.nuid));
    },
  };

  /** One try; false when it is not known what was stored. */
  async function tried(
    name: string,
    data: Uint8Array,
    { sha256, area }: { sha256: string; area: string | undefined },
    attempt: object,
  ): Promise<boolean> {
    const id = area === undefined ? nuid.next() : `${area}.${nuid.next()}`;
    const digest = `SHA-256=${Buffer.from(sha256, "hex").toString("base64url")}`;
    try {
      const there = area === undefined ? undefined : await findInfo(name);
      if (there && there.size === data.length && there.digest?.replace(/=+$/, "") === digest) return true;
      const size = Math.min(CHUNK_BYTES, maxPayload() >> 1);
      const chunks = Math.ceil(data.length / size);
      for (let first = 0; first < chunks; first += CHUNKS_AT_ONCE) {
        const many = Math.min(CHUNKS_AT_ONCE, chunks - first);
        const from = (i: number) => (first + i) * size;
        const parts = Array.from({ length: many }, (_, i) => data.subarray(from(i), from(i) + size));
        await Promise.all(parts.map((part) => publish(chunksOf(id), part)));
      }
      const options = { max_chunk_size: size };
      const mtime = new Date().toISOString();
      const info = { name, bucket, nuid: id, size: data.length, chunks, digest: `${digest}=`, mtime, options };
      // B1
      await publish(infoOf(name), JSON.stringify(info), ["Nats-Rollup", "sub"]);
      return true;
    } catch (error) {
      if (error instanceof RefusedError) store?.refused(attempt, stream, error.message);
      else throwIfFinal(error, `${bucket}/${name}`);
      // B2: whether it works or not, nothing will ever name these chunks.
      await purge(chunksOf(id)).catch(() => {});
      return false;
    }
  }

  async function read(name: string, expected: Expected): Promise<Uint8Array> {
    const info = await orUnavailable(findInfo(name));
    if (!info || info.deleted) throw missing(name);
    // B3: before anything is made that long.
    if (info.size !== expected.bytes) throw damaged(name, `${expected.bytes} bytes`, `${info.size}`);
    const data = Buffer.allocUnsafe(info.size);
    const hash = createHash("sha256");
    let at = 0;
    for (let seq = 1; at < info.size; ) {
      const chunk = await orUnavailable(stored({ seq, next_by_subj: chunksOf(info.nuid) }));
      if (!chunk) throw damaged(name, `${info.size} bytes`, `${at}`);
      const bytes = Buffer.from(chunk.data ?? "", "base64");
      if (at + bytes.length > info.size) throw damaged(name, `${info.size} bytes`, "more");
      bytes.copy(data, at);
      hash.update(bytes);
      at += bytes.length;
      seq = chunk.seq + 1;
    }
    const sha256 = hash.digest("hex");
    if (sha256 !== expected.sha256) throw damaged(name, `the SHA-256 ${expected.sha256}`, sha256);
    return data;
  }

  async function findInfo(name: string): Promise<ObjectInfo | undefined> {
    const message = await stored({ last_by_subj: infoOf(name) });
    return message && (JSON.parse(Buffer.from(message.data ?? "", "base64").toString("utf8")) as ObjectInfo);
  }

  /** From the stream's leader: what was stored a moment ago is there. */
  async function stored(what: object): Promise<{ seq: number; data?: string } | undefined> {
    const reply = await request(`$JS.API.STREAM.MSG.GET.${stream}`, JSON.stringify(what), { timeoutMs: TIMEOUT_MS });
    const { message, error } = reply.json<StoredMessage>();
    if (error?.err_code === NO_MESSAGE_FOUND) return undefined;
    if (!message) throw new UnavailableError(`${stream}: ${error?.description ?? "no message in the answer"}`);
    return message;
  }

  async function publish(subject: string, data: Uint8Array | string, header?: readonly [string, string]) {
    const reply: Msg = await request(subject, data, { timeoutMs: TIMEOUT_MS, ...(header && { header }) });
    const { error } = reply.json<PubAck>();
    if (error) throw new RefusedError(error.description || `error ${error.code}`);
  }

  async function purge(filter: string): Promise<void> {
    await request(`$JS.API.STREAM.PURGE.${stream}`, JSON.stringify({ filter }), { timeoutMs: TIMEOUT_MS });
  }

  function missing(name: string): NotFoundError {
    return new NotFoundError(`obj:${bucket}/${name}: expected an object, got none`, "payload_missing");
  }

  function damaged(name: string, expected: string, got: string): TroupeError {
    return new TroupeError("payload_damaged", `obj:${bucket}/${name}: expected ${expected}, got ${got}`);
  }
}

/** The broker did not store something, and said why. */
class RefusedError extends Error {}

async function orUnavailable<T>(asked: Promise<T>): Promise<T> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof NoRespondersError) throw new UnavailableError(error.message, { cause: error });
    throw error;
  }
}

/** Rethrows what waiting cannot mend. */
function throwIfFinal(error: unknown, what: string): void {
  if (error instanceof NoRespondersError || error instanceof SyntaxError || error instanceof UnavailableError) return;
  if (error instanceof NatsError && (error.code === "CONNECTION_CLOSED" || error.code === "CONNECTION_DRAINING")) {
    throw new UnavailableError(`${what}: the connection is closed`, { cause: error });
  }
  throw error;
}
