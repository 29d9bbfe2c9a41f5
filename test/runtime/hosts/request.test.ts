import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type IncomingRequest, readRequest } from "../../../src/runtime/hosts/request.ts";
import { type Bus, connectBus } from "../../../src/runtime/nats/connection.ts";
import { headers, type JsMsg, nuid } from "../../../src/runtime/nats/nats.ts";
import { provision } from "../../../src/runtime/nats/provision.ts";
import { type Subjects, subjectsFor } from "../../../src/runtime/subjects.ts";
import { startTestNats, type TestNats } from "../../helpers/nats-server.ts";

let nats: TestNats;
let bus: Bus;
let subjects: Subjects;

beforeAll(async () => {
  nats = await startTestNats();
  bus = await connectBus({ servers: nats.url, name: "test", inboxPrefix: "_INBOX_test" });
});
beforeEach(async () => {
  subjects = subjectsFor(`t${nuid.next()}`);
  await provision(bus, subjects, { ackWaitMs: 30_000 });
});
afterAll(async () => {
  await bus?.close();
  await nats?.[Symbol.asyncDispose]();
});

async function nextAtDoor(): Promise<JsMsg> {
  const consumer = await bus.js.consumers.get(subjects.streams.requests, subjects.doorConsumer);
  const message = await consumer.next({ expires: 5_000 });
  if (!message) throw new Error("expected a request at the door");
  return message;
}

/** What a daemon makes of a body that any client published. */
async function read(body: string | Uint8Array, head: Record<string, string> = {}): Promise<IncomingRequest> {
  const hdrs = headers();
  for (const [name, value] of Object.entries(head)) hdrs.set(name, value);
  bus.nc.publish(subjects.request("article"), body, { headers: hdrs });
  const message = await nextAtDoor();
  message.ack();
  return readRequest(message);
}

const envelope = (fields: object) => JSON.stringify({ input: "bees", ...fields });

describe("a body that is the input itself", () => {
  test.each([
    ["text", "a topic", "a topic"],
    ["nothing", "", ""],
    ["a number", "42", 42],
    ["a JSON text", '"quoted"', "quoted"],
    ["null", "null", null],
    ["a list", '[{"input":1}]', [{ input: 1 }]],
    ["an object without input", '{"topic":"bees","runId":"x"}', { topic: "bees", runId: "x" }],
    ["broken JSON", '{"input": ', '{"input": '],
  ])("%s", async (_, body, input) => {
    const request = await read(body);
    expect(request).toEqual({
      workflow: "article",
      runId: expect.stringMatching(/^r[0-9a-z]+-[0-9a-z]+$/),
      request: { input },
    });
  });

  test("bytes that are no text are still a request", async () => {
    const { request, problem } = await read(new Uint8Array([0xff, 0xfe, 0x00, 0x80]));
    expect(typeof request.input).toBe("string");
    expect(problem).toBeUndefined();
  });
});

describe("an envelope", () => {
  test("gives every field", async () => {
    const fields = {
      runId: "mine-1",
      sessionId: "s1",
      userId: "u1",
      metadata: { team: "a", deep: { n: 1 } },
      notBefore: "2030-01-31T09:00:00+01:00",
      timeoutMs: 5_000,
      replyTo: "answers.here",
    };
    const { runId, ...request } = fields;
    expect(await read(envelope(fields))).toEqual({
      workflow: "article",
      runId,
      request: { input: "bees", ...request },
    });
  });

  test("may have nothing but an input, of any kind", async () => {
    for (const input of [null, false, 0, "", [], {}]) {
      expect((await read(JSON.stringify({ input }))).request).toEqual({ input });
    }
  });

  test.each([
    ["a run id of more than one token", { runId: "a.b" }, /^runId: expected 1 to 128 letters/],
    ["an empty run id", { runId: "" }, /^runId: /],
    ["a run id that is too long", { runId: "x".repeat(129) }, /^runId: /],
    ["a run id that is no text", { runId: 7 }, /^runId: /],
    ["a time that is none", { notBefore: "tomorrow" }, /^notBefore: expected an ISO 8601 instant/],
    ["a time limit of nothing", { timeoutMs: 0 }, /^timeoutMs: /],
    ["a time limit in parts", { timeoutMs: 1.5 }, /^timeoutMs: /],
    [
      "a reply into Troupe's own subjects",
      () => ({ replyTo: subjects.run("other") }),
      /^replyTo: expected a subject outside/,
    ],
    ["a time limit beyond all calendars", { timeoutMs: Number.MAX_SAFE_INTEGER }, /^timeoutMs: /],
    ["metadata that is a list", { metadata: [] }, /^metadata: /],
    ["a wildcard to reply to", { replyTo: "answers.>" }, /^replyTo: expected a NATS subject without wildcards/],
    ["a field nobody knows", { sesionId: "s" }, /sesionId/],
  ])("with %s is refused with the reason and keeps its input", async (_, fields: object | (() => object), problem) => {
    const request = await read(envelope(typeof fields === "function" ? fields() : fields));
    expect(request.problem).toMatch(problem);
    expect(request.request.input).toBe("bees");
    expect(request.runId).toMatch(/^r[0-9a-z]+-[0-9a-z]+$/);
  });

  test("that is refused still says who wants to hear of it, if that is a subject", async () => {
    expect((await read(envelope({ timeoutMs: -1, replyTo: "answers.here" }))).request).toEqual({
      input: "bees",
      replyTo: "answers.here",
    });
    for (const replyTo of ["answers.>", "two words", ""]) {
      expect((await read(envelope({ timeoutMs: -1, replyTo }))).request).toEqual({ input: "bees" });
    }
  });

  test("that is refused keeps the run id it gave, so that its sender finds it", async () => {
    expect((await read(envelope({ runId: "mine-2", timeoutMs: -1 }))).runId).toBe("mine-2");
  });
});

describe("the run id", () => {
  test("is the message id where none is given, if it can be one", async () => {
    expect((await read("bees", { "Nats-Msg-Id": "order-17" })).runId).toBe("order-17");
    expect((await read(envelope({}), { "Nats-Msg-Id": "order-18" })).runId).toBe("order-18");
    expect((await read(envelope({ runId: "mine" }), { "Nats-Msg-Id": "order-19" })).runId).toBe("mine");
  });

  test("stands for a message id that cannot be one, always the same for the same", async () => {
    const ids = [];
    for (const id of ["order 20", "order 21"]) {
      const body = nuid.next();
      ids.push((await read(body, { "Nats-Msg-Id": id })).runId);
    }
    expect(ids[0]).toMatch(/^[A-Za-z0-9_-]{1,128}$/);
    expect(ids[1]).not.toBe(ids[0]);
    await (await bus.jsm()).streams.delete(subjects.streams.requests);
    await provision(bus, subjects, { ackWaitMs: 30_000 });
    expect((await read("bees", { "Nats-Msg-Id": "order 20" })).runId).toBe(ids[0]);
  });

  test("is the same at every delivery of one message, and another for every message", async () => {
    bus.nc.publish(subjects.request("article"), "bees");
    const first = await nextAtDoor();
    first.nak();
    const again = await nextAtDoor();
    again.ack();
    expect(again.info.redeliveryCount).toBe(2);
    expect(readRequest(again).runId).toBe(readRequest(first).runId);
    expect((await read("bees")).runId).not.toBe(readRequest(first).runId);
  });

  test("is another one after the stream was made again and counts from the start", async () => {
    const before = (await read("bees")).runId;
    const jsm = await bus.jsm();
    await jsm.streams.delete(subjects.streams.requests);
    await provision(bus, subjects, { ackWaitMs: 30_000 });
    expect((await read("bees")).runId).not.toBe(before);
  });
});

test("the caller's trace is taken along", async () => {
  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  expect((await read("bees", { traceparent })).traceparent).toBe(traceparent);
  expect(await read("bees")).not.toHaveProperty("traceparent");
});
