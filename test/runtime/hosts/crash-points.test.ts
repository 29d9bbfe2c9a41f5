import { expect, test, vi } from "vitest";
import { UsageError } from "../../../src/errors.ts";
import { CRASH_POINTS, openCrashPoints } from "../../../src/runtime/hosts/crash-points.ts";
import type { RunEvent } from "../../../src/workflows/run-events.ts";

const ENTRY = [
  { type: "task.settled", data: {} },
  { type: "run.completed", data: {} },
] as unknown as RunEvent[];

function armed(where: string | undefined) {
  let deaths = 0;
  const points = openCrashPoints(where, () => {
    deaths += 1;
  });
  return { points, deaths: () => deaths };
}

test("without the variable no place does anything", () => {
  for (const off of [undefined, ""]) {
    const { points, deaths } = armed(off);
    for (const point of CRASH_POINTS) points.at(point);
    expect(deaths()).toBe(0);
  }
});

test("it dies at the passing that was named, and at no other place", () => {
  const { points, deaths } = armed("after-tool-entry:2");
  points.at("after-tool-entry");
  points.at("before-tool-entry");
  expect(deaths()).toBe(0);
  points.at("after-tool-entry");
  expect(deaths()).toBe(1);
  points.at("after-tool-entry");
  expect(deaths()).toBe(1);
});

test("after a message and before an entry it dies once the broker has what was sent", async () => {
  for (const where of ["after-outcome", "before-tool-entry", "before-end-entry"] as const) {
    const { points, deaths } = armed(where);
    const { promise, resolve } = Promise.withResolvers<void>();
    points.sendThrough({ flush: () => promise });
    points.onceSent("after-outcome");
    const entries = [points.before("before-tool-entry"), points.beforeEntry(ENTRY)];
    expect(deaths()).toBe(0);
    resolve();
    await Promise.all(entries);
    await vi.waitFor(() => expect(deaths()).toBe(1));
  }
});

test("an entry passes the place of everything that is in it", async () => {
  for (const where of ["after-settled-entry", "after-end-entry"]) {
    const { points, deaths } = armed(where);
    await points.beforeEntry(ENTRY);
    expect(deaths()).toBe(0);
    points.afterEntry(ENTRY);
    expect(deaths()).toBe(1);
  }
});

test("a place that does not exist is an error that lists those that do", () => {
  for (const wrong of ["after-tea", "after-outcome:0", "after-outcome:x", "entry"]) {
    expect(() => armed(wrong)).toThrow(UsageError);
    expect(() => armed(wrong)).toThrow(/TROUPE_CRASH_AT: expected one of before-accepted-entry, .*after-outcome-entry/);
    expect(() => armed(wrong)).toThrow(`got "${wrong}"`);
  }
});
