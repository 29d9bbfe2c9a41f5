/** The order of steps: which come before which, and whether that is possible at all. */

/** As much of a step as its order needs. */
export type OrderedStep = { id: string; after: readonly string[] };

/**
 * Sorts steps so that each stands after those it depends on; otherwise they keep their order. When they go in circles it
 * gives the first circle, as in `a`, `b`, `a`.
 */
export function sortSteps<Step extends OrderedStep>(steps: readonly Step[]): { sorted: Step[] } | { cycle: string[] } {
  const sorted: Step[] = [];
  const placed = new Set<string>();
  let waiting = [...steps];
  while (waiting.length > 0) {
    const next = waiting.find(({ after }) => after.every((id) => placed.has(id)));
    if (!next) return { cycle: findCycle(waiting) };
    placed.add(next.id);
    sorted.push(next);
    waiting = waiting.filter((step) => step !== next);
  }
  return { sorted };
}

/** Every one of `stuck` waits for another one of them, so following any leads into a circle. */
function findCycle(stuck: readonly OrderedStep[]): string[] {
  const byId = new Map(stuck.map((step) => [step.id, step]));
  const path: string[] = [];
  let step = stuck[0];
  while (step && !path.includes(step.id)) {
    path.push(step.id);
    step = byId.get(step.after.find((id) => byId.has(id)) ?? "");
  }
  const circle = step ? path.slice(path.indexOf(step.id)) : path;
  const turned = circle.reverse();
  return [...turned, ...turned.slice(0, 1)];
}

/** For each step, every step that has completed when it starts. `steps` are sorted. */
export function stepsBefore(steps: readonly OrderedStep[]): ReadonlyMap<string, readonly string[]> {
  const before = new Map<string, readonly string[]>();
  for (const { id, after } of steps) {
    before.set(id, [...new Set(after.flatMap((dependency) => [...(before.get(dependency) ?? []), dependency]))]);
  }
  return before;
}
