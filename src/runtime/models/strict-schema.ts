/**
 * Which JSON schemas may be sent with `strict: true`. A provider refuses a strict schema it does not support, so anything
 * not known to be supported makes a schema unfit.
 * Source: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
 */
import type { JsonSchema } from "../../actors/model.ts";

const KEYWORDS = new Set(
  (
    "$schema $id $defs definitions $ref title description type enum const properties required additionalProperties " +
    "items anyOf pattern format multipleOf minimum maximum exclusiveMinimum exclusiveMaximum minItems maxItems"
  ).split(" "),
);
const FORMATS = new Set(["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"]);
const MAX_DEPTH = 10;

/** Schemas belong to agents and are immutable: each is looked at once. */
const known = new WeakMap<JsonSchema, boolean>();

/** Whether a provider that follows OpenAI's rules takes this schema with `strict: true`. */
export function isStrictSchema(schema: JsonSchema): boolean {
  let strict = known.get(schema);
  if (strict === undefined) {
    strict = schema.type === "object" && isStrictNode(schema, 0);
    known.set(schema, strict);
  }
  return strict;
}

function isStrictNode(node: unknown, depth: number): boolean {
  if (!isObject(node) || depth > MAX_DEPTH) return false;
  if (Object.keys(node).some((keyword) => !KEYWORDS.has(keyword))) return false;
  if (node.format !== undefined && !FORMATS.has(String(node.format))) return false;
  if (node.type === "object" && !isClosedObject(node)) return false;
  if (node.type === "array" && node.items === undefined) return false;
  return childrenOf(node).every((child) => isStrictNode(child, depth + 1));
}

/** Every property is required and no other is allowed. */
function isClosedObject(node: JsonSchema): boolean {
  const { properties, required, additionalProperties } = node;
  if (additionalProperties !== false || !isObject(properties)) return false;
  const names = new Set(Array.isArray(required) ? required : []);
  return Object.keys(properties).every((name) => names.has(name));
}

function childrenOf(node: JsonSchema): unknown[] {
  const { properties, items, anyOf, $defs, definitions } = node;
  const maps = [properties, $defs, definitions].flatMap((map) => (isObject(map) ? Object.values(map) : []));
  return [...maps, ...(items === undefined ? [] : [items]), ...(Array.isArray(anyOf) ? anyOf : [])];
}

function isObject(value: unknown): value is JsonSchema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
