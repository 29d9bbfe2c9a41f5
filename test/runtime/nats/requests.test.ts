import { expect, test } from "vitest";
import { PermissionError, UnavailableError } from "../../../src/errors.ts";
import { connectBus } from "../../../src/runtime/nats/connection.ts";
import { nuid } from "../../../src/runtime/nats/nats.ts";
import { NoRespondersError } from "../../../src/runtime/nats/requests.ts";
import { startTestNats } from "../../helpers/nats-server.ts";
import { sharedBus } from "../../helpers/shared-bus.ts";
import { until } from "../../helpers/until.ts";

const { nats, bus } = await sharedBus();

test("each of many requests at once gets its own answer", async () => {
  const subject = nuid.next();
  bus.nc.subscribe(subject, { callback: (_, message) => message.respond(`re ${message.string()}`) });
  const asked = Array.from({ length: 500 }, (_, i) => bus.request(subject, String(i)));
  const answers = (await Promise.all(asked)).map((message) => message.string());
  expect(answers).toEqual(asked.map((_, i) => `re ${i}`));
});

test("a header goes with the request", async () => {
  const subject = nuid.next();
  bus.nc.subscribe(subject, { callback: (_, message) => message.respond(message.headers?.get("Name") ?? "none") });
  expect((await bus.request(subject, "", { header: ["Name", "value"] })).string()).toBe("value");
  expect((await bus.request(subject, "")).string()).toBe("none");
});

test("an empty answer is an answer", async () => {
  const subject = nuid.next();
  bus.nc.subscribe(subject, { callback: (_, message) => message.respond() });
  expect((await bus.request(subject, "x")).data).toHaveLength(0);
});

test("where nobody listens the request fails at once and names the subject", async () => {
  const subject = nuid.next();
  const before = performance.now();
  const error = await bus.request(subject, "x", { timeoutMs: 20_000 }).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(NoRespondersError);
  expect(String(error)).toContain(`${subject}: nobody listens`);
  expect(performance.now() - before).toBeLessThan(10_000);
});

test("where nobody answers the request fails at its deadline, and a late answer troubles nobody", async () => {
  const subject = nuid.next();
  let reply = "";
  bus.nc.subscribe(subject, {
    callback: (_, message) => {
      reply = message.reply ?? "";
    },
  });
  const before = performance.now();
  await expect(bus.request(subject, "x", { timeoutMs: 200 })).rejects.toThrow(`${subject}: no answer in time`);
  expect(performance.now() - before).toBeGreaterThanOrEqual(200);
  bus.nc.publish(reply, "late");
  bus.nc.publish(reply, "later");
  await bus.nc.flush();
  bus.nc.subscribe(subject, { callback: (_, message) => message.respond("second"), max: 1 });
  expect((await bus.request(subject, "y")).string()).toBe("second");
});

test("the first of several answers counts", async () => {
  const subject = nuid.next();
  for (const words of ["one", "two"]) {
    bus.nc.subscribe(subject, { callback: (_, message) => message.respond(words) });
  }
  expect(["one", "two"]).toContain((await bus.request(subject, "x")).string());
});

test("a request the client refuses fails as a promise, not as a throw", async () => {
  const huge = new Uint8Array((bus.nc.info?.max_payload ?? 0) + 1);
  await expect(bus.request("any", huge)).rejects.toMatchObject({ code: "MAX_PAYLOAD_EXCEEDED" });
});

test("a denied request fails at once with the subject, and the others go on", async () => {
  await using server = await startTestNats({
    configExtra: `authorization { users = [
      { user: a, password: a, permissions: { publish: ["allowed", "_INBOX_a.>"], subscribe: ["allowed", "_INBOX_a.>"] } }
    ] }`,
  });
  const denials: string[] = [];
  const own = await connectBus(
    { servers: server.url, name: "a", inboxPrefix: "_INBOX_a", user: "a", password: "a" },
    { denied: (subject) => denials.push(subject) },
  );
  const held: (() => void)[] = [];
  own.nc.subscribe("allowed", { callback: (_, message) => held.push(() => message.respond("yes")) });
  const allowed = own.request("allowed", "x", { timeoutMs: 20_000 });
  const error = await own.request("forbidden", "x", { timeoutMs: 20_000 }).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(PermissionError);
  expect(error).toMatchObject({ subject: "forbidden" });
  await until("the allowed request is there", () => held.length === 1);
  held[0]?.();
  expect((await allowed).string()).toBe("yes");
  expect(denials).toContain("forbidden");
  await own.close();
});

test("requests in flight fail when the connection is lost, and later ones work over the next connection", async () => {
  await using server = await startTestNats();
  const own = await connectBus({ servers: server.url, name: "own", inboxPrefix: "_INBOX_own" });
  own.nc.subscribe("silent", { callback: () => {} });
  own.nc.subscribe("echo", { callback: (_, message) => message.respond(message.data) });
  await own.nc.flush();
  const inFlight = own.request("silent", "x", { timeoutMs: 20_000 });
  const lost = expect(inFlight).rejects.toBeInstanceOf(UnavailableError);
  await server.kill();
  await lost;
  // The client drops what is sent while it is away, so this one cannot be answered: it must not wait for its deadline.
  const whileAway = own.request("echo", "x", { timeoutMs: 600_000 });
  const dropped = expect(whileAway).rejects.toBeInstanceOf(UnavailableError);
  await server.restart();
  await dropped;
  expect((await own.request("echo", "back")).string()).toBe("back");
  await own.close();
});

test("requests in flight fail when the connection is closed, and so do those made afterwards", async () => {
  const own = await connectBus({ servers: nats.url, name: "own", inboxPrefix: "_INBOX_own" });
  own.nc.subscribe("quiet", { callback: () => {} });
  const inFlight = own.request("quiet", "x", { timeoutMs: 600_000 });
  const lost = expect(inFlight).rejects.toBeInstanceOf(UnavailableError);
  await own.close();
  await lost;
  await expect(own.request("quiet", "x")).rejects.toMatchObject({ code: "CONNECTION_CLOSED" });
});
