/** What an agent may be written as, with every default: the schema behind TypeScript and configuration files. */
import { z } from "zod";
import type { Agent, HandoffEdge } from "./agent.ts";
import { isTool } from "./define-tool.ts";
import { durationSchema } from "./durations.ts";
import { mcpReferenceSchema } from "./mcp-reference.ts";
import type { JsonSchema } from "./model.ts";
import { modelsSchema, settingsSchema } from "./model-choices.ts";
import { nameSchema } from "./names.ts";
import { strict } from "./strict.ts";
import type { Tool } from "./tool.ts";

// What `meta` says is for the JSON Schema of files, in which no function and no zod schema can stand.
const schemaSchema = z
  .custom<z.ZodType | JsonSchema>((value) => typeof value === "object" && value !== null && !Array.isArray(value), {
    error: "expected a zod schema or a JSON Schema",
  })
  .meta({ type: "object" });

const CONTEXTS = ["full", "summary", "last", "none"];
const contextSchema = z
  .custom<HandoffEdge["context"]>((value) => typeof value === "function" || CONTEXTS.includes(value as string), {
    error: `expected one of "full", "summary", "last", "none", or a function`,
  })
  .meta({ enum: CONTEXTS });

export type EdgeOptions = z.infer<typeof edgeSchema>;

const edgeSchema = strict({
  to: nameSchema,
  description: z.string().optional(),
  input: schemaSchema.optional(),
  context: contextSchema.optional(),
});

/** An agent given as an object stands for its name and description. */
const agentObjectSchema = z.custom<Agent>((value) => isObject(value) && "instructions" in value && "name" in value);

const targetSchema = z.union([nameSchema, agentObjectSchema, edgeSchema], {
  error: (issue) =>
    isObject(issue.input) ? undefined : "expected an agent's name, an agent, or an edge with the key `to`",
});

const toolsSchema = z.array(
  z
    .custom<Tool | string>((value) => typeof value === "string" || isTool(value), {
      error: "expected a tool made with defineTool",
    })
    .meta({ type: "string" }),
);

/** The most turns, tasks or tries that still can be meant. */
const count = (least: number) => z.number().int().min(least).max(1_000_000);

export const agentSchema = strict({
  name: nameSchema,
  description: z.string().optional(),
  instructions: z.string().optional(),
  model: modelsSchema.optional(),
  provider: nameSchema.default("openai"),
  baseURL: z.url({ error: "expected a URL" }).optional(),
  apiKey: z.string().min(1).optional(),
  settings: settingsSchema.default({}),
  tools: toolsSchema.default([]),
  mcp: z.array(mcpReferenceSchema).default([]),
  handoffs: z.array(targetSchema).default([]),
  output: schemaSchema.optional(),
  maxTurns: count(1).default(16),
  timeoutMs: durationSchema.default(600_000),
  toolTimeoutMs: durationSchema.default(60_000),
  maxParallelTools: count(1).default(16),
  maxModelAttempts: count(1).default(5),
  concurrency: count(1).default(64),
  maxWaiting: count(0).default(256),
  remote: z.boolean().default(false),
});

export type AgentDraft = z.output<typeof agentSchema>;

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}
