/**
 * Every error class of Troupe. This file imports nothing.
 *
 * A class stands for a decision the catcher makes; `code` is the stable, language-neutral name of what went wrong and is
 * what travels over NATS (`Nats-Service-Error` headers, `error.code` of an outcome or a run).
 */

/** An error as it travels in journals and messages. */
export type ErrorRecord = {
  /** Stable, machine readable, lower case with underscores. */
  code: string;
  message: string;
  /** True when the same attempt may succeed later. */
  retryable?: boolean;
};

/** The base of all errors Troupe throws on purpose. */
export class TroupeError extends Error {
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** The caller's words are off: a flag, an option, a request. Fix the call; trying again does not help. */
export class UsageError extends TroupeError {
  constructor(message: string, code = "usage") {
    super(code, message);
  }
}

/** One thing wrong in a definition or configuration file. */
export type Problem = {
  /** The file it stands in, where there is one. */
  file?: string;
  /** Where in it, as in `workflows.article.steps[2].after`. */
  path: string;
  expected: string;
  /** What stands there, as JSON or as words. */
  got: string;
};

/** Renders a problem in the one style used everywhere: `file: path: expected …, got …`. */
export function describeProblem({ file, path, expected, got }: Problem): string {
  return `${file ? `${file}: ` : ""}${path}: expected ${expected}, got ${got}`;
}

/** A definition or configuration is wrong; it carries all problems at once. */
export class DefinitionError extends TroupeError {
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[]) {
    super("invalid_definition", problems.map(describeProblem).join("\n"));
    this.problems = problems;
  }
}

/** A model provider failed. `retryable` says whether the same call may succeed later. */
export class ModelError extends TroupeError {
  readonly retryable: boolean;
  /** How long the provider asked us to wait, in milliseconds. */
  readonly retryAfterMs: number | undefined;

  constructor(code: string, message: string, options: ErrorOptions & { retryable: boolean; retryAfterMs?: number }) {
    super(code, message, options);
    this.retryable = options.retryable;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/**
 * A tool failed, in words that its model reads. `retryable` says whether the same call may succeed later; left out, that is not
 * known. The code `outcome_unknown` says that nobody knows whether it was done.
 */
export class ToolError extends TroupeError {
  readonly retryable: boolean | undefined;

  constructor(message: string, options: ErrorOptions & { retryable?: boolean; code?: string } = {}) {
    super(options.code ?? "tool_failed", message, options);
    this.retryable = options.retryable;
  }
}

/** Another writer owns the journal now. Whoever gets this goes silent: no ack, no effect, no further write. */
export class FencedError extends TroupeError {
  constructor(subject: string) {
    super("fenced", `${subject}: another writer owns this journal now`);
  }
}

/** NATS or JetStream cannot be reached or refuses for now; the operation may be tried again. */
export class UnavailableError extends TroupeError {
  constructor(message: string, options?: ErrorOptions) {
    super("unavailable", message, options);
  }
}

/** NATS denied a publish or a subscription. Permissions have to change; trying again does not help. */
export class PermissionError extends TroupeError {
  readonly subject: string;

  constructor(subject: string, operation: "publish" | "subscribe", options?: ErrorOptions) {
    super("permission_denied", `NATS denies this connection to ${operation} on ${subject}`, options);
    this.subject = subject;
  }
}

/** A value is larger than is allowed, or a message larger than the broker accepts; `bound` says which. */
export class PayloadTooLargeError extends TroupeError {
  constructor(what: string, bytes: number, limit: number, bound = "the broker's max_payload") {
    super("payload_too_large", `${what}: expected at most ${limit} bytes (${bound}), got ${bytes}`);
  }
}

/** A journal has come to its limit; what it belongs to ends. Trying again does not help. */
export class JournalFullError extends TroupeError {
  /** `what` is whose journal, `limit` what there is too much of. */
  constructor(what: string, limit: "events" | "entries" | "bytes", { most, got }: { most: number; got: number }) {
    super("journal_full", `${what}: expected at most ${most} ${limit}, got ${got}`);
  }
}

/** The thing asked for does not exist. */
export class NotFoundError extends TroupeError {
  constructor(message: string, code = "not_found") {
    super(code, message);
  }
}

/** A run ended without a result; thrown by `run()` and `result()` of the client. */
export class RunFailedError extends TroupeError {
  readonly runId: string;
  readonly status: "failed" | "cancelled";

  constructor(runId: string, status: "failed" | "cancelled", error: ErrorRecord) {
    super(error.code, `run ${runId} ${status}: ${error.message}`);
    this.runId = runId;
    this.status = status;
  }
}

/** Puts anything thrown into the form that travels. */
export function toErrorRecord(thrown: unknown, fallbackCode = "internal"): ErrorRecord {
  if (thrown instanceof ModelError) {
    return { code: thrown.code, message: thrown.message, retryable: thrown.retryable };
  }
  if (thrown instanceof ToolError && thrown.retryable !== undefined) {
    return { code: thrown.code, message: thrown.message, retryable: thrown.retryable };
  }
  if (thrown instanceof JournalFullError) return { code: thrown.code, message: thrown.message, retryable: false };
  if (thrown instanceof TroupeError) return { code: thrown.code, message: thrown.message };
  return { code: fallbackCode, message: thrown instanceof Error ? thrown.message : String(thrown) };
}
