import { expect, it } from "vitest";
import { describePowerLoss } from "../../../src/runtime/nats/durability.ts";

it("a broker that cannot be told when to sync is said to lose two minutes", () => {
  expect(describePowerLoss({ version: "2.9.10", syncInterval: "100ms" })).toMatch(/two minutes/);
});

it("an embedded broker is said to lose its interval, or nothing", () => {
  expect(describePowerLoss({ version: "2.10.27", syncInterval: "100ms" })).toMatch(/every 100ms/);
  expect(describePowerLoss({ version: "2.15.1", syncInterval: "always" })).toMatch(/takes nothing/);
});

it("somebody else's broker is not guessed about", () => {
  expect(describePowerLoss({ version: "2.12.0" })).toMatch(/unless set/);
});
