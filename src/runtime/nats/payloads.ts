/**
 * Large values. A message the broker would not take goes without its largest values: each is an object in the object store,
 * and the message says where (docs/protocol.md, "Large values").
 *
 * Invariants
 * P1  A message leaves only after every object it refers to is whole.
 * P2  Objects of a run are named by the run and by their content, so that putting one again, by anybody, stores nothing new,
 *     and deleting the run's area deletes them all, those that no entry came to name included.
 * P3  A message says by its field `refs` that values are elsewhere, and only fields that may be large are looked for there:
 *     what a user's own value looks like has no meaning.
 * P4  What comes from outside may refer to uploads, and to the run it is about. Who writes it has not the daemon's rights.
 */
import { createHash } from "node:crypto";
import type { ValueRef, WithRefs } from "../../actors/value-ref.ts";
import { PayloadTooLargeError, TroupeError } from "../../errors.ts";
import type { Subjects } from "../subjects.ts";
import { valueAt, withValueAt } from "./large-values.ts";
import { nuid } from "./nats.ts";
import { type ObjectStoreParts, openObjectStore } from "./object-store.ts";

/** The most one value may take as JSON, in bytes, where nothing else is said. */
const MAX_PAYLOAD_BYTES = 64 * 1024 * 1024;

/** The fields of each kind of message that may be elsewhere. */
export const LARGE = {
  request: ["/input"],
  task: ["/input", "/messages"],
  outcome: ["/output", "/transcript", "/messages", "/input"],
  entry: ["/content", "/reply/content", "/reply/toolCalls", "/reply/providerState"],
  event: [
    "/data/input",
    "/data/payload",
    "/data/metadata",
    "/data/output",
    "/data/outcome/output",
    "/data/outcome/transcript",
    "/data/transcript",
    "/data/messages",
  ],
} as const;

type DetachOptions = {
  /** What this is about, for errors. */
  what: string;
  /** The fields that may go. */
  fields: readonly string[];
  /** The messages' length as they are, together. */
  bytes: number;
  /** What they may come to. */
  room: number;
  /** Whose the objects are; without it they are uploads. */
  runId?: string;
  signal?: AbortSignal | undefined;
};

type ResolveOptions = {
  /** The fields that may be elsewhere. @default all */
  fields?: readonly string[];
  /** The only run whose objects may be meant beside uploads, or that only uploads may be. @default any */
  of?: { runId: string } | "uploads";
};

export type Payloads = {
  readonly maxBytes: number;
  /** What one message may come to, beside `beside` bytes of headers and envelope. */
  room(beside: number): number;
  /**
   * The messages without as many of their largest values as it takes, which are stored before this resolves.
   *
   * @throws PayloadTooLargeError where a value is beyond the cap, or what is left is still too long; UnavailableError when the
   * signal aborted.
   */
  detach<T extends object>(messages: readonly T[], options: DetachOptions): Promise<(T & WithRefs)[]>;
  /**
   * The message with all of its values; itself where nothing is elsewhere.
   *
   * @throws PayloadTooLargeError; NotFoundError `payload_missing`; TroupeError `payload_damaged`, `bad_reference`;
   * UnavailableError.
   */
  resolve<T extends object>(message: T & WithRefs, options?: ResolveOptions): Promise<T>;
  /** Deletes the uploads a message refers to. */
  removeUploads(message: WithRefs): Promise<void>;
};

// A reference takes some 250 bytes: what is smaller than this had better stay.
const LEAST_BYTES = 4 * 1024;

type PayloadsOptions = {
  /** The most one value may take as JSON, in bytes. @default 64 MiB */
  maxBytes?: number | undefined;
};

/** Opens large values over a connection. */
export function openPayloads(parts: ObjectStoreParts, subjects: Subjects, options: PayloadsOptions = {}): Payloads {
  const { buckets } = subjects;
  const maxBytes = options.maxBytes ?? MAX_PAYLOAD_BYTES;
  const stores = {
    [buckets.payloads]: openObjectStore(parts, buckets.payloads),
    [buckets.uploads]: openObjectStore(parts, buckets.uploads),
  };
  /** What is being read, so that what is asked for again meanwhile is read once. */
  const reading = new Map<string, Promise<unknown>>();

  return {
    maxBytes,
    room: (beside) => parts.maxPayload() - beside,

    async detach<T extends object>(messages: readonly T[], options: DetachOptions) {
      const left: (T & WithRefs)[] = [...messages];
      let bytes = options.bytes;
      for (const { i, at, value } of byWeight(messages, options.fields)) {
        if (bytes <= options.room) break;
        const ref: ValueRef = { at, ...(await put(value, at, options)) };
        const message = left[i] as T & WithRefs;
        left[i] = { ...withValueAt(message, at, undefined), refs: [...(message.refs ?? []), ref] };
        bytes += JSON.stringify(ref).length + 16 - ref.bytes;
      }
      if (bytes > options.room) throw new PayloadTooLargeError(options.what, bytes, options.room);
      return left;
    },

    async resolve<T extends object>(message: T & WithRefs, { fields, of }: ResolveOptions = {}) {
      const { refs, ...rest } = message;
      if (!refs) return message;
      let whole = rest as T;
      // One after the other: each may take as much memory as is allowed.
      for (const ref of checked(refs, fields, maxBytes)) {
        whole = withValueAt(whole, ref.at, await read(ref, of));
      }
      return whole;
    },

    async removeUploads({ refs = [] }) {
      for (const { ref } of refs) {
        const { bucket, name } = locate(ref);
        if (bucket === buckets.uploads) await stores[bucket]?.remove(name);
      }
    },
  };

  // P1, P2
  async function put(
    value: unknown,
    at: string,
    { what, runId, signal }: DetachOptions,
  ): Promise<Omit<ValueRef, "at">> {
    const data = Buffer.from(JSON.stringify(value));
    if (data.length > maxBytes)
      throw new PayloadTooLargeError(`${what} ${at}`, data.length, maxBytes, "maxPayloadBytes");
    const sha256 = createHash("sha256").update(data).digest("hex");
    const bucket = runId === undefined ? buckets.uploads : buckets.payloads;
    const name = runId === undefined ? nuid.next() : `${runId}/${sha256}`;
    const area = runId === undefined ? undefined : `${runId}.${sha256}`;
    await stores[bucket]?.put(name, data, { sha256, signal, ...(area !== undefined && { area }) });
    return { ref: `obj:${bucket}/${name}`, bytes: data.length, sha256 };
  }

  function read(ref: ValueRef, of: ResolveOptions["of"]): Promise<unknown> {
    const { bucket, name } = locate(ref.ref);
    const store = stores[bucket];
    // P4
    const isOwn = of === undefined || (of !== "uploads" && name.startsWith(`${of.runId}/`));
    const isMeant = bucket === buckets.uploads || isOwn;
    if (!store || !isMeant)
      throw badReference(`expected obj:${buckets.uploads}/… or what this is allowed to mean`, ref.ref);
    const key = `${ref.ref} ${ref.bytes} ${ref.sha256}`;
    const known = reading.get(key);
    if (known) return known;
    const parsed = store
      .get(name, ref)
      .then((data) => JSON.parse(Buffer.from(data.buffer, data.byteOffset, data.length).toString("utf8")));
    reading.set(key, parsed);
    const forget = () => void reading.delete(key);
    parsed.then(forget, forget);
    return parsed;
  }
}

/** What may be taken out, the heaviest first. */
function byWeight(messages: readonly object[], fields: readonly string[]) {
  const found = messages.flatMap((message, i) =>
    fields.flatMap((at) => {
      const value = valueAt(message, at);
      const weight = weightOf(value);
      return weight < LEAST_BYTES ? [] : [{ i, at, value, weight }];
    }),
  );
  return found.sort((a, b) => b.weight - a.weight);
}

function weightOf(value: unknown): number {
  return typeof value === "string" ? Buffer.byteLength(value) : Buffer.byteLength(JSON.stringify(value) ?? "");
}

// P3
function checked(refs: unknown, fields: readonly string[] | undefined, maxBytes: number): readonly ValueRef[] {
  if (!Array.isArray(refs)) throw badReference("expected a list", refs);
  for (const ref of refs as (ValueRef | null)[]) {
    const isRef =
      typeof ref?.at === "string" &&
      typeof ref.ref === "string" &&
      Number.isSafeInteger(ref.bytes) &&
      /^[0-9a-f]{64}$/.test(ref.sha256);
    if (!isRef) throw badReference("expected {at, ref, bytes, sha256}", ref);
    if (fields && !fields.includes(ref.at)) throw badReference(`at: expected one of ${fields.join(", ")}`, ref.at);
    if (ref.bytes > maxBytes) throw new PayloadTooLargeError(ref.at, ref.bytes, maxBytes, "maxPayloadBytes");
  }
  return refs as ValueRef[];
}

function locate(ref: string): { bucket: string; name: string } {
  const [, bucket = "", name = ""] = /^obj:([^/]+)\/(.+)$/s.exec(ref) ?? [];
  return { bucket, name };
}

function badReference(expected: string, got: unknown): TroupeError {
  return new TroupeError("bad_reference", `refs: ${expected}, got ${(JSON.stringify(got) ?? "nothing").slice(0, 200)}`);
}
