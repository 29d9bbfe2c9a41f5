import { expect, test } from "vitest";
import { UsageError } from "../../../src/errors.ts";
import { CRASH_POINTS, openCrashPoints } from "../../../src/runtime/hosts/crash-points.ts";
import type { RunEvent } from "../../../src/workflows/run-events.ts";

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

test("after a message it dies once the broker has it", async () => {
  const { points, deaths } = armed("after-outcome");
  const { promise, resolve } = Promise.withResolvers<void>();
  points.onceSent("after-outcome", { flush: () => promise });
  expect(deaths()).toBe(0);
  resolve();
  await promise;
  await Promise.resolve();
  expect(deaths()).toBe(1);
});

test("an entry passes the place of everything that is in it", () => {
  const entry = [
    { type: "task.settled", data: {} },
    { type: "run.completed", data: {} },
  ] as unknown as RunEvent[];
  for (const where of ["before-settled-entry", "before-end-entry"]) {
    const { points, deaths } = armed(where);
    points.entry("after", entry);
    expect(deaths()).toBe(0);
    points.entry("before", entry);
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
