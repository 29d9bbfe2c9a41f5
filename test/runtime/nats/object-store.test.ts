import { createHash } from "node:crypto";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { UnavailableError } from "../../../src/errors.ts";
import { type Bus, connectBus } from "../../../src/runtime/nats/connection.ts";
import { nuid } from "../../../src/runtime/nats/nats.ts";
import { type ObjectStore, openObjectStore } from "../../../src/runtime/nats/object-store.ts";
import { provision } from "../../../src/runtime/nats/provision.ts";
import { type Subjects, subjectsFor } from "../../../src/runtime/subjects.ts";
import { startTestNats, type TestNats } from "../../helpers/nats-server.ts";
import { until } from "../../helpers/until.ts";

const MIB = 1024 * 1024;
let nats: TestNats;
let bus: Bus;
let subjects: Subjects;
let store: ObjectStore;

beforeAll(async () => {
  nats = await startTestNats();
  bus = await connectBus({ servers: nats.url, name: "test", inboxPrefix: "_INBOX_test" });
});
beforeEach(async () => {
  subjects = subjectsFor(`t${nuid.next()}`);
  await provision(bus, subjects, { ackWaitMs: 5_000 });
  store = openObjectStore(bus.objects, subjects.buckets.payloads);
});
afterAll(async () => {
  await bus?.close();
  await nats?.[Symbol.asyncDispose]();
});

/** Bytes in which no chunk is like another. */
function bytesOf(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i + 4 <= length; i += 4) bytes.writeUInt32LE(i, i);
  return bytes;
}

const sha256Of = (data: Uint8Array) => createHash("sha256").update(data).digest("hex");
const messages = async () => (await (await bus.jsm()).streams.info(subjects.streams.payloads)).state.messages;
const theClientsOwn = () => bus.js.views.os(subjects.buckets.payloads);

test.each([1, 256 * 1024, 256 * 1024 + 1, 5 * MIB])("an object of %i bytes comes back as it was", async (length) => {
  const data = bytesOf(length);
  const sha256 = sha256Of(data);
  await store.put("run/x", data, { sha256, area: "run.x" });
  expect(data.equals(await store.get("run/x", { bytes: length, sha256 }))).toBe(true);
});

test("the NATS client's own object store reads what is put here, and is read here", async () => {
  const data = bytesOf(3 * MIB);
  const sha256 = sha256Of(data);
  const own = await theClientsOwn();
  await store.put("run/plain", data, { sha256, area: "run.x" });
  expect(data.equals((await own.getBlob("run/plain")) ?? new Uint8Array())).toBe(true);
  expect((await own.list()).map(({ name }) => name)).toContain("run/plain");
  await own.putBlob({ name: "upload" }, data);
  expect(data.equals(await store.get("upload", { bytes: data.length, sha256 }))).toBe(true);
  await store.remove("upload");
  expect(await own.getBlob("upload")).toBeNull();
});

test("an object that is there is not stored a second time", async () => {
  const data = bytesOf(MIB);
  const put = () => store.put("run/x", data, { sha256: sha256Of(data), area: "run.x" });
  await put();
  const before = await messages();
  await put();
  expect(await messages()).toBe(before);
});

test("an object that is not there, or not what was asked for, is said to be so", async () => {
  const data = bytesOf(MIB);
  const sha256 = sha256Of(data);
  await store.put("run/x", data, { sha256 });
  const asked = (name: string, bytes: number, hash = sha256) => store.get(name, { bytes, sha256: hash });
  await expect(asked("run/y", MIB)).rejects.toMatchObject({ name: "NotFoundError", code: "payload_missing" });
  await expect(asked("run/x", MIB + 1)).rejects.toMatchObject({ code: "payload_damaged" });
  await expect(asked("run/x", MIB, "0".repeat(64))).rejects.toMatchObject({ code: "payload_damaged" });
  const jsm = await bus.jsm();
  await jsm.streams.purge(subjects.streams.payloads, { filter: `$O.${subjects.buckets.payloads}.C.>`, keep: 2 });
  await expect(asked("run/x", MIB)).rejects.toMatchObject({ code: "payload_damaged" });
});

test("a broker that dies while an object is put has it whole when it is back", { timeout: 60_000 }, async () => {
  await using own = await startTestNats();
  const link = await connectBus({ servers: own.url, name: "test", inboxPrefix: "_INBOX_test" });
  await provision(link, subjects, { ackWaitMs: 5_000 });
  const there = openObjectStore(link.objects, subjects.buckets.payloads);
  const data = bytesOf(48 * MIB);
  const sha256 = sha256Of(data);
  const putting = there.put("run/x", data, { sha256, area: "run.x" });
  const stream = async () => (await (await link.jsm()).streams.info(subjects.streams.payloads)).state.messages;
  await until("some of it is stored", async () => (await stream()) > 8);
  await own.kill();
  await own.restart();
  await putting;
  expect(data.equals(await there.get("run/x", { bytes: data.length, sha256 }))).toBe(true);
  await link.close();
});

test("putting waits for a broker that has no room, says so, and ends with its signal", {
  timeout: 30_000,
}, async () => {
  const jsm = await bus.jsm();
  const { payloads } = subjects.streams;
  await jsm.streams.update(payloads, { ...(await jsm.streams.info(payloads)).config, max_bytes: 2 * MIB });
  const data = bytesOf(4 * MIB);
  const giveUp = new AbortController();
  const putting = store.put("run/x", data, { sha256: sha256Of(data), area: "run.x", signal: giveUp.signal });
  await until("it is said", () => bus.store.refusal()?.startsWith(payloads));
  giveUp.abort();
  await expect(putting).rejects.toBeInstanceOf(UnavailableError);
  await until("what had been stored of it is gone", async () => (await messages()) === 0);
  await until("it is said to be over", () => bus.store.refusal() === undefined);

  const again = store.put("run/x", data, { sha256: sha256Of(data), area: "run.x" });
  await until("it is said", () => bus.store.refusal() !== undefined);
  await jsm.streams.update(payloads, { ...(await jsm.streams.info(payloads)).config, max_bytes: -1 });
  await again;
  expect(data.equals(await store.get("run/x", { bytes: data.length, sha256: sha256Of(data) }))).toBe(true);
});

test("a broker that takes short messages only gets short chunks", async () => {
  await using own = await startTestNats({ maxPayload: 16 * 1024 });
  const link = await connectBus({ servers: own.url, name: "test", inboxPrefix: "_INBOX_test" });
  await provision(link, subjects, { ackWaitMs: 5_000 });
  const there = openObjectStore(link.objects, subjects.buckets.payloads);
  const data = bytesOf(100_000);
  await there.put("run/x", data, { sha256: sha256Of(data), area: "run.x" });
  expect(data.equals(await there.get("run/x", { bytes: data.length, sha256: sha256Of(data) }))).toBe(true);
  await link.close();
});
