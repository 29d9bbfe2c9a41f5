/** The soak's daemons as processes that can be killed, stopped, continued and started again. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** What the process is told when it starts. */
export type DaemonSetup = {
  modelUrl: string;
  toolUrl: string;
  otlpUrl: string;
  /** Options of the daemon, by key. */
  options: { [key: string]: unknown };
};

export type DaemonReady = { type: "ready"; host: string; incarnation: string };

/** A place where a daemon lives, over restarts: its folder and its name. */
export type SoakDaemon = {
  readonly name: string;
  /** The process of the present life; undefined between two. */
  readonly life: { pid: number; incarnation: string } | undefined;
  readonly isStopped: boolean;
  /** Starts a new life; resolves when it is ready, or was killed before that. */
  start(): Promise<void>;
  /** SIGKILL; resolves when the process is gone. */
  kill(): Promise<void>;
  /** SIGTERM; resolves with the exit code when the process is gone. */
  terminate(): Promise<number | null>;
  stop(): void;
  continue(): void;
  /** The last lines of its log that have `text` in them. */
  log(text?: string): string[];
  /** Ends it and removes its folder. */
  dispose(): Promise<void>;
};

export type DaemonListener = {
  /** A daemon ended that nobody told to. */
  died(name: string, how: string, lastLines: readonly string[]): void;
  /** Each line of every log. */
  line(line: string): void;
};

const MAIN = fileURLToPath(new URL("./daemon-main.ts", import.meta.url));
// Enough for the last minute of a busy daemon.
const KEPT_LINES = 20_000;

/** Makes a place for a daemon; `start` starts it. */
export async function makeDaemon(name: string, setup: DaemonSetup, listener: DaemonListener): Promise<SoakDaemon> {
  const data = await mkdtemp(join(tmpdir(), `troupe-soak-${name}-`));
  const lines: string[] = [];
  let child: ChildProcess | undefined;
  let life: SoakDaemon["life"];
  let isStopped = false;
  let isWanted = false;

  return {
    name,
    get life() {
      return life;
    },
    get isStopped() {
      return isStopped;
    },
    start,
    async kill() {
      isWanted = false;
      await end("SIGKILL");
    },
    async terminate() {
      isWanted = false;
      return end("SIGTERM");
    },
    stop() {
      isStopped = true;
      child?.kill("SIGSTOP");
    },
    continue() {
      isStopped = false;
      child?.kill("SIGCONT");
    },
    log: (text = "") => lines.filter((line) => line.includes(text)),
    async dispose() {
      isWanted = false;
      await end("SIGKILL");
      await rm(data, { recursive: true, force: true });
    },
  };

  async function start(): Promise<void> {
    isWanted = true;
    const started = fork(MAIN, [JSON.stringify({ ...setup, options: { ...setup.options, data } })], {
      stdio: ["ignore", "pipe", "pipe", "ipc"],
      execArgv: ["--disable-warning=ExperimentalWarning"],
      env: { ...process.env, NODE_COMPILE_CACHE: join(tmpdir(), "troupe-test-compile-cache") },
    });
    child = started;
    isStopped = false;
    for (const stream of [started.stdout, started.stderr]) if (stream) createInterface(stream).on("line", keep);
    const exited = once(started, "exit");
    void exited.then(([code, signal]) => {
      if (child !== started) return;
      child = undefined;
      life = undefined;
      if (isWanted) listener.died(name, `with ${code ?? signal}`, lines.slice(-30));
    });
    const ready = once(started, "message").then(([told]) => told as DaemonReady);
    const first = await Promise.race([ready, exited.then(() => undefined)]);
    if (first && child === started) life = { pid: started.pid as number, incarnation: first.incarnation };
  }

  async function end(signal: NodeJS.Signals): Promise<number | null> {
    const ending = child;
    life = undefined;
    if (!ending) return null;
    const exited = once(ending, "exit");
    ending.kill(signal);
    if (isStopped) ending.kill("SIGCONT");
    isStopped = false;
    const [code] = (await exited) as [number | null];
    return code;
  }

  function keep(line: string): void {
    lines.push(line);
    if (lines.length > KEPT_LINES * 1.2) lines.splice(0, lines.length - KEPT_LINES);
    listener.line(line);
  }
}
