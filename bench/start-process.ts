/** A part of the benchmark in a Node process of its own, so that its processor time and memory can be told apart. */

import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { missingDaemonFlags } from "../bin/daemon-flags.mjs";

/** Processor time since the start, and the most memory it ever held. */
export type Usage = { cpuMs: number; peakMb: number };

/** The wire between the processes. */
export type Asked = { id: number; question: string };
export type Told = { type: "ready"; value?: unknown } | { type: "answer"; id: number; value?: unknown; error?: string };

export type BenchProcess<Ready = unknown> = {
  readonly pid: number;
  /** What it said when it was ready. */
  readonly ready: Ready;
  usage(): Promise<Usage>;
  ask<T>(question: string): Promise<T>;
  stop(): Promise<void>;
};

export type ProcessOptions = {
  /** Beside the variables of this process; undefined takes one away. */
  env?: { [variable: string]: string | undefined };
};

type Waiting = { resolve: (value: never) => void; reject: (error: Error) => void };

// Set-up may have chosen this Node; children get no more of its flags than they need, and those `troupe serve` runs with.
const NODE_FLAGS = ["--disable-warning=ExperimentalWarning", "--conditions=troupe-source", ...missingDaemonFlags()];
const STOP_WITHIN_MS = 10_000;

/**
 * Starts `bench/<script>` with `settings` and resolves when it says that it is ready.
 *
 * @throws Error when it ends before that.
 */
export async function startProcess<Ready = unknown>(
  script: string,
  settings: unknown,
  { env = {} }: ProcessOptions = {},
): Promise<BenchProcess<Ready>> {
  const child = fork(fileURLToPath(new URL(script, import.meta.url)), [JSON.stringify(settings)], {
    execArgv: NODE_FLAGS,
    env: { ...process.env, ...env },
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const waiting = new Map<number, Waiting>();
  const { promise: ready, ...whenReady } = Promise.withResolvers<Ready>();
  const exited = once(child, "exit");
  let asked = 0;

  child.on("message", (told: Told) => {
    if (told.type === "ready") return whenReady.resolve(told.value as Ready);
    const waiter = waiting.get(told.id);
    waiting.delete(told.id);
    if (told.error !== undefined) waiter?.reject(new Error(`${script}: ${told.error}`));
    else waiter?.resolve(told.value as never);
  });
  void exited.then(([code, signal]) => {
    const error = new Error(`${script}: expected it to go on, but it ended with ${code ?? signal}`);
    whenReady.reject(error);
    for (const { reject } of waiting.values()) reject(error);
    waiting.clear();
  });

  function ask<T>(question: string): Promise<T> {
    return new Promise((resolve, reject) => {
      asked += 1;
      waiting.set(asked, { resolve, reject });
      child.send({ id: asked, question } satisfies Asked);
    });
  }

  async function stop(): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const force = setTimeout(() => child.kill("SIGKILL"), STOP_WITHIN_MS);
    await ask("stop").catch(() => {});
    await exited;
    clearTimeout(force);
  }

  return {
    ready: await ready,
    pid: child.pid as number,
    usage: () => ask<Usage>("usage"),
    ask,
    stop,
  };
}
