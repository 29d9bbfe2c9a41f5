// Starts the CLI. Plain JavaScript that runs on Node >= 18, since it may have to say that the Node is too old.
import { existsSync } from "node:fs";
import * as nodeModule from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { daemonFlagsOf, missingDaemonFlags } from "./daemon-flags.mjs";
import { findFittingNode, minimumNode, packageRoot } from "./fitting-node.mjs";
import { runUnder } from "./run-under.mjs";

/** Runs the CLI with the arguments of this process; under another Node where the running one is too old. */
export async function launch() {
  const node = findFittingNode();
  if (node === process.execPath) {
    if (process.argv[2] === "serve") becomeDaemon();
    return loadCli();
  }
  if (!node) {
    console.error(`troupe: expected Node ${minimumNode()} or newer, got ${process.version}; ${howToGetNode()}`);
    process.exitCode = 2;
    return;
  }
  const flags = process.argv[2] === "serve" ? daemonFlagsOf(node) : [];
  process.exitCode = await runUnder(node, [...flags, ...process.argv.slice(1)]);
}

/** Replaces this process by one with the flags a daemon runs best with; where Node cannot, it runs as it is. */
function becomeDaemon() {
  const missing = missingDaemonFlags();
  // What a parent talks to over a channel has to stay the process it is.
  if (missing.length === 0 || process.execve === undefined || process.connected) return;
  hushExperimentalWarnings();
  const args = [...missing, ...process.execArgv, ...process.argv.slice(1)];
  process.execve(process.execPath, [process.execPath, ...args], process.env);
}

async function loadCli() {
  hushExperimentalWarnings();
  shareThisPackage();
  // A checkout has the sources and runs them, built or not; the published package has only the build.
  const source = join(packageRoot, "src", "cli.ts");
  const cli = existsSync(source) ? source : join(packageRoot, "dist", "cli.js");
  await import(pathToFileURL(cli).href);
}

/**
 * Keeps Node from telling users of a command line that type stripping and node:sqlite, which the minimum version has
 * for good, are experimental. The flag for it cannot be set from inside a running process.
 */
function hushExperimentalWarnings() {
  const { emitWarning } = process;
  process.emitWarning = (warning, ...rest) => {
    const type = warning?.name ?? rest[0]?.type ?? rest[0];
    if (type !== "ExperimentalWarning") emitWarning.call(process, warning, ...rest);
  };
}

/**
 * Lets a configuration file, wherever it is, `import ... from "troupe"` and get the very copy that is running: in a
 * checkout its sources, else this package.
 */
function shareThisPackage() {
  const parentURL = pathToFileURL(join(packageRoot, "package.json")).href;
  nodeModule.registerHooks({
    resolve(specifier, context, nextResolve) {
      if (specifier !== "troupe" && !specifier.startsWith("troupe/")) return nextResolve(specifier, context);
      const conditions = existsSync(join(packageRoot, "src", "index.ts"))
        ? [...context.conditions, "troupe-source"]
        : context.conditions;
      return nextResolve(specifier, { ...context, parentURL, conditions });
    },
  });
}

function howToGetNode() {
  const isCheckout = existsSync(join(packageRoot, "scripts", "setup.mjs"));
  return isCheckout
    ? `run \`npm run setup\` in ${packageRoot}`
    : "install it, or add the npm package `node` to your project";
}
