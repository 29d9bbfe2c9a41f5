import { execFile } from "node:child_process";
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { UsageError } from "../../errors.ts";

// Debian puts it into /usr/sbin, which is not on every user's PATH; .tools/bin is where set-up puts it in a checkout.
const MORE_DIRS = [
  "/usr/local/bin",
  "/usr/local/sbin",
  "/usr/sbin",
  "/opt/homebrew/bin",
  fileURLToPath(new URL("../../../.tools/bin", import.meta.url)),
];

const INSTALL = "install nats-server 2.9 or newer and put it on PATH, or set TROUPE_NATS_SERVER to its file";

/**
 * Finds the nats-server to run: `executable` (a file or a command), else TROUPE_NATS_SERVER, else on PATH, else in the
 * usual places.
 * @throws UsageError with one line that says what to install
 */
export function findNatsServer(executable?: string, env: NodeJS.ProcessEnv = process.env): string {
  const chosen = executable ?? env.TROUPE_NATS_SERVER;
  const pathDirs = (env.PATH ?? "").split(delimiter).filter((dir) => dir !== "");
  if (chosen) {
    const found = [chosen, ...pathDirs.map((dir) => join(dir, chosen))].find(isExecutable);
    if (found) return found;
    const where = executable ? "natsServer" : "TROUPE_NATS_SERVER";
    throw new UsageError(`${where}: expected the file of a nats-server, got ${JSON.stringify(chosen)}`);
  }
  const found = [...pathDirs, ...MORE_DIRS].map((dir) => join(dir, "nats-server")).find(isExecutable);
  if (found) return found;
  throw new UsageError(`nats-server: expected it on PATH, found none; ${INSTALL}`);
}

/**
 * The version of a nats-server file, as `2.9.10`.
 * @throws UsageError when the file is no nats-server
 */
export async function readNatsServerVersion(executable: string): Promise<string> {
  const run = promisify(execFile);
  const { stdout } = await run(executable, ["--version"]).catch(() => ({ stdout: "" }));
  const version = /v(\d+\.\d+\.\d+)/.exec(stdout)?.[1];
  if (version) return version;
  throw new UsageError(
    `${executable}: expected a nats-server, got a program that does not tell its version; ${INSTALL}`,
  );
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
