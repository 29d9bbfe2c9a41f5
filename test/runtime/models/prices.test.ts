import { expect, test } from "vitest";
import type { ModelCallContext, ModelRequest } from "../../../src/actors/model.ts";
import { costOf, withPrices } from "../../../src/runtime/models/prices.ts";
import { ScriptedModel, say } from "../../../src/testing/index.ts";

const usage = { inputTokens: 1_000_000, outputTokens: 100_000 };

test("cached tokens have a price of their own, or that of the others", () => {
  const half = { ...usage, cachedTokens: 500_000 };
  expect(costOf(half, ["m"], { m: { input: 2, cached: 0.2, output: 10 } })).toBe(2.1);
  expect(costOf(half, ["m"], { m: { input: 2, output: 10 } })).toBe(3);
  expect(costOf(usage, ["m"], { other: { input: 2, output: 10 } })).toBeUndefined();
});

test("the price of a model at its provider goes before that of the model", async () => {
  const request: ModelRequest = {
    model: "m",
    instructions: "x",
    messages: [{ role: "user", content: "y" }],
    tools: [],
  };
  const context: ModelCallContext = {
    signal: new AbortController().signal,
    runId: "r",
    taskId: "t",
    agent: "a",
    turn: 1,
  };
  const one = { input: 1_000_000, output: 0 };
  const cost = async (prices: Parameters<typeof withPrices>[2]) => {
    const { usage: used } = await withPrices(new ScriptedModel([say("")]), "local", prices).call(request, context);
    return used.cost === undefined ? undefined : used.cost / used.inputTokens;
  };
  expect(await cost({ m: one, "local/m": { ...one, input: 3_000_000 } })).toBe(3);
  expect(await cost({ m: one, "scripted-model": { ...one, input: 7_000_000 } })).toBe(1);
  // What was asked for may be an alias.
  expect(await cost({ "scripted-model": { ...one, input: 7_000_000 } })).toBe(7);
  expect(await cost({ other: one })).toBeUndefined();
});

test("without prices a model is what it was", () => {
  const model = new ScriptedModel([]);
  expect(withPrices(model, "local", {})).toBe(model);
});
