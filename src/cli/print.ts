/** What commands print on stdout. */
import { harmless } from "./terminal-text.ts";

/** Prints a line. */
export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Prints a value as one JSON document. */
export function printJson(value: unknown): void {
  print(JSON.stringify(value, null, 2));
}

/** Prints a value as one line of JSON, for streams of them. */
export function printJsonLine(value: unknown): void {
  print(JSON.stringify(value));
}

/** Prints what a run gave: text as it is, anything else as JSON. */
export function printOutput(output: unknown): void {
  if (typeof output !== "string") printJson(output ?? null);
  else print(process.stdout.isTTY ? harmless(output) : output);
}
