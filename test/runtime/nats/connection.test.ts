import { createServer, type Socket } from "node:net";
import { expect, test } from "vitest";
import { type Bus, connectBus, type NatsOptions } from "../../../src/runtime/nats/connection.ts";
import { startTestNats } from "../../helpers/nats-server.ts";
import { until } from "../../helpers/until.ts";

/** A connection and what it said of itself. */
async function connectTo(url: string, more: Partial<NatsOptions> = {}): Promise<{ bus: Bus; said: string[] }> {
  const said: string[] = [];
  const bus = await connectBus(
    { servers: url, name: "test", inboxPrefix: "_INBOX_test", ...more },
    {
      lost: () => said.push("lost"),
      restored: () => said.push("restored"),
      denied: (what) => said.push(`denied ${what}`),
    },
  );
  return { bus, said };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (typeof address !== "object" || address === null) throw new Error("no free port");
  return address.port;
}

test("a broker that is not there at the start is waited for", async () => {
  const port = await freePort();
  const connecting = connectTo(`nats://127.0.0.1:${port}`);
  let connected = false;
  void connecting.then(() => {
    connected = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 600));
  expect(connected).toBe(false);
  await using _nats = await startTestNats({ port });
  const { bus } = await connecting;
  expect(bus.connected()).toBe(true);
  await bus.close();
});

test("a caller that does not want to wait is told at once", async () => {
  const url = `nats://127.0.0.1:${await freePort()}`;
  await expect(connectTo(url, { waitAtStart: false })).rejects.toMatchObject({ code: "CONNECTION_REFUSED" });
});

test("an outage is told once, however long and however many tries, and work goes on by itself afterwards", async () => {
  await using nats = await startTestNats();
  const { bus, said } = await connectTo(nats.url);
  const heard: string[] = [];
  bus.nc.subscribe("news", { callback: (_, message) => heard.push(message.string()) });
  await nats.kill();
  await until("the loss is noticed", () => !bus.connected());
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  expect(said).toEqual(["lost"]);
  const before = performance.now();
  await nats.restart();
  await until("it is connected again", () => bus.connected());
  expect(performance.now() - before).toBeLessThan(5_000);
  bus.nc.publish("news", "hello");
  await until("subscriptions are there again", () => heard.includes("hello"));
  expect(said).toEqual(["lost", "restored"]);
  await bus.close();
});

test("of several brokers another one is taken when one goes", async () => {
  await using first = await startTestNats();
  await using second = await startTestNats();
  const { bus, said } = await connectTo("", { servers: [first.url, second.url] });
  const [home, other] = bus.nc.getServer().endsWith(String(first.port)) ? [first, second] : [second, first];
  await home.kill();
  await until("it is connected to the other one", () => bus.nc.getServer().endsWith(String(other.port)));
  await until("it says so", () => said.includes("restored"));
  await bus.close();
});

test("credentials the broker does not know yet are like a broker that is away", async () => {
  const port = await freePort();
  const users = (password: string) => ({
    port,
    configExtra: `authorization { users = [{ user: "app", password: "${password}" }] }`,
  });
  const connecting = connectTo(`nats://127.0.0.1:${port}`, { user: "app", password: "right" });
  {
    await using _wrong = await startTestNats(users("wrong"));
    await new Promise((resolve) => setTimeout(resolve, 800));
  }
  await using _right = await startTestNats(users("right"));
  const { bus } = await connecting;
  expect(bus.connected()).toBe(true);
  await bus.close();
});

test("a token is used", async () => {
  await using nats = await startTestNats({ configExtra: 'authorization { token: "secret" }' });
  const { bus } = await connectTo(nats.url, { token: "secret" });
  await bus.nc.flush();
  await bus.close();
});

test("a subscription the broker denies is told", async () => {
  await using nats = await startTestNats({
    configExtra: `authorization { users = [
      { user: a, password: a, permissions: { publish: [">"], subscribe: ["_INBOX_test.>"] } }
    ] }`,
  });
  const { bus, said } = await connectTo(nats.url, { user: "a", password: "a" });
  bus.nc.subscribe("secret", { callback: () => {} });
  await until("the denial is told", () => said.some((words) => words.includes("secret")));
  await bus.close();
});

test("reply subjects are under the connection's own prefix", async () => {
  await using nats = await startTestNats();
  const { bus } = await connectTo(nats.url);
  let reply = "";
  bus.nc.subscribe("where", {
    callback: (_, message) => {
      reply = message.reply ?? "";
      message.respond();
    },
  });
  await bus.request("where", "");
  expect(reply).toMatch(/^_INBOX_test\./);
  expect(bus.inbox()).toMatch(/^_INBOX_test\./);
  await bus.close();
});

test("closing sends what was said before, twice is once, and without a broker it does not wait for one", async () => {
  await using nats = await startTestNats();
  const listener = await connectTo(nats.url);
  let heard = 0;
  listener.bus.nc.subscribe("last.words", {
    callback: () => {
      heard += 1;
    },
  });
  await listener.bus.nc.flush();
  const { bus } = await connectTo(nats.url);
  for (let i = 0; i < 100; i += 1) bus.nc.publish("last.words", "bye");
  await bus.close();
  await bus.close();
  expect(bus.connected()).toBe(false);
  await until("all was heard", () => heard === 100);
  await nats.kill();
  await until("the loss is noticed", () => !listener.bus.connected());
  const before = performance.now();
  await listener.bus.close();
  expect(performance.now() - before).toBeLessThan(2_000);
});

test("a connection that breaks in the middle of what the broker says is made again", async () => {
  const sockets: Socket[] = [];
  await using nats = await startTestNats();
  const { connect } = await import("node:net");
  const relay = createServer((client) => {
    const server = connect(nats.port, "127.0.0.1");
    sockets.push(client, server);
    for (const socket of [client, server]) socket.on("error", () => {});
    client.pipe(server).pipe(client);
  });
  await new Promise<void>((resolve) => relay.listen(0, "127.0.0.1", resolve));
  const address = relay.address();
  if (typeof address !== "object" || address === null) throw new Error("the relay has no port");
  const { bus, said } = await connectTo(`nats://127.0.0.1:${address.port}`);
  await bus.nc.flush();
  for (const socket of sockets.splice(0)) socket.resetAndDestroy();
  await until("it was lost and is back", () => said.length === 2);
  await bus.nc.flush();
  await bus.close();
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => relay.close(resolve));
});
