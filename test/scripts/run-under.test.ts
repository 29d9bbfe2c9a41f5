import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { until } from "../helpers/until.ts";

const runUnder = fileURLToPath(new URL("../../bin/run-under.mjs", import.meta.url));

// Prints its process id, then each signal; ends itself at the second one.
const PROGRAM = `
  let count = 0;
  for (const signal of ["SIGINT", "SIGTERM"]) {
    process.on(signal, () => { console.log(signal); if (++count === 2) process.exit(9); });
  }
  setInterval(() => {}, 1000);
  console.log(process.pid);
`;

/** Starts a launcher with the program under it. */
async function launch(program = PROGRAM) {
  const source = `
    const { runUnder } = await import(${JSON.stringify(runUnder)});
    process.exitCode = await runUnder(process.execPath, ["--eval", ${JSON.stringify(program)}]);
  `;
  const launcher = spawn(process.execPath, ["--input-type=module", "--eval", source], {
    stdio: ["ignore", "pipe", "inherit"],
    detached: true,
  });
  const lines: string[] = [];
  createInterface(launcher.stdout).on("line", (line) => lines.push(line));
  return { launcher, lines, ended: once(launcher, "exit") };
}

test("copies of one signal reach the program once, a later one again, and its exit code comes back", async () => {
  const { launcher, lines, ended } = await launch();
  await until("the program is up", () => lines.length === 1);
  const group = -Number(launcher.pid);
  process.kill(group, "SIGINT");
  launcher.kill("SIGINT");
  await until("the first signal is there", () => lines.length === 2);
  // Past the time within which signals count as copies; sent until it is taken, so the length of that does not matter.
  await until("the second is there", () => {
    if (launcher.exitCode === null) launcher.kill("SIGTERM");
    return launcher.exitCode !== null;
  });
  await ended;
  expect(lines.slice(1)).toEqual(["SIGINT", "SIGTERM"]);
  expect(launcher.exitCode).toBe(9);
});

test("the program is told to end when the launcher is killed", async () => {
  const { launcher, lines } = await launch();
  await until("the program is up", () => lines.length === 1);
  const pid = Number(lines[0]);
  launcher.kill("SIGKILL");
  await until("the program was told", () => lines.includes("SIGTERM"));
  process.kill(pid, "SIGKILL");
});

test("a program that a signal ended gives the exit code shells give", async () => {
  const { launcher, ended } = await launch(`process.kill(process.pid, "SIGKILL"); setInterval(() => {}, 1000);`);
  await ended;
  expect(launcher.exitCode).toBe(137);
});
