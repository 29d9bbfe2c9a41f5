import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { z } from "zod";
import { defineAgent } from "../../../src/actors/define-agent.ts";
import { defineTool } from "../../../src/actors/define-tool.ts";
import type { ToolLogger } from "../../../src/actors/tool.ts";
import { type Client, connect } from "../../../src/runtime/edges/client.ts";
import type { LiveEvent } from "../../../src/runtime/edges/run-feed.ts";
import type { LogLine } from "../../../src/runtime/hosts/run-logs.ts";
import { callTool, rulesModel, say, startTestDaemon, type TestDaemon } from "../../../src/testing/index.ts";
import { defineWorkflow } from "../../../src/workflows/define-workflow.ts";
import type { RunRecord } from "../../../src/workflows/run-record.ts";
import { startCable } from "../../helpers/cable.ts";
import { startTestNats, type TestNats } from "../../helpers/nats-server.ts";
import { until } from "../../helpers/until.ts";

/** What the tool `tell` does, by run. */
const telling = new Map<string, (logger: ToolLogger) => unknown>();
const tell = defineTool({
  name: "tell",
  description: "Logs.",
  parameters: z.object({}),
  execute: (_args, { logger, runId }) => telling.get(runId)?.(logger) ?? "told",
});
const talker = defineAgent({ name: "talker", instructions: "Talk.", model: "m", tools: [tell] });
const quiet = defineAgent({ name: "quiet", instructions: "Be quiet.", model: "m" });
const model = rulesModel([
  { agent: "talker", afterTool: false, reply: callTool("tell") },
  { agent: "talker", reply: say("said") },
  { agent: "quiet", reply: say("nothing") },
]);

let nats: TestNats;
let troupe: TestDaemon;
let client: Client;

beforeAll(async () => {
  nats = await startTestNats();
  troupe = await startTestDaemon({
    agents: [talker, quiet],
    workflows: [
      defineWorkflow({ name: "talk", agents: [talker] }),
      defineWorkflow({ name: "hush", agents: [quiet] }),
      defineWorkflow({ name: "both", agents: [quiet, talker] }),
      defineWorkflow({ name: "long", agents: Array.from({ length: 40 }, () => quiet) }),
    ],
    model,
    nats: nats.url,
  });
  client = troupe.client;
});
afterAll(async () => {
  await troupe?.stop();
  await nats?.[Symbol.asyncDispose]();
});

async function linesOf(lines: AsyncIterable<LogLine>): Promise<LogLine[]> {
  const all: LogLine[] = [];
  for await (const line of lines) all.push(line);
  return all;
}

test("what tools log is there by run, with its level, its fields and who said it, once the run is over", async () => {
  telling.set("log-1", (logger) => {
    logger.info("first");
    logger.warn({ order: 7, err: new Error("no such order") }, "second");
    logger.debug({ only: "fields" });
    return "done";
  });
  await client.run("talk", "x", { runId: "log-1" });
  const lines = await linesOf(client.logs("log-1"));
  expect(lines).toEqual([
    { at: expect.any(String), level: "info", agent: "talker", taskId: "talker-1", message: "first" },
    {
      at: expect.any(String),
      level: "warn",
      agent: "talker",
      taskId: "talker-1",
      message: "second",
      fields: { order: 7, err: { name: "Error", message: "no such order", stack: expect.any(String) } },
    },
    {
      at: expect.any(String),
      level: "debug",
      agent: "talker",
      taskId: "talker-1",
      message: "",
      fields: { only: "fields" },
    },
  ]);
});

test("a run that logs nothing has an empty log, and of a run that nobody knows it is an error to ask", async () => {
  const { runId } = await client.start("hush", "x");
  await client.result(runId);
  expect(await linesOf(client.logs(runId))).toEqual([]);
  await expect(linesOf(client.logs("nobody-knows-it"))).rejects.toThrow(/no run "nobody-knows-it"/);
});

test("whoever follows a log gets lines while the run is at work, and the end with the run", async () => {
  const go = Promise.withResolvers<string>();
  telling.set("log-2", async (logger) => {
    logger.info("before");
    const said = await go.promise;
    logger.info("after");
    return said;
  });
  await client.start("talk", "x", { runId: "log-2" });
  const seen: string[] = [];
  for await (const { message } of client.logs("log-2", { follow: true })) {
    seen.push(message);
    if (message === "before") {
      expect((await client.get("log-2")).status).toBe("running");
      go.resolve("on");
    }
  }
  expect(seen).toEqual(["before", "after"]);
});

test("lines are on the live feed as well", async () => {
  telling.set("log-3", async (logger) => {
    logger.info("live");
    // Until it is on its way: what is said with the outcome comes after the end of the task, and is not news any more.
    await sleep(400);
  });
  await client.start("talk", "x", { runId: "log-3" });
  const live: LiveEvent[] = [];
  for await (const event of client.events("log-3")) if (event.n === undefined) live.push(event);
  const line = live.find(({ type }) => type === "log.line");
  expect(line?.data).toMatchObject({ agent: "talker", taskId: "talker-1", level: "info", message: "live" });
});

test("a log that is longer than an answer comes in pages, whole and in order, and one without end keeps its last lines", async () => {
  const word = "x".repeat(3_000);
  telling.set("log-4", (logger) => {
    for (let n = 0; n < 700; n += 1) logger.info({ n }, word);
  });
  await client.run("talk", "x", { runId: "log-4" });
  const numbers = (await linesOf(client.logs("log-4"))).map(({ fields }) => fields?.n);
  expect(numbers).toEqual(Array.from({ length: 700 }, (_, n) => n));
  telling.set("log-5", (logger) => {
    for (let n = 0; n < 6_000; n += 1) logger.info({ n }, word);
  });
  await client.run("talk", "x", { runId: "log-5" });
  const kept = (await linesOf(client.logs("log-5"))).map(({ fields }) => fields?.n as number);
  expect(kept.at(-1)).toBe(5_999);
  expect(kept.length).toBeLessThan(6_000);
  expect(kept.length).toBeGreaterThan(3_000);
});

test("a line beyond a limit is cut, and fields that are no JSON cost the line only", async () => {
  const round: { [name: string]: unknown } = {};
  round.round = round;
  telling.set("log-6", (logger) => {
    logger.info("y".repeat(100_000));
    logger.info({ much: "z".repeat(100_000) }, "much");
    logger.info(round, "round");
    logger.info("last");
  });
  await client.run("talk", "x", { runId: "log-6" });
  const lines = await linesOf(client.logs("log-6"));
  expect(lines.map(({ message, fields }) => [message.slice(0, 10), message.length, fields])).toEqual([
    ["yyyyyyyyyy", 8_192, undefined],
    ["much", 4, { cut: true }],
    ["last", 4, undefined],
  ]);
});

test("the metrics of a run count what its tasks took", async () => {
  telling.set("m-1", () => "done");
  await client.run("both", "x", { runId: "m-1" });
  const metrics = await client.metrics("m-1");
  expect(metrics).toMatchObject({
    runId: "m-1",
    workflow: "both",
    status: "completed",
    attempts: 2,
    retries: 0,
    lost: 0,
  });
  expect(metrics).toMatchObject({ modelCalls: 3, toolCalls: 1 });
  expect(metrics.steps).toMatchObject([
    { id: "quiet", agent: "quiet", attempts: 1, modelCalls: 1, toolCalls: 0 },
    { id: "talker", agent: "talker", attempts: 1, modelCalls: 2, toolCalls: 1 },
  ]);
  await expect(client.metrics("nobody-knows-it")).rejects.toThrow(/no run/);
});

test("the output of a step is readable while the run goes on", async () => {
  const go = Promise.withResolvers<string>();
  telling.set("part-1", () => go.promise);
  await client.start("both", "x", { runId: "part-1" });
  const run = await until("the second step is at work", async () => {
    const now = await client.get("part-1").catch(() => undefined);
    return now?.current.some(({ step }) => step === "talker") ? now : undefined;
  });
  expect(run.status).toBe("running");
  expect(run.progress).toEqual({ completed: 1, total: 2, percent: 50 });
  expect(run.steps[0]).toMatchObject({ id: "quiet", status: "completed", output: "nothing", attempts: 1 });
  go.resolve("on");
  await client.result("part-1");
});

test("a watcher sees a run move on to its end, also from its middle, and stops when it is told to", async () => {
  const go = Promise.withResolvers<string>();
  telling.set("watch-1", () => go.promise);
  await client.start("both", "x", { runId: "watch-1" });
  const records: RunRecord[] = [];
  for await (const run of client.watch("watch-1")) {
    records.push(run);
    if (run.current.some(({ step }) => step === "talker")) go.resolve("on");
  }
  const counts = records.map(({ events }) => events);
  expect(counts).toEqual(counts.toSorted((a, b) => a - b));
  expect(records.at(-1)).toEqual(await client.get("watch-1"));
  for await (const run of client.watch("watch-1")) {
    // All there is at once.
    expect(run.status).toBe("completed");
  }
  const stop = new AbortController();
  const { runId } = await client.start("hush", "x", { notBefore: new Date(Date.now() + 3_600_000) });
  await expect(async () => {
    for await (const run of client.watch(runId, { signal: stop.signal })) if (run.status === "pending") stop.abort();
  }).rejects.toThrow(/abort/i);
  for await (const run of client.watch(runId)) if (run.status === "pending") break;
  await client.cancel(runId);
});

test("a watcher and a follower whose connection is lost again and again miss nothing and see nothing twice", {
  timeout: 60_000,
}, async () => {
  await using cable = await startCable(nats.port);
  const far = await connect({ servers: cable.url });
  const go = Promise.withResolvers<void>();
  telling.set("far-1", async (logger) => {
    for (let n = 0; n < 30; n += 1) {
      logger.info({ n }, "line");
      await sleep(100);
    }
    await go.promise;
    logger.info({ n: 30 }, "line");
  });
  await client.start("both", "x", { runId: "far-1" });
  const events: number[] = [];
  const watched = (async () => {
    for await (const event of far.events("far-1", { live: false })) events.push(event.n);
  })();
  let last: RunRecord | undefined;
  const moved = (async () => {
    for await (const run of far.watch("far-1")) last = run;
  })();
  const read: LogLine[] = [];
  const followed = (async () => {
    for await (const line of far.logs("far-1", { follow: true })) read.push(line);
  })();
  let cuts = 0;
  for (; read.length < 30; cuts += 1) {
    await sleep(600);
    cable.cut();
  }
  // Its end comes while nobody is there, and nothing after it tells that something was missed.
  cable.refuse();
  go.resolve();
  await client.result("far-1");
  await sleep(300);
  cable.accept();
  await Promise.all([watched, moved, followed]);
  expect(cuts).toBeGreaterThan(2);
  expect(read.map(({ fields }) => fields?.n)).toEqual(Array.from({ length: 31 }, (_, n) => n));
  const journal = await client.journal("far-1");
  expect(events).toEqual(journal.map(({ n }) => n));
  expect(last).toEqual(await client.get("far-1"));
  await far.close();
});
