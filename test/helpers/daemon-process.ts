/** Real daemons for scenarios: each a process of its own that can be killed, stopped, continued and started again. */
import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { missingDaemonFlags } from "../../bin/daemon-flags.mjs";

/** What the process is told when it starts. */
export type DaemonSetup = {
  modelUrl: string;
  /** Where its spans go; without it there is no tracing. */
  otlpUrl?: string;
  /** The workflows it has. @default all of the fleet */
  workflows?: string[];
  /** Whether it has no agents and no workflows of its own. @default false */
  bare?: boolean;
  /** Options of the daemon, by key. */
  options: { [key: string]: unknown };
  /** @default "debug" */
  logLevel?: string;
  /** Where the process dies, as `src/runtime/hosts/crash-points.ts` names it. @default nowhere */
  crashAt?: string;
};

export type DaemonQuestion = "memory" | { shiftClockMs: number };
export type DaemonAnswer =
  | { type: "ready"; host: string; incarnation: string; at: number }
  | { type: "memory"; heapUsed: number; external: number; rss: number }
  | { type: "shifted" };

export type DaemonExit = { code: number | null; signal: NodeJS.Signals | null };

/** One life of a daemon. */
export type DaemonProcess = {
  readonly pid: number;
  readonly host: string;
  readonly incarnation: string;
  /** When it was ready, in milliseconds since the epoch. */
  readonly readyAt: number;
  readonly exited: Promise<DaemonExit>;
  isRunning(): boolean;
  signal(signal: NodeJS.Signals): void;
  /** Bytes of heap in use after a full collection. */
  heapUsed(): Promise<number>;
  /** Bytes in use after a full collection: on the heap, outside of it (buffers), and of the whole process. */
  memory(): Promise<{ heapUsed: number; external: number; rss: number }>;
  /** Sets its clock this far from the machine's, in milliseconds; what measures durations is not touched. */
  shiftClock(ms: number): Promise<void>;
};

/** A place where a daemon lives, over restarts: its folder and its name. */
export type DaemonHome = {
  readonly logFile: string;
  /** The life at work, or the last one. */
  readonly life: DaemonProcess;
  /** Starts a new life; resolves when it is ready. */
  start(changes?: Partial<DaemonSetup>): Promise<DaemonProcess>;
  /** SIGKILL; resolves when the process is gone. */
  kill(): Promise<void>;
  log(): Promise<string>;
  [Symbol.asyncDispose](): Promise<void>;
};

const MAIN = fileURLToPath(new URL("./daemon-main.ts", import.meta.url));

/** Starts a daemon on `setup.options.nats` in a folder of its own. */
export async function startDaemonProcess(setup: DaemonSetup): Promise<DaemonHome> {
  const data = await mkdtemp(join(tmpdir(), "troupe-daemon-"));
  const logFile = join(data, "daemon.log");
  const full: DaemonSetup = { ...setup, options: { data, ...setup.options } };
  let life = await launch(full, logFile);
  return {
    logFile,
    get life() {
      return life;
    },
    async start(changes = {}) {
      life = await launch({ ...full, ...changes, options: { ...full.options, ...changes.options } }, logFile);
      return life;
    },
    async kill() {
      life.signal("SIGKILL");
      await life.exited;
    },
    log: () => readFile(logFile, "utf8"),
    async [Symbol.asyncDispose]() {
      // A stopped process takes no other signal.
      life.signal("SIGKILL");
      await life.exited;
      await rm(data, { recursive: true, force: true });
    },
  };
}

/** Starts several daemons with the same setup at once. */
export async function startDaemonProcesses(
  count: number,
  setup: DaemonSetup,
): Promise<readonly DaemonHome[] & AsyncDisposable> {
  const homes = await Promise.all(Array.from({ length: count }, () => startDaemonProcess(setup)));
  return Object.assign(homes, {
    async [Symbol.asyncDispose]() {
      await Promise.all(homes.map((home) => home[Symbol.asyncDispose]()));
    },
  });
}

async function launch(setup: DaemonSetup, logFile: string): Promise<DaemonProcess> {
  const child = spawn(
    process.execPath,
    // Those that `troupe serve` runs with among them.
    ["--expose-gc", "--disable-warning=ExperimentalWarning", ...missingDaemonFlags(), MAIN, JSON.stringify(setup)],
    {
      stdio: ["ignore", "pipe", "pipe", "ipc"],
      env: {
        ...process.env,
        NODE_COMPILE_CACHE: join(tmpdir(), "troupe-test-compile-cache"),
        TROUPE_CRASH_AT: setup.crashAt ?? "",
      },
    },
  );
  const log = createWriteStream(logFile, { flags: "a" });
  child.stdout?.pipe(log, { end: false });
  child.stderr?.pipe(log, { end: false });
  const exited = new Promise<DaemonExit>((resolve) => {
    child.once("exit", (code, signal) => resolve({ code, signal }));
  });
  void exited.then(() => log.end());
  const ready = await Promise.race([
    answerOf(child, "ready"),
    exited.then(async () => {
      throw new Error(`the daemon did not start:\n${(await readFile(logFile, "utf8")).slice(-4_000)}`);
    }),
  ]);
  const memory = () => {
    const answer = answerOf(child, "memory");
    child.send("memory" satisfies DaemonQuestion);
    return answer;
  };
  return {
    pid: child.pid as number,
    host: ready.host,
    incarnation: ready.incarnation,
    readyAt: ready.at,
    exited,
    isRunning: () => child.exitCode === null && child.signalCode === null,
    signal: (signal) => void child.kill(signal),
    heapUsed: async () => (await memory()).heapUsed,
    memory,
    async shiftClock(ms) {
      const answer = answerOf(child, "shifted");
      child.send({ shiftClockMs: ms } satisfies DaemonQuestion);
      await answer;
    },
  };
}

function answerOf<Type extends DaemonAnswer["type"]>(
  child: ChildProcess,
  type: Type,
): Promise<Extract<DaemonAnswer, { type: Type }>> {
  return new Promise((resolve) => {
    const hear = (answer: DaemonAnswer) => {
      if (answer.type !== type) return;
      child.off("message", hear);
      resolve(answer as Extract<DaemonAnswer, { type: Type }>);
    };
    child.on("message", hear);
  });
}
