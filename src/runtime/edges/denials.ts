/**
 * Says what NATS denies this daemon. What is denied is often tried again, every beat or every run: each kind of subject is said
 * once in a while, with how often it was denied in between.
 */
import type { Logger } from "pino";
import { PermissionError } from "../../errors.ts";

/** What a connection may be denied. */
export type Operation = "publish" | "subscribe";

// Long enough to keep a log readable for a week, short enough to be seen by whoever looks.
const AGAIN_MS = 600_000;
// Subjects that others choose, as in replyTo, are without end; beyond this they count as one.
const MAX_KINDS = 100;

/** Opens what says denials. */
export function sayDenials(logger: Logger): (subject: string, operation: Operation) => void {
  const said = new Map<string, { at: number; since: number }>();
  return (subject, operation) => {
    const full = said.size >= MAX_KINDS;
    const kind = `${operation} ${kindOf(subject)}`;
    const key = full && !said.has(kind) ? "others" : kind;
    const now = performance.now();
    const before = said.get(key);
    if (before && now - before.at < AGAIN_MS) {
      before.since += 1;
      return;
    }
    said.set(key, { at: now, since: 0 });
    const { code, message } = new PermissionError(subject, operation);
    const more = before && before.since > 0 ? { deniedSince: before.since } : {};
    logger.error({ code, operation, subject, ...more }, `NATS denied an operation: ${message}`);
  };
}

/** A subject without what differs from run to run. */
function kindOf(subject: string): string {
  const tokens = subject.split(".");
  if (tokens[0]?.startsWith("_INBOX")) return tokens[0];
  if (tokens[0] === "$JS") return tokens.slice(0, tokens[1] === "API" ? 5 : 3).join(".");
  return tokens.slice(0, 2).join(".");
}
