// The flags of Node that a daemon runs best with.
import { spawnSync } from "node:child_process";

const FLAGS = [
  // Context that follows async calls slows down every promise of the process unless Node keeps it in frames, which versions
  // from 24 on do by themselves: measured as 12 % of a daemon's throughput.
  "--experimental-async-context-frame",
  // What is in flight lives for some tens of milliseconds. With twice the room for young objects (the default is 16 MiB) most of
  // it is gone before it would be moved: 5 % of a daemon's throughput.
  "--max-semi-space-size=32",
];

/** Those flags that this process knows and about which nobody has said anything. */
export function missingDaemonFlags() {
  const given = new Set([...process.execArgv, ...(process.env.NODE_OPTIONS ?? "").split(/\s+/)].map(nameOf));
  return FLAGS.filter((flag) => process.allowedNodeEnvironmentFlags.has(nameOf(flag)) && !given.has(nameOf(flag)));
}

/** Those flags that another Node knows. */
export function daemonFlagsOf(node) {
  return FLAGS.filter((flag) => spawnSync(node, [flag, "--eval", "0"], { stdio: "ignore" }).status === 0);
}

function nameOf(flag) {
  return flag.split("=", 1)[0];
}
