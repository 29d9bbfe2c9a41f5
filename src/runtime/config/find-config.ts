/** Where the configuration is. */
import { existsSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { UsageError } from "../../errors.ts";

/** Looked for in this order. */
const NAMES = ["yaml", "yml", "json", "ts", "mts", "js", "mjs"].map((extension) => `troupe.${extension}`);

/**
 * Gives the absolute path of the configuration: the one named, or the first `troupe.*` in `cwd`.
 *
 * @throws UsageError `config_not_found`.
 */
export function findConfig(path: string | undefined, cwd: string): string {
  if (path !== undefined) {
    const file = resolve(cwd, path);
    if (existsSync(file) && statSync(file).isFile()) return file;
    throw new UsageError(`--config: expected a file, got ${JSON.stringify(path)}, which is none`, "config_not_found");
  }
  const found = NAMES.map((name) => join(cwd, name)).find((file) => existsSync(file));
  if (found) return found;
  const message = `configuration: expected troupe.yaml (or .yml, .json, .ts, .js) in ${cwd}, got none; name one with --config, or do without with --no-config`;
  throw new UsageError(message, "config_not_found");
}
