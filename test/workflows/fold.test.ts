/** What a run is after its journal was read by another process: the same, at every entry. */
import { describe, expect, test } from "vitest";
import { defineAgent } from "../../src/actors/define-agent.ts";
import { defineWorkflow } from "../../src/workflows/define-workflow.ts";
import type { DeterministicDefinition, WorkflowDefinition } from "../../src/workflows/definition.ts";
import type { Fact, RunEvent, RunRequest } from "../../src/workflows/run-events.ts";
import {
  type Decided,
  decide,
  FoldError,
  fold,
  foldOn,
  isDone,
  restore,
  type SupervisorSnapshot,
  save,
} from "../../src/workflows/supervisor.ts";
import { expectWithin } from "../helpers/measured-bound.ts";
import { RUN_START, type SupervisedRun, superviseRun } from "../helpers/supervised-run.ts";

/** The part of a snapshot that decides; the plan is the definition's and is not data. */
function essence({ value, status, context }: SupervisorSnapshot): unknown {
  const { plan: _plan, ...rest } = context;
  return JSON.parse(JSON.stringify({ value, status, context: rest }));
}

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

/** How steps have ended, as the test keeps the books. */
type Ends = Map<string, { status: "completed" | "failed" | "skipped"; output?: unknown }>;

/** A condition, and what it comes to; undefined where it has no value. */
type Condition = { cel: string; holds: (ends: Ends, input: unknown) => boolean | undefined };

type RandomGraph = { definition: DeterministicDefinition; conditions: ReadonlyMap<string, Condition> };

function randomCondition(after: readonly string[], random: Random): Condition {
  const id = after.length > 0 ? random.pick(after) : undefined;
  const about: Condition[] = [
    { cel: "input == 'bees'", holds: (_, input) => input === "bees" },
    { cel: "1 > 2", holds: () => false },
    // Missing, or a list: no value of a condition.
    { cel: "input.topic", holds: () => undefined },
  ];
  if (id !== undefined) {
    about.push(
      { cel: `steps.${id}.status == "completed"`, holds: (ends) => ends.get(id)?.status === "completed" },
      { cel: `has(steps.${id}.error)`, holds: (ends) => ends.get(id)?.status === "failed" },
      {
        cel: `steps.${id}.output == "text"`,
        holds: (ends) => (ends.get(id)?.status === "completed" ? ends.get(id)?.output === "text" : undefined),
      },
    );
  }
  return random.pick(about.slice(id === undefined ? 0 : 1));
}

function randomGraph(random: Random): RandomGraph {
  const conditions = new Map<string, Condition>();
  const count = 1 + random.below(8);
  const steps = Array.from({ length: count }, (_, i) => {
    const after = Array.from({ length: i }, (_, before) => `s${before}`).filter(() => random.chance(0.35));
    const any = random.chance(0.1);
    const named = after.length > 0 && random.chance(0.4) ? random.pick(after) : undefined;
    const condition = random.chance(0.3) ? randomCondition(after, random) : undefined;
    if (condition) conditions.set(`s${i}`, condition);
    const handlers = Array.from({ length: count - 1 - i }, (_, later) => `s${i + 1 + later}`);
    return {
      id: `s${i}`,
      agent: random.pick(["x", "y"]),
      after,
      ...(condition && { when: condition.cel }),
      ...(after.length > 0 && { needs: random.pick(["all", "all", "any", "always"] as const) }),
      onError: random.pick(["fail", "continue", ...handlers.slice(0, 1), ...handlers.slice(-1)]),
      ...(any && { input: "{{ steps.map(id, steps[id].output) }}" }),
      ...(named !== undefined && { input: `{{ steps.${named}.output${random.chance(0.2) ? ".missing" : ""} }}` }),
      retry: { maxAttempts: 1 + random.below(3), delayMs: 1 + random.below(2_000) },
    };
  });
  return { definition: defineWorkflow({ name: "random", steps }) as DeterministicDefinition, conditions };
}

function randomTeam(random: Random): WorkflowDefinition {
  const names = ["a0", "a1", "a2", "a3"];
  const agents = names.map((name) =>
    defineAgent({ name, instructions: "i", model: "m", handoffs: names.filter((other) => other !== name) }),
  );
  const limits = { maxHandoffs: random.below(6), maxVisits: 1 + random.below(3) };
  return defineWorkflow({ name: "random-team", entry: "a0", agents, ...limits });
}

function randomRequest(random: Random): Partial<RunRequest> {
  return {
    input: random.pick(["bees", { topic: ["bees"] }, null]),
    ...(random.chance(0.3) && { notBefore: new Date(RUN_START + 1_000).toISOString() }),
    ...(random.chance(0.5) && { timeoutMs: 1 + random.below(20_000) }),
  };
}

/** One thing that may happen to a run at this moment, sensible or not. */
function happen(run: SupervisedRun, random: Random): void {
  const open = run.open();
  const dice = random.below(100);
  if (dice === 99) run.fact({ type: "run.exceeded", data: { limit: "events", most: 9, got: 10 } });
  else if (dice < 3) run.cancel(random.pick([undefined, "enough"]));
  else if (dice < 8) run.completes(random.pick(["s0-1", "s1-2", "h0", "nobody", "constructor"]), "late or unknown");
  else if (dice < 10) run.fires(random.pick(["start", "timeout", "cancel", "retry.s0", "nothing"]));
  else if (!fireTimer(run, random, dice)) {
    if (open.length === 0) run.cancel();
    else settle(run, random.pick(open), random);
  }
}

/** Lets a timer fire now and then, and whenever nothing else can happen; the timeout only seldom. */
function fireTimer(run: SupervisedRun, random: Random, dice: number): boolean {
  const waits = run.open().length === 0;
  if (!waits && dice >= 25) return false;
  const timers = Object.keys(run.snapshot.context.timers);
  const sensible = timers.filter((id) => id !== "timeout" || waits || dice < 12);
  if (sensible.length === 0) return false;
  run.fires(random.pick(sensible));
  return true;
}

function settle(run: SupervisedRun, taskId: string, random: Random): void {
  const { handoffs } = run.task(taskId);
  if (handoffs.length > 0 && random.chance(0.7)) {
    const to = random.pick(["a0", "a1", "a2", "a3", "a3", "nobody"]);
    run.handsOff(taskId, { to, transcript: [{ role: "assistant", content: `to ${to}` }], reason: "r" });
  } else if (random.chance(0.8)) {
    run.completes(taskId, random.pick(["text", { a: [1, null] }, 7, null]));
  } else {
    const final = random.chance(0.2) && { retryable: false };
    run.fails(taskId, { code: "model_error", message: "no", ...final });
  }
}

function checkOneRandomRun(seed: number): RunEvent[] {
  const random = randomFrom(seed);
  const graph = random.chance(0.7) ? randomGraph(random) : undefined;
  const definition = graph?.definition ?? randomTeam(random);
  const run = superviseRun(definition, randomRequest(random));
  const live = [essence(run.snapshot)];
  for (let i = 0; i < 120 && run.snapshot.status !== "done"; i += 1) {
    happen(run, random);
    live.push(essence(run.snapshot));
  }
  for (let entries = 1; entries <= run.journal.length; entries += 1) {
    expect(essence(fold(definition, run.journal.slice(0, entries).flat()))).toEqual(live[entries - 1]);
    checkRestored(definition, run.journal, { at: 1 + random.below(entries), entries, live });
  }
  const journal = run.journal.flat();
  if (graph) checkOrder(graph, journal);
  return journal;
}

/** What was saved after some entry and read elsewhere comes to the same as the whole journal, and wants the same done. */
function checkRestored(
  definition: WorkflowDefinition,
  journal: readonly RunEvent[][],
  { at, entries, live }: { at: number; entries: number; live: readonly unknown[] },
): void {
  const folded = fold(definition, journal.slice(0, at).flat());
  const [accepted] = journal[0] ?? [];
  if (isDone(folded) || accepted?.type !== "run.accepted") return;
  const setup = { runId: "r1", request: accepted.data, acceptedAt: accepted.at };
  const restored = restore(definition, setup, JSON.parse(JSON.stringify(save(folded))));
  expect(essence(foldOn(restored, journal.slice(at, entries).flat()))).toEqual(live[entries - 1]);
  const next = journal[at]?.[0] as Fact | undefined;
  if (!next) return;
  expect(wanted(decide(restored, next))).toEqual(wanted(decide(folded, next)));
}

/** What is to be recorded and done; timers that are forgotten already may be stopped once more. */
function wanted({ decisions, effects }: Decided): unknown {
  const done = effects.filter((effect) => effect.type !== "stop" || !effect.child.startsWith("timer."));
  return JSON.parse(JSON.stringify({ decisions, done }));
}

/**
 * Goes through a journal with the rules of the documentation alone: no step before all it comes after or handles have ended,
 * none decided on twice, each as it has to be, each attempt once, and a completed run has the outputs it has to have.
 */
function checkOrder({ definition: { steps }, conditions }: RandomGraph, journal: readonly RunEvent[]): void {
  const ends: Ends = new Map();
  const started = new Set<string>();
  const sent = new Set<string>();
  const outputs = new Map<string, unknown>();
  const input = journal[0]?.type === "run.accepted" ? journal[0].data.input : undefined;
  const expectedOf = (id: string) => {
    expect(started.has(id) || ends.has(id)).toBe(false);
    const handles = steps.filter(({ onError }) => onError === id).map((step) => step.id);
    const step = steps.find((candidate) => candidate.id === id);
    const after = (step?.after ?? ["a step nobody defined"]).filter((before) => !handles.includes(before));
    expect([...after, ...handles].filter((before) => !ends.has(before))).toEqual([]);
    if (handles.length > 0 && handles.every((before) => ends.get(before)?.status !== "failed")) return "skipped";
    const completed = after.filter((before) => ends.get(before)?.status === "completed").length;
    if (step?.needs === undefined && completed < after.length) return "skipped";
    if (step?.needs === "any" && after.length > 0 && completed === 0) return "skipped";
    const condition = conditions.get(id);
    const holds = condition ? condition.holds(ends, input) : true;
    return holds === undefined ? "condition_failed" : holds ? "started" : "skipped";
  };
  let expected = "";
  for (const event of journal) {
    switch (event.type) {
      case "step.started":
        expected = expectedOf(event.data.step);
        expect(expected).toMatch(/^(started|condition_failed)$/);
        started.add(event.data.step);
        break;
      case "step.skipped":
        expect(expectedOf(event.data.step)).toBe("skipped");
        ends.set(event.data.step, { status: "skipped" });
        break;
      case "task.sent":
        expect(expected).not.toBe("condition_failed");
        expect(sent.has(event.data.taskId)).toBe(false);
        sent.add(event.data.taskId);
        break;
      case "task.settled":
        if (event.data.outcome.type === "completed") outputs.set(event.data.taskId, event.data.outcome.output);
        break;
      case "step.completed":
        ends.set(event.data.step, { status: "completed", output: outputs.get(event.data.taskId ?? "") });
        break;
      case "step.failed": {
        const { step, error, continued = false } = event.data;
        if (expected === "condition_failed") expect(error.code).toBe("condition_failed");
        expected = "";
        expect(continued).toBe(steps.find(({ id }) => id === step)?.onError !== undefined);
        if (continued) ends.set(step, { status: "failed" });
        break;
      }
      case "run.completed":
        expect(ends.size).toBe(steps.length);
        expect(event.data.output).toEqual(outputOf(steps, ends));
        break;
      default:
    }
  }
}

/** What a run that completed gives: the outputs of the last steps that completed. */
function outputOf(steps: DeterministicDefinition["steps"], ends: Ends): unknown {
  const isFollowed = (id: string) =>
    steps.some((step) => step.after.includes(id) && steps.find((other) => other.id === id)?.onError !== step.id);
  const last = steps.filter(({ id }) => !isFollowed(id)).map(({ id }) => id);
  const outputs = last.filter((id) => ends.get(id)?.status === "completed").map((id) => [id, ends.get(id)?.output]);
  if (outputs.length === 0) return null;
  return last.length === 1 ? outputs[0]?.[1] : Object.fromEntries(outputs);
}

test("folding any part of any journal comes to where the run was then", () => {
  const ends = new Map<string, number>();
  const count = (what: string) => ends.set(what, (ends.get(what) ?? 0) + 1);
  for (let seed = 1; seed <= 600; seed += 1) {
    try {
      const journal = checkOneRandomRun(seed);
      for (const event of journal) {
        if (event.type === "step.skipped") count(event.data.reason.split(":")[0] ?? "");
        if (event.type === "step.failed") count(event.data.continued ? "goes on" : event.data.error.code);
      }
      const terminal = journal.filter(({ type }) => /^run\.(completed|failed|cancelled)$/.test(type));
      expect(terminal).toHaveLength(1);
      count(terminal[0]?.type ?? "none");
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
  }
  // The runs are of all sorts, or this would not say much.
  for (const end of ["run.completed", "run.failed", "run.cancelled"]) expect(ends.get(end)).toBeGreaterThan(20);
  for (const why of ["when", "needs all", "needs any", "nothing to handle", "goes on", "condition_failed"])
    expect(ends.get(why), why).toBeGreaterThan(5);
});

describe("a fold stops where the definition does not lead to what is on record", () => {
  const before = defineWorkflow({ name: "w", agents: ["a", "b"] });
  const halfWay = () => {
    const run = superviseRun(before);
    run.completes("a-1");
    return run.journal.flat();
  };

  test("because a step has another name, is gone, or is new", () => {
    for (const agents of [["a", "c"], ["a"], ["b", "a"]]) {
      expect(() => fold(defineWorkflow({ name: "w", agents }), halfWay())).toThrow(FoldError);
    }
    const parallel = defineWorkflow({
      name: "w",
      steps: [
        { id: "a", agent: "a" },
        { id: "b", agent: "b", after: "a" },
        { id: "c", agent: "c" },
      ],
    });
    expect(() => fold(parallel, halfWay())).toThrow(
      "decision 3: expected step.completed a a-1 as recorded, got step.started c",
    );
  });

  test("because a step is tried again that was given up, or the other way round", () => {
    const patient = defineWorkflow({ name: "w", steps: [{ id: "a", agent: "a", retry: { maxAttempts: 2 } }] });
    const strict = defineWorkflow({ name: "w", steps: [{ id: "a", agent: "a" }] });
    for (const [now, then] of [
      [patient, strict],
      [strict, patient],
    ] as const) {
      const run = superviseRun(then);
      run.fails("a-1");
      expect(() => fold(now, run.journal.flat())).toThrow(FoldError);
    }
  });

  test("because agents in between may not hand over any more", () => {
    const team = (handoffs: string[]) => {
      const agents = [
        defineAgent({ name: "a", instructions: "i", model: "m", handoffs: ["b", ...handoffs] }),
        defineAgent({ name: "b", instructions: "i", model: "m", handoffs: ["c"] }),
        defineAgent({ name: "c", instructions: "i", model: "m" }),
      ];
      return defineWorkflow({ name: "t", entry: "a", agents });
    };
    const run = superviseRun(team(["c"]));
    run.handsOff("h0", { to: "c" });
    expect(fold(team(["c"]), run.journal.flat()).value).toBe("running");
    expect(() => fold(team([]), run.journal.flat())).toThrow("expected task.sent h1 as recorded, got run.failed");
  });

  test("because a decision is missing or too many are there", () => {
    const journal = halfWay();
    const without = journal.filter(({ type }) => type !== "step.completed");
    expect(() => fold(before, without)).toThrow(FoldError);
    const again = [...journal, { ...(journal.at(-1) as RunEvent), n: journal.length + 1 }];
    expect(() => fold(before, again)).toThrow("decision 6: expected task.sent b b-1 as recorded, got none");
  });

  test("because it does not begin as a journal does", () => {
    expect(() => fold(before, [])).toThrow("the journal does not begin with run.accepted");
    expect(() => fold(before, halfWay().slice(1))).toThrow(FoldError);
  });
});

test("a fold passes over what the host wrote for itself", () => {
  const definition = defineWorkflow({ name: "w", agents: ["a", "b"] });
  const run = superviseRun(definition);
  run.completes("a-1");
  const journal = run.journal.flat();
  const base = { v: 1, runId: "r1", epoch: 2, at: journal[0]?.at ?? "" } as const;
  const host: RunEvent[] = [
    { ...base, id: "x1", n: 0, type: "run.claimed", data: { host: "b", incarnation: "b1", reason: "takeover" } },
    { ...base, id: "x2", n: 0, type: "task.waiting", data: { taskId: "a-1", agent: "a", reason: "nobody" } },
    { ...base, id: "x3", n: 0, type: "task.accepted", data: { taskId: "a-1" } },
    { ...base, id: "x4", n: 0, type: "signal.received", data: { seq: 1, kind: "cancel" } },
    {
      ...base,
      id: "x5",
      n: 0,
      type: "task.sent",
      data: { taskId: "a-1", agent: "a", step: "a", attempt: 1, delivery: 2, lost: { reason: "gone" } },
    },
  ];
  const [first, ...rest] = run.journal;
  const mixed = [...(first ?? []), ...host, ...rest.flat(), ...host];
  expect(essence(fold(definition, mixed))).toEqual(essence(run.snapshot));
});

describe("a run of 10,000 steps", () => {
  const STEPS = 10_000;
  const chainOf = (input?: string) =>
    defineWorkflow({
      name: "long",
      steps: Array.from({ length: STEPS }, (_, i) => ({
        id: `s${i}`,
        agent: "a",
        ...(i > 0 && { after: `s${i - 1}`, ...(input !== undefined && { input }) }),
      })),
    });

  test.each([
    ["by default", undefined],
    ["by templates", "{{ steps.s0.output }} {{ previous.output }}"],
  ])(
    "whose inputs are made %s is defined, run and folded without a step costing more than the one before",
    (_, input) => {
      const since = performance.now();
      const definition = chainOf(input);
      const run = superviseRun(definition);
      for (let i = 0; i < STEPS - 1; i += 1) run.completes(`s${i}-1`);
      expect(essence(fold(definition, run.journal.flat()))).toEqual(essence(run.snapshot));
      expectWithin(5_000, "it was folded", performance.now() - since);
    },
  );

  test("is small when it is saved: what no step to come can ask for is not kept", () => {
    const run = superviseRun(chainOf());
    for (let i = 0; i < 200; i += 1) run.completes(`s${i}-1`, "x".repeat(1_000));
    const { open: _open, ...saved } = save(run.snapshot);
    const kept = JSON.stringify(saved).match(/x{1000}/g);
    // The open step may be asked again.
    expect(kept).toHaveLength(1);
  });
});

test("an output is kept for as long as a step to come may ask for it, however late", () => {
  const definition = defineWorkflow({
    name: "w",
    steps: [
      { id: "first", agent: "a" },
      { id: "second", agent: "a", after: "first", retry: { maxAttempts: 2 } },
      { id: "third", agent: "a", after: "second" },
      { id: "late", agent: "a", after: "third", input: "{{ steps.first.output }}" },
      { id: "last", agent: "a", after: "late", input: "{{ steps.map(id, steps[id].output) }}" },
    ],
  });
  const run = superviseRun(definition);
  run.completes("first-1", "one");
  run.fails("second-1");
  run.fires("retry.second");
  expect(run.task("second-2").input).toContain("one");
  run.completes("second-2", "two");
  run.completes("third-1", "three");
  expect(run.task("late-1").input).toBe("one");
  run.completes("late-1", "four");
  expect(run.task("last-1").input).toEqual(["one", "two", "three", "four"]);
  run.completes("last-1", "five");
  expect(run.end()).toMatchObject({ type: "run.completed", data: { output: "five" } });
});
