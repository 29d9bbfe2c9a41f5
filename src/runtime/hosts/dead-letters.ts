/**
 * Dead letters: what could not be handled and nobody could be told about, kept with the reason and where it came from until
 * a person sends it again or drops it (`edges/dead-api.ts`). docs/protocol.md has their form.
 *
 * Invariants
 * L1  A message is let go of only after its letter is stored; a letter twice is better than none.
 * L2  A letter holds its message byte for byte, or says that it does not (`cut`): a part is never sent again as the whole.
 * L3  A request's letter names the run the request was for, so that it is the same run when it is sent again.
 */

import { isUtf8 } from "node:buffer";
import { gunzipSync, gzipSync } from "node:zlib";
import { isTaskId } from "../../actors/read-task.ts";
import type { ErrorRecord } from "../../errors.ts";
import type { Bus } from "../nats/connection.ts";
import { isToken, type Subjects } from "../subjects.ts";

type DeadKind = "requests" | "tasks";

/** Where a message came from and what it was about, as far as that can be told. */
export type DeadOrigin = {
  /** Where it was sent to. */
  subject: string;
  runId?: string;
  workflow?: string;
  /** Whose mailbox a task was in. */
  agent?: string;
  taskId?: string;
  /** Who could not read a task, as `host/incarnation`. */
  worker?: string;
  /** The W3C trace context it came with. */
  traceparent?: string;
};

/** What stands at `<prefix>.dead.requests.<workflow>` and `<prefix>.dead.tasks.<agent>`. */
export type DeadLetter = DeadOrigin & {
  v: 1;
  /** When it was given up. */
  at: string;
  reason: ErrorRecord;
  /** How long the message was. */
  bytes: number;
  /** Its text, or what `encoding` says. */
  data: string;
  /** `data` is the message compressed with gzip, in base64: it is not text, or fits only so. */
  encoding?: "gzip";
  /** The message did not fit: `data` is only the beginning of it. */
  cut?: true;
};

/** A message nobody can handle. */
export type Unhandled = DeadOrigin & {
  kind: DeadKind;
  /** The workflow or the agent: the last token of the letter's subject. */
  name: string;
  data: Uint8Array;
  reason: ErrorRecord;
};

type Content = Pick<DeadLetter, "data" | "encoding" | "cut">;

// Room for the names an answer of the API puts around a letter.
const ENVELOPE_BYTES = 512;
const LONGEST_REASON = 2_000;

/** Stores the letter; resolves when it is durable. */
export async function storeDeadLetter(bus: Bus, subjects: Subjects, unhandled: Unhandled): Promise<void> {
  const letter = letterFor(unhandled, bus.nc.info?.max_payload ?? Number.POSITIVE_INFINITY);
  await bus.js.publish(subjects.dead(unhandled.kind, unhandled.name), JSON.stringify(letter));
}

/** The message of a letter as it was, or undefined where the letter does not hold all of it. */
export function messageOf({ data, encoding, bytes, cut }: Content & { bytes: number }): Uint8Array | undefined {
  // L2
  if (cut) return undefined;
  const message = encoding === "gzip" ? unpack(data, bytes) : Buffer.from(data);
  return message?.length === bytes ? message : undefined;
}

/** What a task says of itself though it cannot be read as one. */
export function taskOriginOf(text: string): Pick<DeadOrigin, "runId" | "workflow" | "taskId"> {
  const raw = parse(text);
  const named = (["runId", "workflow", "taskId"] as const).flatMap((key) => {
    const value = raw[key];
    const isId = key === "taskId" ? isTaskId : isToken;
    return typeof value === "string" && isId(value) ? [[key, value] as const] : [];
  });
  return Object.fromEntries(named);
}

/** The letter about a message, no longer than `limit` bytes as JSON. */
function letterFor({ kind: _kind, name: _name, data, reason, ...origin }: Unhandled, limit: number): DeadLetter {
  const head = {
    v: 1 as const,
    at: new Date().toISOString(),
    ...origin,
    reason: { ...reason, message: reason.message.slice(0, LONGEST_REASON) },
    bytes: data.length,
  };
  return { ...head, ...contentOf(data, limit - sizeOf(head) - ENVELOPE_BYTES) };
}

function contentOf(data: Uint8Array, room: number): Content {
  const text = Buffer.from(data).toString();
  // Other bytes would come out of a text as something else.
  if (isUtf8(data) && sizeOf(text) <= room) return { data: text };
  const packed = gzipSync(data).toString("base64");
  if (packed.length <= room) return { data: packed, encoding: "gzip" };
  return { data: beginningOf(text, room), cut: true };
}

/** How much of a text fits depends on what has to be escaped in it. */
function beginningOf(text: string, room: number): string {
  let beginning = text.slice(0, Math.max(0, room));
  for (let size = sizeOf(beginning); size > room && beginning !== ""; size = sizeOf(beginning)) {
    beginning = beginning.slice(0, Math.floor((beginning.length * Math.max(0, room - 2)) / size));
  }
  return beginning;
}

function sizeOf(value: unknown): number {
  return Buffer.byteLength(JSON.stringify(value));
}

function unpack(data: string, bytes: number): Uint8Array | undefined {
  try {
    return gunzipSync(Buffer.from(data, "base64"), { maxOutputLength: Math.max(1, bytes) });
  } catch {
    return undefined;
  }
}

function parse(text: string): { readonly [key: string]: unknown } {
  try {
    return Object(JSON.parse(text));
  } catch {
    return {};
  }
}
