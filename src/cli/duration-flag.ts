import { InvalidArgumentError } from "commander";
import { duration } from "../runtime/config/option-kinds.ts";

const kind = duration();

/** Reads the value of a flag that takes a duration; gives milliseconds. */
export function durationFlag(written: string): number {
  const ms = kind.read(written, "");
  if (ms === undefined) throw new InvalidArgumentError(`expected ${kind.expected}, got ${JSON.stringify(written)}`);
  return ms;
}
