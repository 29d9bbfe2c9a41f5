import { expect, test } from "vitest";
import { rememberOutcomes } from "../../../src/runtime/hosts/sent-outcomes.ts";

const bytes = (length: number) => new Uint8Array(length);

test("the oldest outcomes are forgotten beyond the number of entries", () => {
  const sent = rememberOutcomes({ maxEntries: 2 });
  for (const key of ["a", "b", "a", "c"]) sent.remember(key, bytes(1));
  expect(["a", "b", "c"].map((key) => sent.get(key) !== undefined)).toEqual([true, false, true]);
});

test("the oldest outcomes are forgotten beyond the number of bytes", () => {
  const sent = rememberOutcomes({ maxBytes: 10 });
  sent.remember("a", bytes(6));
  sent.remember("b", bytes(4));
  expect(sent.get("a")).toHaveLength(6);
  sent.remember("b", bytes(5));
  expect(sent.get("a")).toBeUndefined();
  expect(sent.get("b")).toHaveLength(5);
});
