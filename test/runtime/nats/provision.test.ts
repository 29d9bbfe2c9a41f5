import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type Bus, connectBus } from "../../../src/runtime/nats/connection.ts";
import { AckPolicy, type JetStreamManager, nanos, nuid, RetentionPolicy } from "../../../src/runtime/nats/nats.ts";
import { provision } from "../../../src/runtime/nats/provision.ts";
import { type Subjects, subjectsFor } from "../../../src/runtime/subjects.ts";
import { startTestNats, type TestNats } from "../../helpers/nats-server.ts";

let nats: TestNats;
let bus: Bus;
let jsm: JetStreamManager;
let subjects: Subjects;

beforeAll(async () => {
  nats = await startTestNats();
  bus = await connectBus({ servers: nats.url, name: "test", inboxPrefix: "_INBOX_test" });
  jsm = await bus.jsm();
});

beforeEach(() => {
  subjects = subjectsFor(`t${nuid.next()}`);
});

afterAll(async () => {
  await bus?.close();
  await nats?.[Symbol.asyncDispose]();
});

/** The settings of all streams and of the door, as the broker has them. */
async function settings() {
  const streams = await Promise.all(Object.values(subjects.streams).map((stream) => jsm.streams.info(stream)));
  const door = await jsm.consumers.info(subjects.streams.requests, subjects.doorConsumer);
  return { streams: streams.map(({ config, created }) => ({ config, created })), door: door.config };
}

test("makes the streams and the door, with a work queue of requests that refuses when it is full", async () => {
  await provision(bus, subjects, { ackWaitMs: 7_000 });
  const { requests, runs, tasks } = subjects.streams;
  expect((await jsm.streams.info(requests)).config).toMatchObject({
    subjects: [`${subjects.prefix}.requests.*`],
    retention: RetentionPolicy.Workqueue,
    discard: "new",
    storage: "file",
  });
  for (const stream of [runs, tasks]) {
    expect((await jsm.streams.info(stream)).config).toMatchObject({ retention: RetentionPolicy.Limits, max_age: 0 });
  }
  expect((await jsm.consumers.info(requests, subjects.doorConsumer)).config).toMatchObject({
    ack_policy: AckPolicy.Explicit,
    ack_wait: nanos(7_000),
    max_deliver: -1,
  });
});

test("changes nothing the second time", async () => {
  await provision(bus, subjects, { ackWaitMs: 7_000 });
  const before = await settings();
  await provision(bus, subjects, { ackWaitMs: 7_000 });
  expect(await settings()).toEqual(before);
});

test("by ten daemons at once comes to the same", async () => {
  const buses = await Promise.all(
    Array.from({ length: 10 }, (_, i) => connectBus({ servers: nats.url, name: `d${i}`, inboxPrefix: `_INBOX_d${i}` })),
  );
  await Promise.all(buses.map((own) => provision(own, subjects, { ackWaitMs: 7_000 })));
  expect((await settings()).streams).toHaveLength(12);
  for (const own of buses) await own.close();
});

test("brings settings this version relies on up to date and keeps what is stored", async () => {
  await provision(bus, subjects, { ackWaitMs: 7_000 });
  await bus.js.publish(subjects.request("article"), "a topic");
  await bus.js.publish(subjects.run("r1"), "[]");
  await jsm.streams.update(subjects.streams.signals, { max_age: nanos(1_000_000) });
  await jsm.consumers.update(subjects.streams.requests, subjects.doorConsumer, { max_deliver: 3 });
  await provision(bus, subjects, { ackWaitMs: 9_000 });
  const door = await jsm.consumers.info(subjects.streams.requests, subjects.doorConsumer);
  expect(door.config).toMatchObject({ ack_wait: nanos(9_000), max_deliver: -1, max_ack_pending: 65_536 });
  expect(door.num_pending).toBe(1);
  expect((await jsm.streams.info(subjects.streams.signals)).config.max_age).toBe(nanos(30 * 86_400_000));
  expect((await jsm.streams.info(subjects.streams.runs)).state.messages).toBe(1);
});

test("leaves alone what somebody set beyond that", async () => {
  await provision(bus, subjects, { ackWaitMs: 7_000 });
  const { runs, requests } = subjects.streams;
  await jsm.streams.update(runs, { max_bytes: 50_000_000, duplicate_window: nanos(60_000) });
  await jsm.streams.update(requests, { max_msgs: 10_000 });
  // A setting that is to be changed must not take the others with it.
  await jsm.streams.update(runs, { description: "something else" });
  await provision(bus, subjects, { ackWaitMs: 8_000 });
  expect((await jsm.streams.info(runs)).config).toMatchObject({
    description: "The journal of every run",
    max_bytes: 50_000_000,
    duplicate_window: nanos(60_000),
  });
  expect((await jsm.streams.info(requests)).config.max_msgs).toBe(10_000);
});

test("keeps the door's other settings when one of them changes", async () => {
  await provision(bus, subjects, { ackWaitMs: 7_000 });
  await jsm.consumers.update(subjects.streams.requests, subjects.doorConsumer, { description: "ours" });
  await provision(bus, subjects, { ackWaitMs: 8_000 });
  const { config } = await jsm.consumers.info(subjects.streams.requests, subjects.doorConsumer);
  expect(config).toMatchObject({ description: "ours", ack_wait: nanos(8_000), ack_policy: AckPolicy.Explicit });
});

test("says why when another stream has the subjects", async () => {
  await jsm.streams.add({ name: `FOREIGN${nuid.next()}`, subjects: [`${subjects.prefix}.runs.*`] });
  await expect(provision(bus, subjects, { ackWaitMs: 7_000 })).rejects.toThrow(/overlap/);
});

test("installations under different prefixes do not meet", async () => {
  const other = subjectsFor(`t${nuid.next()}`);
  await provision(bus, subjects, { ackWaitMs: 7_000 });
  await provision(bus, other, { ackWaitMs: 7_000 });
  await bus.js.publish(subjects.run("r1"), "[]");
  expect((await jsm.streams.info(other.streams.runs)).state.messages).toBe(0);
});

test("a full door refuses a request instead of dropping an older one", async () => {
  await provision(bus, subjects, { ackWaitMs: 7_000 });
  await jsm.streams.update(subjects.streams.requests, { max_msgs: 1 });
  await bus.js.publish(subjects.request("article"), "first");
  await expect(bus.js.publish(subjects.request("article"), "second")).rejects.toMatchObject({
    api_error: { err_code: 10077 },
  });
  const stored = await jsm.streams.getMessage(subjects.streams.requests, { seq: 1 });
  expect(stored.string()).toBe("first");
});
