import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { findBroughtNode, findFittingNode, minimumNode, platformPackage } from "../../bin/fitting-node.mjs";
import { runCommand, SetupError, say, toolsDir } from "./command.mjs";

// The npm package `node` carries real Node binaries, so a machine with npm needs no other source. Pinned: a known good one.
const NODE_VERSION = "22.23.3";

/** The Node to use, or undefined while it is missing. */
export const findNode = findFittingNode;

/** Brings a fitting Node into .tools/node with npm, and gives its path. */
export function installNode() {
  say(`Node ${process.versions.node} is too old, bringing ${NODE_VERSION} into .tools/node`);
  const prefix = join(toolsDir, "node");
  mkdirSync(prefix, { recursive: true });
  // Without a package.json of its own, npm would look for one further up and find ours.
  writeFileSync(join(prefix, "package.json"), '{ "private": true }\n');
  let failure = "npm did not put it there";
  // The first spec needs npm to run install scripts; where those are switched off, the second is the bare binary.
  for (const spec of [`node@${NODE_VERSION}`, `${platformPackage()}@${NODE_VERSION}`]) {
    const { ok, lastLine } = runCommand("npm", ["install", "--prefix", prefix, "--no-audit", "--no-fund", spec]);
    const node = findBroughtNode(minimumNode());
    // It may be there and not run: built for another C library.
    if (node && runCommand(node, ["--version"]).ok) return node;
    if (!ok) failure = lastLine;
  }
  throw new SetupError(
    `install Node ${minimumNode()} or newer (found ${process.versions.node}; npm could not bring one: ${failure})`,
  );
}
