import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { UnavailableError } from "../../errors.ts";
import { isAlive } from "./server-record.ts";

// Longer than a server takes to recover a large store while its starter holds the lock.
const PATIENCE_MS = 90_000;

/**
 * Takes the right to start a server on a store, waiting while another process has it. A lock whose process is gone
 * counts for nothing.
 * @throws UnavailableError when it is held for too long
 */
export async function lockStore(storeDir: string): Promise<{ release(): void }> {
  const file = join(storeDir, "nats-server.lock");
  const giveUpAt = Date.now() + PATIENCE_MS;
  while (!tryLock(file)) {
    if (Date.now() > giveUpAt)
      throw new UnavailableError(`${file}: another process has been starting a server for too long`);
    await sleep(50);
  }
  return { release: () => rmSync(file, { force: true }) };
}

function tryLock(file: string): boolean {
  try {
    writeFileSync(file, String(process.pid), { flag: "wx" });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    if (isLeftOver(file)) rmSync(file, { force: true });
    return false;
  }
}

function isLeftOver(file: string): boolean {
  try {
    const holder = readFileSync(file, "utf8");
    // Empty: between the other's open and its write.
    return holder !== "" && !isAlive(Number(holder));
  } catch {
    return false;
  }
}
