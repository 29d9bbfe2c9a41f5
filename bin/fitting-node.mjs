import { accessSync, constants, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The folder of the checkout or of the installed package. */
export const packageRoot = dirname(dirname(fileURLToPath(import.meta.url)));

/** The oldest Node that runs Troupe, as `engines.node` of package.json has it: `22.18`. */
export function minimumNode(root = packageRoot) {
  const { engines } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  return engines.node.replace(/^>=\s*/, "");
}

/** True when `version` (as `22.18.0`, with or without a leading v) is `minimum` or newer. */
export function isAtLeast(version, minimum) {
  const [have, want] = [version, minimum].map((text) => text.replace(/^v/, "").split(".").map(Number));
  for (let part = 0; part < 3; part++) {
    const difference = (have[part] ?? 0) - (want[part] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return true;
}

/** The Node to use: the running one where it is new enough, else one that was brought; undefined where there is none. */
export function findFittingNode(root = packageRoot) {
  const minimum = minimumNode(root);
  if (isAtLeast(process.versions.node, minimum)) return process.execPath;
  return findBroughtNode(minimum, root);
}

/**
 * A Node of at least `minimum` that npm brought: put into .tools by set-up, or the package `node` among the dependencies
 * around. Its version is read, not run: this stands before every start of the command line.
 */
export function findBroughtNode(minimum, root = packageRoot) {
  const homes = [join(root, ".tools", "node"), root, dirname(dirname(root))];
  const packages = homes.flatMap((home) => ["node", platformPackage()].map((name) => join(home, "node_modules", name)));
  const found = packages.find((dir) => isExecutable(nodeIn(dir)) && isAtLeast(readVersion(dir), minimum));
  return found && nodeIn(found);
}

function nodeIn(packageDir) {
  return join(packageDir, "bin", "node");
}

function readVersion(packageDir) {
  try {
    return JSON.parse(readFileSync(join(packageDir, "package.json"), "utf8")).version;
  } catch {
    return "0";
  }
}

/** The npm package that is nothing but the Node binary of this platform. */
export function platformPackage() {
  const family = process.platform === "darwin" && process.arch === "arm64" ? "node-bin" : "node";
  return `${family}-${process.platform}-${process.arch}`;
}

/** True when the path is a file this user may run. */
export function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
