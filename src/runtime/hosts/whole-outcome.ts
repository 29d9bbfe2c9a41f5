/** Outcomes whose large values are elsewhere, made whole. */
import type { Logger } from "pino";
import { checkOutcome } from "../../actors/check-outcome.ts";
import type { OutcomeMessage } from "../../actors/task.ts";
import { PayloadTooLargeError, toErrorRecord, UnavailableError } from "../../errors.ts";
import type { Msg } from "../nats/nats.ts";
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

/** Takes an outcome that came with a message, which it answers. */
type Report = (runId: string, outcome: OutcomeMessage, message: Msg) => void;

/**
 * Makes what reports outcomes once their large values are read. Whoever asks again meanwhile is answered in place of who asked
 * first, and does not wait any more.
 */
export function reporterOfLarge(parts: { payloads: Payloads; logger: Logger; report: Report }) {
  const { payloads, logger, report } = parts;
  /** Who asked last about each outcome that is being read. */
  const asked = new Map<string, Msg>();

  return async function reportWhole(runId: string, outcome: OutcomeMessage, message: Msg): Promise<void> {
    const { taskId, worker, delivery } = outcome;
    const key = `${runId}/${taskId} ${worker} ${delivery}`;
    const isBeingRead = asked.has(key);
    asked.set(key, message);
    if (isBeingRead) return;
    try {
      const whole = await wholeOutcome(payloads, runId, outcome);
      report(runId, whole, asked.get(key) ?? message);
    } catch (error) {
      // No answer: whoever sent it asks again.
      const level = error instanceof UnavailableError ? "debug" : "error";
      logger[level]({ runId, taskId, err: error }, "could not take an outcome with large values");
    } finally {
      asked.delete(key);
    }
  };
}
