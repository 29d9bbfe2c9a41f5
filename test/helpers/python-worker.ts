/** The example worker in Python as a process of its own. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { until } from "./until.ts";

const WORKER = fileURLToPath(new URL("../../examples/workers/python/worker.py", import.meta.url));

/** Whether this machine can run it. */
export const hasPython = spawnSync("python3", ["--version"]).status === 0;

export type PythonWorker = {
  readonly child: ChildProcess;
  readonly out: { text: string };
  [Symbol.asyncDispose](): Promise<void>;
};

/** Starts it and waits until NATS knows its subscriptions. */
export async function startPythonWorker(natsUrl: string): Promise<PythonWorker> {
  const env = { ...process.env, NATS_URL: natsUrl, PYTHONDONTWRITEBYTECODE: "1" };
  const child = spawn("python3", [WORKER], { env, stdio: ["ignore", "pipe", "pipe"] });
  const out = { text: "" };
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      out.text += text;
    });
  }
  const exited = once(child, "exit");
  await until(
    "the Python worker is connected",
    () => {
      if (child.exitCode !== null) throw new Error(`the Python worker ended: ${out.text}`);
      return out.text.includes("connected to");
    },
    { withinMs: 20_000 },
  );
  return {
    child,
    out,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await exited;
    },
  };
}
