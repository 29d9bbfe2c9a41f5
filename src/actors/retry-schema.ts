/** When something that failed is tried again, as definitions say it; for tools; `step-policies.ts` in workflows has its like for steps. */
import { z } from "zod";
import { durationSchema } from "./durations.ts";
import { strict } from "./strict.ts";

const LONGEST_DELAY_MS = 30_000;

/** The schema of a retry policy, every default resolved. */
export const retrySchema = strict({
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
