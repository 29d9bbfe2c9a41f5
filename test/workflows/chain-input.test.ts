import { describe, expect, it } from "vitest";
import { defaultChainInput, previousInScope } from "../../src/workflows/chain-input.ts";

describe("the default input of a chain", () => {
  it("the first step gets the request's input as it is", () => {
    const input = { topic: "tea" };
    expect(defaultChainInput(input, [])).toBe(input);
  });

  it("a later step gets the request and the output before it, each marked", () => {
    expect(defaultChainInput("tea", [{ step: "researcher", output: { facts: 5 } }])).toBe(
      `<request>\ntea\n</request>\n\n<output step="researcher">\n{"facts":5}\n</output>`,
    );
  });

  it("a join gets every output it comes after", () => {
    const text = defaultChainInput({ topic: "tea" }, [
      { step: "a", output: "one" },
      { step: "b", output: "two" },
    ]);
    expect(text).toBe(
      `<request>\n{"topic":"tea"}\n</request>\n\n<output step="a">\none\n</output>\n\n<output step="b">\ntwo\n</output>`,
    );
  });

  it("`previous` is the one output before, or several by id, or nothing", () => {
    expect(previousInScope([])).toEqual({});
    expect(previousInScope([{ step: "a", output: 1 }])).toEqual({ previous: { output: 1 } });
    expect(
      previousInScope([
        { step: "a", output: 1 },
        { step: "b", output: 2 },
      ]),
    ).toEqual({ previous: { output: { a: 1, b: 2 } } });
  });
});
