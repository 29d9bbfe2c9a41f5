import { describe, expect, it } from "vitest";
import { defaultChainInput, previousInScope } from "../../src/workflows/chain-input.ts";

const completed = (output: unknown) => ({ status: "completed", output }) as const;
const failed = { status: "failed", error: { code: "model_error", message: "no" } } as const;
const skipped = { status: "skipped" } as const;

describe("the default input of a chain", () => {
  it("the first step gets the request's input as it is", () => {
    const input = { topic: "tea" };
    expect(defaultChainInput(input, [])).toBe(input);
  });

  it("a later step gets the request and the output before it, each marked", () => {
    expect(defaultChainInput("tea", [{ step: "researcher", end: completed({ facts: 5 }) }])).toBe(
      `<request>\ntea\n</request>\n\n<output step="researcher">\n{"facts":5}\n</output>`,
    );
  });

  it("a join gets every output it comes after", () => {
    const text = defaultChainInput({ topic: "tea" }, [
      { step: "a", end: completed("one") },
      { step: "b", end: completed("two") },
    ]);
    expect(text).toBe(
      `<request>\n{"topic":"tea"}\n</request>\n\n<output step="a">\none\n</output>\n\n<output step="b">\ntwo\n</output>`,
    );
  });

  it("what failed gives its error, and what was skipped nothing", () => {
    const before = [
      { step: "a", end: failed },
      { step: "b", end: skipped },
    ];
    expect(defaultChainInput("tea", before)).toBe(
      `<request>\ntea\n</request>\n\n<error step="a">\nmodel_error: no\n</error>`,
    );
    expect(defaultChainInput("tea", [{ step: "b", end: skipped }])).toBe("tea");
    expect(previousInScope([{ step: "a", end: failed }])).toEqual({ previous: failed });
    expect(previousInScope([...before, { step: "c", end: completed(3) }])).toEqual({ previous: { output: { c: 3 } } });
  });

  it("`previous` is the one output before, or several by id, or nothing", () => {
    expect(previousInScope([])).toEqual({});
    expect(previousInScope([{ step: "a", end: completed(1) }])).toEqual({
      previous: { status: "completed", output: 1 },
    });
    expect(
      previousInScope([
        { step: "a", end: completed(1) },
        { step: "b", end: completed(2) },
      ]),
    ).toEqual({ previous: { output: { a: 1, b: 2 } } });
  });
});
