/** What the commands have in common. */
import type { Command } from "commander";
import { addConnectionFlags, type Given } from "./open-client.ts";

/** What a command does; gives its exit code where that is not 0. */
export type Action<Args extends readonly unknown[]> = (
  given: Given,
  ...args: Args
) => Promise<number | undefined> | Promise<void>;

/** Lets a command do its work and note its exit code; arguments come in their order, after what was given as flags. */
export function does<Args extends readonly unknown[]>(command: Command, action: Action<Args>): Command {
  return command.action(async (...all: unknown[]) => {
    // commander hands over the arguments, then the flags, then the command.
    const args = all.slice(0, -2) as unknown as Args;
    process.exitCode = (await action(command.opts(), ...args)) ?? 0;
  });
}

/** Adds what every command that asks a daemon has: `--json`, and where NATS is. */
export function asksDaemon(command: Command, json = "Print JSON."): Command {
  return addConnectionFlags(command.option("--json", json));
}
