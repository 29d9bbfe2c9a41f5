/** A journal entry in its wire form: a JSON array of events, and each event by itself for the live feed. */
import type { RunEvent } from "../../workflows/run-events.ts";
import { LARGE, type Payloads } from "../nats/payloads.ts";

/** An entry as it goes into the journal; `texts` are the events by themselves, views into `body`. */
export type EncodedEntry = { stored: readonly RunEvent[]; body: Uint8Array; texts: Uint8Array[] };

// Headers beside the body, of an append and of the live feed.
const HEADER_ROOM = 256;

const encoder = new TextEncoder();
const OPEN = "[".charCodeAt(0);
const COMMA = ",".charCodeAt(0);
const CLOSE = "]".charCodeAt(0);

/**
 * Encodes events; where that is too long for an entry, without their large values, which are stored before. Rejects as
 * `Payloads.detach` does.
 */
export function encodeFitting(
  payloads: Payloads,
  events: readonly [RunEvent, ...RunEvent[]],
  signal: AbortSignal,
): EncodedEntry | Promise<EncodedEntry> {
  const entry = encodeEntry(events);
  const bytes = entry.body.length;
  const room = payloads.room(HEADER_ROOM);
  if (bytes <= room) return entry;
  const [{ runId, type }] = events;
  // The entry as it was is not kept meanwhile: it may be very long.
  return payloads
    .detach(events, { what: `run ${runId}, ${type}`, fields: LARGE.event, bytes, room, runId, signal })
    .then(encodeEntry);
}

/** Encodes every event once. */
export function encodeEntry(events: readonly RunEvent[]): EncodedEntry {
  const jsons = events.map((event) => JSON.stringify(event));
  const body = encoder.encode(`[${jsons.join(",")}]`);
  if (body.length === jsons.reduce((sum, json) => sum + json.length + 1, 1))
    return { stored: events, body, texts: slices(body, jsons) };
  // Beyond ASCII, lengths in characters are not lengths in bytes.
  return { stored: events, ...joined(jsons.map((json) => encoder.encode(json))) };
}

function slices(body: Uint8Array, jsons: readonly string[]): Uint8Array[] {
  let at = 1;
  return jsons.map(({ length }) => {
    const text = body.subarray(at, at + length);
    at += length + 1;
    return text;
  });
}

function joined(parts: readonly Uint8Array[]): { body: Uint8Array; texts: Uint8Array[] } {
  const body = new Uint8Array(parts.reduce((sum, part) => sum + part.length + 1, 1));
  const texts: Uint8Array[] = [];
  let at = 0;
  for (const part of parts) {
    body[at] = at === 0 ? OPEN : COMMA;
    body.set(part, at + 1);
    texts.push(body.subarray(at + 1, at + 1 + part.length));
    at += 1 + part.length;
  }
  body[at] = CLOSE;
  return { body, texts };
}
