import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { trace } from "@opentelemetry/api";
import { afterEach, expect, test, vi } from "vitest";
import { noTracing } from "../../src/tracing/no-tracing.ts";
import { startTracing } from "../../src/tracing/start-tracing.ts";
import { rootSpanId, segmentSpanId, traceIdFor } from "../../src/tracing/trace-ids.ts";
import type { JournalEntry, JournalPart, Tracing } from "../../src/tracing/tracing.ts";
import type { TracingOptions } from "../../src/tracing/tracing-options.ts";
import { startTestReceiver } from "../helpers/otlp-receiver.ts";
import { checkTraces } from "../helpers/trace-checker.ts";
import { until } from "../helpers/until.ts";
import { accepted, completed, handedOff, newJournal, sent, settled } from "./journal.ts";

const started: Tracing[] = [];
afterEach(async () => {
  vi.unstubAllEnvs();
  await Promise.all(started.splice(0).map((tracing) => tracing.stop(500)));
});

async function start(options: TracingOptions = {}): Promise<Tracing> {
  vi.stubEnv("OTEL_BSP_SCHEDULE_DELAY", "20");
  const tracing = await startTracing(options);
  started.push(tracing);
  return tracing;
}

function chatStart(taskId = "t1") {
  return { agent: "writer", runId: "r1", taskId, turn: 1, provider: "openai", model: "gpt-5" };
}

function toolStart(taskId = "t1") {
  return { agent: "writer", runId: "r1", taskId, tool: "search", callId: "c1" };
}

/** A journal that was read from its beginning. */
function wholeOf(entries: readonly JournalEntry[]): JournalPart {
  const accepted = entries[0]?.events[0];
  if (accepted?.type !== "run.accepted") throw new Error("expected a journal that begins with run.accepted");
  return { accepted, entries };
}

function handoffRun(runId = "r1", firstSeq = 1) {
  const journal = newJournal(runId, { firstSeq });
  const entries = [
    journal.entry(0, accepted(journal.trace), sent("t1", "triage")),
    journal.entry(10, handedOff("t1", "triage", "billing", "t2"), sent("t2", "billing")),
    journal.entry(20, sent("t2", "billing", { delivery: 2 })),
    journal.entry(30, settled("t2", "billing"), completed),
  ];
  return { journal, entries };
}

for (const protocol of ["http/protobuf", "http/json"]) {
  test(`a run is one connected trace over ${protocol}`, async () => {
    await using receiver = await startTestReceiver();
    vi.stubEnv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
    vi.stubEnv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint);
    const tracing = await start({ serviceName: "shop" });
    const { journal, entries } = handoffRun();
    const run = tracing.run("r1", "article", journal.trace);
    const leaf = tracing.chat(run.segment("t2", 2), chatStart("t2"));
    leaf.end({
      usage: { inputTokens: 7, outputTokens: 3 },
      responseModel: "gpt-5-x",
      finishReason: "stop",
      firstChunkMs: 250,
    });
    for (const { events, seq } of entries) run.recorded(events, seq);
    const spans = await receiver.until((all) => all.length === 6 && all);
    expect(checkTraces(spans, { runIds: ["r1"] })).toEqual([]);
    const chat = spans.find(({ name }) => name === "chat gpt-5");
    expect(chat).toMatchObject({
      kind: "client",
      parentSpanId: segmentSpanId("r1", "t2", 2),
      attributes: {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.response.model": "gpt-5-x",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.usage.input_tokens": 7,
      },
    });
    const structural = spans.filter(({ name }) => !name.startsWith("chat"));
    for (const span of structural) expect(span.resource).toEqual({ "service.name": "shop" });
  });
}

test("another process makes the same spans again from the journal", async () => {
  await using receiver = await startTestReceiver();
  const { journal, entries } = handoffRun();
  const first = await start({ url: receiver.url });
  const run = first.run("r1", "article", journal.trace);
  for (const { events, seq } of entries) run.recorded(events, seq);
  await first.stop(2_000);
  const original = [...receiver.spans];
  const second = await start({ url: receiver.url });
  await second.reproject(wholeOf(entries), 0);
  const again = receiver.spans.slice(original.length);
  expect(again).toEqual(original);
  expect(again).toHaveLength(5);
});

test("reprojecting makes only what later entries caused", async () => {
  await using receiver = await startTestReceiver();
  const { entries } = handoffRun();
  await (await start({ url: receiver.url })).reproject(wholeOf(entries), 2);
  expect(receiver.spans.map(({ name }) => name)).toEqual([
    "invoke_agent billing",
    "invoke_agent billing",
    "invoke_workflow article",
  ]);
});

test("a takeover exports what comes after the entries it replayed", async () => {
  await using receiver = await startTestReceiver();
  const { journal, entries } = handoffRun();
  const tracing = await start({ url: receiver.url });
  const run = tracing.run("r1", "article", journal.trace);
  for (const { events } of entries.slice(0, 3)) run.replayed(events);
  for (const { events, seq } of entries.slice(3)) run.recorded(events, seq);
  const spans = await receiver.until((all) => all.length > 0 && all);
  expect(spans.map(({ name, attributes }) => [name, attributes["troupe.handoff.from"]])).toEqual([
    ["invoke_agent billing", "triage"],
    ["invoke_workflow article", undefined],
  ]);
});

test("a sequence counts as exported only once the collector took its spans", async () => {
  await using receiver = await startTestReceiver();
  receiver.behave({ refuse: 503 });
  const tracing = await start({ url: receiver.url });
  const journal = newJournal("r1", { firstSeq: 7 });
  const run = tracing.run("r1", "article", journal.trace);
  const first = journal.entry(0, accepted(journal.trace), sent("t1", "writer"));
  run.recorded(first.events, first.seq);
  await receiver.untilRequests(1);
  expect(tracing.exportedThrough()).toBe(6);
  receiver.behave("accept");
  await receiver.until((spans) => spans.length === 1);
  await vi.waitFor(() => expect(tracing.exportedThrough()).toBe(7));
  const silent = journal.entry(1, { type: "timer.set", data: { id: "x", dueAt: "2026-03-01T11:00:00.000Z" } });
  run.recorded(silent.events, silent.seq);
  expect(tracing.exportedThrough()).toBe(8);
});

test("a batch the collector will never take is given up, and what follows gets through", async () => {
  await using receiver = await startTestReceiver();
  receiver.behave({ refuse: 400 });
  const dropped: number[] = [];
  const tracing = await start({ url: receiver.url, onDropped: (spans) => dropped.push(spans) });
  const { journal, entries } = handoffRun();
  const run = tracing.run("r1", "article", journal.trace);
  const [first, ...rest] = entries;
  if (first) run.recorded(first.events, first.seq);
  await vi.waitFor(() => expect(dropped).toEqual([1]));
  receiver.behave("accept");
  for (const { events, seq } of rest) run.recorded(events, seq);
  await receiver.until((spans) => spans.length === 4);
  await vi.waitFor(() => expect(tracing.exportedThrough()).toBe(4));
});

test("a collector that hangs delays neither recording nor stopping", async () => {
  await using receiver = await startTestReceiver();
  receiver.behave("hang");
  const warnings: string[] = [];
  const tracing = await start({ url: receiver.url, logger: { warn: (_fields, message) => warnings.push(message) } });
  const { journal, entries } = handoffRun();
  const run = tracing.run("r1", "article", journal.trace);
  for (const { events, seq } of entries) run.recorded(events, seq);
  await receiver.untilRequests(1);
  const before = performance.now();
  await tracing.stop(100);
  expect(performance.now() - before).toBeLessThan(1_000);
  expect(warnings).toEqual(["spans were given up, telemetry stopped before the collector took them"]);
});

test("stopping does not wait for a collector that is not there", async () => {
  const tracing = await start({ url: `http://127.0.0.1:${await freePort()}/v1/traces` });
  const { journal, entries } = handoffRun();
  const run = tracing.run("r1", "article", journal.trace);
  for (const { events, seq } of entries) run.recorded(events, seq);
  const before = performance.now();
  await tracing.stop(10_000);
  expect(performance.now() - before).toBeLessThan(2_000);
});

test("a process ends by itself although its collector hangs, stopped or not", async () => {
  await using receiver = await startTestReceiver();
  receiver.behave("hang");
  for (const stop of ["", "await tracing.stop(50);"]) {
    const program = `
      import { startTracing } from ${JSON.stringify(new URL("../../src/tracing/start-tracing.ts", import.meta.url).href)};
      const tracing = await startTracing({ url: ${JSON.stringify(receiver.url)} });
      const segment = { traceId: "${traceIdFor("r1")}", spanId: "${rootSpanId("r1")}", sampled: true };
      const start = { agent: "a", runId: "r1", taskId: "t1", turn: 1, provider: "p", model: "m" };
      tracing.chat(segment, start).end({});
      await new Promise((resolve) => setTimeout(resolve, 150));
      ${stop}
    `;
    const child = spawn(process.execPath, ["--input-type=module", "--eval", program], {
      env: { ...process.env, OTEL_BSP_SCHEDULE_DELAY: "20", OTEL_EXPORTER_OTLP_TIMEOUT: "30000" },
      stdio: "inherit",
    });
    const [code] = (await once(child, "exit")) as [number];
    expect(code).toBe(0);
  }
  // Had a request kept its process alive, the test would have run into its own timeout before the request did.
  expect(receiver.requests).toBe(2);
});

test("spans wait for a collector that comes later", async () => {
  const port = await freePort();
  const tracing = await start({ url: `http://127.0.0.1:${port}/v1/traces` });
  const { journal, entries } = handoffRun();
  const run = tracing.run("r1", "article", journal.trace);
  for (const { events, seq } of entries) run.recorded(events, seq);
  await using receiver = await startTestReceiver(port);
  const spans = await receiver.until((all) => all.length === 5 && all);
  expect(checkTraces(spans, { runIds: ["r1"] })).toEqual([]);
});

test("a full queue gives up the oldest spans and says so", async () => {
  vi.stubEnv("OTEL_BSP_MAX_QUEUE_SIZE", "20");
  vi.stubEnv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10");
  await using receiver = await startTestReceiver();
  receiver.behave("hang");
  let dropped = 0;
  const tracing = await start({ url: receiver.url, onDropped: (spans) => (dropped += spans) });
  for (let index = 1; index <= 10; index += 1) {
    const { journal, entries } = handoffRun(`r${index}`, index * 10);
    const run = tracing.run(journal.runId, "article", journal.trace);
    for (const { events, seq } of entries) run.recorded(events, seq);
  }
  // 50 spans: 10 in flight, at most 20 waiting.
  expect(dropped).toBe(20);
  expect(tracing.exportedThrough()).toBe(9);
});

test("a full queue gives up leaves before spans that others hang below", async () => {
  vi.stubEnv("OTEL_BSP_MAX_QUEUE_SIZE", "40");
  vi.stubEnv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10");
  await using receiver = await startTestReceiver();
  receiver.behave({ refuse: 503 });
  const tracing = await start({ url: receiver.url });
  const runIds = ["r1", "r2", "r3", "r4"];
  for (const [index, runId] of runIds.entries()) {
    const { journal, entries } = handoffRun(runId, (index + 1) * 10);
    const run = tracing.run(journal.runId, "article", journal.trace);
    for (const { events, seq } of entries) run.recorded(events, seq);
    for (let turn = 1; turn <= 20; turn += 1) tracing.chat(run.segment("t2", 2), chatStart("t2")).end({});
  }
  receiver.behave("accept");
  const isStructural = ({ name }: { name: string }) => !name.startsWith("chat");
  const spans = await receiver.until((all) => all.filter(isStructural).length === runIds.length * 5 && all);
  expect(checkTraces(spans, { runIds })).toEqual([]);
  await until("all that is left is exported", () => tracing.exportedThrough() === 43);
});

test("what had to make room is never said to be exported, so that the next life makes it again", async () => {
  vi.stubEnv("OTEL_BSP_MAX_QUEUE_SIZE", "20");
  vi.stubEnv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10");
  await using receiver = await startTestReceiver();
  receiver.behave({ refuse: 503 });
  const tracing = await start({ url: receiver.url });
  const runs = Array.from({ length: 10 }, (_, index) => handoffRun(`r${index + 1}`, (index + 1) * 10));
  for (const { journal, entries } of runs) {
    const run = tracing.run(journal.runId, "article", journal.trace);
    for (const { events, seq } of entries) run.recorded(events, seq);
  }
  receiver.behave("accept");
  await receiver.until((all) => all.length >= 20);
  await tracing.stop(5_000);
  const through = tracing.exportedThrough();
  const told = new Set(receiver.spans.map(({ traceId }) => traceId));
  const missing = runs.filter(({ journal }) => !told.has(journal.trace.traceId));
  expect(missing.length).toBeGreaterThan(0);
  for (const { entries } of missing) expect(entries[0]?.seq).toBeGreaterThan(through);

  const next = await start({ url: receiver.url });
  for (const { entries } of runs) await next.reproject(wholeOf(entries), through);
  const runIds = runs.map(({ journal }) => journal.runId);
  await receiver.until((all) => checkTraces(all, { runIds }).length === 0);
});

test("spans that a tool makes with the OpenTelemetry API hang below the tool", async () => {
  await using receiver = await startTestReceiver();
  const tracing = await start({ url: receiver.url });
  const segment = { traceId: traceIdFor("r1"), spanId: segmentSpanId("r1", "t1", 1), sampled: true };
  const leaf = tracing.tool(segment, toolStart());
  await leaf.within(async () => {
    await Promise.resolve();
    trace.getActiveSpan()?.setAttribute("mine", 1);
    trace.getTracer("users").startSpan("query").end();
  });
  leaf.end({ error: { code: "tool_failed", message: "no" } });
  const spans = await receiver.until((all) => all.length === 2 && all);
  const tool = spans.find(({ name }) => name === "execute_tool search");
  const query = spans.find(({ name }) => name === "query");
  expect(tool).toMatchObject({
    parentSpanId: segment.spanId,
    status: { code: "error", message: "no" },
    attributes: { mine: 1, "error.type": "tool_failed", "gen_ai.tool.name": "search", "gen_ai.tool.call.id": "c1" },
  });
  expect(query).toMatchObject({ traceId: segment.traceId, parentSpanId: tool?.spanId });
});

test("nothing below a segment that is not sampled is recorded", async () => {
  await using receiver = await startTestReceiver();
  const tracing = await start({ url: receiver.url });
  const segment = { traceId: traceIdFor("r1"), spanId: segmentSpanId("r1", "t1", 1), sampled: false };
  tracing.chat(segment, chatStart()).end({});
  const tool = tracing.tool(segment, toolStart());
  tool.within(() => trace.getTracer("users").startSpan("query").end());
  tool.end({});
  tracing.chat({ ...segment, sampled: true }, chatStart()).end({});
  await tracing.stop(2_000);
  expect(receiver.spans.map(({ name }) => name)).toEqual(["chat gpt-5"]);
});

test("leaves of a held segment wait for its release, with everything below them", async () => {
  await using receiver = await startTestReceiver();
  const tracing = await start({ url: receiver.url });
  const segment = { traceId: traceIdFor("r1"), spanId: segmentSpanId("r1", "t1", 1), sampled: true };
  const other = { ...segment, spanId: segmentSpanId("r1", "t2", 1) };
  tracing.hold(segment);
  tracing.chat(segment, chatStart()).end({});
  const tool = tracing.tool(segment, toolStart());
  tool.within(() => trace.getTracer("users").startSpan("query").end());
  tool.end({});
  tracing.chat(other, chatStart("t2")).end({});
  await receiver.until((spans) => spans.length === 1);
  tracing.release(segment);
  const spans = await receiver.until((all) => all.length === 4 && all);
  expect(spans.map(({ name }) => name).sort()).toEqual(["chat gpt-5", "chat gpt-5", "execute_tool search", "query"]);
});

test("leaves of a discarded segment are never exported, however late they end", async () => {
  await using receiver = await startTestReceiver();
  const tracing = await start({ url: receiver.url });
  const segment = { traceId: traceIdFor("r1"), spanId: segmentSpanId("r1", "t1", 1), sampled: true };
  tracing.hold(segment);
  tracing.chat(segment, chatStart()).end({});
  const late = tracing.tool(segment, toolStart());
  tracing.discard(segment);
  late.end({});
  tracing.chat({ ...segment, spanId: rootSpanId("r1") }, chatStart()).end({});
  await tracing.stop(2_000);
  expect(receiver.spans.map(({ parentSpanId }) => parentSpanId)).toEqual([rootSpanId("r1")]);
});

test("content is kept only when asked for, in the parts schema and cut to size", async () => {
  await using receiver = await startTestReceiver();
  const segment = { traceId: traceIdFor("r1"), spanId: segmentSpanId("r1", "t1", 1), sampled: true };
  const say = async (tracing: Tracing) => {
    const chat = tracing.chat(segment, {
      ...chatStart(),
      instructions: "be kind",
      messages: [{ role: "user", content: "hi" }],
    });
    chat.end({ content: { content: "hello", toolCalls: [] } });
    const tool = tracing.tool(segment, { ...toolStart(), arguments: '{"q":1}' });
    tool.end({ content: "ä".repeat(10_000) });
    await tracing.stop(2_000);
    return receiver.spans.slice(-2).map(({ attributes }) => attributes);
  };
  for (const attributes of await say(await start({ url: receiver.url }))) {
    expect(JSON.stringify(attributes)).not.toMatch(/hello|be kind|ää|"q/);
  }
  vi.stubEnv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true");
  const [chat, tool] = await say(await start({ url: receiver.url }));
  expect(JSON.parse(String(chat?.["gen_ai.input.messages"]))).toEqual([
    { role: "user", parts: [{ type: "text", content: "hi" }] },
  ]);
  expect(JSON.parse(String(chat?.["gen_ai.output.messages"]))).toEqual([
    { role: "assistant", parts: [{ type: "text", content: "hello" }] },
  ]);
  expect(tool?.["gen_ai.tool.call.arguments"]).toBe('{"q":1}');
  expect(Buffer.byteLength(String(tool?.["gen_ai.tool.call.result"]))).toBe(8_192);
  expect(tool?.["troupe.content.truncated"]).toBe(true);
});

test.each([
  ["OTEL_SDK_DISABLED", "true"],
  ["OTEL_TRACES_EXPORTER", "none"],
])("%s=%s turns tracing off", async (variable, value) => {
  vi.stubEnv(variable, value);
  expect(await start()).toBe(noTracing);
});

test("the sampler variables decide about runs without a caller", async () => {
  vi.stubEnv("OTEL_TRACES_SAMPLER", "traceidratio");
  vi.stubEnv("OTEL_TRACES_SAMPLER_ARG", "0.5");
  const tracing = await start();
  const decisions = Array.from({ length: 400 }, (_, index) => tracing.decideSampling(traceIdFor(`r${index}`)));
  const sampled = decisions.filter(Boolean).length;
  expect(sampled).toBeGreaterThan(120);
  expect(sampled).toBeLessThan(280);
});

test("headers, compression and resource attributes come from the standard variables", async () => {
  await using receiver = await startTestReceiver();
  vi.stubEnv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", receiver.url);
  vi.stubEnv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip");
  vi.stubEnv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=staging");
  vi.stubEnv("OTEL_SERVICE_NAME", "shop");
  const tracing = await start({ instance: "host-1/2" });
  expect(tracing.destination).toBe(receiver.url);
  tracing.chat({ traceId: traceIdFor("r1"), spanId: rootSpanId("r1"), sampled: true }, chatStart()).end({});
  const [span] = await receiver.until((all) => all.length === 1 && all);
  expect(span?.resource).toMatchObject({
    "service.name": "shop",
    "service.instance.id": "host-1/2",
    "deployment.environment.name": "staging",
  });
});

test("a variable with an unknown value is told and changes nothing", async () => {
  vi.stubEnv("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon");
  const warnings: string[] = [];
  await start({ logger: { warn: (_fields, message) => warnings.push(message) } });
  expect(warnings).toEqual([
    'OTEL_EXPORTER_OTLP_PROTOCOL: expected one of http/protobuf, http/json, grpc, got "carrier-pigeon"; using the default',
  ]);
});

test("tracing that is off passes contexts on as not sampled", () => {
  const run = noTracing.run("r1", "article", { traceId: traceIdFor("r1"), sampled: true });
  expect(run.segment("t1", 1)).toMatchObject({ traceId: traceIdFor("r1"), sampled: false });
  expect(noTracing.tool(run.segment("t1", 1), toolStart()).within(() => 42)).toBe(42);
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("expected a TCP address");
  return address.port;
}
