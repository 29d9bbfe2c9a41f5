/** What a run is given: an argument, or what comes in on stdin. */
import { text } from "node:stream/consumers";
import { UsageError } from "../errors.ts";

/**
 * Reads the input: the argument, or stdin where that is `-` or missing while something is piped in. JSON is taken as JSON,
 * anything else as text, as on NATS.
 *
 * @throws UsageError when there is none.
 */
export async function readInput(argument: string | undefined): Promise<unknown> {
  if (argument !== undefined && argument !== "-") return parseInput(argument);
  if (argument === undefined && process.stdin.isTTY) {
    throw new UsageError('input: expected text or JSON as an argument or on stdin ("-"), got nothing');
  }
  const given = (await text(process.stdin)).replace(/\r?\n$/, "");
  if (given === "") throw new UsageError("input: expected text or JSON on stdin, got nothing");
  return parseInput(given);
}

/** JSON as JSON, anything else as text. */
export function parseInput(given: string): unknown {
  try {
    return JSON.parse(given) as unknown;
  } catch {
    return given;
  }
}
