import { expect, test } from "vitest";
import { checkOutcome } from "../../src/actors/check-outcome.ts";

const usage = { inputTokens: 1, outputTokens: 1, modelCalls: 1 };

function checked(changes: object) {
  const message = { v: 1, taskId: "t", attempt: 1, type: "completed", output: "x", usage: { ...usage, ...changes } };
  return checkOutcome(message as never);
}

test("an outcome may tell more of its usage, or nothing of it", () => {
  const more = {
    cachedTokens: 1,
    reasoningTokens: 0,
    cost: 0.5,
    models: [{ provider: "p", model: "m", modelCalls: 1 }],
  };
  expect(checked(more)).toMatchObject({ type: "completed", usage: more });
  expect(checkOutcome({ v: 1, taskId: "t", attempt: 1, type: "completed", output: "x" } as never).type).toBe(
    "completed",
  );
});

test.each<[object, string]>([
  [{ cost: "much" }, "outcome.usage: expected {inputTokens, outputTokens, modelCalls} as numbers"],
  [{ cachedTokens: null }, "outcome.usage: expected {inputTokens, outputTokens, modelCalls} as numbers"],
  [{ models: "m" }, "outcome.usage.models: expected a list of {provider, model, modelCalls}"],
  [{ models: [{ provider: "p", model: "m" }] }, "outcome.usage.models: expected a list of"],
  [{ models: [null] }, "outcome.usage.models: expected a list of"],
])("usage with %j is a bad outcome, and no sum is made of it", (changes, message) => {
  expect(checked(changes)).toMatchObject({ type: "failed", error: { code: "bad_outcome" } });
  expect(JSON.stringify(checked(changes))).toContain(message);
});
