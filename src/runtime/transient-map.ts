/**
 * A map for values that come and go all the time: what is in flight.
 *
 * A `Map` that lives long is a root for the garbage collector beyond what is in it: each time entries that were deleted make it
 * move to a new table, the old table stays in the old generation with every value it held then, and keeps them, and all they
 * refer to, from dying young. Measured under 64 runs at once as 70 KB of each run, and a tenth of a daemon's processor time.
 * So the table here knows places only; the values stand in an array, from which what is deleted is gone.
 */
export class TransientMap<K, V> {
  readonly #places = new Map<K, number>();
  readonly #values: (V | undefined)[] = [];
  readonly #free: number[] = [];

  get size(): number {
    return this.#places.size;
  }

  has(key: K): boolean {
    return this.#places.has(key);
  }

  get(key: K): V | undefined {
    const place = this.#places.get(key);
    return place === undefined ? undefined : this.#values[place];
  }

  set(key: K, value: V): void {
    let place = this.#places.get(key);
    if (place === undefined) {
      place = this.#free.pop() ?? this.#values.length;
      this.#places.set(key, place);
    }
    this.#values[place] = value;
  }

  delete(key: K): boolean {
    const place = this.#places.get(key);
    if (place === undefined) return false;
    this.#places.delete(key);
    this.#values[place] = undefined;
    this.#free.push(place);
    return true;
  }

  clear(): void {
    this.#places.clear();
    this.#values.length = 0;
    this.#free.length = 0;
  }

  /** Oldest first. As with a `Map`, entries may be deleted meanwhile. */
  keys(): IterableIterator<K> {
    return this.#places.keys();
  }

  /** Oldest first. As with a `Map`, entries may be deleted meanwhile. */
  *values(): Generator<V> {
    for (const place of this.#places.values()) yield this.#values[place] as V;
  }

  /** Oldest first. As with a `Map`, entries may be deleted meanwhile. */
  *[Symbol.iterator](): Generator<[K, V]> {
    for (const [key, place] of this.#places) yield [key, this.#values[place] as V];
  }
}
