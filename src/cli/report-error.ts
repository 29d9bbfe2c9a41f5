/** What a command says when it does not work out, and with which code it ends. */
import { styleText } from "node:util";
import { CommanderError } from "commander";
import { DefinitionError, PayloadTooLargeError, TroupeError, UsageError } from "../errors.ts";

export const COMPLETED = 0;
/** The run failed or was cancelled, or something is away or not there. */
export const FAILED = 1;
/** The words of the command are off: trying again does not help. */
export const USAGE = 2;

/** Tells people what is wrong and gives the exit code. A stack is only for those who ask. */
export function reportError(error: unknown): number {
  // commander has said it already.
  if (error instanceof CommanderError) return error.exitCode === 0 ? COMPLETED : USAGE;
  tellError(error);
  const words =
    error instanceof UsageError || error instanceof DefinitionError || error instanceof PayloadTooLargeError;
  return words ? USAGE : FAILED;
}

/** Says what is wrong, for a command that goes on after it. */
export function tellError(error: unknown): void {
  const expected = error instanceof TroupeError;
  const message = error instanceof Error ? error.message : String(error);
  const name = styleText("red", "troupe:", { stream: process.stderr });
  for (const line of message.split("\n")) console.error(`${name} ${line}`);
  if (process.env.TROUPE_LOG_LEVEL === "debug" || process.env.TROUPE_LOG_LEVEL === "trace") console.error(error);
  else if (!expected) console.error("troupe: this was not expected; TROUPE_LOG_LEVEL=debug shows where it comes from");
}
