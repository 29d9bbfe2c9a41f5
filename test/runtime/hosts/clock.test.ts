import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { systemClock } from "../../../src/runtime/hosts/clock.ts";

const HOUR = 3_600_000;
const YEAR = 365 * 24 * HOUR;

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

/** The instants at which something set for `instant` came. */
function firedAt(instant: number): number[] {
  const fired: number[] = [];
  systemClock.at(instant, () => fired.push(Date.now()));
  return fired;
}

test("what is set for an instant comes then, also when that is far away, and once", () => {
  const start = Date.now();
  const [soon, far] = [firedAt(start + 1_234), firedAt(start + YEAR / 12)];
  vi.advanceTimersByTime(1_233);
  expect(soon).toEqual([]);
  vi.advanceTimersByTime(YEAR / 6);
  expect(soon).toEqual([start + 1_234]);
  expect(far).toEqual([start + YEAR / 12]);
});

test("it comes within ten seconds when the clock is set past it, and not before it when the clock is set back", () => {
  const start = Date.now();
  const fired = firedAt(start + HOUR);
  vi.advanceTimersByTime(5_000);
  vi.setSystemTime(start - HOUR);
  vi.advanceTimersByTime(HOUR);
  expect(fired).toEqual([]);
  vi.setSystemTime(start + 2 * HOUR);
  vi.advanceTimersByTime(10_000);
  expect(fired).toHaveLength(1);
});

test("what was forgotten does not come", () => {
  const fired: number[] = [];
  const forget = systemClock.at(Date.now() + 30_000, () => fired.push(1));
  vi.advanceTimersByTime(15_000);
  forget();
  vi.advanceTimersByTime(60_000);
  expect(fired).toEqual([]);
});
