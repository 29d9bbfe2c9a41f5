/** Any graph, with groups, lists and loops in it, and any failures: it comes to what a plain interpreter says. */
import { expect, test } from "vitest";
import { defineWorkflow, type StepOptions } from "../../src/workflows/define-workflow.ts";
import type { WorkflowDefinition } from "../../src/workflows/definition.ts";
import { type Fact, isTerminal, type RunEvent, type RunEventBody } from "../../src/workflows/run-events.ts";
import { applyEvents } from "../../src/workflows/run-record.ts";
import { begin, type Decided, decide, fold, isDone, restore, save } from "../../src/workflows/supervisor.ts";
import { type Expression, interpret, type ModelStep, type World } from "../helpers/interpreter.ts";
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
type Scope = { steps: string[]; item: boolean; index: boolean; last: boolean };

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
    const own: Scope = { ...scope, steps: [...scope.steps, ...before] };
    const times = randomTimes(own, random);
    const inner: Scope = {
      ...own,
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
      ...(steps ? { steps } : { agent: true as const }),
      ...(times.times === "repeat" && steps && random.chance(0.8)
        ? { ...times, until: randomCondition({ ...inner, steps: [...inner.steps, ...steps.map((s) => s.id)] }, random) }
        : times),
    } satisfies ModelStep;
    made.set(id, step);
    return step;
  });
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
      { cel: "output == last", js: ({ output, last }) => JSON.stringify(output) === JSON.stringify(last) },
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
      ? { steps: step.steps.map(written) }
      : { agent: "x", input: braces, retry: { maxAttempts, delayMs: 1_000 } }),
    ...(step.times === "forEach" && { forEach: step.list.cel, concurrency: step.concurrency }),
    ...(step.times === "repeat" && { repeat: { until: step.until.cel, max: step.max } }),
  };
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

const trace = { traceId: "0af7651916cd43dd8448eb211c80319c", sampled: true };

/** Runs a workflow, whatever happens first, going on from its journal or from a saved state now and then. */
function run(definition: WorkflowDefinition, world: World, random: Random) {
  const journal: RunEvent[] = [];
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
  let decided: Decided = begin(definition, setup);
  record({ type: "run.accepted", data }, ...decided.decisions);
  for (let facts = 0; !isDone(decided.snapshot); facts += 1) {
    if (facts > 5_000) throw new Error("the run has no end");
    let { snapshot } = decided;
    if (random.chance(0.1)) snapshot = fold(definition, journal);
    if (random.chance(0.1)) snapshot = restore(definition, setup, JSON.parse(JSON.stringify(save(snapshot))));
    const { open, timers } = snapshot.context;
    expect(Object.keys(open).length).toBeLessThanOrEqual(concurrency);
    at = new Date(Date.parse(at) + 1_000).toISOString();
    const happening = random.pick([...Object.keys(open), ...Object.keys(timers).map((id) => `timer ${id}`)]);
    if (happening === undefined) throw new Error("the run stands still");
    const fact = happening.startsWith("timer ")
      ? ({ type: "timer.fired", data: { id: happening.slice(6) } } as const)
      : settled(happening, open[happening]?.task.input, world);
    decided = decide(snapshot, JSON.parse(JSON.stringify({ ...fact, at })) as Fact);
    record(fact as RunEventBody, ...decided.decisions);
  }
  return journal;
}

function settled(taskId: string, input: unknown, world: World) {
  const at = taskId.lastIndexOf("-");
  const did = world(taskId.slice(0, at), Number(taskId.slice(at + 1)), input);
  const outcome =
    "output" in did
      ? ({ type: "completed", output: did.output, usage: USAGE } as const)
      : ({ type: "failed", error: { code: "refused", message: "no", retryable: !did.final } } as const);
  return { type: "task.settled", data: { taskId, agent: "x", outcome } } as const;
}

test(`${SEEDS} random graphs come to what a plain interpreter says, from whatever they are gone on with`, {
  timeout: 120_000,
}, () => {
  const seen = { completed: 0, failed: 0, cancelled: 0 };
  for (let seed = 1; seed <= SEEDS; seed += 1) {
    const random = randomFrom(seed);
    let named = 0;
    const naming = { next: () => `s${named++}` };
    made.clear();
    const steps = randomGraph(0, { steps: [], item: false, index: false, last: false }, random, naming);
    const world = worldOf(seed);
    const definition = defineWorkflow({
      name: "random",
      ...(random.chance(0.5) && { concurrency: 1 + random.below(3) }),
      steps: steps.map(written),
    });
    const expected = interpret(steps, INPUT, world);
    const journal = run(definition, world, random);
    const end = journal.findLast(({ type }) => isTerminal(type));
    const got =
      end?.type === "run.completed"
        ? { output: withoutPaths(end.data.output) }
        : { failed: end?.type === "run.failed" && end.data.error.code === "refused" };
    const where = `seed ${seed}: ${JSON.stringify(steps.map(written))}`;
    expect(got, where).toEqual("output" in expected ? { output: withoutPaths(expected.output) } : expected);
    // Replayed as a whole, and read as a record, it holds together as well.
    expect(fold(definition, journal).status).toBe("done");
    const record = applyEvents(undefined, journal);
    expect(
      record.steps.filter(({ status }) => status === "running" || status === "retrying"),
      where,
    ).toEqual([]);
    seen["output" in expected ? "completed" : "failed"] += 1;
    if (journal.some(({ type }) => type === "step.cancelled")) seen.cancelled += 1;
  }
  // Enough of everything.
  expect(Math.min(seen.completed, seen.failed)).toBeGreaterThan(SEEDS / 10);
  expect(seen.cancelled).toBeGreaterThan(SEEDS / 50);
});
