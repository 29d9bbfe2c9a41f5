/** What calls cost, by the configuration's table. */
import type { Model, Usage } from "../../actors/model.ts";
import { roundCost } from "../../actors/usage.ts";

/** For a million tokens each, in whatever currency the table is in. */
export type Price = {
  input: number;
  output: number;
  /** For tokens of the input that were in the provider's cache. @default as `input` */
  cached?: number;
};

/** By the name of a model, or by `<provider>/<model>`, which goes first. */
export type Prices = { readonly [model: string]: Price };

const MILLION = 1_000_000;

/** What a call cost; undefined for a model without a price. `models` are its names, the first that has a price counts. */
export function costOf(usage: Usage, models: readonly string[], prices: Prices): number | undefined {
  const name = models.find((model) => Object.hasOwn(prices, model));
  const price = name === undefined ? undefined : prices[name];
  if (!price) return undefined;
  const { inputTokens, outputTokens, cachedTokens = 0 } = usage;
  const cost =
    (inputTokens - cachedTokens) * price.input +
    cachedTokens * (price.cached ?? price.input) +
    outputTokens * price.output;
  return roundCost(cost / MILLION);
}

/** A model whose replies say what they cost; `provider` is its name in the configuration. */
export function withPrices(model: Model, provider: string, prices: Prices): Model {
  if (Object.keys(prices).length === 0) return model;
  const call: Model["call"] = async (request, context) => {
    const reply = await model.call(request, context);
    const names = [`${provider}/${request.model}`, request.model, `${provider}/${reply.model}`, reply.model];
    const cost = costOf(reply.usage, names, prices);
    return cost === undefined ? reply : { ...reply, usage: { ...reply.usage, cost } };
  };
  return { provider: model.provider, ...(model.server && { server: model.server }), call };
}
