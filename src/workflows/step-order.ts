/** The order of steps: which come before which, and whether that is possible at all. */

/** As much of a step as its order needs. */
export type OrderedStep = { id: string; after: readonly string[] };

/** A step with all it comes after: the steps in its `after`, then those whose errors it handles and that are not among them. */
export type LinkedStep = OrderedStep & { handles: readonly string[] };

/** Adds to every step the steps whose errors it handles, for it comes after them too. */
export function linkSteps(steps: readonly (OrderedStep & { onError?: string })[]): LinkedStep[] {
  const handled = new Map<string, string[]>();
  for (const { id, onError } of steps) {
    if (onError === undefined || onError === "continue") continue;
    const known = handled.get(onError);
    if (known) known.push(id);
    else handled.set(onError, [id]);
  }
  return steps.map(({ id, after }) => {
    const handles = handled.get(id) ?? [];
    return { id, handles, after: handles.length === 0 ? after : [...new Set([...after, ...handles])] };
  });
}

/** Steps that have ended when another one starts, in the order of the definition. */
export type StepsBefore = Iterable<string> & { has(id: string): boolean };

/**
 * Sorts steps so that each stands after those it depends on; otherwise they keep their order. When they go in circles it
 * gives the first circle, as in `a`, `b`, `a`.
 */
export function sortSteps<Step extends OrderedStep>(steps: readonly Step[]): { sorted: Step[] } | { cycle: string[] } {
  const missing = steps.map(({ after }) => after.length);
  const followers = new Map<string, number[]>();
  steps.forEach(({ after }, at) => {
    for (const id of after) {
      const known = followers.get(id);
      if (known) known.push(at);
      else followers.set(id, [at]);
    }
  });
  const sorted: Step[] = [];
  const placed = new Set<Step>();
  /** Steps that were passed over and may be placed by now, the last of them first. */
  const passed: number[] = [];
  let next = 0;
  for (;;) {
    const at = passed.pop() ?? next++;
    const step = steps[at];
    if (!step) break;
    if (missing[at] !== 0) continue;
    sorted.push(step);
    placed.add(step);
    for (const follower of followers.get(step.id) ?? []) {
      missing[follower] = (missing[follower] ?? 0) - 1;
      if (missing[follower] === 0 && follower < next) insertDescending(passed, follower);
    }
  }
  const stuck = steps.filter((step) => !placed.has(step));
  return stuck.length > 0 ? { cycle: findCycle(stuck) } : { sorted };
}

function insertDescending(list: number[], item: number): void {
  let at = list.length;
  while (at > 0 && (list[at - 1] ?? item) < item) at -= 1;
  list.splice(at, 0, item);
}

/** Every one of `stuck` waits for another one of them, so following any leads into a circle. */
function findCycle(stuck: readonly OrderedStep[]): string[] {
  const byId = new Map(stuck.map((step) => [step.id, step]));
  const path = new Set<string>();
  let step = stuck[0];
  while (step && !path.has(step.id)) {
    path.add(step.id);
    step = byId.get(step.after.find((id) => byId.has(id)) ?? "");
  }
  const ids = [...path];
  const circle = step ? ids.slice(ids.indexOf(step.id)) : ids;
  const turned = circle.reverse();
  return [...turned, ...turned.slice(0, 1)];
}

const BITS = 32;

/**
 * For each step, every step that has ended when it starts. `steps` are sorted. A bit for each pair: lists of ids would
 * take half a gigabyte for a chain of 10,000.
 */
export function stepsBefore(steps: readonly OrderedStep[]): (id: string) => StepsBefore {
  const indexes = new Map(steps.map(({ id }, index) => [id, index]));
  const width = Math.ceil(steps.length / BITS);
  let rows: Uint32Array[] | undefined;
  return (id) => {
    // Most definitions have no template, and never ask.
    rows ??= makeRows();
    const row = rows[indexes.get(id) ?? -1];
    return {
      has: (other) => hasBit(row, indexes.get(other)),
      [Symbol.iterator]: () => idsIn(row),
    };
  };

  function makeRows(): Uint32Array[] {
    const made: Uint32Array[] = [];
    for (const { after } of steps) {
      const row = new Uint32Array(width);
      for (const dependency of after) {
        const index = indexes.get(dependency) ?? -1;
        made[index]?.forEach((word, at) => {
          row[at] = (row[at] ?? 0) | word;
        });
        if (index >= 0) row[index >> 5] = (row[index >> 5] ?? 0) | (1 << (index & 31));
      }
      made.push(row);
    }
    return made;
  }

  function* idsIn(row: Uint32Array | undefined): Generator<string, void, undefined> {
    for (const [index, { id }] of steps.entries()) if (hasBit(row, index)) yield id;
  }
}

function hasBit(row: Uint32Array | undefined, index: number | undefined): boolean {
  return index !== undefined && (((row?.[index >> 5] ?? 0) >>> (index & 31)) & 1) === 1;
}
