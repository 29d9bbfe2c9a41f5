/** A queue of things that fall due: whatever is due first comes first. A binary heap, so ten thousand cost as many slots. */

export type DueQueue<T extends { readonly dueMs: number }> = {
  readonly size: number;
  add(item: T): void;
  /** What is due first; undefined when there is nothing. */
  first(): T | undefined;
  /** Takes the first one out. */
  shift(): T | undefined;
  /** Forgets everything and holds these instead. */
  reset(items: Iterable<T>): void;
};

/** Makes an empty queue. */
export function openDueQueue<T extends { readonly dueMs: number }>(): DueQueue<T> {
  const heap: T[] = [];

  const self: DueQueue<T> = {
    get size() {
      return heap.length;
    },
    add(item) {
      let at = heap.length;
      heap.push(item);
      for (let above = (at - 1) >> 1; at > 0 && dueOf(above) > item.dueMs; above = (at - 1) >> 1) {
        heap[at] = heap[above] as T;
        at = above;
      }
      heap[at] = item;
    },
    first: () => heap[0],
    shift() {
      const first = heap[0];
      const last = heap.pop();
      if (last !== undefined && heap.length > 0) sink(last);
      return first;
    },
    reset(items) {
      heap.length = 0;
      for (const item of items) self.add(item);
    },
  };
  return self;

  /** Puts an item at the top and lets it down to its place. */
  function sink(item: T) {
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      if (below + 1 < heap.length && dueOf(below + 1) < dueOf(below)) below += 1;
      if (below >= heap.length || dueOf(below) >= item.dueMs) break;
      heap[at] = heap[below] as T;
      at = below;
    }
    heap[at] = item;
  }

  function dueOf(at: number): number {
    return (heap[at] as T).dueMs;
  }
}
