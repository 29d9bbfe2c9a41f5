import { describe, expect, it } from "vitest";
import { z } from "zod";
import type { JsonSchema } from "../../src/actors/model.ts";
import { assertSupported, toJsonSchema, validateOutput } from "../../src/actors/schemas.ts";

function problems(schema: z.ZodType | JsonSchema, value: unknown): string[] {
  const checked = validateOutput(schema, value);
  return checked.ok ? [] : checked.problems;
}

describe("schemas", () => {
  it("a zod schema gives the value as zod parsed it", () => {
    const schema = z.object({ city: z.string(), country: z.string().default("France") });
    expect(validateOutput(schema, { city: "Paris" })).toEqual({
      ok: true,
      value: { city: "Paris", country: "France" },
    });
  });

  it("a JSON Schema gives the value itself", () => {
    const value = { city: "Paris", more: 1 };
    const checked = validateOutput({ type: "object", properties: { city: { type: "string" } } }, value);
    expect(checked.ok && checked.value).toBe(value);
  });

  it("what does not fit is told with where, expected and got", () => {
    const schema = {
      type: "array",
      items: { type: "object", properties: { n: { type: "integer" } }, required: ["n"] },
    };
    expect(problems(schema, [{ n: 1.5 }, {}, 3])).toEqual([
      "[0].n: expected a whole number, got 1.5",
      "[1].n: expected a number, got nothing",
      "[2]: expected an object, got 3",
    ]);
  });

  it("a required key must be there even when no property describes it or a default exists", () => {
    expect(problems({ type: "object", required: ["a"] }, {})).toEqual(["a: expected a value, got nothing"]);
    const withDefault = { type: "object", properties: { a: { type: "string", default: "x" } }, required: ["a"] };
    expect(problems(withDefault, {})).toEqual(["a: expected text, got nothing"]);
  });

  it("a property may be called like a keyword", () => {
    const schema = { type: "object", properties: { default: { type: "string" }, title: { type: "number" } } };
    expect(problems(schema, { default: 1, title: 2 })).toEqual(["default: expected text, got 1"]);
  });

  it("a schema without a type means the object or list its keywords speak of", () => {
    expect(problems({ properties: { a: { type: "string" } } }, 3)).toEqual(["the value: expected an object, got 3"]);
    expect(problems({ items: { type: "string" } }, ["a", 1])).toEqual(["[1]: expected text, got 1"]);
  });

  it("of several branches the one is told that was meant", () => {
    const branch = (kind: string, key: string) => ({
      type: "object",
      properties: { kind: { const: kind }, [key]: { type: "number" } },
      required: ["kind", key],
    });
    expect(problems({ oneOf: [branch("a", "x"), branch("b", "y")] }, { kind: "b" })).toEqual([
      "y: expected a number, got nothing",
    ]);
  });

  it("keywords that cannot be checked are refused when asked, not passed over", () => {
    expect(() => assertSupported({ not: { type: "string" } })).toThrow("not is not supported");
    expect(() => assertSupported({ type: "object", properties: { a: { enum: [{ deep: 1 }] } } })).toThrow(
      "const and enum",
    );
    expect(() => assertSupported({ type: "object", properties: { a: { type: "strin" } } })).toThrow("strin");
    expect(() => assertSupported({ type: "string" })).not.toThrow();
  });

  it("zod objects are closed in the JSON Schema a model gets, unless they say otherwise", () => {
    const schema = z.object({ a: z.int(), rest: z.looseObject({}) });
    expect(toJsonSchema(schema)).toEqual({
      type: "object",
      properties: { a: { type: "integer" }, rest: { type: "object", properties: {}, additionalProperties: {} } },
      required: ["a", "rest"],
      additionalProperties: false,
    });
    expect(toJsonSchema(schema, { closed: false })).not.toHaveProperty("additionalProperties");
  });

  it("the JSON Schema asks for what is to be written, before defaults and transforms", () => {
    const schema = z.object({ n: z.string().transform(Number), unit: z.string().default("km") });
    expect(toJsonSchema(schema)).toMatchObject({ properties: { n: { type: "string" } }, required: ["n"] });
  });
});
