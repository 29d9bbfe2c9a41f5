import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Bus, connectBus } from "../../../src/runtime/nats/connection.ts";
import { standIns, withRefs } from "../../../src/runtime/nats/large-values.ts";
import { LARGE, openPayloads, type Payloads } from "../../../src/runtime/nats/payloads.ts";
import { provision } from "../../../src/runtime/nats/provision.ts";
import { subjectsFor } from "../../../src/runtime/subjects.ts";
import { startTestNats, type TestNats } from "../../helpers/nats-server.ts";

const CAP = 3_000_000;
const subjects = subjectsFor();
let nats: TestNats;
let bus: Bus;
let payloads: Payloads;

beforeAll(async () => {
  nats = await startTestNats();
  bus = await connectBus({ servers: nats.url, name: "test", inboxPrefix: "_INBOX_test" });
  await provision(bus, subjects, { ackWaitMs: 5_000 });
  payloads = openPayloads(bus.objects, subjects, { maxBytes: CAP });
});
afterAll(async () => {
  await bus?.close();
  await nats?.[Symbol.asyncDispose]();
});

const text = (length: number) => "ü".repeat(length / 2);
const sizeOf = (value: unknown) => Buffer.byteLength(JSON.stringify(value));

async function detached<T extends object>(
  message: T,
  { fields = LARGE.outcome as readonly string[], room = 100_000 } = {},
) {
  const [left] = await payloads.detach([message], { what: "it", fields, bytes: sizeOf(message), room, runId: "r1" });
  if (!left) throw new Error("expected a message");
  return left;
}

describe("taking large values out", () => {
  test("takes the largest first and no more than it has to", async () => {
    const message = { type: "completed", output: text(60_000), transcript: [text(90_000)], input: 1 };
    const left = await detached(message);
    expect(left.refs).toMatchObject([{ at: "/transcript", ref: expect.stringMatching(/^obj:troupe_payloads\/r1\//) }]);
    expect(left).not.toHaveProperty("transcript");
    expect(left.output).toBe(message.output);
    expect(sizeOf(left)).toBeLessThanOrEqual(100_000);
    expect(await payloads.resolve(left, { fields: LARGE.outcome, of: { runId: "r1" } })).toEqual(message);
    expect(message.transcript).toHaveLength(1);
  });

  test("stores nothing new for a value that was stored before", async () => {
    const message = { output: text(200_000) };
    const first = await detached(message);
    const stored = async () => (await (await bus.jsm()).streams.info(subjects.streams.payloads)).state.last_seq;
    const before = await stored();
    expect(await detached({ ...message, more: 1 })).toEqual({ more: 1, refs: first.refs });
    expect(await stored()).toBe(before);
  });

  test("says what is too large, where the cap is exceeded or nothing may be taken out", async () => {
    await expect(detached({ output: text(CAP) })).rejects.toThrow(
      `it /output: expected at most ${CAP} bytes (maxPayloadBytes), got ${CAP + 2}`,
    );
    await expect(detached({ other: text(200_000) })).rejects.toThrow(/^it: expected at most 100000 bytes/);
  });
});

describe("putting them back", () => {
  test("leaves values alone that only look like references, and messages that have none", async () => {
    const lookalike = { refs: [{ at: "/output", ref: "obj:troupe_payloads/r1/x", bytes: 1, sha256: "0" }] };
    const message = { output: { ...lookalike, $ref: "obj:troupe_payloads/r1/x" }, input: lookalike };
    expect(await payloads.resolve(message)).toBe(message);
    const large = { output: { ...message.output, text: text(200_000) } };
    expect(await payloads.resolve(await detached(large))).toEqual(large);
  });

  test.each([
    ["another run's object", { ref: "obj:troupe_payloads/r2/x" }, /allowed to mean/],
    ["another bucket", { ref: "obj:secrets/r1" }, /allowed to mean/],
    ["another scheme", { ref: "file:///etc/passwd" }, /allowed to mean/],
    ["a field that is never large", { at: "/taskId" }, /at: expected one of/],
    ["a length that is none", { bytes: -1.5 }, /expected \{at, ref, bytes, sha256\}/],
    ["more than the cap", { bytes: CAP + 1 }, /maxPayloadBytes/],
    ["no reference", { sha256: "abc" }, /expected \{at, ref, bytes, sha256\}/],
  ])("refuses %s", async (_, change, problem) => {
    const ref = { at: "/output", ref: "obj:troupe_payloads/r1/x", bytes: 10, sha256: "0".repeat(64), ...change };
    const resolving = payloads.resolve({ refs: [ref] }, { fields: LARGE.outcome, of: { runId: "r1" } });
    await expect(resolving).rejects.toThrow(problem);
  });

  test("an upload is read, and deleted when it is not needed any more", async () => {
    const message = { input: text(200_000) };
    const about = { what: "it", fields: LARGE.request, bytes: sizeOf(message), room: 1_000 };
    const [left = {}] = await payloads.detach([message], about);
    expect(await payloads.resolve(left, { fields: LARGE.request, of: "uploads" })).toEqual(message);
    await payloads.removeUploads(left);
    await expect(payloads.resolve(left)).rejects.toMatchObject({ code: "payload_missing" });
    const { state } = await (await bus.jsm()).streams.info(subjects.streams.uploads);
    expect(state.messages).toBe(0);
  });
});

test("a stand-in is carried along and becomes a reference again wherever it comes to stand", () => {
  const ref = { ref: "obj:troupe_payloads/r1/x", bytes: 10, sha256: "0".repeat(64) };
  const { data } = standIns({ data: { a: 1 }, refs: [{ at: "/data/output", ...ref }] }) as {
    data: { output?: unknown };
  };
  const record = { steps: [{ id: "a/b" }, { id: "c", output: data.output }], metadata: { "x/~y": data.output } };
  expect(withRefs(record)).toEqual({
    steps: [{ id: "a/b" }, { id: "c" }],
    metadata: {},
    refs: [
      { at: "/steps/1/output", ...ref },
      { at: "/metadata/x~1~0y", ...ref },
    ],
  });
  expect(withRefs({ a: 1 })).toEqual({ a: 1 });
});
