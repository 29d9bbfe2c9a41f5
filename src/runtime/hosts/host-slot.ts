/**
 * A daemon's own folder and name under `data`. A daemon that starts again gets the folder it had, and so its name and its
 * runs; several daemons on one `data` get one folder each.
 *
 * The folder is held by an exclusive SQLite lock: the system lets go of it when the process dies, however it dies.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { UnavailableError } from "../../errors.ts";
import { nuid } from "../nats/nats.ts";

export type HostSlot = {
  /** The daemon's name, kept over restarts. */
  host: string;
  /** The folder. */
  dir: string;
  release(): void;
};

// More daemons than this on one folder of one machine is a mistake.
const MAX_SLOTS = 64;

/** Takes the first free folder; `hostName` overrides the kept name. */
export function takeHostSlot(data: string, hostName?: string): HostSlot {
  for (let n = 1; n <= MAX_SLOTS; n += 1) {
    const dir = join(data, "hosts", hostName ?? String(n));
    mkdirSync(dir, { recursive: true });
    const held = tryHold(join(dir, "host.sqlite"), hostName);
    if (held) return { host: held.host, dir, release: () => held.db.close() };
    if (hostName) throw new UnavailableError(`${dir}: another daemon named ${hostName} is running on this folder`);
  }
  throw new UnavailableError(`${data}: expected fewer than ${MAX_SLOTS} daemons on one data folder`);
}

function tryHold(file: string, hostName: string | undefined): { db: DatabaseSync; host: string } | undefined {
  const db = new DatabaseSync(file);
  try {
    db.exec("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; CREATE TABLE IF NOT EXISTS host (name TEXT NOT NULL)");
    const kept = db.prepare("SELECT name FROM host").get() as { name: string } | undefined;
    const host = hostName ?? kept?.name ?? `h${nuid.next().slice(-8)}`;
    if (!kept) db.prepare("INSERT INTO host VALUES (?)").run(host);
    // Exclusive locking mode keeps the lock after the commit.
    db.exec("COMMIT");
    return { db, host };
  } catch (error) {
    db.close();
    if (String(error).includes("locked")) return undefined;
    throw error;
  }
}
