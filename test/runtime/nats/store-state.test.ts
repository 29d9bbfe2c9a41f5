import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { openStoreState, type StoreState } from "../../../src/runtime/nats/store-state.ts";

let state: StoreState;
let told: (string | undefined)[];

beforeEach(() => {
  vi.useFakeTimers();
  state = openStoreState();
  told = [];
  state.onChange((refusal) => told.push(refusal));
});
afterEach(() => void vi.useRealTimers());

test("a store refuses from the first append that has to wait until a moment after the last one", () => {
  const [first, second] = [{}, {}];
  state.refused(first, "TROUPE_RUNS", "no room");
  state.refused(first, "TROUPE_RUNS", "no room");
  state.refused(second, "TROUPE_TASKS", "no room");
  state.settled(first);
  vi.advanceTimersByTime(60_000);
  expect(state.refusal()).toBe("TROUPE_RUNS: no room");
  state.settled(second);
  expect(state.refusal()).toBe("TROUPE_RUNS: no room");
  vi.advanceTimersByTime(1_000);
  expect(state.refusal()).toBeUndefined();
  expect(told).toEqual(["TROUPE_RUNS: no room", undefined]);
});

test("room that comes and goes is told once", () => {
  for (let i = 0; i < 10; i += 1) {
    const append = {};
    state.refused(append, "TROUPE_RUNS", "no room");
    state.settled(append);
    vi.advanceTimersByTime(900);
  }
  expect(told).toEqual(["TROUPE_RUNS: no room"]);
});

test("appends that were never refused change nothing", () => {
  state.settled({});
  vi.advanceTimersByTime(2_000);
  expect(told).toEqual([]);
});
