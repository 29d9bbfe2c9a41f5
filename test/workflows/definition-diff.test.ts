import { expect, it } from "vitest";
import { diffData } from "../../src/workflows/definition-diff.ts";

it("tells what was added, removed and changed, by path, and steps by their ids", () => {
  const before = {
    version: "1",
    steps: [
      { id: "a", agent: "x" },
      { id: "b", agent: "y", when: "true" },
    ],
    list: [1, 2],
  };
  const after = {
    version: "2",
    steps: [
      { id: "b", agent: "y" },
      { id: "a", agent: "z" },
      { id: "c", agent: "x" },
    ],
    list: [1],
  };
  expect(diffData(before, after)).toEqual([
    { path: "version", before: "1", after: "2" },
    { path: "steps.a.agent", before: "x", after: "z" },
    { path: "steps.b.when", before: "true" },
    { path: "steps.c", after: { id: "c", agent: "x" } },
    { path: "list[1]", before: 2 },
  ]);
});

it("tells that steps only changed places", () => {
  const [a, b] = [{ id: "a" }, { id: "b" }];
  expect(diffData({ steps: [a, b] }, { steps: [b, a] })).toEqual([
    { path: "steps", before: ["a", "b"], after: ["b", "a"] },
  ]);
});

it("finds nothing between equals, and everything between what cannot be compared", () => {
  expect(diffData({ a: [{ b: null }] }, { a: [{ b: null }] })).toEqual([]);
  expect(diffData({ a: [1] }, { a: { 0: 1 } })).toEqual([{ path: "a", before: [1], after: { 0: 1 } }]);
  expect(diffData({ a: [] }, { a: [{ id: "x" }] })).toEqual([{ path: "a", before: [], after: [{ id: "x" }] }]);
});
