import { expect, test } from "vitest";
import { filledList, itemAt, withItems } from "../../src/workflows/chunked-list.ts";

test.each([1, 63, 64, 65, 1_000])("a list of %i is one of that length, before and after changes", (length) => {
  const list = filledList<number | null>(length, null);
  expect(list.flat()).toEqual(Array.from({ length }, () => null));
  const last = length - 1;
  const changed = withItems(list, [
    [0, 1],
    [last, 2],
  ]);
  expect(changed.flat()).toHaveLength(length);
  expect(itemAt(changed, last)).toBe(2);
  expect(itemAt(changed, length + 64)).toBeUndefined();
  expect(list.flat().every((item) => item === null)).toBe(true);
});

test("a change copies the chunk it is in and shares the others", () => {
  const list = filledList(1_000, 0);
  const changed = withItems(list, [[500, 1]]);
  const shared = changed.filter((chunk, i) => chunk === list[i]);
  expect(shared).toHaveLength(list.length - 1);
});

test("as JSON it is the same list", () => {
  const list = withItems(filledList<unknown>(70, null), [[69, { output: "x" }]]);
  expect(itemAt(JSON.parse(JSON.stringify(list)), 69)).toEqual({ output: "x" });
});
