/**
 * Errors as the API tells them: the standard NATS service headers carry a number in HTTP's sense and the message, the body
 * `{"error":{"code","message"}}` the stable code.
 */
import {
  DefinitionError,
  NotFoundError,
  PayloadTooLargeError,
  PermissionError,
  type Problem,
  TroupeError,
  toErrorRecord,
  UnavailableError,
  UsageError,
} from "../../errors.ts";
import { CannotRetryError } from "../../workflows/reused-steps.ts";
import { NatsError } from "../nats/nats.ts";

export const ERROR_HEADER = "Nats-Service-Error";
export const ERROR_CODE_HEADER = "Nats-Service-Error-Code";

/** The body of an answer that is an error; an error may add facts the caller can use, such as the run's status. */
export type ApiErrorBody = { error: { code: string; message: string }; [fact: string]: unknown };

/** A request that was understood but cannot be met as things stand. */
export class ConflictError extends TroupeError {
  /** What the answer tells beside code and message. */
  readonly facts: { [fact: string]: unknown };

  constructor(
    code:
      | "not_finished"
      | "run_finished"
      | "cannot_redrive"
      | "not_parked"
      | "cannot_resume"
      | "schedule_declared"
      | "version_conflict"
      | "not_stored"
      | "not_waiting"
      | "already_decided"
      | "not_assigned"
      | "too_many_signals",
    message: string,
    facts: { [fact: string]: unknown } = {},
  ) {
    super(code, message);
    this.facts = facts;
  }
}

/** The number and the body that tell a caller about `thrown`. */
export function describeError(thrown: unknown): { number: number; body: ApiErrorBody } {
  const { code, message } = asTroupeError(thrown);
  return { number: numberOf(thrown), body: { error: { code, message }, ...factsOf(thrown) } };
}

function factsOf(thrown: unknown): { [fact: string]: unknown } {
  if (thrown instanceof DefinitionError) return { problems: thrown.problems };
  return thrown instanceof ConflictError ? thrown.facts : {};
}

/** The error a caller throws for an answer that is one. */
export function errorFromAnswer(number: number, { error: { code, message }, ...facts }: ApiErrorBody): TroupeError {
  if (code === "not_finished" || code === "run_finished" || code === "version_conflict") {
    return new ConflictError(code, message, facts);
  }
  if (code === "invalid_definition" && Array.isArray(facts.problems)) {
    return new DefinitionError(facts.problems as Problem[]);
  }
  switch (number) {
    case 400:
    case 413:
      return new UsageError(message, code);
    case 404:
      return new NotFoundError(message, code);
    case 503:
      return new UnavailableError(message);
    default:
      return new TroupeError(code, message);
  }
}

function asTroupeError(thrown: unknown): { code: string; message: string } {
  // The broker did not answer in time or refused: for the caller the same as this daemon being away.
  if (thrown instanceof NatsError) return { code: "unavailable", message: `NATS: ${thrown.message}` };
  return toErrorRecord(thrown);
}

function numberOf(thrown: unknown): number {
  if (thrown instanceof ConflictError) return thrown.code === "not_finished" ? 408 : 409;
  if (thrown instanceof CannotRetryError) return 409;
  if (thrown instanceof UsageError || thrown instanceof DefinitionError) return 400;
  if (thrown instanceof NotFoundError) return 404;
  if (thrown instanceof PayloadTooLargeError) return 413;
  if (thrown instanceof PermissionError) return 403;
  if (thrown instanceof UnavailableError || thrown instanceof NatsError) return 503;
  return 500;
}
