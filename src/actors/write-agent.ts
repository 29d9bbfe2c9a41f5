/** An agent as a file has it: what it was made with, the defaults left out, tools by name, schemas as JSON Schema. */
import type { z } from "zod";
import type { Problem } from "../errors.ts";
import type { Agent, HandoffEdge } from "./agent.ts";
import { agentSchema } from "./agent-schema.ts";
import type { JsonSchema } from "./model.ts";
import { type Place, placeAt, problemAt } from "./schema-problems.ts";
import { isZodSchema, toJsonSchema } from "./schemas.ts";
import { inexpressibleIn } from "./zod-limits.ts";

/** An agent as a file has it, without its name. */
export type WrittenAgent = { readonly [key: string]: unknown };

const DEFAULTS: { readonly [key: string]: unknown } = agentSchema.parse({ name: "any" });

/** Writes an agent; what no file can hold goes into `problems`, and is left out. */
export function writeAgent(agent: Agent, place: Place, problems: Problem[]): WrittenAgent {
  const { name: _name, tools, mcp, handoffs, output, settings, apiKey, ...plain } = agent;
  if (apiKey !== undefined) {
    const expected = "none in what others may read: put the key into `providers`, or into a variable";
    problems.push(problemAt(placeAt(place, "apiKey"), expected, "an API key"));
  }
  const kept = Object.entries(plain).filter(([key, value]) => value !== DEFAULTS[key] && value !== "");
  return {
    ...Object.fromEntries(kept),
    ...(Object.keys(settings).length > 0 && { settings: { ...settings } }),
    ...(tools.length > 0 && { tools: tools.map((tool) => tool.name) }),
    ...(mcp.length > 0 && { mcp }),
    ...(handoffs.length > 0 && {
      handoffs: handoffs.map((edge, index) => writeEdge(edge, placeAt(place, "handoffs", index), problems)),
    }),
    ...(output && { output: writeSchema(output, { place: placeAt(place, "output"), problems }) }),
  };
}

function writeEdge({ to, description, input, context }: HandoffEdge, place: Place, problems: Problem[]): unknown {
  if (typeof context === "function") {
    problems.push(problemAt(placeAt(place, "context"), 'one of "full", "summary", "last", "none"', A_FUNCTION));
  }
  const edge = {
    to,
    ...(description !== undefined && { description }),
    ...(input && { input: writeSchema(input, { place: placeAt(place, "input"), problems }) }),
    ...(typeof context === "string" && context !== "full" && { context }),
  };
  return Object.keys(edge).length === 1 ? to : edge;
}

/** What is said of a function where a file can only have data. */
export const A_FUNCTION = "a function, which no file can hold";

/** Writes a schema as JSON Schema; what that cannot say goes into `problems`. @default closed true */
export function writeSchema(
  schema: z.ZodType | JsonSchema,
  { place, problems, closed = true }: { place: Place; problems: Problem[]; closed?: boolean },
): JsonSchema {
  if (!isZodSchema(schema)) return schema;
  for (const { path, what } of inexpressibleIn(schema)) {
    const where = path === "" ? "" : ` of ${path}`;
    problems.push(problemAt(place, "a schema that JSON Schema can express", `${what}${where}`));
  }
  try {
    return toJsonSchema(schema, { closed });
  } catch {
    // Told above.
    return {};
  }
}
