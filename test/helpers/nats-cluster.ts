/**
 * Three nats-servers on loopback that form a cluster with JetStream, for one test. Each keeps its name, its ports and its
 * store over restarts, because that is what makes it the same member.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync, writeFileSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type JetStreamManager, type NatsConnection, type StreamInfo } from "nats";
import { findNatsServer, readNatsServerVersion } from "../../src/runtime/nats/find-server.ts";
import { readServerInfo } from "../../src/runtime/nats/server-info.ts";
import { until } from "./until.ts";

const NAMES = ["one", "two", "three"] as const;
// Elections after the start of a cluster and after the loss of a leader: about ten seconds, and more on a loaded machine.
const ELECTED_WITHIN_MS = 60_000;

export type TestCluster = {
  /** One for each server. */
  readonly urls: readonly string[];
  /** As in `2.9.10`. */
  readonly version: string;
  /** The servers that are running, by name. */
  running(): string[];
  /** The name of the server that leads a stream, as soon as it has a leader that is running. */
  leaderOf(stream: string): Promise<string>;
  /** Resolves when a stream has a leader and all its replicas have everything. */
  whole(stream: string): Promise<void>;
  /** SIGKILL; resolves when the process is gone. */
  kill(name: string): Promise<void>;
  /** Starts a server again that was killed. */
  start(name: string): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
};

type Member = { name: string; port: number; routePort: number; dir: string };

/** Starts a cluster that takes JetStream requests; TROUPE_NATS_SERVER selects the binary. Use it with `await using`. */
export async function startNatsCluster(): Promise<TestCluster> {
  const executable = findNatsServer();
  const home = await mkdtemp(join(tmpdir(), "troupe-cluster-"));
  const members = await planMembers(home);
  const processes = new Map<string, ChildProcess>();
  const start = async (member: Member) => {
    const child = launch(executable, member);
    processes.set(member.name, child);
    await untilAnswering(child, member);
  };
  const kill = async (name: string) => {
    const child = processes.get(name);
    processes.delete(name);
    if (!child || !isRunning(child)) return;
    child.kill("SIGKILL");
    await once(child, "exit");
  };
  const killAll = async () => {
    await Promise.all(NAMES.map(kill));
    await rm(home, { recursive: true, force: true });
  };

  for (const member of members) writeFileSync(configOf(member), renderConfig(member, members));
  const urls = members.map(({ port }) => `nats://127.0.0.1:${port}`);
  let observer: NatsConnection;
  let jsm: JetStreamManager;
  try {
    await Promise.all(members.map(start));
    observer = await connect({ servers: urls, maxReconnectAttempts: -1, reconnectTimeWait: 100 });
    jsm = await observer.jetstreamManager({ checkAPI: false, timeout: 2_000 });
    await until("the cluster to have a leader", () => jsm.getAccountInfo().catch(() => undefined), {
      withinMs: ELECTED_WITHIN_MS,
    });
  } catch (error) {
    await killAll();
    throw error;
  }

  const look = (stream: string): Promise<StreamInfo | undefined> => jsm.streams.info(stream).catch(() => undefined);
  return {
    urls,
    version: await readNatsServerVersion(executable),
    running: () => [...processes.keys()],
    leaderOf: (stream) =>
      until(
        `a leader of ${stream}`,
        async () => {
          const leader = (await look(stream))?.cluster?.leader;
          return leader !== undefined && processes.has(leader) && leader;
        },
        { withinMs: ELECTED_WITHIN_MS },
      ),
    async whole(stream) {
      await until(
        `${stream} to be whole`,
        async () => {
          const { leader, replicas = [] } = (await look(stream))?.cluster ?? {};
          return leader && replicas.length === 2 && replicas.every(({ current, offline }) => current && !offline);
        },
        { withinMs: ELECTED_WITHIN_MS },
      );
    },
    kill,
    async start(name) {
      const member = members.find((other) => other.name === name);
      if (!member) throw new Error(`expected one of ${NAMES.join(", ")}, got ${name}`);
      await start(member);
    },
    async [Symbol.asyncDispose]() {
      await observer.close();
      await killAll();
    },
  };
}

/** Members have to know each other's ports before any of them runs, so free ones are looked for. */
async function planMembers(home: string): Promise<Member[]> {
  const ports = await freePorts(NAMES.length * 2);
  return NAMES.map((name, i) => {
    const dir = join(home, name);
    mkdirSync(dir);
    return { name, dir, port: ports[i] ?? 0, routePort: ports[NAMES.length + i] ?? 0 };
  });
}

async function freePorts(count: number): Promise<number[]> {
  const probes = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(probes.map((probe) => once(probe, "listening")));
  const ports = probes.map((probe) => (probe.address() as { port: number }).port);
  await Promise.all(probes.map((probe) => once(probe.close(), "close")));
  return ports;
}

function configOf({ dir }: Member): string {
  return join(dir, "nats-server.conf");
}

function logOf({ dir }: Member): string {
  return join(dir, "nats-server.log");
}

function renderConfig({ name, port, routePort, dir }: Member, members: readonly Member[]): string {
  const routes = members.map((member) => `"nats-route://127.0.0.1:${member.routePort}"`);
  return [
    `server_name: "${name}"`,
    `listen: "127.0.0.1:${port}"`,
    `jetstream { store_dir: "${join(dir, "store")}" }`,
    `cluster { name: "test", listen: "127.0.0.1:${routePort}", routes: [${routes.join(", ")}] }`,
    "",
  ].join("\n");
}

function launch(executable: string, member: Member): ChildProcess {
  const log = openSync(logOf(member), "a");
  const child = spawn(executable, ["-c", configOf(member)], { stdio: ["ignore", log, log] });
  closeSync(log);
  const end = () => child.kill("SIGKILL");
  process.once("exit", end);
  child.once("exit", () => process.off("exit", end));
  return child;
}

async function untilAnswering(child: ChildProcess, member: Member): Promise<void> {
  const { name, port } = member;
  const info = await until(
    `server ${name} to answer or to end`,
    async () => !isRunning(child) || (await readServerInfo("127.0.0.1", port)),
    { withinMs: 30_000 },
  );
  if (info !== true && info.serverName === name) return;
  throw new Error(`server ${name} did not start: ${(await readFile(logOf(member), "utf8")).slice(-2_000)}`);
}

function isRunning({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode === null && signalCode === null;
}
