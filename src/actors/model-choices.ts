/** The models an agent may speak with: one, or several in the order in which they are tried. */
import { z } from "zod";
import type { Agent } from "./agent.ts";
import type { JsonSchema, ModelSettings } from "./model.ts";
import { nameSchema } from "./names.ts";
import { strict } from "./strict.ts";

/** One entry of an agent's list of models; what it leaves out is the agent's. */
export type ModelOptions = ModelSettings & {
  /** The model's name as the provider knows it. */
  model: string;
  /** @default the agent's */
  provider?: string;
  /** Tries of one call before the next model is asked. @default the agent's `maxModelAttempts` */
  maxAttempts?: number;
};

/** What `model` of an agent takes. */
export type ModelsOption = string | ModelOptions | readonly (string | ModelOptions)[];

/** What every request has of its own; the rest of it is the provider's affair. */
const OWN_FIELDS = ["model", "messages", "input", "instructions", "tools", "stream", "n"];

const extraBodySchema = z
  .custom<JsonSchema>((value) => typeof value === "object" && value !== null && !Array.isArray(value), {
    error: "expected an object",
  })
  .refine((body) => !OWN_FIELDS.some((field) => field in body), {
    error: `expected fields that Troupe does not set itself (${OWN_FIELDS.join(", ")})`,
  });

const settingsShape = {
  temperature: z.number().min(0).optional(),
  maxTokens: z.number().int().min(1).optional(),
  reasoningEffort: z.string().min(1).optional(),
  reasoningSummary: z.enum(["auto", "concise", "detailed"]).optional(),
  seed: z.number().int().optional(),
  topP: z.number().min(0).max(1).optional(),
  extraBody: extraBodySchema.optional(),
};

export const settingsSchema = strict(settingsShape);

const optionsSchema = strict({
  model: z.string().min(1),
  provider: nameSchema.optional(),
  maxAttempts: z.number().int().min(1).max(1_000_000).optional(),
  ...settingsShape,
});

const EXPECTED = "expected the name of a model, or an object with `model`";

const entrySchema = z.union([z.string().min(1), optionsSchema], {
  error: ({ input }) => (typeof input === "object" && input !== null ? undefined : EXPECTED),
});

export const modelsSchema = z.union([z.string(), entrySchema, z.array(entrySchema).min(1)], {
  error: ({ input }) =>
    typeof input === "object" && input !== null ? undefined : `${EXPECTED}, or a list of them in order`,
});

export type ModelDraft = z.output<typeof optionsSchema>;

/** One model of an agent, everything about it settled. */
export type ModelChoice = {
  /** Its name as the provider knows it. */
  readonly model: string;
  /** A name from the configuration's `providers`. */
  readonly provider: string;
  readonly baseURL?: string;
  readonly apiKey?: string;
  readonly settings: ModelSettings;
  /** Tries of one call, the first included. */
  readonly maxAttempts: number;
};

/** The part of an agent that its models are made of. */
export type ModelsOwner = Pick<Agent, "model" | "provider" | "settings" | "baseURL" | "apiKey" | "maxModelAttempts">;

/** Agents are immutable, and asked for their models with every call. */
const known = new WeakMap<ModelsOwner, readonly [ModelChoice, ...ModelChoice[]]>();

/** The models of an agent in the order in which they are tried. */
export function modelsOf(agent: ModelsOwner): readonly [ModelChoice, ...ModelChoice[]] {
  let models = known.get(agent);
  if (!models) {
    const [first = "", ...others] = isList(agent.model) ? agent.model : [agent.model];
    models = [settle(first, agent), ...others.map((entry) => settle(entry, agent))];
    known.set(agent, models);
  }
  return models;
}

/** A model in the words of a list: its name, with its provider where that is not the agent's. */
export function describeModels(agent: ModelsOwner): string[] {
  return modelsOf(agent).map(({ model, provider }) => (provider === agent.provider ? model : `${model} (${provider})`));
}

function settle(entry: string | ModelOptions, agent: ModelsOwner): ModelChoice {
  const options: ModelOptions = typeof entry === "string" ? { model: entry } : entry;
  const { model, provider = agent.provider, maxAttempts = agent.maxModelAttempts, ...own } = options;
  // An endpoint of the agent's own is one of its own provider.
  const { baseURL, apiKey } = options.provider === undefined ? agent : {};
  return {
    model,
    provider,
    maxAttempts,
    settings: { ...agent.settings, ...own },
    ...(baseURL !== undefined && { baseURL }),
    ...(apiKey !== undefined && { apiKey }),
  };
}

/** Whether an agent has a list of models. */
export function isList(model: ModelsOption): model is readonly (string | ModelOptions)[] {
  return Array.isArray(model);
}
