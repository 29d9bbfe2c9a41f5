/**
 * What a deterministic workflow comes to, worked out in the plainest way: one step after the other, by recursion, in memory. It
 * shares no code with the runtime, so that a mistake there does not hide here.
 *
 * Expressions come in two forms, one for the workflow and one for this file.
 */

/** What an expression sees. */
export type View = {
  input: unknown;
  ends: { [step: string]: End };
  item?: unknown;
  index?: number;
  last?: unknown;
  output?: unknown;
};

export type Expression<T = unknown> = { cel: string; js: (view: View) => T };

type Work = { agent: true } | { steps: ModelStep[] };
type Times =
  | { times: "once" }
  | { times: "forEach"; list: Expression<unknown[]>; concurrency: number }
  | { times: "repeat"; until: Expression<boolean>; max: number };

export type ModelStep = {
  id: string;
  after: string[];
  needs: "all" | "any" | "always";
  onError: string;
  when?: Expression<boolean>;
  input: { [key: string]: Expression };
  maxAttempts: number;
} & Work &
  Times;

export type End =
  | { status: "completed"; output: unknown; exhausted?: boolean }
  | { status: "failed"; error: Failure }
  | { status: "skipped" };

type Failure = { code: string; message: string };

/** What an agent does: the same for the same path and attempt, and for the same input. */
export type World = (path: string, attempt: number, input: unknown) => { output: unknown } | { final: boolean };

/** How a workflow ends: with an output, or failed. */
export type Interpreted = { output: unknown } | { failed: true };

/** All failures look the same, because which of two comes first is chance. */
const FAILURE: Failure = { code: "refused", message: "no" };

/** Thrown by what fails for good where nothing handles it. */
class Failed extends Error {}

export function interpret(steps: readonly ModelStep[], input: unknown, world: World): Interpreted {
  try {
    const ends = runGraph(steps, { input, ends: {} }, "", world);
    const sinks = sinksOf(steps);
    const given = sinks.flatMap((id) => {
      const end = ends[id];
      return end?.status === "completed" ? [[id, end.output] as const] : [];
    });
    return { output: combine(sinks, given) };
  } catch (error) {
    if (error instanceof Failed) return { failed: true };
    throw error;
  }
}

function runGraph(steps: readonly ModelStep[], outer: View, path: string, world: World): View["ends"] {
  const ends: View["ends"] = {};
  const left = new Set(steps);
  let failed = false;
  for (;;) {
    const next = [...left].find((step) => [...step.after, ...handledBy(step, steps)].every((id) => ends[id]));
    if (!next) break;
    left.delete(next);
    const view = { ...outer, ends: { ...outer.ends, ...ends } };
    try {
      ends[next.id] = runStep(next, { steps, ends, view, path: `${path}${next.id}`, world });
    } catch (error) {
      if (!(error instanceof Failed)) throw error;
      // What comes after it is never reached; what does not may still run, and changes nothing.
      failed = true;
    }
  }
  if (failed) throw new Failed();
  return ends;
}

type Place = { steps: readonly ModelStep[]; ends: View["ends"]; view: View; path: string; world: World };

function runStep(step: ModelStep, { steps, ends, view, path, world }: Place): End {
  const handled = handledBy(step, steps);
  if (handled.length > 0 && !handled.some((id) => ends[id]?.status === "failed")) return { status: "skipped" };
  const after = step.after.filter((id) => !handled.includes(id));
  const completed = after.filter((id) => ends[id]?.status === "completed");
  if (step.needs === "all" && completed.length < after.length) return { status: "skipped" };
  if (step.needs === "any" && after.length > 0 && completed.length === 0) return { status: "skipped" };
  if (step.when && !step.when.js(view)) return { status: "skipped" };
  try {
    return runTimes(step, view, path, world);
  } catch (error) {
    if (!(error instanceof Failed) || step.onError === "fail") throw error;
    return { status: "failed", error: FAILURE };
  }
}

function runTimes(step: ModelStep, view: View, path: string, world: World): End {
  if (step.times === "once") return { status: "completed", output: runOnce(step, view, path, world) };
  if (step.times === "forEach") {
    let failed = false;
    const output = step.list.js(view).map((item, index) => {
      try {
        return runOnce(step, { ...view, item, index }, `${path}/${index}`, world);
      } catch (error) {
        if (!(error instanceof Failed)) throw error;
        failed = true;
        return { error: FAILURE };
      }
    });
    if (failed && step.onError !== "continue") throw new Failed();
    return { status: "completed", output };
  }
  let last: unknown = null;
  for (let index = 0; ; index += 1) {
    const inner: View = { ...view, index, last };
    const output = runOnce(step, inner, `${path}/${index}`, world, (ends) => {
      inner.ends = { ...view.ends, ...ends };
    });
    const enough = step.until.js({ ...inner, output });
    if (enough || index + 1 === step.max) return { status: "completed", output, exhausted: !enough };
    last = output;
  }
}

function runOnce(
  step: ModelStep,
  view: View,
  path: string,
  world: World,
  found: (ends: View["ends"]) => void = () => {},
): unknown {
  if ("agent" in step) {
    const input = Object.fromEntries(Object.entries(step.input).map(([key, { js }]) => [key, js(view)]));
    for (let attempt = 1; attempt <= step.maxAttempts; attempt += 1) {
      const did = world(path, attempt, input);
      if ("output" in did) return did.output;
      if (did.final) break;
    }
    throw new Failed();
  }
  const ends = runGraph(step.steps, view, `${path}/`, world);
  found(ends);
  const sinks = sinksOf(step.steps);
  const given = sinks.flatMap((id): (readonly [string, unknown])[] => {
    const end = ends[id];
    if (end?.status === "completed") return [[id, end.output]];
    return end?.status === "failed" ? [[id, { error: end.error }]] : [];
  });
  return combine(sinks, given);
}

function combine(sinks: readonly string[], given: readonly (readonly [string, unknown])[]): unknown {
  if (given.length === 0) return null;
  return sinks.length === 1 ? given[0]?.[1] : Object.fromEntries(given);
}

function handledBy({ id }: ModelStep, steps: readonly ModelStep[]): string[] {
  return steps.filter(({ onError }) => onError === id).map((step) => step.id);
}

function sinksOf(steps: readonly ModelStep[]): string[] {
  const before = new Set(
    steps.flatMap((step) => {
      const handled = handledBy(step, steps);
      return step.after.filter((id) => !handled.includes(id));
    }),
  );
  return steps.map(({ id }) => id).filter((id) => !before.has(id));
}
