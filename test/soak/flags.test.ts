import { expect, test } from "vitest";
import { readFlags } from "../../soak/flags.ts";

test("without flags a soak is two minutes, three daemons and a seed of the moment", () => {
  expect(readFlags([], 1_234_567)).toEqual({ minutes: 2, seed: 234_567, daemons: 3, rate: 4, help: false });
});

test("a flag that makes no sense is refused by name", () => {
  expect(() => readFlags(["--minutes", "soon"], 0)).toThrow('--minutes: expected a number from 0.1, got "soon"');
  expect(() => readFlags(["--daemons", "1.5"], 0)).toThrow('--daemons: expected a whole number from 1, got "1.5"');
});
