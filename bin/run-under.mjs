// Runs a program under another Node as if that had been started in the first place.
//
// Invariants:
// R1  One signal for one wish. Ctrl-C under npm arrives here up to three times (terminal, npm, process group), and to a
//     daemon a second one means "at once". So the program runs in a process group of its own, and this process is the
//     only one that passes signals on, each wish once.
// R2  The program never outlives this process: when it goes, even by SIGKILL, the program is told to end.
// R3  The exit code is the program's; a program ended by a signal gives 128 + its number, as shells do.
import { spawn } from "node:child_process";
import { constants } from "node:os";
import { delimiter, dirname } from "node:path";

// The copies of one wish arrive within a few ms of each other; a person asking twice takes longer.
const SAME_WISH_MS = 300;

const PRELOAD = new URL("./end-with-parent.mjs", import.meta.url).href;

/** Runs `node [args]` with this process's stdin, stdout and stderr, and gives its exit code. */
export async function runUnder(node, args) {
  const PATH = `${dirname(node)}${delimiter}${process.env.PATH}`;
  const child = spawn(node, [`--import=${PRELOAD}`, ...args], {
    stdio: ["inherit", "inherit", "inherit", "ipc"], // R2
    env: { ...process.env, PATH, TROUPE_LAUNCHER_PID: String(process.pid) },
    detached: true, // R1
  });
  const stopForwarding = forwardSignals(child);
  try {
    const [code, signal] = await new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("exit", (...ended) => resolve(ended));
    });
    return code ?? 128 + constants.signals[signal]; // R3
  } finally {
    stopForwarding();
  }
}

function forwardSignals(child) {
  let lastAt = Number.NEGATIVE_INFINITY;
  const forward = (signal) => {
    const now = performance.now();
    if (now - lastAt < SAME_WISH_MS) return; // R1
    lastAt = now;
    child.kill(signal);
  };
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"];
  for (const signal of signals) process.on(signal, forward);
  return () => {
    for (const signal of signals) process.off(signal, forward);
  };
}
