import { expect, test } from "vitest";
import { z } from "zod";
import type { JsonSchema } from "../../../src/actors/model.ts";
import { isStrictSchema } from "../../../src/runtime/models/strict-schema.ts";

const fromZod = (schema: z.ZodType) => z.toJSONSchema(schema) as JsonSchema;

test.each<[string, JsonSchema, boolean]>([
  ["a closed object", fromZod(z.object({ a: z.string(), b: z.array(z.object({ c: z.number() })) })), true],
  ["a nullable property", fromZod(z.object({ a: z.string().nullable() })), true],
  ["a choice of objects", fromZod(z.object({ a: z.union([z.object({ b: z.literal(1) }), z.null()]) })), true],
  ["an optional property", fromZod(z.object({ a: z.string().optional() })), false],
  ["an optional property far inside", fromZod(z.object({ a: z.array(z.object({ b: z.string().optional() })) })), false],
  ["an open object", fromZod(z.looseObject({ a: z.string() })), false],
  ["a map", fromZod(z.object({ a: z.record(z.string(), z.string()) })), false],
  ["a default", fromZod(z.object({ a: z.string().default("x") })), false],
  [
    "a format nobody promised",
    {
      type: "object",
      properties: { a: { type: "string", format: "uri" } },
      required: ["a"],
      additionalProperties: false,
    },
    false,
  ],
  ["an array at the root", fromZod(z.array(z.string())), false],
  ["an object in short form", { type: "object", properties: { a: { type: "string" } } }, false],
])("%s", (_, schema, strict) => {
  expect(isStrictSchema(schema)).toBe(strict);
});
