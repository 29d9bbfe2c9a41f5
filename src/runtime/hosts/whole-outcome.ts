/** An outcome whose large values are elsewhere, made whole. */
import { checkOutcome } from "../../actors/check-outcome.ts";
import type { OutcomeMessage } from "../../actors/task.ts";
import { PayloadTooLargeError, toErrorRecord, UnavailableError } from "../../errors.ts";
import { LARGE, type Payloads } from "../nats/payloads.ts";

/**
 * The outcome with all of its values; where they are not to be had for good, a failed one that says so.
 *
 * @throws UnavailableError when they cannot be read now.
 */
export async function wholeOutcome(
  payloads: Payloads,
  runId: string,
  message: OutcomeMessage,
): Promise<OutcomeMessage> {
  if (message.refs === undefined) return message;
  try {
    return checkOutcome(await payloads.resolve(message, { fields: LARGE.outcome, of: { runId } }));
  } catch (error) {
    if (error instanceof UnavailableError) throw error;
    const { taskId, attempt, worker } = message;
    // The next attempt may say less, or be stored better; one of the same length would not be taken either.
    const final = error instanceof PayloadTooLargeError && { retryable: false };
    const about = { v: 1, taskId, attempt, ...(worker !== undefined && { worker }) } as const;
    return { ...about, type: "failed", error: { ...toErrorRecord(error), ...final } };
  }
}
