import { describe, expect, it } from "vitest";
import { DefinitionError, TroupeError } from "../../src/errors.ts";
import type { ExpressionScope } from "../../src/workflows/expressions.ts";
import { compileTemplate, evaluateTemplate } from "../../src/workflows/templates.ts";

const scope: ExpressionScope = {
  input: { topic: "tea", count: 3, half: 0.5, tags: ["a", "b"], deep: { list: [{ x: 1 }] }, nothing: null },
  steps: {
    facts: { status: "completed", output: "green" },
    "writer-2": { status: "completed", output: { value: 0.9 } },
  },
  previous: { output: "green" },
  session: {},
  run: { id: "r1", workflow: "article" },
};

const here = { path: "workflows.article.steps[1].input", steps: new Set(["facts", "writer-2"]) };

function fill(template: unknown): unknown {
  return evaluateTemplate(compileTemplate(template, here), scope);
}

function problemsOf(template: unknown, context = here): string[] {
  try {
    compileTemplate(template, context);
    return [];
  } catch (error) {
    if (error instanceof DefinitionError) return error.message.split("\n");
    throw error;
  }
}

describe("templates", () => {
  it("a value is put into text as it is, and as JSON when it is not text", () => {
    expect(fill("About {{ input.topic }}: {{ input.tags }}, {{ input.nothing }}.")).toBe(`About tea: ["a","b"], null.`);
  });

  it("a string that is nothing but one expression yields the value itself", () => {
    expect(fill("{{ input.deep }}")).toEqual({ list: [{ x: 1 }] });
    expect(fill("{{input.count}}")).toBe(3);
    expect(fill(" {{ input.count }}")).toBe(" 3");
  });

  it("objects and lists are filled in at any depth, and their keys stay", () => {
    expect(fill({ "{{ a }}": [{ topic: "{{ input.topic }}" }, 7, null], plain: true })).toEqual({
      "{{ a }}": [{ topic: "tea" }, 7, null],
      plain: true,
    });
  });

  it("what needs no filling in is given back as it is", () => {
    const value = { a: ["b", { c: 1 }] };
    expect(fill(value)).toBe(value);
  });

  it("everything in scope can be spoken of", () => {
    expect(
      fill(`{{ steps.facts.output }} {{ steps["writer-2"].output.value }} {{ previous.output }} {{ run.id }}`),
    ).toBe("green 0.9 green r1");
  });

  it.each<[string, unknown]>([
    ["{{ 1 + 2 }}", 3],
    ["{{ input.count + 1 }}", 4],
    ["{{ 2 * input.half }}", 1],
    ["{{ input.count > 2 && has(input.topic) }}", true],
    ["{{ input.tags.map(t, t + '!') }}", ["a!", "b!"]],
    ["{{ size(input.tags) }}", 2],
    ["{{ {'a': {'b': [1, 'x']}} }}", { a: { b: [1, "x"] } }],
    ["{{ timestamp('2024-01-01T00:00:00Z') }}", "2024-01-01T00:00:00.000Z"],
    ["{{ duration('90s') }}", "90s"],
    ["{{ 5u }}", 5],
    ["{{ input.?missing.orValue('none') }}", "none"],
    ["{{ null }}", null],
  ])("%s is a JSON value", (template, expected) => {
    expect(fill(template)).toEqual(expected);
  });

  it("braces in the text of an expression do not end it", () => {
    expect(fill(`{{ "{{" }}a{{ '}}' }}`)).toBe("{{a}}");
    expect(fill(`{{ "\\"}}" }}`)).toBe(`"}}`);
  });

  it.each([
    ["{{ input.missing }}", "No such key: missing"],
    ["{{ input.topic - 1 }}", "no such overload"],
    ["{{ input.tags[7] }}", "index out of bounds"],
    ["{{ 9007199254740993 }}", "9007199254740993 is not a value JSON can hold"],
    ["{{ 1.0 / 0.0 }}", "Infinity is not a value JSON can hold"],
    ["{{ b'abc' }}", "is not a value JSON can hold"],
    ["{{ input.?missing }}", "the optional has no value"],
  ])("%s fails with a clear error instead of filling in nonsense", (template, why) => {
    const error = catchError(() => fill(template));
    expect(error).toMatchObject({ code: "template_failed" });
    expect(error.message).toMatch(
      /^workflows\.article\.steps\[1\]\.input: expected \{\{ .* \}\} to have a value, got: /,
    );
    expect(error.message).toContain(why);
  });

  it("what is inherited cannot be reached", () => {
    expect(catchError(() => fill("{{ input.constructor }}"))).toMatchObject({ code: "template_failed" });
    expect(catchError(() => fill("{{ input.__proto__ }}"))).toMatchObject({ code: "template_failed" });
  });

  it("all mistakes in a template are told at once, each with its path", () => {
    expect(problemsOf({ a: "{{ input. }}", b: ["{{ steps.fact.output }}", "{{ foo.bar }}"], c: "x {{ input" })).toEqual(
      [
        `workflows.article.steps[1].input.a: expected a CEL expression, got "input.": Expected IDENTIFIER, got EOF`,
        `workflows.article.steps[1].input.b[0]: expected a step that comes before (facts, writer-2), got "steps.fact"`,
        `workflows.article.steps[1].input.b[1]: expected a CEL expression, got "foo.bar": Unknown variable: foo`,
        `workflows.article.steps[1].input.c: expected {{ to be closed by }}, got "{{ input"`,
      ],
    );
  });

  it("a step is found however it is written", () => {
    expect(problemsOf(`{{ steps["gone"].output == "" ? steps.?lost.?output.orValue("y") : "x" }}`)).toHaveLength(2);
  });

  it("a dash in a step's id leads to the right spelling", () => {
    expect(problemsOf("{{ steps.writer-2.output }}")[0]).toContain(`a step is written steps["writer-2"]`);
  });

  it("a first step can speak of no other and of nothing previous", () => {
    const first = { path: "input", steps: new Set<string>() };
    expect(problemsOf("{{ steps.facts.output }}{{ previous.output }}", first)).toEqual([
      `input: expected no reference to a step, for none comes before, got "steps.facts"`,
      `input: expected \`previous\` only where a step comes before, got "previous.output"`,
    ]);
  });
});

function catchError(run: () => unknown): TroupeError {
  try {
    run();
  } catch (error) {
    if (error instanceof TroupeError) return error;
    throw error;
  }
  throw new Error("expected a TroupeError, got none");
}
