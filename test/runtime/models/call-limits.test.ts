import { expect, test } from "vitest";
import { type CallLimitOptions, type CallLimits, limitCalls } from "../../../src/runtime/models/call-limits.ts";

const never = new AbortController().signal;
const MINUTE_MS = 300;

function limits(options: CallLimitOptions): CallLimits {
  const made = limitCalls(options, MINUTE_MS);
  if (!made) throw new Error("expected limits");
  return made;
}

/** Enters and says who got in. */
async function enter(at: CallLimits, name: string, order: string[], signal = never): Promise<void> {
  await at.enter(signal);
  order.push(name);
}

test("without limits there is nothing to enter", () => {
  expect(limitCalls({})).toBeUndefined();
});

test("more calls than may be under way wait, and begin in the order they came", async () => {
  const at = limits({ maxConcurrency: 2 });
  const order: string[] = [];
  const all = ["a", "b", "c", "d"].map((name) => enter(at, name, order));
  await Promise.all(all.slice(0, 2));
  expect([order, at.waiting()]).toEqual([["a", "b"], 2]);
  at.leave(0);
  await all[2];
  expect(order).toEqual(["a", "b", "c"]);
  at.leave(0);
  await all[3];
  expect(at.waiting()).toBe(0);
});

test("who is aborted while it waits takes no place", async () => {
  const at = limits({ maxConcurrency: 1 });
  const order: string[] = [];
  const aborter = new AbortController();
  await enter(at, "a", order);
  const second = enter(at, "b", order, aborter.signal);
  const third = enter(at, "c", order);
  aborter.abort(new Error("no more"));
  await expect(second).rejects.toThrow("no more");
  expect(at.waiting()).toBe(1);
  at.leave(0);
  await third;
  expect(order).toEqual(["a", "c"]);
  await expect(enter(at, "d", order, aborter.signal)).rejects.toThrow("no more");
});

test("no more calls begin in any minute than are allowed, and what was not made does not count", async () => {
  const at = limits({ requestsPerMinute: 3 });
  const begun: number[] = [];
  const call = async () => {
    await at.enter(never);
    begun.push(performance.now());
    at.leave(0);
  };
  await at.enter(never);
  at.leave(undefined);
  await Promise.all(Array.from({ length: 8 }, call));
  expect(begun).toHaveLength(8);
  expect((begun[2] ?? 0) - (begun[0] ?? 0)).toBeLessThan(MINUTE_MS / 2);
  for (let i = 3; i < begun.length; i += 1) {
    // The times here are taken a moment after the places.
    expect((begun[i] ?? 0) - (begun[i - 3] ?? 0)).toBeGreaterThan(MINUTE_MS - 20);
  }
});

test("who comes when there is room again does not go before who waits for it", async () => {
  const at = limits({ requestsPerMinute: 1 });
  const order: string[] = [];
  await enter(at, "a", order);
  const second = enter(at, "b", order);
  // Nothing else runs meanwhile, so the one that waits has not been let in yet.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, MINUTE_MS + 10);
  const third = enter(at, "c", order);
  await second;
  await third;
  expect(order).toEqual(["a", "b", "c"]);
});

test("a minute that has had its tokens gets no further call", async () => {
  const at = limits({ tokensPerMinute: 100 });
  const since = performance.now();
  await at.enter(never);
  at.leave(99);
  await at.enter(never);
  at.leave(50);
  expect(performance.now() - since).toBeLessThan(MINUTE_MS);
  await at.enter(never);
  expect(performance.now() - since).toBeGreaterThanOrEqual(MINUTE_MS);
});
