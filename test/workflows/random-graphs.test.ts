/**
 * Any graph, with groups, lists and loops in it, and any failures: it comes to what a plain interpreter says, also what undoes it,
 * what runs because it failed, and what becomes of it when it is tried again.
 */
import { expect, test } from "vitest";
import { defineWorkflow, type StepOptions } from "../../src/workflows/define-workflow.ts";
import type { WorkflowDefinition } from "../../src/workflows/definition.ts";
import { type ReusedStep, reusedSteps } from "../../src/workflows/reused-steps.ts";
import {
  type Fact,
  type FactBody,
  isTerminal,
  type RunEvent,
  type RunEventBody,
} from "../../src/workflows/run-events.ts";
import { applyEvents } from "../../src/workflows/run-record.ts";
import {
  begin,
  type Decided,
  decide,
  fold,
  isDone,
  isEnding,
  restore,
  type SupervisorSnapshot,
  save,
} from "../../src/workflows/supervisor.ts";
import {
  type Course,
  type End,
  type Expression,
  interpret,
  type ModelCompensation,
  type ModelStep,
  type World,
} from "../helpers/interpreter.ts";
import { USAGE } from "../helpers/run-events.ts";

const SEEDS = 1_000;

/** A seeded sequence of numbers from 0 to below 1 (mulberry32). */
function randomFrom(seed: number) {
  let state = seed;
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
  const below = (limit: number) => Math.floor(next() * limit);
  return {
    below,
    chance: (probability: number) => next() < probability,
    pick: <T>(items: readonly T[]): T => items[below(items.length)] as T,
  };
}

type Random = ReturnType<typeof randomFrom>;

/** What the steps of a graph may speak of. */
type Scope = { steps: string[]; item: boolean; index: boolean; last: boolean; previous?: boolean; error?: boolean };

const INPUT = { list: ["x", { y: 1 }, 3], n: 2 };

function randomValue(scope: Scope, random: Random): Expression {
  const values: Expression[] = [
    { cel: "input.n", js: () => INPUT.n },
    { cel: "'text'", js: () => "text" },
  ];
  for (const id of scope.steps) {
    values.push(
      { cel: `steps.${id}.status`, js: ({ ends }) => ends[id]?.status },
      {
        cel: `steps.${id}.?output.orValue('none')`,
        js: ({ ends }) => (ends[id]?.status === "completed" ? ends[id].output : "none"),
      },
      {
        cel: `has(steps.${id}.error) ? steps.${id}.error.code : ''`,
        js: ({ ends }) => (ends[id]?.status === "failed" ? ends[id].error.code : ""),
      },
      {
        cel: `steps.${id}.?exhausted.orValue(false)`,
        js: ({ ends }) => (ends[id]?.status === "completed" && ends[id].exhausted) ?? false,
      },
    );
  }
  if (scope.item) values.push({ cel: "item", js: ({ item }) => item });
  if (scope.index) values.push({ cel: "index", js: ({ index }) => index });
  if (scope.last) values.push({ cel: "last", js: ({ last }) => last });
  if (scope.error) values.push({ cel: "error.code", js: ({ error }) => error?.code });
  if (scope.previous) {
    values.push({
      cel: "previous.?output.orValue('none')",
      js: ({ previous }) => (previous && "output" in previous ? previous.output : "none"),
    });
  }
  return random.pick(values);
}

function randomCondition({ steps, index }: Scope, random: Random): Expression<boolean> {
  const conditions: Expression<boolean>[] = [
    { cel: "input.n > 1", js: () => true },
    { cel: "input.n > 2", js: () => false },
  ];
  for (const id of steps) {
    conditions.push(
      { cel: `steps.${id}.status == 'completed'`, js: ({ ends }) => ends[id]?.status === "completed" },
      // What it gave has to be there, too.
      { cel: `has(steps.${id}.output)`, js: ({ ends }) => ends[id]?.status === "completed" },
      {
        cel: `steps.${id}.?output.orValue(null) == null`,
        js: ({ ends }) => ends[id]?.status !== "completed" || ends[id].output === null,
      },
    );
  }
  if (index) conditions.push({ cel: "index == 1", js: (view) => view.index === 1 });
  return random.pick(conditions);
}

function randomList(scope: Scope, random: Random): Expression<unknown[]> {
  const lists: Expression<unknown[]>[] = [
    { cel: "input.list", js: () => INPUT.list },
    { cel: "[]", js: () => [] },
    { cel: "[7, 8]", js: () => [7, 8] },
  ];
  // The output of anything, as a list.
  for (const id of scope.steps) {
    lists.push({
      cel: `[steps.${id}.status, steps.${id}.?output.orValue('none')]`,
      js: ({ ends }) => [ends[id]?.status, ends[id]?.status === "completed" ? ends[id].output : "none"],
    });
  }
  if (scope.item) lists.push({ cel: "[item, index]", js: ({ item, index }) => [item, index] });
  return random.pick(lists);
}

type Naming = { next: () => string };

function randomGraph(depth: number, scope: Scope, random: Random, naming: Naming): ModelStep[] {
  const count = 1 + random.below(depth === 0 ? 6 : 3);
  const ids = Array.from({ length: count }, naming.next);
  // Who handles errors comes after all whose errors it handles, and all that comes before those.
  return ids.map((id, i) => {
    const after = ids.slice(0, i).filter(() => random.chance(depth === 0 ? 0.4 : 0.6));
    const before = ancestors(after);
    const own: Scope = { ...scope, previous: false, steps: [...scope.steps, ...before] };
    const times = randomTimes(own, random);
    const inner: Scope = {
      ...own,
      previous: after.length > 0,
      item: own.item || times.times === "forEach",
      index: own.index || times.times !== "once",
      last: own.last || times.times === "repeat",
    };
    const isGroup = depth < 3 && random.chance(depth === 0 ? 0.4 : 0.25);
    const steps = isGroup ? randomGraph(depth + 1, inner, random, naming) : undefined;
    const step = {
      id,
      after,
      needs: after.length > 0 ? random.pick(["all", "all", "any", "always"] as const) : ("all" as const),
      onError: random.pick(["fail", "fail", "continue", "continue", ...ids.slice(i + 1, i + 2)]),
      ...(random.chance(0.25) && { when: randomCondition(own, random) }),
      input: { a: randomValue(inner, random), b: randomValue(inner, random) },
      maxAttempts: steps ? 1 : 1 + random.below(3),
      ...(steps ? { steps } : { agent: true as const, ...randomCompensation(inner, random) }),
      ...(times.times === "repeat" && steps && random.chance(0.8)
        ? { ...times, until: randomCondition({ ...inner, steps: [...inner.steps, ...steps.map((s) => s.id)] }, random) }
        : times),
    } satisfies ModelStep;
    made.set(id, step);
    return step;
  });
}

function randomCompensation(scope: Scope, random: Random): { compensate?: ModelCompensation } {
  // Those that run because the run failed are not undone themselves.
  if (scope.error || random.chance(0.5)) return {};
  const output: Expression = { cel: "output", js: (view) => view.output };
  // Of what is known only there as often as of all the steps.
  const known = random.chance(0.5) ? { ...scope, steps: [] } : scope;
  const input = random.chance(0.3) ? output : randomValue({ ...known, error: true }, random);
  return { compensate: { input, maxAttempts: 1 + random.below(2) } };
}

/** The steps made so far, to know what comes before what. */
const made = new Map<string, ModelStep>();

function ancestors(after: readonly string[]): string[] {
  const found = new Set<string>();
  const visit = (id: string) => {
    if (found.has(id)) return;
    found.add(id);
    for (const before of made.get(id)?.after ?? []) visit(before);
  };
  for (const id of after) visit(id);
  return [...found];
}

function randomTimes(scope: Scope, random: Random) {
  const dice = random.below(10);
  if (dice < 2) return { times: "forEach", list: randomList(scope, random), concurrency: 1 + random.below(3) } as const;
  if (dice < 4) {
    const until = random.pick<Expression<boolean>>([
      { cel: "index >= 1", js: ({ index = 0 }) => index >= 1 },
      // Errors in outputs have paths in their messages, which are no two iterations' the same.
      {
        cel: "type(output) == double && output == last",
        js: ({ output, last }) => typeof output === "number" && output === last,
      },
      { cel: "false", js: () => false },
    ]);
    return { times: "repeat", until, max: 1 + random.below(3) } as const;
  }
  return { times: "once" } as const;
}

function written(step: ModelStep): StepOptions {
  const { id, after, needs, onError, when, input, maxAttempts } = step;
  const braces = Object.fromEntries(Object.entries(input).map(([key, { cel }]) => [key, `{{ ${cel} }}`]));
  return {
    id,
    after,
    ...(after.length > 0 && { needs }),
    onError,
    ...(when && { when: when.cel }),
    ...("steps" in step
      ? // Nobody waits as long as that, unless the clock is turned.
        { steps: step.steps.map(written), ...(id.length % 2 === 0 && { timeoutMs: 86_400_000 }) }
      : { agent: "x", input: braces, retry: { maxAttempts, delayMs: 1_000 }, ...undoing(step.compensate) }),
    ...(step.times === "forEach" && { forEach: step.list.cel, concurrency: step.concurrency }),
    ...(step.times === "repeat" && { repeat: { until: step.until.cel, max: step.max } }),
  };
}

function undoing(compensate: ModelCompensation | undefined) {
  if (!compensate) return {};
  const { input, maxAttempts } = compensate;
  return { compensate: { agent: "y", input: `{{ ${input.cel} }}`, retry: { maxAttempts, delayMs: 1_000 } } };
}

/** Which of several failures comes first is chance, and so is the path in its message. */
function withoutPaths(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value ?? null).replaceAll(/step [\w/-]+: /g, ""));
}

function hash(text: string): number {
  let state = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) state = Math.imul(state ^ text.charCodeAt(i), 0x01000193);
  return state >>> 0;
}

function worldOf(seed: number): World {
  const failing = [0, 15, 50, 70][seed % 4] ?? 0;
  return (path, attempt, input) => {
    const dice = hash(`${seed} ${path} ${attempt}`) % 100;
    if (dice < failing) return { final: dice % 5 === 0 };
    return { output: hash(`${path} ${JSON.stringify(withoutPaths(input))}`) % 1_000 };
  };
}

/** A world in which nothing fails. */
function kindWorld(seed: number): World {
  return worldOf(seed - (seed % 4));
}

const trace = { traceId: "0af7651916cd43dd8448eb211c80319c", sampled: true };

/** `isWild`: also what a person or a clock may do, sensible or not. */
type RunOptions = { world: World; random: Random; reused?: readonly ReusedStep[]; isWild?: boolean };

type Ran = {
  journal: RunEvent[];
  /** What agents were asked, by task. */
  asked: Map<string, { path: string; input: unknown }>;
};

/** Runs a workflow, whatever happens first, going on from its journal or from a saved state now and then. */
function run(definition: WorkflowDefinition, { world, random, reused = [], isWild = false }: RunOptions): Ran {
  const journal: RunEvent[] = [];
  const asked: Ran["asked"] = new Map();
  const data = { input: INPUT, workflow: "random", kind: "deterministic" as const, trace };
  let at = new Date(Date.UTC(2026, 0, 1)).toISOString();
  const setup = { runId: "r1", request: data, acceptedAt: at };
  const { concurrency = 500 } = definition as { concurrency?: number };
  const record = (...bodies: RunEventBody[]) => {
    for (const body of bodies) {
      const event = { v: 1, id: `e${journal.length}`, runId: "r1", n: journal.length + 1, at, epoch: 1, ...body };
      journal.push(JSON.parse(JSON.stringify(event)) as RunEvent);
    }
  };
  const note = ({ decisions, effects }: Decided) => {
    record(...decisions);
    for (const effect of effects) {
      if (effect.type !== "askAgent") continue;
      const { task, step = "" } = effect.open;
      expect(asked.has(task.taskId)).toBe(false);
      asked.set(task.taskId, { path: step, input: task.input });
    }
  };
  let decided: Decided = begin(definition, setup, reused);
  record({ type: "run.accepted", data }, ...reused);
  note(decided);
  for (let facts = 0; !isDone(decided.snapshot); facts += 1) {
    if (facts > 5_000) throw new Error("the run has no end");
    let { snapshot } = decided;
    if (random.chance(0.1)) snapshot = fold(definition, journal);
    if (random.chance(0.1)) snapshot = restore(definition, setup, JSON.parse(JSON.stringify(save(snapshot))));
    if (snapshot !== decided.snapshot) expect(essence(snapshot)).toEqual(essence(decided.snapshot));
    const { open, timers } = snapshot.context;
    expect(Object.keys(open).length).toBeLessThanOrEqual(concurrency);
    if (isWild && random.chance(0.1)) {
      const standing = applyEvents(undefined, journal);
      expect(standing.current.map(({ taskId }) => taskId).sort()).toEqual(Object.keys(open).sort());
      expect(Object.fromEntries(standing.timers.map(({ id, dueAt }) => [id, dueAt]))).toEqual(timers);
    }
    at = new Date(Date.parse(at) + 1_000).toISOString();
    const due = Object.keys(timers).filter((id) => isWild || !id.startsWith("timeout."));
    const happening = random.pick([...Object.keys(open), ...due.map((id) => `timer ${id}`)]);
    const wild = isWild && random.chance(0.05);
    if (happening === undefined && !wild) throw new Error("the run stands still");
    const fact = wild
      ? random.pick(
          WILD.filter(({ type, data }) => !isEnding(snapshot.value) || type !== "run.cancelling" || data.force),
        )
      : happening?.startsWith("timer ")
        ? ({ type: "timer.fired", data: { id: happening.slice(6) } } as const)
        : settled(happening ?? "", open[happening ?? ""]?.task.input, world);
    decided = decide(snapshot, JSON.parse(JSON.stringify({ ...fact, at })) as Fact);
    record(fact as RunEventBody);
    note(decided);
  }
  return { journal, asked };
}

/** The part of a snapshot that decides; the plans are the definition's and are not data. */
function essence({ value, context }: SupervisorSnapshot): unknown {
  const { plan: _plan, unwinding: _unwinding, ...rest } = context;
  return JSON.parse(JSON.stringify({ value, rest }));
}

/** A host passes over a second cancel without force. */
const WILD: readonly FactBody[] = [
  { type: "run.cancelling", data: { reason: "enough" } },
  { type: "run.cancelling", data: {} },
  { type: "run.cancelling", data: { force: true } },
  { type: "run.cancelling", data: { force: true } },
  { type: "run.exceeded", data: { limit: "events", most: 9, got: 10 } },
  { type: "timer.fired", data: { id: "timeout" } },
  { type: "timer.fired", data: { id: "retry.s1/0" } },
  {
    type: "task.settled",
    data: { taskId: "s0-1", agent: "x", outcome: { type: "completed", output: 1, usage: USAGE } },
  },
];

function settled(taskId: string, input: unknown, world: World) {
  const at = taskId.lastIndexOf("-");
  const did = world(taskId.slice(0, at), Number(taskId.slice(at + 1)), input);
  const outcome =
    "output" in did
      ? ({ type: "completed", output: did.output, usage: USAGE } as const)
      : ({ type: "failed", error: { code: "refused", message: "no", retryable: !did.final } } as const);
  return { type: "task.settled", data: { taskId, agent: "x", outcome } } as const;
}

type Case = {
  steps: ModelStep[];
  onFailure: ModelStep[];
  definition: WorkflowDefinition;
  world: World;
  random: Random;
};

function randomCase(seed: number): Case {
  const random = randomFrom(seed);
  let named = 0;
  const naming = { next: () => `s${named++}` };
  made.clear();
  const scope: Scope = { steps: [], item: false, index: false, last: false };
  const steps = randomGraph(0, scope, random, naming);
  const onFailure = random.chance(0.5) ? randomGraph(1, { ...scope, error: true }, random, naming) : [];
  const definition = defineWorkflow({
    name: "random",
    ...(random.chance(0.5) && { concurrency: 1 + random.below(3) }),
    steps: steps.map(written),
    ...(onFailure.length > 0 && { onFailure: onFailure.map(written) }),
  });
  return { steps, onFailure, definition, world: worldOf(seed), random };
}

/** The paths of all steps in a graph that can be undone, each with its items and iterations as `*`. */
function undoableIn(steps: readonly ModelStep[], prefix = ""): string[] {
  return steps.flatMap((step) => {
    const path = `${prefix}${step.id}${step.times === "once" ? "" : "/*"}`;
    if ("steps" in step) return undoableIn(step.steps, `${path}/`);
    return step.compensate ? [path] : [];
  });
}

const isUndone = (event: RunEvent) => event.type === "compensation.completed" || event.type === "compensation.failed";

/** Each instance that completed is undone once, the last first, one at a time, before anything that runs because of the failure. */
function checkUndoing({ steps }: Case, journal: readonly RunEvent[]): { undone: number; failed: number; late: number } {
  const undoable = new Set(undoableIn(steps));
  const owed: string[] = [];
  const seen = { undone: 0, failed: 0, late: 0 };
  let atWork: string | undefined;
  for (const event of journal) {
    const step = (event.data as { step?: string }).step ?? "";
    if (event.type === "step.completed" && "taskId" in event.data) {
      expect(atWork).toBeUndefined();
      if (undoable.has(step.replace(/\/\d+(?=\/|$)/g, "/*"))) owed.push(step);
    } else if (event.type === "compensation.started") {
      expect(atWork).toBeUndefined();
      atWork = owed.pop();
      expect(step).toBe(atWork);
    } else if (isUndone(event)) {
      expect(step).toBe(atWork);
      atWork = undefined;
      seen[event.type === "compensation.failed" ? "failed" : "undone"] += 1;
    } else if (event.type === "compensation.abandoned") {
      expect(event.data.steps).toEqual([...(atWork === undefined ? [] : [atWork]), ...owed.reverse()]);
      seen.failed += event.data.steps.length;
      atWork = undefined;
      owed.length = 0;
    } else if (event.type === "task.sent" && step.startsWith("onFailure/")) {
      expect([atWork, owed]).toEqual([undefined, []]);
      seen.late += 1;
    }
  }
  const end = journal.at(-1);
  expect(end && isTerminal(end.type)).toBe(true);
  if (end?.type !== "run.completed") expect([atWork, owed]).toEqual([undefined, []]);
  else expect(seen).toEqual({ undone: 0, failed: 0, late: 0 });
  expect(end?.type === "run.failed" && end.data.error.code === "compensation_failed").toBe(seen.failed > 0);
  return seen;
}

/** Everybody was asked what the interpreter says, also those that undo something and those that are told of the failure. */
function checkAsked({ onFailure, world }: Case, { journal, asked }: Ran, course: Course): void {
  const end = journal.at(-1);
  const code = end?.type === "run.failed" ? end.data.error.code : "";
  const late = interpret(onFailure, INPUT, world, { prefix: "onFailure/", error: { code } });
  for (const { path, input } of asked.values()) {
    const undone = path.endsWith("/compensate") ? path.slice(0, -"/compensate".length) : undefined;
    const from =
      undone !== undefined ? course.undone : path.startsWith("onFailure/") ? late.course.asked : course.asked;
    expect(from.has(undone ?? path), path).toBe(true);
    expect(withoutPaths(input), path).toEqual(withoutPaths(from.get(undone ?? path)));
  }
  // Nothing is missing in any of their templates.
  for (const { type, data } of journal)
    if (type === "compensation.started") expect(asked.has(`${data.step}/compensate-1`), data.step).toBe(true);
  if (end?.type !== "run.failed" || "failed" in late.result) return;
  const ended = journal.flatMap(({ type, data }) =>
    /^step\.(completed|skipped|failed)$/.test(type) && "step" in data ? [data.step] : [],
  );
  for (const { id } of onFailure) expect(ended).toContain(`onFailure/${id}`);
}

/** What is taken over is all that completed and was not undone, after nothing but the same or what was skipped; as it was. */
function reusedOf({ steps, definition }: Case, journal: readonly RunEvent[], { ends }: Course, from?: string) {
  const reused = reusedSteps(definition, journal, from);
  const completed = new Set<string>();
  const skipped = new Set<string>();
  for (const { type, data } of journal) {
    if (type === "step.completed") completed.add(data.step);
    else if (type === "step.reused") completed.add(data.step);
    else if (type === "step.skipped") skipped.add(data.step);
    else if (type === "compensation.started") completed.delete(data.step.split("/")[0] ?? "");
  }
  const isKept = (id: string): boolean => {
    const step = steps.find((candidate) => candidate.id === id);
    const handled = steps.filter(({ onError }) => onError === id).map((other) => other.id);
    if (id === from || !(completed.has(id) || skipped.has(id))) return false;
    return [...(step?.after ?? []), ...handled].every(isKept);
  };
  const expected = steps.filter(({ id }) => completed.has(id) && isKept(id)).map(({ id }) => id);
  expect(reused.map(({ data }) => data.step).sort()).toEqual(expected.sort());
  const known = new Map<string, End>();
  for (const { data } of reused) {
    const { step, output, exhausted = false } = data;
    const was = ends.get(step);
    expect(withoutPaths({ status: "completed", output, exhausted })).toEqual(
      withoutPaths({ exhausted: false, ...was }),
    );
    known.set(step, { status: "completed", output, exhausted });
  }
  return { reused, known };
}

function checkEnd(journal: readonly RunEvent[], expected: ReturnType<typeof interpret>["result"]): void {
  const end = journal.findLast(({ type }) => isTerminal(type));
  const codes = ["refused", "compensation_failed"];
  const got =
    end?.type === "run.completed"
      ? { output: withoutPaths(end.data.output) }
      : { failed: end?.type === "run.failed" && codes.includes(end.data.error.code) };
  expect(got).toEqual("output" in expected ? { output: withoutPaths(expected.output) } : expected);
}

/** Replayed as a whole, and read as a record, it holds together as well. */
function checkRecord(definition: WorkflowDefinition, journal: readonly RunEvent[]): void {
  expect(fold(definition, journal).status).toBe("done");
  const record = applyEvents(undefined, journal);
  const atWork = ({ status }: { status: string }) => status === "running" || status === "retrying";
  expect(record.compensations.filter(atWork)).toEqual([]);
  // Of a run that is over nothing is at work, but what was when it ended.
  if (record.status === "completed") expect(record.steps.filter(atWork)).toEqual([]);
}

/** Runs one case to its end, and tries it again until nothing fails any more; says what happened in it. */
function checkSeed(seed: number, count: (what: string) => void): void {
  const made = randomCase(seed);
  const { steps, definition, world, random } = made;
  const { result, course } = interpret(steps, INPUT, world);
  const first = run(definition, { world, random });
  checkEnd(first.journal, result);
  checkRecord(definition, first.journal);
  checkAsked(made, first, course);
  const { undone, failed, late } = checkUndoing(made, first.journal);
  count("output" in result ? "completed" : "failed");
  if (first.journal.some(({ type }) => type === "step.cancelled")) count("cancelled");
  if (undone > 0) count("undone");
  if (failed > 0) count("not undone");
  if (late > 0) count("told");

  const from = random.chance(0.3) || "output" in result ? random.pick(steps).id : undefined;
  const { reused, known } = reusedOf(made, first.journal, course, from);
  if (reused.length > 0) count("reused");
  const kind = kindWorld(seed);
  const again = interpret(steps, INPUT, kind, { reused: known });
  const second = run(definition, { world: kind, random, reused });
  checkEnd(second.journal, again.result);
  checkRecord(definition, second.journal);
  checkAsked({ ...made, world: kind }, second, again.course);
  // And of that one, too, all can be taken over.
  reusedOf(made, second.journal, again.course, random.pick(steps).id);
}

test(`${SEEDS} random graphs come to what a plain interpreter says, are undone and tried again, from whatever they are gone on with`, {
  timeout: 120_000,
}, () => {
  const seen = new Map<string, number>();
  const count = (what: string) => seen.set(what, (seen.get(what) ?? 0) + 1);
  for (let seed = 1; seed <= SEEDS; seed += 1) {
    try {
      checkSeed(seed, count);
    } catch (error) {
      throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    }
  }
  // Enough of everything.
  for (const what of ["completed", "failed"]) expect(seen.get(what), what).toBeGreaterThan(SEEDS / 10);
  for (const what of ["cancelled", "undone", "not undone", "told", "reused"])
    expect(seen.get(what), what).toBeGreaterThan(SEEDS / 50);
});

test(`${SEEDS} random graphs keep to the rules whoever cancels them and whatever takes too long`, {
  timeout: 120_000,
}, () => {
  const ends = new Map<string, number>();
  for (let seed = 1; seed <= SEEDS; seed += 1) {
    try {
      const made = randomCase(seed);
      const { random } = made;
      const { journal } = run(made.definition, { ...made, isWild: true });
      checkRecord(made.definition, journal);
      checkUndoing(made, journal);
      // However it ended: where nothing fails any more it completes.
      const reused = reusedSteps(made.definition, journal, random.pick(made.steps).id);
      const again = run(made.definition, { world: kindWorld(seed), random, reused });
      expect(again.journal.at(-1)?.type).toBe("run.completed");
      for (const { type, data } of journal) {
        const what = isTerminal(type) || type === "compensation.abandoned" ? type : undefined;
        const timedOut = type === "step.failed" && data.error.code === "timeout" ? "timeout" : undefined;
        for (const one of [what, timedOut]) if (one) ends.set(one, (ends.get(one) ?? 0) + 1);
      }
    } catch (error) {
      throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    }
  }
  for (const what of ["run.completed", "run.failed", "run.cancelled", "compensation.abandoned", "timeout"])
    expect(ends.get(what), what).toBeGreaterThan(SEEDS / 100);
});
