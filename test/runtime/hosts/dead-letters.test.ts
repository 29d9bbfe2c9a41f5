import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { defineAgent } from "../../../src/actors/define-agent.ts";
import {
  type DeadLetter,
  messageOf,
  storeDeadLetter,
  taskOriginOf,
  type Unhandled,
} from "../../../src/runtime/hosts/dead-letters.ts";
import { noMetrics } from "../../../src/tracing/metrics.ts";
import { type Bench, startBench } from "../../helpers/agent-host-bench.ts";
import { say, taskFor } from "../../helpers/task-driver.ts";
import { until } from "../../helpers/until.ts";

let bench: Bench;
beforeAll(async () => {
  bench = await startBench();
});
afterAll(() => bench[Symbol.asyncDispose]());

async function newest(): Promise<DeadLetter & { storedAt: string }> {
  const jsm = await bench.bus.jsm();
  const stored = await jsm.streams.getMessage(bench.subjects.streams.dead, { last_by_subj: bench.subjects.allDead });
  return { ...stored.json<DeadLetter>(), storedAt: stored.subject };
}

async function stored(data: Uint8Array | string, more: Partial<Unhandled> = {}) {
  const reason = { code: "internal", message: "why" };
  const subject = bench.subjects.request("article");
  const bytes = typeof data === "string" ? Buffer.from(data) : data;
  await storeDeadLetter(bench.bus, bench.subjects, {
    kind: "requests",
    name: "article",
    subject,
    runId: "r1",
    reason,
    data: bytes,
    ...more,
  });
  const letter = await newest();
  return { letter, back: messageOf(letter) && Buffer.from(messageOf(letter) as Uint8Array), sent: Buffer.from(bytes) };
}

test("a letter has the message, where it came from, when and why", async () => {
  const { letter, back, sent } = await stored('{"input":"tea"}', { workflow: "article", traceparent: "00-a-b-01" });
  expect(letter).toEqual({
    storedAt: "troupe.dead.requests.article",
    v: 1,
    at: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
    subject: "troupe.requests.article",
    runId: "r1",
    workflow: "article",
    traceparent: "00-a-b-01",
    reason: { code: "internal", message: "why" },
    bytes: 15,
    data: '{"input":"tea"}',
  });
  expect(back).toEqual(sent);
});

test.each([
  ["text with every kind of character", `é 🫖 "quoted" \\ \u0000 \uFEFF`],
  ["nothing", ""],
  ["bytes that are no text", Buffer.from([0xff, 0x00, 0x80, 0x41])],
  ["text that is longer as JSON than a message may be", '"'.repeat(700_000)],
])("%s comes back byte for byte", async (_, message) => {
  const { letter, back, sent } = await stored(message);
  expect(back?.equals(sent)).toBe(true);
  expect(letter.cut).toBeUndefined();
});

test.each([
  ["text", Buffer.from(randomBytes(786_225).toString("base64"))],
  ["text that has to be escaped", Buffer.from(randomBytes(1_000_000).map((byte) => byte % 127))],
  ["bytes", randomBytes(1_000_000)],
])("of %s that does not fit the beginning is kept, and the letter says so", async (_, message) => {
  const { letter, back } = await stored(message);
  expect(letter).toMatchObject({ cut: true, bytes: message.length });
  expect(back).toBeUndefined();
  expect(letter.data.length).toBeGreaterThan(100_000);
  expect(message.toString().startsWith(letter.data.slice(0, 1_000))).toBe(true);
});

test("a letter whose packed message was tampered with gives no message", () => {
  for (const data of ["no base64 of gzip", Buffer.from("plain").toString("base64")]) {
    expect(messageOf({ data, encoding: "gzip", bytes: 5 })).toBeUndefined();
  }
});

test("of a task that cannot be read is told what it says of itself, where that can be a name", () => {
  expect(taskOriginOf('{"runId":"r1","taskId":"a.>","workflow":7}')).toEqual({ runId: "r1" });
  for (const text of ["hello", "null", "[]", '"text"']) expect(taskOriginOf(text)).toEqual({});
});

test("a message in a mailbox that is no task and wants no answer becomes a dead letter, counted once", async () => {
  const agent = defineAgent({ name: "writer", instructions: "Write.", model: "m" });
  const counted: string[] = [];
  const host = await bench.host([agent], () => say("never"), {
    metrics: { ...noMetrics, deadLettered: (kind) => counted.push(kind) },
  });
  const text = JSON.stringify({ ...taskFor("writer", { runId: "run7", taskId: "t7" }), attempt: "first" });
  bench.bus.nc.publish(bench.subjects.mailbox("writer"), text);
  await until("it is counted", () => counted.length > 0);
  expect(await newest()).toMatchObject({
    storedAt: "troupe.dead.tasks.writer",
    subject: "troupe.agents.writer",
    reason: { code: "bad_task", message: expect.stringContaining("task.attempt: expected a whole number") },
    runId: "run7",
    taskId: "t7",
    workflow: expect.any(String),
    agent: "writer",
    worker: expect.stringMatching(/^host\d+\/1$/),
    data: text,
  });
  expect(counted).toEqual(["tasks"]);
  expect(host.calls).toEqual([]);
});

test("a message in a mailbox that is no task but wants an answer gets one and is no dead letter", async () => {
  const agent = defineAgent({ name: "editor", instructions: "Edit.", model: "m" });
  await bench.host([agent], () => say("never"));
  await bench.bus.nc.request(bench.subjects.mailbox("editor"), "hello", { timeout: 5_000 });
  const { state } = await (await bench.bus.jsm()).streams.info(bench.subjects.streams.dead, {
    subjects_filter: bench.subjects.dead("tasks", "editor"),
  });
  expect(state.subjects ?? {}).toEqual({});
});
