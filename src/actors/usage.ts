/** Sums of what model calls took. */
import type { ModelReply } from "./model.ts";
import type { TaskUsage } from "./task.ts";

/** Sums of fractions grow tails of their own; no price is given in such small parts. */
const COST_PARTS = 1e10;

/** The figures that are there where they are something. */
const OPTIONAL = ["toolCalls", "cachedTokens", "reasoningTokens", "cost"] as const;

type Figures = Omit<TaskUsage, "modelCalls" | "models">;

type Models = NonNullable<TaskUsage["models"]>;

/** What was used with one more reply. */
export function withReply(usage: TaskUsage, { usage: added, answeredBy }: ModelReply): TaskUsage {
  return sum(usage, added, 1, answeredBy && [{ ...answeredBy, modelCalls: 1 }]);
}

/** What both took together. */
export function sumUsage(one: TaskUsage, other: TaskUsage): TaskUsage {
  return sum(one, other, other.modelCalls, other.models);
}

/** A sum of money without the noise of floating point. */
export function roundCost(cost: number): number {
  return Math.round(cost * COST_PARTS) / COST_PARTS;
}

// Every reply comes by here, and most have none of the optional figures: no object is made but the sum.
function sum(one: TaskUsage, other: Figures, modelCalls: number, models: Models | undefined): TaskUsage {
  const total: TaskUsage = {
    inputTokens: one.inputTokens + other.inputTokens,
    outputTokens: one.outputTokens + other.outputTokens,
    modelCalls: one.modelCalls + modelCalls,
  };
  for (const part of OPTIONAL) {
    if (one[part] !== undefined || other[part] !== undefined) total[part] = (one[part] ?? 0) + (other[part] ?? 0);
  }
  if (total.cost !== undefined) total.cost = roundCost(total.cost);
  if (one.models || models) total.models = sumModels(one.models ?? [], models ?? []);
  return total;
}

/** In the order of their first answers. */
function sumModels(one: Models, other: Models): Models {
  const sums = one.map((use) => ({ ...use }));
  for (const use of other) {
    const known = sums.find(({ provider, model }) => provider === use.provider && model === use.model);
    if (known) known.modelCalls += use.modelCalls;
    else sums.push({ ...use });
  }
  return sums;
}
