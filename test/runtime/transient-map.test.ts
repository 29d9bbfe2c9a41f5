import { expect, test } from "vitest";
import { TransientMap } from "../../src/runtime/transient-map.ts";

test("it holds what was set last, in the order in which keys came", () => {
  const map = new TransientMap<string, number>();
  map.set("a", 1);
  map.set("b", 2);
  map.set("a", 3);
  expect([...map]).toEqual([
    ["a", 3],
    ["b", 2],
  ]);
  expect([...map.keys()]).toEqual(["a", "b"]);
  expect([...map.values()]).toEqual([3, 2]);
  expect([map.size, map.get("a"), map.has("b"), map.get("c"), map.has("c")]).toEqual([2, 3, true, undefined, false]);
});

test("what is deleted is gone, and its place is used again", () => {
  const map = new TransientMap<string, string>();
  for (let i = 0; i < 1_000; i += 1) {
    map.set(`k${i}`, `v${i}`);
    if (i >= 3) expect(map.delete(`k${i - 3}`)).toBe(true);
  }
  expect(map.delete("k0")).toBe(false);
  expect([...map]).toEqual([
    ["k997", "v997"],
    ["k998", "v998"],
    ["k999", "v999"],
  ]);
});

test("entries may be deleted while it is walked through, and undefined is a value", () => {
  const map = new TransientMap<number, number | undefined>();
  for (let i = 0; i < 5; i += 1) map.set(i, i === 2 ? undefined : i);
  const seen: (number | undefined)[] = [];
  for (const [key, value] of map) {
    seen.push(value);
    map.delete(key);
    map.delete(3);
  }
  expect(seen).toEqual([0, 1, undefined, 4]);
  expect(map.size).toBe(0);
});

test("after clear it is empty and can be filled again", () => {
  const map = new TransientMap<string, number>();
  map.set("a", 1);
  map.set("b", 2);
  map.delete("a");
  map.clear();
  expect([...map]).toEqual([]);
  map.set("c", 3);
  map.set("d", 4);
  expect([...map]).toEqual([
    ["c", 3],
    ["d", 4],
  ]);
});
