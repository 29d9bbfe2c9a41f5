import { expect, test } from "vitest";
import { openDueQueue } from "../../../src/runtime/hosts/due-queue.ts";

type Item = { dueMs: number };

/** Numbers that look like chance and are the same every time. */
function scattered(count: number): number[] {
  return Array.from({ length: count }, (_, i) => (i * 7_919) % 1_009);
}

test("whatever is due first comes out first, also when things come in between", () => {
  const queue = openDueQueue<Item>();
  const [early, late] = [scattered(500), scattered(500).map((due) => due + 300)];
  for (const dueMs of early) queue.add({ dueMs });
  const out: number[] = [];
  for (let i = 0; i < 250; i += 1) out.push(queue.shift()?.dueMs ?? Number.NaN);
  const rest = early.toSorted((a, b) => a - b).slice(250);
  expect(out).toEqual(early.toSorted((a, b) => a - b).slice(0, 250));
  for (const dueMs of late) queue.add({ dueMs });
  expect(queue.first()?.dueMs).toBe(Math.min(...rest, ...late));
  const after: number[] = [];
  while (queue.size > 0) after.push(queue.shift()?.dueMs ?? Number.NaN);
  expect(after).toEqual([...rest, ...late].sort((a, b) => a - b));
  expect(queue.shift()).toBeUndefined();
});

test("what is never due comes last, and a reset leaves only what it is given", () => {
  const queue = openDueQueue<Item>();
  for (const dueMs of [Number.POSITIVE_INFINITY, 3, 1, Number.POSITIVE_INFINITY, 2]) queue.add({ dueMs });
  expect([queue.shift(), queue.shift(), queue.shift(), queue.shift()].map((item) => item?.dueMs)).toEqual([
    1,
    2,
    3,
    Number.POSITIVE_INFINITY,
  ]);
  queue.reset([{ dueMs: 9 }, { dueMs: 8 }]);
  expect(queue.size).toBe(2);
  expect(queue.first()?.dueMs).toBe(8);
});
