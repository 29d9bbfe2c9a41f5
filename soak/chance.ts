/** Chance from a seed: the same keys always give the same choices, in whatever order things happen. */

export type Chance = {
  /** A whole number, both ends included. */
  int(least: number, most: number): number;
  yes(probability: number): boolean;
  pick<T>(from: readonly [T, ...T[]]): T;
  /** One of the names, each as likely as its weight says. */
  weighted<Name extends string>(weights: { readonly [name in Name]: number }): Name;
};

/** The chance that belongs to these keys, the seed among them. */
export function chanceOf(...keys: (string | number)[]): Chance {
  let state = hash32(keys.join("\n"));
  return {
    int: (least, most) => least + Math.floor(next() * (most - least + 1)),
    yes: (probability) => next() < probability,
    pick: (from) => from[Math.floor(next() * from.length)] ?? from[0],
    weighted(weights) {
      const entries = Object.entries(weights) as [keyof typeof weights, number][];
      let left = next() * entries.reduce((sum, [, weight]) => sum + weight, 0);
      for (const [name, weight] of entries) {
        left -= weight;
        if (left < 0) return name;
      }
      return (entries[0] as [keyof typeof weights, number])[0];
    },
  };

  /** Mulberry32: a number in [0, 1). */
  function next(): number {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }
}

/** FNV-1a. */
function hash32(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}
