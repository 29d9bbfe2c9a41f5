import { expect, test } from "vitest";
import { planRun } from "../../soak/run-plan.ts";
import { planDeed } from "../../soak/storm.ts";

test("the same seed plans the same runs and the same storm, in whatever order they are asked for", () => {
  const runs = [7, 3, 9].map((i) => planRun(42, i));
  expect([9, 3, 7].map((i) => planRun(42, i)).reverse()).toEqual(runs);
  expect(planDeed(42, 5, 3)).toEqual(planDeed(42, 5, 3));
});

test("another seed plans something else", () => {
  const kinds = (seed: number) => Array.from({ length: 50 }, (_, i) => planRun(seed, i).kind);
  expect(kinds(1)).not.toEqual(kinds(2));
});

test("a few hundred runs are of every kind", () => {
  const kinds = new Set(Array.from({ length: 600 }, (_, i) => planRun(1, i).kind));
  expect(kinds.size).toBe(13);
});
