/**
 * Counts the spans of an OTLP trace request in protobuf without reading them: `TracesData.resource_spans` (1) →
 * `scope_spans` (2) → `spans` (2), the fields of opentelemetry-proto `trace/v1/trace.proto` 1.x.
 */

const LENGTH = 2;
const WIDTHS: { readonly [wireType: number]: number } = { 1: 8, 5: 4 };

/** The number of spans in `body`. @throws RangeError when it is no protobuf. */
export function countSpans(body: Uint8Array): number {
  return count(body, [1, 2, 2]);
}

/** How often the field at the end of `path` occurs. */
function count(body: Uint8Array, [field, ...below]: readonly number[]): number {
  let found = 0;
  for (let at = 0; at < body.length; ) {
    const [key, from] = varint(body, at);
    const wireType = key & 7;
    if (wireType !== LENGTH) {
      at = wireType === 0 ? varint(body, from)[1] : from + (WIDTHS[wireType] ?? Number.NaN);
      if (Number.isNaN(at)) throw new RangeError(`byte ${from}: expected a wire type of protobuf, got ${wireType}`);
      continue;
    }
    const [length, start] = varint(body, from);
    at = start + length;
    if (at > body.length) throw new RangeError(`byte ${start}: expected ${length} more bytes, got the end`);
    if (key >>> 3 === field) found += below.length === 0 ? 1 : count(body.subarray(start, at), below);
  }
  return found;
}

function varint(body: Uint8Array, at: number): [value: number, next: number] {
  let value = 0;
  for (let shift = 0; ; shift += 7, at += 1) {
    const byte = body[at];
    if (byte === undefined) throw new RangeError(`byte ${at}: expected more of a number, got the end`);
    value += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) return [value, at + 1];
  }
}
