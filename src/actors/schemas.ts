/** The two kinds of schema users write, zod and JSON Schema, made one: what a model is told, and what is checked. */
import { z } from "zod";
import { describeProblem } from "../errors.ts";
import type { JsonSchema } from "./model.ts";
import { problemsOf } from "./schema-problems.ts";

/** What came of a check. `problems` are sentences a model or a person can act on. */
export type Checked = { ok: true; value: unknown } | { ok: false; problems: string[] };

/** Whether a value is a zod schema. It may come from another copy of zod, so this does not ask for its class. */
export function isZodSchema(value: unknown): value is z.ZodType {
  return typeof value === "object" && value !== null && "_zod" in value && "safeParse" in value;
}

/**
 * Turns a schema into JSON Schema (draft 2020-12) for whoever has to write a fitting value; JSON Schema stays as it is. The
 * answer is shared: do not change it.
 *
 * `closed` adds `additionalProperties: false` to zod objects that say nothing of further keys, as structured outputs want it.
 * @default closed true
 * @throws Error when the zod schema holds something JSON Schema cannot say, such as a date.
 */
export function toJsonSchema(schema: z.ZodType | JsonSchema, { closed = true }: { closed?: boolean } = {}): JsonSchema {
  if (!isZodSchema(schema)) return schema;
  const cache = closed ? expressedClosed : expressedOpen;
  const known = cache.get(schema);
  if (known) return known;
  const made = express(schema, closed);
  cache.set(schema, made);
  return made;
}

/** Asked for with every model call, and the answer is always the same. */
const expressedClosed = new WeakMap<z.ZodType, JsonSchema>();
const expressedOpen = new WeakMap<z.ZodType, JsonSchema>();

function express(schema: z.ZodType, closed: boolean): JsonSchema {
  const { $schema: _dialect, ...json } = z.toJSONSchema(schema, {
    io: "input",
    override: ({ zodSchema, jsonSchema }) => {
      const { def } = zodSchema._zod;
      if (closed && def.type === "object") jsonSchema.additionalProperties ??= false;
      // zod's whole numbers carry the limits of JavaScript, which say nothing to a model.
      if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum;
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
    },
  });
  return json;
}

/**
 * Checks a value. A zod schema gives the value as zod parsed it; a JSON Schema gives the value itself.
 *
 * @throws Error when the JSON Schema uses what is not supported: see {@link assertSupported}.
 */
export function validateOutput(schema: z.ZodType | JsonSchema, value: unknown): Checked {
  const zod = isZodSchema(schema) ? schema : fromJsonSchema(schema);
  const parsed = zod.safeParse(value);
  if (parsed.success) return { ok: true, value: isZodSchema(schema) ? parsed.data : value };
  const problems = problemsOf(parsed.error.issues, value, { path: "" });
  return { ok: false, problems: problems.map((p) => describeProblem({ ...p, path: p.path || "the value" })) };
}

/**
 * Makes sure that a schema can be used to check values.
 *
 * @throws Error naming what is not supported: `not`, `if`, `dependent…`, `unevaluated…`, references to other documents.
 */
export function assertSupported(schema: z.ZodType | JsonSchema): void {
  if (!isZodSchema(schema)) fromJsonSchema(schema);
}

/** Converting costs far more than checking; a schema lives as long as the definition that holds it. */
const converted = new WeakMap<JsonSchema, z.ZodType>();

function fromJsonSchema(schema: JsonSchema): z.ZodType {
  const known = converted.get(schema);
  if (known) return known;
  // Its own registry: zod's global one would refuse the same $id twice.
  const made = z.fromJSONSchema(bare(schema) as Parameters<typeof z.fromJSONSchema>[0], { registry: z.registry() });
  converted.set(schema, made);
  return made;
}

/** Keywords that describe and do not check; left in, zod would fill in defaults and so drop `required`. */
const ANNOTATIONS = new Set(["default", "readOnly", "writeOnly", "deprecated", "examples", "title", "description"]);
/** Keywords whose value maps names, not keywords, to schemas. */
const NAMED_SCHEMAS = new Set(["properties", "patternProperties", "$defs", "definitions"]);
/** Keywords whose value is data. */
const DATA = new Set(["const", "enum", "required", "type"]);

/** The checking part of a schema. A schema that speaks of properties or items means an object or a list. */
function bare(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(bare);
  if (!isRecord(schema)) return schema;
  assertPlain(schema);
  const kept = Object.entries(schema)
    .filter(([key]) => !ANNOTATIONS.has(key))
    .map(([key, value]): [string, unknown] => {
      if (DATA.has(key)) return [key, value];
      return [key, NAMED_SCHEMAS.has(key) ? bareEach(value) : bare(value)];
    });
  return withRequired(withType(Object.fromEntries(kept)));
}

function withType(schema: JsonSchema): JsonSchema {
  if ("type" in schema || "const" in schema || "enum" in schema || "$ref" in schema) return schema;
  if ("properties" in schema || "required" in schema) return { ...schema, type: "object" };
  return "items" in schema ? { ...schema, type: "array" } : schema;
}

/** zod asks for a required key only where `properties` names it. */
function withRequired(schema: JsonSchema): JsonSchema {
  if (!Array.isArray(schema.required)) return schema;
  const properties = isRecord(schema.properties) ? schema.properties : {};
  const rest = isRecord(schema.additionalProperties) ? schema.additionalProperties : {};
  const missing = schema.required.filter((key) => !Object.hasOwn(properties, key));
  return { ...schema, properties: { ...properties, ...Object.fromEntries(missing.map((key) => [key, rest])) } };
}

/** zod compares literals by identity, so an object among them would never match. */
function assertPlain(schema: JsonSchema): void {
  const literals = [schema.const, ...(Array.isArray(schema.enum) ? schema.enum : [])];
  if (literals.some((literal) => typeof literal === "object" && literal !== null)) {
    throw new Error("const and enum are supported for text, numbers, true, false and null only");
  }
}

function isRecord(value: unknown): value is JsonSchema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function bareEach(schemas: unknown): unknown {
  if (!isRecord(schemas)) return schemas;
  return Object.fromEntries(Object.entries(schemas).map(([name, schema]) => [name, bare(schema)]));
}
