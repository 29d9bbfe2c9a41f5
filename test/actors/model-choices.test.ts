import { describe, expect, it } from "vitest";
import { defineAgent } from "../../src/actors/define-agent.ts";
import { describeModels, modelsOf } from "../../src/actors/model-choices.ts";

const words = { name: "writer", instructions: "Write." };

describe("the models of an agent", () => {
  it("one name is one model, with the agent's provider, settings and attempts", () => {
    const agent = defineAgent({ ...words, model: "m", provider: "local", settings: { seed: 3 }, maxModelAttempts: 2 });
    expect(modelsOf(agent)).toEqual([{ model: "m", provider: "local", settings: { seed: 3 }, maxAttempts: 2 }]);
  });

  it("entries of a list have their own settings over the agent's, and their own provider and attempts", () => {
    const agent = defineAgent({
      ...words,
      model: [
        "first",
        { model: "second", provider: "backup", temperature: 1, maxAttempts: 1, extraBody: { top_k: 4 } },
      ],
      settings: { temperature: 0, topP: 0.5 },
    });
    expect(modelsOf(agent)).toEqual([
      { model: "first", provider: "openai", settings: { temperature: 0, topP: 0.5 }, maxAttempts: 5 },
      {
        model: "second",
        provider: "backup",
        settings: { temperature: 1, topP: 0.5, extraBody: { top_k: 4 } },
        maxAttempts: 1,
      },
    ]);
    expect(describeModels(agent)).toEqual(["first", "second (backup)"]);
  });

  it("an endpoint of the agent's own is not that of an entry with another provider", () => {
    const agent = defineAgent({
      ...words,
      baseURL: "http://own/v1",
      apiKey: "k",
      model: ["a", { model: "b" }, { model: "c", provider: "other" }],
    });
    expect(modelsOf(agent).map(({ baseURL, apiKey }) => [baseURL, apiKey])).toEqual([
      ["http://own/v1", "k"],
      ["http://own/v1", "k"],
      [undefined, undefined],
    ]);
  });

  it("what is wrong with an entry is told with its place", () => {
    const wrong = { ...words, model: [{ model: "a", temperatur: 1 }, 7, { model: "b", extraBody: { stream: false } }] };
    expect(() => defineAgent(wrong as never)).toThrow(
      /agents\.writer\.model\[0\]\.temperatur: expected one of the keys/,
    );
    expect(() => defineAgent(wrong as never)).toThrow(/agents\.writer\.model\[1\]: expected the name of a model/);
    expect(() => defineAgent(wrong as never)).toThrow(
      /agents\.writer\.model\[2\]\.extraBody: expected fields that Troupe does not set itself \(model, messages/,
    );
  });
});
