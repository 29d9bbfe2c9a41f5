#!/usr/bin/env node
// Runs a program of this checkout: set-up first, then `node <script> [args]` under a fitting Node. For the npm scripts.
import { join } from "node:path";
import { daemonFlagsOf } from "../bin/daemon-flags.mjs";
import { packageRoot } from "../bin/fitting-node.mjs";
import { runUnder } from "../bin/run-under.mjs";
import { SetupError } from "./setup/command.mjs";
import { ensureSetup } from "./setup/ensure.mjs";

// `import ... from "troupe"` means the sources here, built or not.
const NODE_FLAGS = ["--disable-warning=ExperimentalWarning", "--conditions=troupe-source"];

const [script, ...args] = process.argv.slice(2);
if (script) {
  process.exitCode = await run();
} else {
  console.error("usage: node scripts/run.mjs <script> [args]");
  process.exitCode = 2;
}

async function run() {
  try {
    const { node } = await ensureSetup();
    const flags = args[0] === "serve" ? [...NODE_FLAGS, ...daemonFlagsOf(node)] : NODE_FLAGS;
    return await runUnder(node, [...flags, join(packageRoot, script), ...args]);
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    console.error(`setup: ${error.message}`);
    return 1;
  }
}
