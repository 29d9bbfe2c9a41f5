import { connect } from "nats";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openResults, type Results } from "../../../src/runtime/hosts/results.ts";
import { type Bus, connectBus } from "../../../src/runtime/nats/connection.ts";
import { startTestNats, type TestNats } from "../../helpers/nats-server.ts";
import { until } from "../../helpers/until.ts";

let nats: TestNats;
let bus: Bus;
let results: Results;

beforeEach(async () => {
  nats = await startTestNats();
  bus = await connectBus({ servers: nats.url, name: "test", inboxPrefix: "_INBOX_test" });
  results = openResults(bus);
});
afterEach(async () => {
  results.stop();
  await bus.close();
  await nats[Symbol.asyncDispose]();
});

async function listen(reconnectTimeWait: number) {
  const nc = await connect({ servers: nats.url, maxReconnectAttempts: -1, reconnectTimeWait, reconnectJitter: 0 });
  const heard: string[] = [];
  nc.subscribe("results.>", { callback: (_, message) => heard.push(message.json<{ runId: string }>().runId) });
  await nc.flush();
  return { heard, [Symbol.asyncDispose]: () => nc.close() };
}

test("a result that was published while the broker was dead is heard when it is back, also by those who come back late", async () => {
  await using quick = await listen(50);
  await using slow = await listen(2_000);
  await nats.kill();
  await until("the loss to be noticed", () => !bus.connected());
  results.send("results.a", { runId: "lost" });
  await nats.restart();
  await until("it is heard", () => quick.heard.includes("lost"));
  await until("it is heard late", () => slow.heard.includes("lost"));
});

test("a result whose broker was killed before anything else came of it is said again", async () => {
  await using listener = await listen(50);
  results.send("results.a", { runId: "doubtful" });
  await until("it is heard", () => listener.heard.length === 1);
  await nats.kill();
  await nats.restart();
  await until("it is heard again", () => listener.heard.length > 1);
});

test("a result the broker surely had is not said again", async () => {
  await using listener = await listen(50);
  results.send("results.a", { runId: "sure" });
  await new Promise((resolve) => setTimeout(resolve, 1_050));
  await bus.request("$JS.API.INFO", "");
  await nats.kill();
  await until("the loss to be noticed", () => !bus.connected());
  results.send("results.a", { runId: "lost" });
  await nats.restart();
  await until("what was lost is heard twice", () => listener.heard.filter((id) => id === "lost").length === 2);
  expect(listener.heard.filter((id) => id === "sure")).toEqual(["sure"]);
});
