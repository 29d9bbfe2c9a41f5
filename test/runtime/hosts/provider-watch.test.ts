import { pino } from "pino";
import { expect, test } from "vitest";
import { defineAgent } from "../../../src/actors/define-agent.ts";
import { ModelError } from "../../../src/errors.ts";
import { watchProviders } from "../../../src/runtime/hosts/provider-watch.ts";
import { openProviderGate } from "../../../src/runtime/models/provider-gate.ts";

const down = new ModelError("provider_unavailable", "503", { retryable: true });

function watched() {
  const gate = openProviderGate("local", { breaker: { failures: 1, cooldownMs: 60_000 } });
  const told: string[] = [];
  const watch = watchProviders({
    modelFor: () => ({ provider: "local", gate, call: () => Promise.reject(down) }),
    tell: ({ name }, { type }) => told.push(`${name}: ${type}`),
    logger: pino({ level: "silent" }),
  });
  const fall = () => gate.leave("go", { error: down });
  return { watch, told, fall };
}

const agentCalled = (name: string) => defineAgent({ name, instructions: "x", model: "m" });

test("agents whose provider falls are tripped, also those that come while it is down", () => {
  const { watch, told, fall } = watched();
  watch.watch(agentCalled("early"));
  expect(watch.tripped()).toEqual([]);
  fall();
  watch.watch(agentCalled("late"));
  expect(told).toEqual(["early: trip", "late: trip"]);
  expect(watch.tripped()).toEqual(["early", "late"]);
  expect(watch.down()).toEqual([{ provider: "local", reason: "503" }]);
});

test("an agent that is gone is tripped no more and told nothing, and its provider is shown while others have it", () => {
  const { watch, told, fall } = watched();
  const ends = ["one", "other"].map((name) => watch.watch(agentCalled(name)));
  ends[0]?.();
  ends[0]?.();
  fall();
  expect(told).toEqual(["other: trip"]);
  expect(watch.providers()).toEqual([{ name: "local", down: true, waiting: 0 }]);
  ends[1]?.();
  expect(watch.tripped()).toEqual([]);
  expect(watch.providers()).toEqual([]);
});
