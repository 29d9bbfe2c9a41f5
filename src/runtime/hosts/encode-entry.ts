/** A journal entry in its wire form: a JSON array of events, and each event by itself for the live feed. */
import type { RunEvent } from "../../workflows/run-events.ts";

const encoder = new TextEncoder();
const OPEN = "[".charCodeAt(0);
const COMMA = ",".charCodeAt(0);
const CLOSE = "]".charCodeAt(0);

/** Encodes every event once; `texts` are views into `body`. */
export function encodeEntry(events: readonly RunEvent[]): { body: Uint8Array; texts: Uint8Array[] } {
  const jsons = events.map((event) => JSON.stringify(event));
  const body = encoder.encode(`[${jsons.join(",")}]`);
  if (body.length === jsons.reduce((sum, json) => sum + json.length + 1, 1))
    return { body, texts: slices(body, jsons) };
  // Beyond ASCII, lengths in characters are not lengths in bytes.
  return joined(jsons.map((json) => encoder.encode(json)));
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
