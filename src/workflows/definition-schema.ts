/** What a workflow may be written as, with every default: the schema behind TypeScript and configuration files. */
import { z } from "zod";
import { durationSchema } from "../actors/durations.ts";
import type { JsonSchema } from "../actors/model.ts";
import { nameSchema } from "../actors/names.ts";
import { strict } from "../actors/strict.ts";

export const KINDS = ["deterministic", "handoff"] as const;

const LONGEST_DELAY_MS = 30_000;

const retrySchema = strict({
  maxAttempts: z.number().int().min(1).max(1_000).default(1),
  backoff: z.enum(["exponential", "fixed"]).default("exponential"),
  delayMs: durationSchema.default(500),
  maxDelayMs: durationSchema.optional(),
})
  .refine(({ delayMs, maxDelayMs }) => maxDelayMs === undefined || maxDelayMs >= delayMs, {
    path: ["maxDelayMs"],
    error: "expected at least delayMs",
  })
  .transform((retry) => ({ ...retry, maxDelayMs: retry.maxDelayMs ?? Math.max(LONGEST_DELAY_MS, retry.delayMs) }));

/** What a step without `retry` has. */
export const DEFAULT_RETRY = Object.freeze(retrySchema.parse({}));

/** Data as JSON has it: what a template is made of and what a definition can be hashed over. */
const jsonSchema = z.custom<unknown>(isJson, { error: "expected JSON data" });

function isJson(value: unknown): boolean {
  if (Array.isArray(value)) return value.every(isJson);
  if (typeof value === "object" && value !== null) {
    const prototype: unknown = Object.getPrototypeOf(value);
    return (prototype === Object.prototype || prototype === null) && Object.values(value).every(isJson);
  }
  return value === null || typeof value === "string" || typeof value === "boolean" || Number.isFinite(value);
}

const switchSchema = strict({
  on: z.string().min(1),
  cases: z.record(z.string(), nameSchema).refine((cases) => Object.keys(cases).length > 0, {
    error: "expected at least one case",
  }),
  default: nameSchema.optional(),
});

export const stepSchema = strict({
  id: nameSchema,
  agent: nameSchema,
  after: z
    .union([nameSchema, z.array(nameSchema)], { error: "expected the id of a step, or a list of them" })
    .optional(),
  when: z.string().min(1).optional(),
  needs: z.enum(["all", "any", "always"]).default("all"),
  onError: nameSchema.default("fail"),
  switch: switchSchema.optional(),
  input: jsonSchema.optional(),
  retry: retrySchema.prefault({}),
  timeoutMs: durationSchema.optional(),
});

const common = {
  name: nameSchema,
  version: z
    .union([z.string().min(1), z.number()])
    .transform(String)
    .default("1"),
  description: z.string().optional(),
  input: z
    .custom<z.ZodType | JsonSchema>((value) => typeof value === "object" && value !== null && !Array.isArray(value), {
      error: "expected a zod schema or a JSON Schema",
    })
    // For the JSON Schema of files.
    .meta({ type: "object" })
    .optional(),
  timeoutMs: durationSchema.optional(),
};

const agentsSchema = z.array(nameSchema).min(1);

export const deterministicSchema = strict({
  ...common,
  kind: z.literal("deterministic").default("deterministic"),
  agents: agentsSchema.optional(),
  steps: z.array(stepSchema).min(1).optional(),
});

export const handoffSchema = strict({
  ...common,
  kind: z.literal("handoff").default("handoff"),
  entry: nameSchema,
  agents: agentsSchema,
  maxHandoffs: z.number().int().min(0).max(10_000).default(16),
  maxVisits: z.number().int().min(1).max(10_000).default(8),
});

export type StepDraft = z.output<typeof stepSchema>;
export type DeterministicDraft = z.output<typeof deterministicSchema>;
export type HandoffDraft = z.output<typeof handoffSchema>;
