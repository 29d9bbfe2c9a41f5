import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "nats";
import { afterEach, beforeEach, expect, test } from "vitest";
import { UnavailableError, UsageError } from "../../../src/errors.ts";
import { findNatsServer } from "../../../src/runtime/nats/find-server.ts";
import { findRunningNatsServer, startNatsServer } from "../../../src/runtime/nats/server.ts";
import { isAlive } from "../../../src/runtime/nats/server-record.ts";
import { startTestNats } from "../../helpers/nats-server.ts";
import { until } from "../../helpers/until.ts";

let storeDir: string;
const strays: number[] = [];

beforeEach(async () => {
  storeDir = await mkdtemp(join(tmpdir(), "troupe-store-"));
});

afterEach(async () => {
  for (const pid of strays.splice(0)) if (isAlive(pid)) process.kill(pid, "SIGKILL");
  await rm(storeDir, { recursive: true, force: true });
});

/** Starts a server from a process of its own that is then killed without warning. */
async function leaveServerBehind(): Promise<{ url: string; pid: number }> {
  const owner = startOwner();
  const [line] = await once(owner.stdout, "data");
  const server = JSON.parse(String(line)) as { url: string; pid: number };
  strays.push(server.pid);
  owner.kill("SIGKILL");
  await once(owner, "exit");
  return server;
}

function startOwner(then = "setInterval(() => {}, 1000)") {
  const serverModule = new URL("../../../src/runtime/nats/server.ts", import.meta.url).href;
  const program = `
    const { startNatsServer } = await import(${JSON.stringify(serverModule)});
    const { url, pid } = await startNatsServer({ storeDir: ${JSON.stringify(storeDir)} });
    console.log(JSON.stringify({ url, pid }));
    ${then};
  `;
  return spawn(process.execPath, ["--input-type=module", "--eval", program], { stdio: ["ignore", "pipe", "inherit"] });
}

test("the server answers with JetStream on loopback as soon as it is started", async () => {
  await using server = await startNatsServer({ storeDir });
  expect(server.url).toBe(`nats://127.0.0.1:${server.port}`);
  const connection = await connect({ servers: server.url });
  const manager = await connection.jetstreamManager();
  expect((await manager.getAccountInfo()).streams).toBe(0);
  expect(connection.info?.version).toBe(server.version);
  await connection.close();
});

test("stopping ends the process and leaves no record of it", async () => {
  const server = await startNatsServer({ storeDir });
  expect(await findRunningNatsServer(storeDir)).toBe(server.url);
  await server.stop();
  await server.exited;
  expect(isAlive(server.pid)).toBe(false);
  expect(await findRunningNatsServer(storeDir)).toBeUndefined();
});

test("what was stored is there after a restart on the same store and port", async () => {
  await using server = await startTestNats();
  const before = await connect({ servers: server.url });
  await (await before.jetstreamManager()).streams.add({ name: "kept", subjects: ["kept"] });
  await before.jetstream().publish("kept", "a");
  await before.close();
  const pid = server.pid;
  await server.restart();
  expect(server.pid).not.toBe(pid);
  const after = await connect({ servers: server.url });
  const info = await (await after.jetstreamManager()).streams.info("kept");
  expect(info.state.messages).toBe(1);
  await after.close();
});

test("a killed server can be restarted on its store and port", async () => {
  await using server = await startTestNats();
  await server.kill();
  expect(isAlive(server.pid)).toBe(false);
  await server.restart();
  const connection = await connect({ servers: server.url });
  await connection.close();
});

test("a server whose starter was killed is adopted with its port and ended by the new owner", async () => {
  const left = await leaveServerBehind();
  expect(isAlive(left.pid)).toBe(true);
  const adopted = await startNatsServer({ storeDir });
  expect(adopted).toMatchObject({ pid: left.pid, url: left.url, shared: false });
  await adopted.stop();
  expect(isAlive(left.pid)).toBe(false);
});

test("a left-over server on another port than the one asked for is replaced", async () => {
  const left = await leaveServerBehind();
  const port = await freePort();
  await using server = await startNatsServer({ storeDir, port });
  expect(server.port).toBe(port);
  expect(isAlive(left.pid)).toBe(false);
});

test("a server whose owner is alive is shared, and stopping the share leaves it running", async () => {
  await using owned = await startNatsServer({ storeDir });
  const shared = await startNatsServer({ storeDir });
  expect(shared).toMatchObject({ pid: owned.pid, shared: true });
  await shared.stop();
  expect(isAlive(owned.pid)).toBe(true);
});

test("two starts at once on one store end with one server", async () => {
  const [one, two] = await Promise.all([startNatsServer({ storeDir }), startNatsServer({ storeDir })]);
  expect(one.pid).toBe(two.pid);
  await Promise.all([one.stop(), two.stop()]);
  expect(isAlive(one.pid)).toBe(false);
});

test("a record whose process id belongs to another program now is ignored", async () => {
  const left = await leaveServerBehind();
  process.kill(left.pid, "SIGKILL");
  await until("the left-over is gone", () => !isAlive(left.pid));
  const file = join(storeDir, "nats-server.json");
  const record = JSON.parse(readFileSync(file, "utf8"));
  writeFileSync(file, JSON.stringify({ ...record, pid: process.pid }));
  await using server = await startNatsServer({ storeDir });
  expect(server.pid).not.toBe(process.pid);
});

test("the server goes with a process that ends without stopping it", async () => {
  const owner = startOwner("process.exit(3)");
  const [line] = await once(owner.stdout, "data");
  const { pid } = JSON.parse(String(line)) as { pid: number };
  strays.push(pid);
  await until("the server is gone", () => !isAlive(pid));
});

test("a server that cannot start rejects early with what it logged last", async () => {
  const start = startNatsServer({ storeDir, configExtra: "no_such_setting: 1" });
  await expect(start).rejects.toThrow(UnavailableError);
  await expect(start).rejects.toThrow(/ended before it was ready: .*no_such_setting/);
});

test("a port that is taken is named in the error", async () => {
  const taken = createServer().listen(0, "127.0.0.1");
  await once(taken, "listening");
  const { port } = taken.address() as { port: number };
  await expect(startNatsServer({ storeDir, port })).rejects.toThrow(`127.0.0.1:${port}: bind: address already in use`);
  taken.close();
});

test("the largest message is the one asked for", async () => {
  await using server = await startNatsServer({ storeDir, maxPayload: 2048 });
  const connection = await connect({ servers: server.url });
  expect(connection.info?.max_payload).toBe(2048);
  await connection.close();
});

test("the sync interval is configured where the version knows it", async () => {
  await using server = await startNatsServer({ storeDir, syncInterval: "250ms" });
  const config = readFileSync(join(storeDir, "nats-server.conf"), "utf8");
  const knowsIt = Number(server.version.split(".")[1]) >= 10;
  expect(config.includes('sync_interval: "250ms"')).toBe(knowsIt);
});

test("a missing nats-server is one line that says what to install", () => {
  expect(() => findNatsServer("/no/such/nats-server")).toThrow(UsageError);
  expect(() => findNatsServer(undefined, { TROUPE_NATS_SERVER: "/no/such/nats-server" })).toThrow(
    'TROUPE_NATS_SERVER: expected the file of a nats-server, got "/no/such/nats-server"',
  );
});

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address() as { port: number };
  probe.close();
  await once(probe, "close");
  return port;
}
