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
  /** The step directly before, or the outputs of those, where there are several. */
  previous?: End | { output: unknown };
  error?: { code: string };
};

export type Expression<T = unknown> = { cel: string; js: (view: View) => T };

export type ModelCompensation = { input: Expression; maxAttempts: number };

type Work = { agent: true; compensate?: ModelCompensation } | { steps: ModelStep[] };
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

/** What came of it on the way. Where something fails all the rest is done as well, so there may be more than a run comes to. */
export type Course = {
  /** What agents were asked, by path. */
  asked: Map<string, unknown>;
  /** What would undo each instance that completed is asked, by path. */
  undone: Map<string, unknown>;
  /** How the steps ended that stand in no group. */
  ends: Map<string, End>;
};

type Told = {
  /** What stands before every path. */
  prefix?: string;
  /** What another run has done, of the steps that stand in no group. */
  reused?: ReadonlyMap<string, End>;
  /** What the run has failed with. */
  error?: { code: string };
};

type Surroundings = { world: World; course: Course; reused: ReadonlyMap<string, End> };

/** All failures look the same, because which of two comes first is chance. */
const FAILURE: Failure = { code: "refused", message: "no" };

/** Thrown by what fails for good where nothing handles it. */
class Failed extends Error {}

export function interpret(
  steps: readonly ModelStep[],
  input: unknown,
  world: World,
  { prefix = "", reused = new Map(), error }: Told = {},
): { result: Interpreted; course: Course } {
  const course: Course = { asked: new Map(), undone: new Map(), ends: new Map() };
  const view = { input, ends: {}, ...(error && { error }) };
  return { result: resultOf(steps, () => runGraph(steps, view, prefix, { world, course, reused })), course };
}

function resultOf(steps: readonly ModelStep[], run: () => View["ends"]): Interpreted {
  try {
    const ends = run();
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

function runGraph(steps: readonly ModelStep[], outer: View, path: string, around: Surroundings): View["ends"] {
  const ends: View["ends"] = {};
  const left = new Set(steps);
  let failed = false;
  for (;;) {
    const next = [...left].find((step) => [...step.after, ...handledBy(step, steps)].every((id) => ends[id]));
    if (!next) break;
    left.delete(next);
    const view = { ...outer, ends: { ...outer.ends, ...ends } };
    try {
      const end = runStep(next, { steps, ends, view, path: `${path}${next.id}`, ...around });
      ends[next.id] = end;
      around.course.ends.set(`${path}${next.id}`, end);
    } catch (error) {
      if (!(error instanceof Failed)) throw error;
      // What comes after it is never reached; what does not may still run, and changes nothing.
      failed = true;
    }
  }
  if (failed) throw new Failed();
  return ends;
}

type Place = Surroundings & { steps: readonly ModelStep[]; ends: View["ends"]; view: View; path: string };

function runStep(step: ModelStep, { steps, ends, view: outer, path, ...around }: Place): End {
  const handled = handledBy(step, steps);
  if (handled.length > 0 && !handled.some((id) => ends[id]?.status === "failed")) return { status: "skipped" };
  const after = step.after.filter((id) => !handled.includes(id));
  const completed = after.filter((id) => ends[id]?.status === "completed");
  const view: View = { ...outer, ...previousOf([...new Set([...step.after, ...handled])], ends) };
  if (step.needs === "all" && completed.length < after.length) return { status: "skipped" };
  if (step.needs === "any" && after.length > 0 && completed.length === 0) return { status: "skipped" };
  if (step.when && !step.when.js(view)) return { status: "skipped" };
  const known = around.reused.get(path);
  if (known) return known;
  try {
    return runTimes(step, view, path, around);
  } catch (error) {
    if (!(error instanceof Failed) || step.onError === "fail") throw error;
    return { status: "failed", error: FAILURE };
  }
}

function previousOf(direct: readonly string[], ends: View["ends"]): Pick<View, "previous"> {
  const [only] = direct.map((id) => ends[id]);
  if (only === undefined) return {};
  if (direct.length === 1) return { previous: only };
  const outputs = direct.flatMap((id) => {
    const end = ends[id];
    return end?.status === "completed" ? [[id, end.output] as const] : [];
  });
  return { previous: { output: Object.fromEntries(outputs) } };
}

function runTimes(step: ModelStep, view: View, path: string, around: Surroundings): End {
  if (step.times === "once") return { status: "completed", output: runOnce(step, view, path, around) };
  if (step.times === "forEach") {
    let failed = false;
    const output = step.list.js(view).map((item, index) => {
      try {
        return runOnce(step, { ...view, item, index }, `${path}/${index}`, around);
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
    const output = runOnce(step, inner, `${path}/${index}`, around, (ends) => {
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
  around: Surroundings,
  found: (ends: View["ends"]) => void = () => {},
): unknown {
  if ("agent" in step) {
    const input = Object.fromEntries(Object.entries(step.input).map(([key, { js }]) => [key, js(view)]));
    around.course.asked.set(path, input);
    for (let attempt = 1; attempt <= step.maxAttempts; attempt += 1) {
      const did = around.world(path, attempt, input);
      if ("output" in did) {
        const undo = step.compensate?.input.js({ ...view, output: did.output, error: FAILURE });
        if (step.compensate) around.course.undone.set(path, undo);
        return did.output;
      }
      if (did.final) break;
    }
    throw new Failed();
  }
  const ends = runGraph(step.steps, view, `${path}/`, around);
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
