import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { configFileOf } from "./server-config.ts";

/** Who serves a store: kept in the store, so that whoever comes after a crash can tell. */
export type ServerRecord = {
  /** The nats-server process. */
  pid: number;
  /** The process that started it, or adopted it last, and ends it. */
  owner: number;
  /** The server's name: random for each start, so an answer under this name is this very process. */
  name: string;
};

/** Writes the record of a store; whole or not at all. */
export function writeServerRecord(storeDir: string, record: ServerRecord): void {
  const file = recordFileOf(storeDir);
  writeFileSync(`${file}.new`, `${JSON.stringify(record)}\n`);
  renameSync(`${file}.new`, file);
}

/** The record of a store, or undefined where nothing readable is. */
export function readServerRecord(storeDir: string): ServerRecord | undefined {
  try {
    const { pid, owner, name } = JSON.parse(readFileSync(recordFileOf(storeDir), "utf8")) as Record<string, unknown>;
    if (typeof pid !== "number" || typeof owner !== "number" || typeof name !== "string") return undefined;
    return { pid, owner, name };
  } catch {
    return undefined;
  }
}

/** Removes the record and what servers that were killed left beside it. */
export function clearServerRecord(storeDir: string): void {
  rmSync(recordFileOf(storeDir), { force: true });
  for (const file of readdirSync(storeDir)) {
    if (file.endsWith(".ports")) rmSync(join(storeDir, file), { force: true });
  }
}

/** The port a server of this store listens on, from the ports file it writes when it is bound; undefined before that. */
export function readServerPort(storeDir: string, pid: number): number | undefined {
  const file = readdirSync(storeDir).find((name) => name.endsWith(`_${pid}.ports`));
  if (!file) return undefined;
  try {
    const { nats } = JSON.parse(readFileSync(join(storeDir, file), "utf8")) as { nats?: string[] };
    const port = Number(new URL(nats?.[0] ?? "").port);
    return port > 0 ? port : undefined;
  } catch {
    // It is being written.
    return undefined;
  }
}

/** True while a process with this id is at work, whoever owns it. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !isZombie(pid);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

// In a container whose first process reaps nobody, an ended orphan keeps its process id for ever.
function isZombie(pid: number): boolean {
  try {
    return /\) Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

/** True when this process was started on the store's configuration, so that a process id used anew is not mistaken. */
export function servesStore(pid: number, storeDir: string): boolean {
  return readCommandLine(pid).includes(configFileOf(storeDir));
}

function readCommandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    // No /proc on macOS and BSD.
  }
  try {
    return execFileSync("ps", ["-ww", "-o", "args=", "-p", String(pid)], { encoding: "utf8" });
  } catch {
    return "";
  }
}

function recordFileOf(storeDir: string): string {
  return join(storeDir, "nats-server.json");
}
