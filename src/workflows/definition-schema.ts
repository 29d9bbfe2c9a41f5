/** What a workflow may be written as, with every default: the schema behind TypeScript and configuration files. */
import { z } from "zod";
import { durationSchema } from "../actors/durations.ts";
import type { JsonSchema } from "../actors/model.ts";
import { nameSchema } from "../actors/names.ts";
import { strict } from "../actors/strict.ts";
import { MOST_OPEN_TASKS } from "./definition.ts";
import { jsonSchema } from "./json-schema.ts";
import { scheduleTermsSchema } from "./schedule-schema.ts";

export const KINDS = ["deterministic", "handoff"] as const;

/** Each part may come from the workflow's defaults, so none has a default here. */
const retrySchema = strict({
  maxAttempts: z.number().int().min(1).max(1_000).optional(),
  backoff: z.enum(["exponential", "fixed"]).optional(),
  delayMs: durationSchema.optional(),
  maxDelayMs: durationSchema.optional(),
  on: z.array(z.string().min(1)).min(1).optional(),
});

const valueSchema = z
  .custom<z.ZodType | JsonSchema>((value) => typeof value === "object" && value !== null && !Array.isArray(value), {
    error: "expected a zod schema or a JSON Schema",
  })
  // For the JSON Schema of files.
  .meta({ type: "object" })
  .optional();

const switchSchema = strict({
  on: z.string().min(1),
  cases: z.record(z.string(), nameSchema).refine((cases) => Object.keys(cases).length > 0, {
    error: "expected at least one case",
  }),
  default: nameSchema.optional(),
});

/** Both are needed; `check-shape.ts` says so, for what the schema misses keeps the rest from being read. */
const repeatSchema = strict({
  until: z.string().min(1).optional(),
  max: z.number().int().min(1).max(10_000).optional(),
  // For the JSON Schema of files.
}).meta({ required: ["until", "max"] });

const concurrencySchema = z.number().int().min(1).max(MOST_OPEN_TASKS);

/** What says what a step does: one of these. */
export const STEP_KEYS = ["agent", "tool", "approval", "wait", "workflow", "steps"] as const;

/** Instances of steps are named by paths, in which these have a meaning of their own. */
const RESERVED = ["compensate", "onFailure"];

const stepIdSchema = nameSchema.refine((id) => !RESERVED.includes(id), {
  error: `expected an id other than ${RESERVED.join(" and ")}`,
});

/** One of both names who does it; `check-shape.ts` says so where it is none, or both. */
const compensateSchema = strict({
  agent: nameSchema.optional(),
  tool: nameSchema.optional(),
  input: jsonSchema.optional(),
  retry: retrySchema.optional(),
  timeoutMs: durationSchema.optional(),
});

// Ten years: a person, or the end of a contract, may take longer than a timer of JavaScript.
const LONGEST_WAIT_MS = 10 * 365 * 86_400_000;
const WAIT = `expected a whole number of milliseconds from 1 to ${LONGEST_WAIT_MS}`;
const waitMsSchema = z
  .number({ error: WAIT })
  .int({ error: WAIT })
  .min(1, { error: WAIT })
  .max(LONGEST_WAIT_MS, { error: WAIT });

const approvalSchema = strict({
  title: z.string().min(1),
  prompt: z.string().min(1).optional(),
  choices: z
    .array(nameSchema)
    .min(1)
    .refine((choices) => new Set(choices).size === choices.length, { error: "expected each choice once" })
    .default(["approve", "reject"]),
  assignees: z.array(z.string().min(1)).min(1).optional(),
  timeoutMs: waitMsSchema.optional(),
  onTimeout: nameSchema.default("fail"),
  onReject: z.enum(["continue", "fail"]).default("continue"),
});

const waitSchema = strict({
  forMs: waitMsSchema.optional(),
  until: z.string().min(1).optional(),
  signal: nameSchema.optional(),
  schema: valueSchema,
  timeoutMs: waitMsSchema.optional(),
  onTimeout: z.enum(["fail", "continue"]).default("fail"),
});

const stepShape = {
  id: stepIdSchema,
  agent: nameSchema.optional(),
  tool: nameSchema.optional(),
  approval: approvalSchema.optional(),
  wait: waitSchema.optional(),
  workflow: nameSchema.optional(),
  after: z
    .union([nameSchema, z.array(nameSchema)], { error: "expected the id of a step, or a list of them" })
    .optional(),
  when: z.string().min(1).optional(),
  needs: z.enum(["all", "any", "always"]).default("all"),
  onError: nameSchema.default("fail"),
  switch: switchSchema.optional(),
  input: jsonSchema.optional(),
  output: valueSchema,
  retry: retrySchema.optional(),
  timeoutMs: durationSchema.optional(),
  compensate: compensateSchema.optional(),
  forEach: z.string().min(1).optional(),
  concurrency: concurrencySchema.optional(),
  repeat: repeatSchema.optional(),
};

const { id, agent, tool, approval, wait, workflow, ...otherShape } = stepShape;
export const stepSchema: z.ZodType<StepDraft> = strict({
  id,
  agent,
  tool,
  approval,
  wait,
  workflow,
  steps: z.lazy(() => z.array(stepSchema).min(1)).optional(),
  ...otherShape,
  // It holds itself, so the JSON Schema of files needs a name for it.
}).meta({ id: "step" });

const common = {
  name: nameSchema,
  version: z
    .union([z.string().min(1), z.number()])
    .transform(String)
    .default("1"),
  description: z.string().optional(),
  input: valueSchema,
  output: valueSchema,
  timeoutMs: durationSchema.optional(),
  schedule: scheduleTermsSchema.optional(),
};

const defaultsSchema = strict({ retry: retrySchema.optional(), timeoutMs: durationSchema.optional() });

const agentsSchema = z.array(nameSchema).min(1);

export const deterministicSchema = strict({
  ...common,
  kind: z.literal("deterministic").default("deterministic"),
  agents: agentsSchema.optional(),
  steps: z.array(stepSchema).min(1).optional(),
  concurrency: concurrencySchema.optional(),
  defaults: defaultsSchema.optional(),
  onFailure: z.array(stepSchema).min(1).optional(),
});

export const handoffSchema = strict({
  ...common,
  kind: z.literal("handoff").default("handoff"),
  entry: nameSchema,
  agents: agentsSchema,
  maxHandoffs: z.number().int().min(0).max(10_000).default(16),
  maxVisits: z.number().int().min(1).max(10_000).default(8),
});

export type RetryDraft = z.output<typeof retrySchema>;
export type DefaultsDraft = z.output<typeof defaultsSchema>;
export type StepDraft = z.output<z.ZodObject<typeof stepShape>> & { steps?: StepDraft[] | undefined };
export type DeterministicDraft = z.output<typeof deterministicSchema>;
export type HandoffDraft = z.output<typeof handoffSchema>;
