import { describe, expect, test } from "vitest";
import { defineAgent } from "../../../src/actors/define-agent.ts";
import type { DeadLetterPage } from "../../../src/runtime/edges/dead-api.ts";
import { storeDeadLetter, type Unhandled } from "../../../src/runtime/hosts/dead-letters.ts";
import { connectBus } from "../../../src/runtime/nats/connection.ts";
import { headers } from "../../../src/runtime/nats/nats.ts";
import { say } from "../../../src/testing/replies.ts";
import { rulesModel } from "../../../src/testing/rules-model.ts";
import { startTestDaemon } from "../../../src/testing/start-test-daemon.ts";
import { defineWorkflow } from "../../../src/workflows/define-workflow.ts";
import { type Edge, startEdge } from "../../helpers/edge.ts";
import { startTestNats } from "../../helpers/nats-server.ts";
import { sharedBus } from "../../helpers/shared-bus.ts";
import { taskFor } from "../../helpers/task-driver.ts";
import { until } from "../../helpers/until.ts";

const { bus } = await sharedBus();

/** Buries a request as the door does. */
function bury({ subjects }: Edge, text: string, more: Partial<Unhandled> = {}): Promise<void> {
  return storeDeadLetter(bus, subjects, {
    kind: "requests",
    name: "article",
    subject: subjects.request("article"),
    workflow: "article",
    reason: { code: "internal", message: "why" },
    data: Buffer.from(text),
    ...more,
  });
}

/** Buries what was in a mailbox. */
function buryTask(edge: Edge, text: string): Promise<void> {
  const subject = edge.subjects.mailbox("writer");
  return bury(edge, text, { kind: "tasks", name: "writer", subject, agent: "writer" });
}

const ids = ({ letters }: DeadLetterPage) => letters.map(({ seq }) => seq);

describe("dead.list", () => {
  test("is empty where nothing died", async () => {
    await using edge = await startEdge(bus);
    expect(await edge.client.deadLetters()).toEqual({ letters: [], total: 0 });
  });

  test("tells the newest first, page by page, over gaps, without the messages", async () => {
    await using edge = await startEdge(bus);
    for (const text of ["a", "b", "c", "d", "e", "f"]) await bury(edge, text, { runId: text });
    for (const seq of [1, 4]) await edge.client.drop(seq);
    const first = await edge.client.deadLetters({ limit: 2 });
    expect([ids(first), first.total]).toEqual([[6, 5], 4]);
    const second = await edge.client.deadLetters({ limit: 2, cursor: first.cursor as string });
    expect([ids(second), second.cursor]).toEqual([[3, 2], undefined]);
    expect(second.letters[1]).toEqual({
      seq: 2,
      kind: "requests",
      at: expect.any(String),
      subject: edge.subjects.request("article"),
      runId: "b",
      workflow: "article",
      reason: { code: "internal", message: "why" },
      bytes: 1,
      whole: true,
    });
    await edge.client.drop(6);
    expect(ids(await edge.client.deadLetters())).toEqual([5, 3, 2]);
  });

  test("refuses a cursor that is none", async () => {
    await using edge = await startEdge(bus);
    await expect(edge.client.deadLetters({ cursor: "x" })).rejects.toMatchObject({ code: "invalid_request" });
  });
});

describe("dead.show", () => {
  test("has the message, unpacked, and in base64 where it is not text", async () => {
    await using edge = await startEdge(bus);
    const long = '"'.repeat(700_000);
    await bury(edge, long);
    await bury(edge, "", { data: Buffer.from([0xff, 0x00]) });
    const text = await edge.client.deadLetter(1);
    expect([text.data === long, text.whole, text.bytes]).toEqual([true, true, 700_000]);
    expect(await edge.client.deadLetter(2)).toMatchObject({ data: "/wA=", encoding: "base64", whole: true });
  });

  test("shows what somebody else wrote there, which can be dropped but not sent again", async () => {
    await using edge = await startEdge(bus);
    await bus.js.publish(edge.subjects.dead("requests", "article"), "scribble");
    expect(await edge.client.deadLetter(1)).toMatchObject({ data: "scribble", reason: { code: "no_dead_letter" } });
    await expect(edge.client.redrive(1)).rejects.toMatchObject({ code: "cannot_redrive" });
    await edge.client.drop(1);
    expect((await edge.client.deadLetters()).total).toBe(0);
  });

  test("of one that is not there says so, as redrive and drop do", async () => {
    await using edge = await startEdge(bus);
    for (const act of ["deadLetter", "redrive", "drop"] as const) {
      await expect(edge.client[act](7)).rejects.toMatchObject({
        code: "unknown_dead_letter",
        message: "no dead letter 7",
      });
    }
  });
});

describe("dead.redrive", () => {
  test("puts a request back at the door with its run id and trace, and removes the letter", async () => {
    await using edge = await startEdge(bus);
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    await bury(edge, '{"input":"tea","userId":"u"}', { runId: "r7", traceparent });
    expect(await edge.client.redrive(1)).toEqual({ runId: "r7" });
    expect(await edge.requests()).toEqual([{ body: { input: "tea", userId: "u" }, traceparent }]);
    const stored = await (await bus.jsm()).streams.getMessage(edge.subjects.streams.requests, { seq: 1 });
    expect(stored.header.get("Troupe-Run-Id")).toBe("r7");
    expect((await edge.client.deadLetters()).total).toBe(0);
  });

  test("refuses what is only the beginning of a message, and keeps the letter", async () => {
    await using edge = await startEdge(bus);
    const text = Array.from({ length: 1_048_300 }, () => String.fromCharCode(33 + Math.random() * 90)).join("");
    await bury(edge, text);
    expect(await edge.client.deadLetter(1)).toMatchObject({ whole: false, bytes: text.length });
    await expect(edge.client.redrive(1)).rejects.toMatchObject({
      code: "cannot_redrive",
      message: expect.stringMatching(/^dead letter 1 cannot be sent again: the message had 1048300 bytes, .* only the/),
    });
    expect((await edge.client.deadLetters()).total).toBe(1);
  });

  test.each(["troupe.presence", "$JS.API.STREAM.DELETE.X", "t.requests.a.b", "t.requests.*"])(
    "publishes nothing on %s, whatever a letter says",
    async (subject) => {
      await using edge = await startEdge(bus);
      const heard: string[] = [];
      const own = subject.replace(/^t\./, `${edge.subjects.prefix}.`);
      bus.nc.subscribe(own, { callback: (_, message) => void heard.push(message.string()) });
      await bury(edge, "{}", { subject: own });
      await expect(edge.client.redrive(1)).rejects.toMatchObject({ code: "cannot_redrive" });
      await bus.nc.flush();
      expect(heard).toEqual([]);
    },
  );

  test("gives a task to a worker that accepts it, and only then removes the letter", async () => {
    await using edge = await startEdge(bus);
    const task = JSON.stringify(taskFor("writer"));
    await buryTask(edge, task);
    await expect(edge.client.redrive(1)).rejects.toThrow(`no worker serves ${edge.subjects.mailbox("writer")}`);
    const answers = [
      { type: "failed", error: { code: "bad_task", message: "what is this" } },
      { type: "busy" },
      { type: "accepted" },
    ];
    const taken: string[] = [];
    const worker = bus.nc.subscribe(edge.subjects.mailbox("writer"), {
      callback(_, message) {
        taken.push(message.string());
        message.respond(JSON.stringify({ taskId: "t1", ...answers.shift() }));
      },
    });
    await expect(edge.client.redrive(1)).rejects.toThrow("the worker still refuses it: what is this");
    await expect(edge.client.redrive(1)).rejects.toThrow("no worker of");
    expect((await edge.client.deadLetters()).total).toBe(1);
    expect(await edge.client.redrive(1)).toEqual({});
    expect((await edge.client.deadLetters()).total).toBe(0);
    expect(taken).toEqual([task, task, task]);
    worker.unsubscribe();
  });
});

test("a request that NATS denied a journal is sent again once that is mended, and is the run it was", async () => {
  const deny = `permissions: { publish: { deny: "troupe.runs.order-7" } }`;
  const options = {
    configExtra: `no_auth_user: any\nauthorization { users: [{ user: any, password: any, ${deny} }] }`,
  };
  await using broker = await startTestNats(options);
  await using troupe = await startTestDaemon({
    nats: broker.url,
    agents: [defineAgent({ name: "writer", instructions: "Write.", model: "m" })],
    workflows: [defineWorkflow({ name: "article", agents: ["writer"] })],
    model: rulesModel([{ agent: "writer", reply: say("An article.") }]),
  });
  const { client } = troupe;
  const caller = await connectBus({ servers: broker.url, name: "caller", inboxPrefix: "_INBOX_caller" });
  const hdrs = headers();
  // Redriven within the broker's two minutes it would be a duplicate, were it sent with the same header.
  hdrs.set("Nats-Msg-Id", "order-7");
  await caller.js.publish("troupe.requests.article", "tea", { headers: hdrs });
  await until("it is a dead letter", async () => (await client.deadLetters()).total === 1, { withinMs: 20_000 });
  expect((await client.deadLetters()).letters[0]).toMatchObject({
    kind: "requests",
    runId: "order-7",
    workflow: "article",
    reason: { code: "permission_denied", message: expect.stringContaining("troupe.runs.order-7") },
    whole: true,
  });

  options.configExtra = "";
  await broker.restart();
  await until("the daemon answers again", () => client.agents());
  expect(await client.redrive(1)).toEqual({ runId: "order-7" });
  expect(await client.result("order-7")).toBe("An article.");
  expect(await client.get("order-7")).toMatchObject({ input: "tea", status: "completed" });
  expect((await client.deadLetters()).total).toBe(0);
  await caller.close();
});
