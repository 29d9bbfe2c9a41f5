/** How often and after what a failed attempt is made again: what was written and what it means. */
import { type Place, placeAt, problemAt } from "../actors/schema-problems.ts";
import type { ErrorRecord, Problem } from "../errors.ts";
import type { RetryPolicy } from "./definition.ts";
import type { RetryDraft } from "./definition-schema.ts";

const DELAY_MS = 500;
const LONGEST_DELAY_MS = 30_000;

/** The policy of a step that says `own` in a workflow that says `defaults`, part by part; `place` is that of `own`. */
export function retryPolicyOf(
  own: RetryDraft | undefined,
  defaults: RetryDraft | undefined,
  place: Place,
): { retry: RetryPolicy; problems: Problem[] } {
  const { maxAttempts = 1, backoff = "exponential", delayMs = DELAY_MS, maxDelayMs, on } = { ...defaults, ...own };
  const retry: RetryPolicy = {
    maxAttempts,
    backoff,
    delayMs,
    maxDelayMs: maxDelayMs ?? Math.max(LONGEST_DELAY_MS, delayMs),
    ...(on === undefined ? {} : { on: [...new Set(on)].sort() }),
  };
  if (retry.maxDelayMs >= delayMs) return { retry, problems: [] };
  const expected = `at least delayMs (${delayMs})`;
  return { retry, problems: [problemAt(placeAt(place, "maxDelayMs"), expected, String(maxDelayMs))] };
}

/** Whether an attempt that failed is made again; `attempt` counts from 1. */
export function isTriedAgain({ maxAttempts, on }: RetryPolicy, attempt: number, error: ErrorRecord): boolean {
  if (attempt >= maxAttempts) return false;
  return on === undefined ? error.retryable !== false : on.includes(error.code);
}
