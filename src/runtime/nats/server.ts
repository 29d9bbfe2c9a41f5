/**
 * The embedded nats-server: a child process with its store in a folder of ours.
 *
 * Invariants:
 * S1  One server per store. Two on one store would corrupt it and nats-server does not check, so whoever starts one holds
 *     the store's lock, and first looks for one that is still there.
 * S2  A server found alive on the store is adopted, with its port and settings: its other clients must not notice that
 *     the process that started it was killed.
 * S3  Only its owner ends a server. One whose owner is alive is shared, and `stop()` leaves it alone.
 * S4  The server is recorded before it is waited for, so it can be found whenever this process dies.
 * S5  It has a process group of its own: a Ctrl-C for the daemon must not take NATS away while the daemon drains.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { UnavailableError } from "../../errors.ts";
import { findNatsServer, readNatsServerVersion } from "./find-server.ts";
import { configFileOf, renderServerConfig } from "./server-config.ts";
import { readServerInfo, type ServerInfo } from "./server-info.ts";
import {
  clearServerRecord,
  isAlive,
  readServerPort,
  readServerRecord,
  type ServerRecord,
  servesStore,
  writeServerRecord,
} from "./server-record.ts";
import { lockStore } from "./store-lock.ts";

// A store of many GB is read through before the server answers.
const READY_WITHIN_MS = 60_000;
const STOP_WITHIN_MS = 5_000;
const LOOK_EVERY_MS = 20;

export type NatsServerOptions = {
  /** The folder for the store, the configuration and the log; made when missing. */
  storeDir: string;
  /** @default "127.0.0.1" */
  host?: string;
  /** 0 means any free port. @default 0 */
  port?: number;
  /** How long the server may keep writes from the disk; only servers from 2.10 on have the setting. @default "100ms" */
  syncInterval?: string;
  /** The nats-server to run. @default see `findNatsServer` */
  executable?: string;
  /** Where its log goes. @default "<storeDir>/nats-server.log" */
  logFile?: string;
  /** The largest message, in bytes. @default the server's own, 1 MiB */
  maxPayload?: number;
  /** More lines for its configuration file. */
  configExtra?: string;
};

/** How a server ended; both null when it was not our child. */
export type ServerExit = { code: number | null; signal: NodeJS.Signals | null };

export type NatsServerProcess = {
  /** As in `nats://127.0.0.1:4222`. */
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  /** As in `2.9.10`. */
  readonly version: string;
  /** True when another living process owns it; `stop()` then does nothing. */
  readonly shared: boolean;
  /** Resolves when the process is gone, for whatever reason. */
  readonly exited: Promise<ServerExit>;
  /** Ends it gracefully, and by force after 5 s. */
  stop(): Promise<void>;
  kill(signal?: NodeJS.Signals): void;
  [Symbol.asyncDispose](): Promise<void>;
};

type Resolved = Required<Omit<NatsServerOptions, "maxPayload" | "configExtra" | "executable">> &
  Pick<NatsServerOptions, "maxPayload" | "configExtra" | "executable">;

/** A server that answers. */
type Ready = { pid: number; port: number; info: ServerInfo };

/**
 * Starts a nats-server on a store, or adopts the one that is still running on it, and resolves when it answers.
 * @throws UsageError when there is no nats-server to run
 * @throws UnavailableError when it does not start, with the last lines of its log
 */
export async function startNatsServer(options: NatsServerOptions): Promise<NatsServerProcess> {
  const settings = resolveOptions(options);
  const { storeDir } = settings;
  mkdirSync(storeDir, { recursive: true });
  const lock = await lockStore(storeDir); // S1
  try {
    return (await adoptServer(settings)) ?? (await launchServer(settings));
  } finally {
    lock.release();
  }
}

/** The URL of the server that is running on a store now, or undefined. Starts and changes nothing. */
export async function findRunningNatsServer(storeDir: string): Promise<string | undefined> {
  const dir = resolve(storeDir);
  const record = readServerRecord(dir);
  if (!record) return undefined;
  const ready = await look(dir, "127.0.0.1", record);
  return ready && urlOf("127.0.0.1", ready.port);
}

function resolveOptions(options: NatsServerOptions): Resolved {
  const storeDir = resolve(options.storeDir);
  return {
    host: "127.0.0.1",
    port: 0,
    syncInterval: "100ms",
    logFile: join(storeDir, "nats-server.log"),
    ...options,
    storeDir,
  };
}

async function adoptServer(settings: Resolved): Promise<NatsServerProcess | undefined> {
  const { storeDir, host, port } = settings;
  const record = readServerRecord(storeDir);
  if (!record) return undefined;
  const ready = await waitFor(
    () => look(storeDir, host, record),
    () => isAlive(record.pid) && servesStore(record.pid, storeDir),
  );
  if (!ready) {
    if (!isAlive(record.pid) || !servesStore(record.pid, storeDir)) return undefined;
    throw new UnavailableError(
      `${storeDir}: nats-server (process ${record.pid}) holds this store and does not answer; end it first`,
    );
  }
  const shared = isAlive(record.owner); // S3
  const server = controlServer(settings, ready, { exited: untilGone(ready.pid), shared });
  if (shared) return server;
  if (port !== 0 && port !== ready.port) {
    await server.stop();
    return undefined;
  }
  writeServerRecord(storeDir, { ...record, owner: process.pid });
  endWithThisProcess(ready.pid, server.exited);
  return server; // S2
}

async function launchServer(settings: Resolved): Promise<NatsServerProcess> {
  const { storeDir, host, port, syncInterval, maxPayload, configExtra: extra, logFile } = settings;
  const executable = findNatsServer(settings.executable);
  const version = await readNatsServerVersion(executable);
  const name = `troupe-${randomUUID()}`;
  const config = renderServerConfig({ name, version, host, port, storeDir, syncInterval, maxPayload, extra });
  clearServerRecord(storeDir);
  writeFileSync(configFileOf(storeDir), config);
  const log = openSync(logFile, "a");
  const logStart = statSync(logFile).size;
  // S5
  const child = spawn(executable, ["-c", configFileOf(storeDir)], { stdio: ["ignore", log, log], detached: true });
  closeSync(log);
  const exited = exitOf(child);
  const { pid } = child;
  if (pid === undefined) throw new UnavailableError(`${executable}: could not be started`);
  const record = { pid, owner: process.pid, name };
  writeServerRecord(storeDir, record); // S4
  endWithThisProcess(pid, exited);
  const isRunning = () => child.exitCode === null && child.signalCode === null;
  const ready = await waitFor(() => look(storeDir, host, record), isRunning);
  if (ready) return controlServer(settings, ready, { exited, shared: false });
  const problem = isRunning() ? `did not answer within ${READY_WITHIN_MS} ms` : "ended before it was ready";
  child.kill("SIGKILL");
  await exited;
  throw new UnavailableError(`${executable} on ${storeDir} ${problem}: ${lastWords(logFile, logStart)}`);
}

function controlServer(
  { storeDir, host }: Resolved,
  { pid, port, info }: Ready,
  { exited, shared }: { exited: Promise<ServerExit>; shared: boolean },
): NatsServerProcess {
  const kill = (signal: NodeJS.Signals = "SIGTERM") => {
    if (isAlive(pid)) process.kill(pid, signal);
  };
  const stop = async () => {
    if (shared) return; // S3
    kill("SIGTERM");
    const force = setTimeout(() => kill("SIGKILL"), STOP_WITHIN_MS);
    await exited;
    clearTimeout(force);
    if (readServerRecord(storeDir)?.name === info.serverName) clearServerRecord(storeDir);
  };
  return {
    url: urlOf(host, port),
    port,
    pid,
    version: info.version,
    shared,
    exited,
    stop,
    kill,
    [Symbol.asyncDispose]: stop,
  };
}

/** One look at the server of a record: what it says of itself, when it is there and is that very process. */
async function look(storeDir: string, host: string, { pid, name }: ServerRecord): Promise<Ready | undefined> {
  const port = readServerPort(storeDir, pid);
  if (port === undefined) return undefined;
  const info = await readServerInfo(reachable(host), port);
  return info?.serverName === name ? { pid, port, info } : undefined;
}

async function waitFor<T>(attempt: () => Promise<T | undefined>, goOn: () => boolean): Promise<T | undefined> {
  for (const giveUpAt = Date.now() + READY_WITHIN_MS; ; await sleep(LOOK_EVERY_MS)) {
    const wasWorthIt = goOn() && Date.now() < giveUpAt;
    const found = await attempt();
    if (found || !wasWorthIt) return found;
  }
}

async function exitOf(child: ChildProcess): Promise<ServerExit> {
  try {
    const [code, signal] = await once(child, "exit");
    return { code, signal };
  } catch {
    // Never started: the event was "error".
    return { code: null, signal: null };
  }
}

async function untilGone(pid: number): Promise<ServerExit> {
  while (isAlive(pid)) await sleep(200, undefined, { ref: false });
  return { code: null, signal: null };
}

const children = new Set<number>();

/** Takes the server along when this process ends by itself without stopping it, as after an uncaught error. */
function endWithThisProcess(pid: number, exited: Promise<ServerExit>): void {
  if (children.size === 0) process.once("exit", endChildren);
  children.add(pid);
  void exited.then(() => {
    children.delete(pid);
    if (children.size === 0) process.off("exit", endChildren);
  });
}

function endChildren(): void {
  for (const pid of children) if (isAlive(pid)) process.kill(pid, "SIGTERM");
}

function lastWords(logFile: string, from: number): string {
  const lines = readFileSync(logFile).subarray(from).toString("utf8").trim().split("\n");
  const fatal = lines.filter((line) => line.includes("[FTL]"));
  return (fatal.length > 0 ? fatal : lines.slice(-3)).join("; ") || "it logged nothing";
}

function urlOf(host: string, port: number): string {
  return `nats://${reachable(host)}:${port}`;
}

/** Where to reach a server from here that listens on every address. */
function reachable(host: string): string {
  return host === "0.0.0.0" ? "127.0.0.1" : host;
}
