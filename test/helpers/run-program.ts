/** Programs of the documentation, run as their readers would: in a project that has `troupe`. */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const root = fileURLToPath(new URL("../..", import.meta.url));
const run = promisify(execFile);

/** A folder inside the package, where `troupe` is the package itself. */
export async function projectFolder(): Promise<string> {
  const inside = join(root, ".troupe");
  await mkdir(inside, { recursive: true });
  return mkdtemp(join(inside, "program-"));
}

/** Runs a program and gives what it prints; in a folder of its own, unless it is to find what another one has left. */
export async function outputOf(
  program: string,
  { dir, env = {} }: { dir?: string; env?: { [name: string]: string } } = {},
): Promise<string> {
  const folder = dir ?? (await projectFolder());
  try {
    await writeFile(join(folder, "program.ts"), program);
    const flags = ["--conditions=troupe-source", "--disable-warning=ExperimentalWarning"];
    const { OPENAI_API_KEY: _key, OPENAI_BASE_URL: _base, NATS_URL: _url, ...rest } = process.env;
    const { stdout } = await run(process.execPath, [...flags, "program.ts"], { cwd: folder, env: { ...rest, ...env } });
    return stdout;
  } finally {
    if (dir === undefined) await rm(folder, { recursive: true });
  }
}
