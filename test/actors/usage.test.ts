import { expect, test } from "vitest";
import { sumUsage, withReply } from "../../src/actors/usage.ts";

const nothing = { inputTokens: 0, outputTokens: 0, modelCalls: 0 };
const reply = { content: "", toolCalls: [], finishReason: "stop" as const, model: "m" };

test("figures that nobody gave are not there", () => {
  const sum = withReply(nothing, { ...reply, usage: { inputTokens: 3, outputTokens: 2 } });
  expect(sum).toEqual({ inputTokens: 3, outputTokens: 2, modelCalls: 1 });
});

test("cached and reasoning tokens and costs add up, also where only some calls have them, and without noise", () => {
  let sum = withReply(nothing, { ...reply, usage: { inputTokens: 3, outputTokens: 2, cost: 0.1, cachedTokens: 1 } });
  sum = withReply(sum, { ...reply, usage: { inputTokens: 3, outputTokens: 2 } });
  sum = sumUsage(sum, { inputTokens: 1, outputTokens: 1, modelCalls: 2, cost: 0.2, reasoningTokens: 7 });
  expect(sum).toEqual({
    inputTokens: 7,
    outputTokens: 5,
    modelCalls: 4,
    cachedTokens: 1,
    reasoningTokens: 7,
    cost: 0.3,
  });
});

test("tools that were executed are counted on, whatever model is asked in between", () => {
  const one = withReply({ ...nothing, toolCalls: 2 }, { ...reply, usage: { inputTokens: 1, outputTokens: 1 } });
  expect(one).toEqual({ inputTokens: 1, outputTokens: 1, modelCalls: 1, toolCalls: 2 });
  expect(sumUsage(one, one).toolCalls).toBe(4);
});

test("models that answered are counted in the order of their first answers", () => {
  const by = (model: string) => ({
    ...reply,
    usage: { inputTokens: 1, outputTokens: 1 },
    answeredBy: { provider: "p", model },
  });
  const one = withReply(withReply(nothing, by("b")), by("a"));
  const both = sumUsage(one, withReply(nothing, by("b")));
  expect(both.models).toEqual([
    { provider: "p", model: "b", modelCalls: 2 },
    { provider: "p", model: "a", modelCalls: 1 },
  ]);
  expect(one.models?.[0]?.modelCalls).toBe(1);
});
