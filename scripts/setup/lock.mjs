import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { SetupError, say, toolsDir } from "./command.mjs";

// Longer than a slow download of everything takes.
const PATIENCE_MS = 10 * 60_000;

/** Runs `work` while no other set-up of this checkout does; a lock whose process is gone counts for nothing. */
export async function withLock(work, { dir = join(toolsDir, "setup.lock"), patienceMs = PATIENCE_MS } = {}) {
  mkdirSync(join(dir, ".."), { recursive: true });
  const giveUpAt = Date.now() + patienceMs;
  for (let waited = false; !tryLock(dir); waited = true) {
    if (!waited) say("another set-up is at work here, waiting for it");
    if (Date.now() > giveUpAt) throw new SetupError(`remove ${dir}: another set-up has held it for too long`);
    await sleep(200);
  }
  try {
    return await work();
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

function tryLock(dir) {
  try {
    mkdirSync(dir);
    writeFileSync(join(dir, "pid"), String(process.pid));
    return true;
  } catch (error) {
    if (error.code !== "EEXIST") throw error;
    if (isLeftOver(dir)) rmSync(dir, { recursive: true, force: true });
    return false;
  }
}

function isLeftOver(dir) {
  try {
    process.kill(Number(readFileSync(join(dir, "pid"), "utf8")), 0);
    return false;
  } catch (error) {
    // ENOENT: between the other's mkdir and its pid file. It is alive, or the next look finds out.
    return error.code === "ESRCH";
  }
}
