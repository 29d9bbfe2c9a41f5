import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { ActiveRun } from "../../../src/runtime/hosts/active-run.ts";
import { openRestingRuns, type RestingRun, type RestingRuns } from "../../../src/runtime/hosts/resting-runs.ts";
import { settableClock } from "../../helpers/settable-clock.ts";
import { until } from "../../helpers/until.ts";

const HOUR = 3_600_000;

let clock: ReturnType<typeof settableClock>;
let resting: RestingRuns;
/** Runs that were brought, in order, and those that are being brought. */
let brought: string[];
let inHand: Map<string, (run: ActiveRun | undefined) => void>;
let most: number;
let awake: string[];
let room: number;

beforeEach(() => {
  clock = settableClock();
  brought = [];
  inHand = new Map();
  most = 0;
  awake = [];
  room = 1_000;
  resting = openRestingRuns({
    clock,
    logger: pino({ level: "silent" }),
    room: () => room,
    bring({ runId }) {
      brought.push(runId);
      return new Promise((resolve) => {
        inHand.set(runId, resolve);
        most = Math.max(most, inHand.size);
      });
    },
    awake: ({ runId }) => awake.push(runId),
  });
});
afterEach(() => resting.stop());

function add(runId: string, dueMs: number, more: Partial<RestingRun> = {}) {
  resting.add({ runId, workflow: "article", dueMs, seq: 1, ...more });
}

/** As much of a run as passes through here. */
function runOf(runId: string): ActiveRun {
  return { runId, close: (why: string) => awake.push(`${runId} ${why}`) } as unknown as ActiveRun;
}

async function bringAll() {
  while (inHand.size > 0) {
    for (const [runId, resolve] of inHand) {
      inHand.delete(runId);
      resolve(runOf(runId));
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe("what is due", () => {
  test("wakes at its time, the earliest first, and nothing before", async () => {
    const now = clock.now();
    add("later", now + HOUR);
    add("second", now + 120);
    add("first", now + 60);
    await until("both", () => brought.length === 2);
    expect(brought).toEqual(["first", "second"]);
    expect(clock.now()).toBeGreaterThanOrEqual(now + 120);
    await bringAll();
    expect(awake).toEqual(["first", "second"]);
    expect(resting.size).toBe(1);
  });

  test("wakes so many at once and no more", async () => {
    const now = clock.now();
    for (let i = 0; i < 500; i += 1) add(`run-${i}`, now + 50);
    await until("the first ones", () => brought.length > 0);
    await until("all", async () => {
      await bringAll();
      return awake.length === 500;
    });
    expect(most).toBe(32);
    expect(new Set(brought).size).toBe(500);
    expect(resting.size).toBe(0);
  });

  test("waits for room, and what a message wakes does not", async () => {
    room = 0;
    add("due", clock.now() - 1);
    add("wanted", clock.now() + HOUR);
    const got: ActiveRun[] = [];
    expect(resting.wake("wanted", (run) => got.push(run))).toBe(true);
    await bringAll();
    expect(got).toHaveLength(1);
    expect(brought).toEqual(["wanted"]);
    expect(resting.isBehind()).toBe(true);
    room = 1;
    await until("the other one", () => brought.length === 2);
    expect(resting.isBehind()).toBe(false);
  });

  test("wakes although the clock is set forward past it, and not before its time when it is set back", async () => {
    const now = clock.now();
    add("an hour ahead", now + HOUR);
    add("soon", now + 300);
    clock.set(now - 60_000);
    await new Promise((resolve) => setTimeout(resolve, 800));
    expect(brought).toEqual([]);
    clock.set(now + 300);
    await until("the one that is due again", () => brought.includes("soon"));
    expect(brought).toEqual(["soon"]);
    clock.set(now + HOUR);
    await until("the other one", () => brought.includes("an hour ahead"));
  });
});

test("a clock that is set back hastens what waits for time to pass, and not what waits for an instant", async () => {
  add("a duration", clock.now() + 1_500, { aheadMs: 0 });
  add("an instant", clock.now() + 1_500);
  const since = performance.now();
  clock.set(clock.now() - HOUR);
  await until("the duration to be over", () => brought.length > 0);
  expect(performance.now() - since).toBeGreaterThan(1_000);
  expect(brought).toEqual(["a duration"]);
});

describe("a message", () => {
  test("wakes a run before its time, once, and every wish is heard in order", async () => {
    add("run", clock.now() + HOUR);
    const heard: string[] = [];
    resting.wake("run", () => heard.push("one"));
    resting.wake("run", () => heard.push("two"));
    await bringAll();
    expect(heard).toEqual(["one", "two"]);
    expect(brought).toEqual(["run"]);
    expect(resting.wake("run", () => heard.push("three"))).toBe(false);
  });

  test("for a run that turns out to be another's is dropped with it", async () => {
    add("run", clock.now() + HOUR);
    const heard: string[] = [];
    resting.wake("run", () => heard.push("one"));
    inHand.get("run")?.(undefined);
    await until("it to go", () => !resting.has("run"));
    expect([heard, awake]).toEqual([[], []]);
  });
});

describe("a run at rest", () => {
  test("goes when an entry shows that somebody goes on with it, but not by one that its row knows", async () => {
    add("run", clock.now() + HOUR, { seq: 7 });
    resting.seen("run", 7);
    expect(resting.has("run")).toBe(true);
    resting.seen("run", 8);
    expect(resting.has("run")).toBe(false);
    expect(resting.byWorkflow()).toEqual(new Map());
  });

  test("that is waking is not dropped for the entry that its waking appends", async () => {
    add("run", clock.now() + HOUR, { seq: 7 });
    resting.wake("run", () => {});
    resting.seen("run", 8);
    await bringAll();
    expect(awake).toEqual(["run"]);
  });

  test("that cannot be read is tried again a few times, and then left to the look around", async () => {
    let failures = 0;
    const failing = openRestingRuns({
      clock,
      logger: pino({ level: "silent" }),
      room: () => 1,
      bring: ({ runId }) => (failures++ < 2 ? Promise.reject(new Error("away")) : Promise.resolve(runOf(runId))),
      awake: ({ runId }) => awake.push(runId),
    });
    failing.add({ runId: "run", workflow: "article", dueMs: clock.now(), seq: 1 });
    await until("it to be awake", () => awake.length === 1);
    expect(failures).toBe(3);
    failures = Number.NEGATIVE_INFINITY;
    failing.add({ runId: "poison", workflow: "article", dueMs: clock.now(), seq: 1 });
    await until("it to go", () => !failing.has("poison"));
    expect(awake).toEqual(["run"]);
    failing.stop();
  });

  test("that is let go of while its journal is read is let go of for good", async () => {
    add("run", clock.now() - 1);
    resting.clear();
    await bringAll();
    expect(awake).toEqual(["run released"]);
    expect(resting.size).toBe(0);
  });

  test("that came and went many times leaves nothing behind", async () => {
    for (let i = 0; i < 5_000; i += 1) {
      add("run", clock.now() + HOUR + i, { seq: i });
      resting.seen("run", i + 1);
    }
    add("run", clock.now() + 50);
    await until("it to wake", () => brought.length > 0);
    await bringAll();
    expect(brought).toEqual(["run"]);
  });
});

test("a run that waits for no time rests until a message wakes it, whatever the clock is set to", async () => {
  add("r1", Number.POSITIVE_INFINITY, { aheadMs: 0 });
  clock.set(clock.now() + 1_000 * HOUR);
  add("r2", clock.now() - 1);
  await bringAll();
  expect(brought).toEqual(["r2"]);
  clock.set(clock.now() - 2_000 * HOUR);
  const wished: string[] = [];
  expect(resting.wake("r1", ({ runId }) => wished.push(runId))).toBe(true);
  await bringAll();
  expect([brought, wished]).toEqual([["r2", "r1"], ["r1"]]);
});
