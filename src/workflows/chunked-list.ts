/**
 * A list that is never changed but copied, a chunk at a time: what a supervisor knows of thousands of steps is copied at every
 * decision, and must not be copied whole. Plain data, so that it can be stored as JSON.
 */
export type ChunkedList<T> = readonly (readonly T[])[];

// A change copies this many items and one reference for each chunk: the least together for lists of some thousands.
const CHUNK = 64;

/** A list of `length` times the same item. */
export function filledList<T>(length: number, item: T): ChunkedList<T> {
  return Array.from({ length: Math.ceil(length / CHUNK) }, (_, chunk) =>
    Array.from<T>({ length: Math.min(CHUNK, length - chunk * CHUNK) }).fill(item),
  );
}

/** The item at `index`; undefined beyond the end. */
export function itemAt<T>(list: ChunkedList<T>, index: number): T | undefined {
  return list[Math.floor(index / CHUNK)]?.[index % CHUNK];
}

/** The list with some items replaced; `list` itself stays as it is. */
export function withItems<T>(list: ChunkedList<T>, items: Iterable<readonly [index: number, item: T]>): ChunkedList<T> {
  const chunks = [...list];
  const copied = new Set<number>();
  for (const [index, item] of items) {
    const at = Math.floor(index / CHUNK);
    const chunk = copied.has(at) ? (chunks[at] as T[]) : [...(chunks[at] ?? [])];
    copied.add(at);
    chunk[index % CHUNK] = item;
    chunks[at] = chunk;
  }
  return chunks;
}
