import { readFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { packageRoot } from "../../bin/fitting-node.mjs";
import { runCommand, SetupError, say } from "./command.mjs";

/**
 * True when node_modules holds what package-lock.json asks for.
 * Compared with the record that npm itself writes at the end of an install, so one by hand counts too and one that was
 * cut short does not.
 */
export function hasDependencies(root = packageRoot) {
  const wanted = readPackages(join(root, "package-lock.json"));
  const present = readPackages(join(root, "node_modules", ".package-lock.json"));
  if (!wanted) throw new SetupError(`${join(root, "package-lock.json")}: expected a lock file, found none; restore it`);
  if (!present) return false;
  return Object.entries(wanted).every(([path, { version, optional }]) => {
    const found = present[path];
    // The binaries of other platforms are in the lock file and never on this disk.
    return path === "" || (found ? found.version === version : optional === true);
  });
}

/** Installs exactly what package-lock.json says, under the given Node. */
export function installDependencies(node, root = packageRoot) {
  say("installing dependencies (npm ci)");
  // npm is a script of whatever `node` comes first on PATH: this one, so that it sees the right version and binaries.
  const PATH = `${dirname(node)}${delimiter}${process.env.PATH}`;
  const { ok, output, lastLine } = runCommand("npm", ["ci", "--no-audit", "--no-fund"], { cwd: root, env: { PATH } });
  if (ok) return;
  const cause = output.split("\n").find((line) => /^npm error (?!code ).*\S/.test(line)) ?? lastLine;
  throw new SetupError(`npm ci failed; run it in ${root} to see more (${cause})`);
}

function readPackages(file) {
  try {
    return JSON.parse(readFileSync(file, "utf8")).packages;
  } catch {
    return undefined;
  }
}
