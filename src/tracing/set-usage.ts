/** What calls took, as span attributes. */
import type { Attributes } from "@opentelemetry/api";
import type { Usage } from "../actors/model.ts";
import * as name from "./semconv.ts";

/** The figures that are there where they are something, and the attribute of each. */
const OPTIONAL = [
  ["cachedTokens", name.CACHED_TOKENS],
  ["reasoningTokens", name.REASONING_TOKENS],
  ["cost", name.USAGE_COST],
] as const;

/** Sets the figures there are. */
export function setUsage(attributes: Attributes, usage: Usage): void {
  attributes[name.INPUT_TOKENS] = usage.inputTokens;
  attributes[name.OUTPUT_TOKENS] = usage.outputTokens;
  for (const [figure, attribute] of OPTIONAL) {
    const value = usage[figure];
    if (value !== undefined) attributes[attribute] = value;
  }
}

/** Adds to a sum that is somebody's own. */
export function addUsage(sum: Usage, added: Usage): void {
  sum.inputTokens += added.inputTokens;
  sum.outputTokens += added.outputTokens;
  for (const [figure] of OPTIONAL) {
    const value = added[figure];
    if (value !== undefined) sum[figure] = (sum[figure] ?? 0) + value;
  }
}
