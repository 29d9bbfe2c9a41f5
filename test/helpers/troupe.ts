/** The command line as users have it: bin/troupe in a process of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { until } from "./until.ts";

const TROUPE = fileURLToPath(new URL("../../bin/troupe", import.meta.url));

export type TroupeOptions = {
  cwd: string;
  /** What stdin gives; without it stdin is empty. */
  input?: string;
  env?: { [name: string]: string };
};

export type Ended = { code: number | null; stdout: string; stderr: string };

export type Troupe = {
  readonly child: ChildProcess;
  readonly out: { stdout: string; stderr: string };
  readonly ended: Promise<Ended>;
};

/** Starts a command. Nothing that is set for other daemons of this machine reaches it. */
export function startTroupe(args: readonly string[], { cwd, input = "", env = {} }: TroupeOptions): Troupe {
  const clean = Object.entries(process.env).filter(
    ([name]) => name === "TROUPE_NATS_SERVER" || !/^(TROUPE_|OTEL_|NATS_|OPENAI_|FORCE_COLOR|NODE_OPTIONS)/.test(name),
  );
  const child = spawn(process.execPath, [TROUPE, ...args], {
    cwd,
    env: { ...Object.fromEntries(clean), OTEL_TRACES_EXPORTER: "none", ...env },
  });
  const out = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out.stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    out.stderr += text;
  });
  child.stdin.on("error", () => {
    // It ended without reading.
  });
  child.stdin.end(input);
  const ended = once(child, "close").then(([code]): Ended => ({ code, ...out }));
  return { child, out, ended };
}

/** Runs a command to its end. */
export function troupe(args: readonly string[], options: TroupeOptions): Promise<Ended> {
  return startTroupe(args, options).ended;
}

export type ServedDir = {
  /** Where its configuration and its data are; commands started here find it. */
  readonly dir: string;
  readonly serve: Troupe;
  stop(): Promise<Ended>;
  [Symbol.asyncDispose](): Promise<void>;
};

/** Starts `troupe serve` in a folder of its own with these files, `troupe.yaml` among them, and waits until it is ready. */
export async function serveFiles(
  files: { [name: string]: string },
  { args = [], env = {} }: { args?: readonly string[]; env?: { [name: string]: string } } = {},
): Promise<ServedDir> {
  const served = await serveFilesOnly(files, args, env);
  const { serve } = served;
  const isReady = () => {
    if (serve.child.exitCode !== null) throw new Error(`troupe serve ended: ${serve.out.stdout}${serve.out.stderr}`);
    return serve.out.stdout.includes('"ready"');
  };
  // Most of it is loading the sources, which takes a busy machine long.
  await until("the daemon is ready", isReady, { withinMs: 60_000 });
  return served;
}

/** The same without waiting: it may never be ready. */
export async function serveFilesOnly(
  files: { [name: string]: string },
  args: readonly string[],
  env: { [name: string]: string } = {},
): Promise<ServedDir> {
  const dir = await realpath(await mkdtemp(join(tmpdir(), "troupe-cli-")));
  for (const [name, text] of Object.entries(files)) await writeFile(join(dir, name), text);
  const serve = startTroupe(["serve", "--http-port", "0", ...args], { cwd: dir, env });
  const stop = () => {
    if (serve.child.exitCode === null) serve.child.kill("SIGTERM");
    return serve.ended;
  };
  return {
    dir,
    serve,
    stop,
    async [Symbol.asyncDispose]() {
      await stop();
      await rm(dir, { recursive: true, force: true });
    },
  };
}
