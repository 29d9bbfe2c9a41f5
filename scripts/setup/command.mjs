import { spawnSync } from "node:child_process";
import { delimiter, join } from "node:path";
import { isExecutable, packageRoot } from "../../bin/fitting-node.mjs";

/** Where set-up puts what the machine does not have. Nothing outside of it and node_modules is written. */
export const toolsDir = join(packageRoot, ".tools");

/** What a person has to install or repair by hand; its message is one line and is all that is printed. */
export class SetupError extends Error {}

/** Prints one line of progress to stderr, so that stdout stays free for the command that follows set-up. */
export function say(line) {
  process.stderr.write(`setup: ${line}\n`);
}

/** The file of a command on PATH or in one of `moreDirs`, or undefined. */
export function findCommand(name, moreDirs = []) {
  const dirs = [...(process.env.PATH ?? "").split(delimiter).filter(Boolean), ...moreDirs];
  return dirs.map((dir) => join(dir, name)).find(isExecutable);
}

/**
 * Runs a command to its end, without stdin.
 * Gives `{ ok, output, lastLine }`: stdout and stderr together, and the last line of it that says something.
 */
export function runCommand(command, args, { cwd, env } = {}) {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    cwd,
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
  });
  const output = `${stdout ?? ""}${stderr ?? ""}${error ? error.message : ""}`;
  const lines = output.split("\n").filter((line) => line.trim() !== "");
  return { ok: status === 0, output, lastLine: (lines.at(-1) ?? "no output").trim() };
}
