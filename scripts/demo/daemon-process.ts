/** The daemon of the demo: `troupe serve` in a process of its own, as anybody would start it. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export type DaemonProcess = {
  readonly pid: number;
  /** Resolves when it takes work; rejects when it ends before. */
  readonly ready: Promise<void>;
  /** Rejects when it ends without having been told to. */
  readonly ended: Promise<never>;
  /** The last lines it logged. */
  lastLines(): string[];
  /** Drains it and waits; by force after a while. Gives its exit code. */
  stop(): Promise<number | null>;
};

export type DaemonProcessOptions = {
  natsUrl: string;
  /** Where it keeps its files. */
  data: string;
  /** Where it sends its spans. */
  otlpEndpoint: string;
};

const TROUPE = fileURLToPath(new URL("../../bin/troupe", import.meta.url));
const CONFIG = fileURLToPath(new URL("../../examples/troupe.yaml", import.meta.url));
/** Ends the daemon also when this process is killed. */
const END_WITH_PARENT = new URL("../../bin/end-with-parent.mjs", import.meta.url).href;
const KEPT_LINES = 20;
const STOP_WITHIN_MS = 10_000;

/** Starts the daemon with the example agents. */
export function startDaemonProcess({ natsUrl, data, otlpEndpoint }: DaemonProcessOptions): DaemonProcess {
  const args = [
    "serve",
    "--config",
    CONFIG,
    "--nats",
    natsUrl,
    "--http-port",
    "0",
    "--data",
    data,
    "--log-format",
    "json",
  ];
  const child = spawn(process.execPath, [`--import=${END_WITH_PARENT}`, TROUPE, ...args], {
    stdio: ["ignore", "pipe", "pipe", "ipc"],
    env: {
      ...ownEnvironment(),
      OTEL_EXPORTER_OTLP_ENDPOINT: otlpEndpoint,
      TROUPE_LAUNCHER_PID: String(process.pid),
    },
  });
  const lines: string[] = [];
  let stopping = false;
  const exited = once(child, "exit") as Promise<[number | null, NodeJS.Signals | null]>;
  const ended = new Promise<never>((_, reject) => {
    void exited.then(([code, signal]) => {
      if (!stopping) reject(new Error(`the daemon ended before it was told to (${signal ?? `exit code ${code}`})`));
    });
  });
  // Only of interest to whoever still waits for it.
  ended.catch(() => {});
  const isReady = new Promise<void>((resolve) => {
    const hear = (line: string) => {
      lines.push(line);
      if (lines.length > KEPT_LINES) lines.shift();
      if (messageOf(line) === "ready") resolve();
    };
    for (const input of [child.stdout, child.stderr]) if (input) createInterface({ input }).on("line", hear);
  });

  return {
    pid: child.pid ?? 0,
    ready: Promise.race([isReady, ended]),
    ended,
    lastLines: () => [...lines],
    async stop() {
      if (!stopping && child.exitCode === null) child.kill("SIGTERM");
      stopping = true;
      const force = setTimeout(() => child.kill("SIGKILL"), STOP_WITHIN_MS);
      const [code] = await exited;
      clearTimeout(force);
      return code;
    },
  };
}

/** What is set for other daemons of this machine is not meant for the one of the demo. */
function ownEnvironment(): NodeJS.ProcessEnv {
  const foreign = (name: string) =>
    name !== "TROUPE_NATS_SERVER" && (name === "NATS_URL" || /^(TROUPE|OTEL)_/.test(name));
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !foreign(name)));
}

function messageOf(line: string): unknown {
  try {
    return (JSON.parse(line) as { msg?: unknown }).msg;
  } catch {
    return undefined;
  }
}
