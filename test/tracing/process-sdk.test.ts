import { spawn } from "node:child_process";
import { once } from "node:events";
import { hostname } from "node:os";
import { text } from "node:stream/consumers";
import { context, propagation, ROOT_CONTEXT, trace } from "@opentelemetry/api";
import { InMemorySpanExporter, SimpleSpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";
import { afterEach, expect, test, vi } from "vitest";
import type { PlainSpan } from "../../src/tracing/plain-span.ts";
import { startTracing } from "../../src/tracing/start-tracing.ts";
import { segmentSpanId, traceIdFor } from "../../src/tracing/trace-ids.ts";
import type { Tracing } from "../../src/tracing/tracing.ts";
import type { TracingOptions } from "../../src/tracing/tracing-options.ts";
import { startTestReceiver } from "../helpers/otlp-receiver.ts";
import { accepted, newJournal, sent } from "./journal.ts";

const started: Tracing[] = [];
afterEach(async () => {
  vi.unstubAllEnvs();
  await Promise.all(started.splice(0).map((tracing) => tracing.stop(500)));
});

async function start(options: TracingOptions): Promise<Tracing> {
  vi.stubEnv("OTEL_BSP_SCHEDULE_DELAY", "20");
  const tracing = await startTracing(options);
  started.push(tracing);
  return tracing;
}

const segment = { traceId: traceIdFor("r1"), spanId: segmentSpanId("r1", "t1", 1), sampled: true };
const toolStart = { agent: "writer", runId: "r1", taskId: "t1", tool: "search", callId: "c1" };
const chatStart = { agent: "writer", runId: "r1", taskId: "t1", turn: 1, provider: "openai", model: "gpt-5" };

/** A chat, and a tool that makes a span of its own. */
function work(tracing: Tracing): void {
  tracing.chat(segment, chatStart).end({});
  const tool = tracing.tool(segment, toolStart);
  tool.within(() => trace.getTracer("users").startSpan("query").end());
  tool.end({});
}

function named(spans: readonly PlainSpan[], name: string): PlainSpan | undefined {
  return spans.find((span) => span.name === name);
}

test("every span of a process describes it alike, with neither its command line nor its user", async () => {
  await using receiver = await startTestReceiver();
  const tracing = await start({ url: receiver.url, instance: "host-1/2" });
  work(tracing);
  const spans = await receiver.until((all) => all.length === 3 && all);
  const [{ resource } = expect.fail()] = spans;
  for (const span of spans) expect(span.resource).toEqual(resource);
  expect(resource).toMatchObject({
    "service.name": "troupe",
    "service.instance.id": "host-1/2",
    "host.name": hostname(),
    "telemetry.sdk.language": "nodejs",
  });
  expect(Object.keys(resource).filter((key) => key.startsWith("process."))).toEqual([]);
});

test("structural spans say of the process no more than the name of its service", async () => {
  await using receiver = await startTestReceiver();
  vi.stubEnv("OTEL_RESOURCE_ATTRIBUTES", "service.name=shop,deployment.environment.name=staging");
  const tracing = await start({ url: receiver.url, instance: "host-1/2" });
  const journal = newJournal("r1");
  const { events, seq } = journal.entry(0, accepted(journal.trace), sent("t1", "writer"));
  tracing.run("r1", "article", journal.trace).recorded(events, seq);
  const [span] = await receiver.until((all) => all.length === 1 && all);
  expect(span?.resource).toEqual({ "service.name": "shop" });
});

test("OTEL_NODE_RESOURCE_DETECTORS says what a span tells of its process", async () => {
  await using receiver = await startTestReceiver();
  vi.stubEnv("OTEL_NODE_RESOURCE_DETECTORS", "os,env");
  vi.stubEnv("OTEL_SERVICE_NAME", "shop");
  work(await start({ url: receiver.url, instance: "host-1/2" }));
  const [span] = await receiver.until((all) => all.length === 3 && all);
  expect(span?.resource).toMatchObject({ "service.name": "shop", "service.instance.id": "host-1/2" });
  expect(span?.resource).toHaveProperty(["os.type"]);
  expect(span?.resource).not.toHaveProperty(["host.name"]);
});

test("span limits come from the standard variables", async () => {
  await using receiver = await startTestReceiver();
  vi.stubEnv("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "5");
  const tool = (await start({ url: receiver.url })).tool(segment, toolStart);
  tool.within(() => trace.getActiveSpan()?.setAttribute("mine", "a long value"));
  tool.end({});
  const [span] = await receiver.until((all) => all.length === 1 && all);
  expect(span?.attributes.mine).toBe("a lon");
});

test("OTEL_PROPAGATORS says how spans that users make travel", async () => {
  propagation.disable();
  vi.stubEnv("OTEL_PROPAGATORS", "b3");
  await start({});
  const headers: { b3?: string } = {};
  const active = { traceId: segment.traceId, spanId: segment.spanId, traceFlags: 1 };
  propagation.inject(trace.setSpanContext(ROOT_CONTEXT, active), headers);
  expect(headers).toEqual({ b3: `${segment.traceId}-${segment.spanId}-1` });
  propagation.disable();
});

test.each(["always_on", "traceidratio"])("with %s nothing is recorded below a run that is not traced", async (name) => {
  await using receiver = await startTestReceiver();
  vi.stubEnv("OTEL_TRACES_SAMPLER", name);
  const tracing = await start({ url: receiver.url });
  const tool = tracing.tool({ ...segment, sampled: false }, toolStart);
  tool.within(() => trace.getTracer("users").startSpan("query").end());
  tool.end({});
  context.with(ROOT_CONTEXT, () => trace.getTracer("users").startSpan("on its own").end());
  await tracing.stop(2_000);
  expect(receiver.spans.map((span) => span.name)).toEqual(["on its own"]);
});

test("an application's own SDK stays the global one, and tools are traced all the same", async () => {
  await using receiver = await startTestReceiver();
  const exporter = new InMemorySpanExporter();
  const application = new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter })] });
  trace.setGlobalTracerProvider(application);
  const tracing = await start({ url: receiver.url, serviceName: "shop", instance: "host-1/2" });
  work(tracing);
  const spans = await receiver.until((all) => all.length === 2 && all);
  const tool = named(spans, "execute_tool search");
  expect(tool?.resource).toMatchObject({ "service.name": "shop", "service.instance.id": "host-1/2" });
  expect(tool?.resource).toEqual(named(spans, "chat gpt-5")?.resource);
  const [query] = exporter.getFinishedSpans();
  expect(query?.parentSpanContext).toMatchObject({ traceId: segment.traceId, spanId: tool?.spanId });
  await tracing.stop(500);
  trace.getTracer("users").startSpan("after").end();
  expect(exporter.getFinishedSpans().map((span) => span.name)).toEqual(["query", "after"]);
  trace.disable();
});

test("two daemons in one process each send the spans of their own tools", async () => {
  await using first = await startTestReceiver();
  await using second = await startTestReceiver();
  const tracings = [
    await start({ url: first.url, instance: "one" }),
    await start({ url: second.url, instance: "two" }),
  ] as const;
  for (const tracing of tracings) tracing.tool(segment, toolStart).end({});
  const [one] = await first.until((all) => all.length === 1 && all);
  const [two] = await second.until((all) => all.length === 1 && all);
  expect(one?.resource["service.instance.id"]).toBe("one");
  expect(two?.resource["service.instance.id"]).toBe("two");
});

test("tracing that stopped makes room for the next in the same process", async () => {
  await using receiver = await startTestReceiver();
  await (await start({ url: receiver.url })).stop(500);
  expect(trace.getTracer("users").startSpan("nobody's").isRecording()).toBe(false);
  work(await start({ url: receiver.url }));
  const spans = await receiver.until((all) => all.length === 3 && all);
  expect(named(spans, "query")?.parentSpanId).toBe(named(spans, "execute_tool search")?.spanId);
});

test.each([
  ["does not load the SDK while tracing is off", "none", false],
  ["loads the SDK when tracing is on", "otlp", true],
])("a process %s", async (_, exporter, loaded) => {
  const program = `
    import { registerHooks } from "node:module";
    const names = [];
    registerHooks({ resolve(name, context, next) { names.push(name); return next(name, context); } });
    const { startTracing } = await import(${JSON.stringify(new URL("../../src/tracing/start-tracing.ts", import.meta.url).href)});
    await startTracing();
    console.log(names.includes("@opentelemetry/sdk-node"));
  `;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", program], {
    env: { ...process.env, OTEL_TRACES_EXPORTER: exporter },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [said] = await Promise.all([text(child.stdout), once(child, "exit")]);
  expect(said.trim()).toBe(String(loaded));
});
