/** Puts tracing together: journal → structural spans, work → leaves, both through one queue to the collector. */
import { ROOT_CONTEXT, SamplingDecision, SpanKind } from "@opentelemetry/api";
import { type Resource, resourceFromAttributes } from "@opentelemetry/resources";
import { ConsoleSpanExporter } from "@opentelemetry/sdk-trace";
import type { RunTrace } from "../workflows/run-events.ts";
import { HeldLeaves } from "./held-leaves.ts";
import { leafProcessor, startChat, startTool } from "./leaves.ts";
import { noTracing } from "./no-tracing.ts";
import { openOtlpHttpSender } from "./otlp-http-sender.ts";
import { type ProcessSdk, startProcessSdk } from "./process-sdk.ts";
import { StructuralFold } from "./run-projection.ts";
import { SERVICE_NAME } from "./semconv.ts";
import { SpanQueue, type Watch } from "./span-queue.ts";
import { exporterSender, type SpanSender } from "./span-sender.ts";
import { segmentSpanId } from "./trace-ids.ts";
import type { JournalPart, RunProjection, Tracing } from "./tracing.ts";
import { type ResolvedTracing, resolveTracing, type TracingOptions } from "./tracing-options.ts";

/**
 * Starts tracing as the options and the standard `OTEL_*` variables say; where they say "off", gives back `noTracing`.
 *
 * A collector that is away, slow or wrong is never felt by the caller: spans wait in a bounded queue.
 */
export async function startTracing(options: TracingOptions = {}): Promise<Tracing> {
  const settings = resolveTracing(options);
  if (!settings) return noTracing;
  const sender = openSender(settings);
  const queue = new SpanQueue({
    sender,
    logger: options.logger,
    onDropped: options.onDropped,
    delayMs: settings.delayMs,
    batchSize: settings.batchSize,
    capacity: settings.capacity,
    optional: !settings.configured,
  });
  const held = new HeldLeaves((span) => queue.add(span));
  const sdk = await startProcessSdk({
    serviceName: options.serviceName,
    instance: options.instance,
    rootSampler: settings.rootSampler,
    processor: leafProcessor(held),
  });
  return assemble({ settings, queue, held, sdk, destination: sender.destination });
}

type Parts = { settings: ResolvedTracing; queue: SpanQueue; held: HeldLeaves; sdk: ProcessSdk; destination: string };

function assemble({ settings, queue, held, sdk, destination }: Parts): Tracing {
  const { captureContent, rootSampler } = settings;
  const { tracer } = sdk;
  const leafOptions = { held, resource: sdk.resource, captureContent };
  const structuralResource = resourceOfService(sdk.resource);
  let highest = 0;

  return {
    destination,
    decideSampling: (traceId) =>
      rootSampler.shouldSample(ROOT_CONTEXT, traceId, "run", SpanKind.PRODUCER, {}, []).decision ===
      SamplingDecision.RECORD_AND_SAMPLED,
    run(runId, workflow, runTrace): RunProjection {
      const fold = new StructuralFold({ runId, workflow, trace: runTrace, resource: structuralResource });
      return {
        replayed(events) {
          fold.fold(events);
        },
        recorded(events, seq) {
          if (seq > highest) highest = seq;
          for (const span of fold.fold(events)) queue.add(span, seq);
        },
        segment: (taskId, delivery) => fold.segment(taskId, delivery),
        save: () => fold.save(),
        restore: (accepted, saved) => fold.restore(accepted, saved),
      };
    },
    reproject: (journal, fromSeq, since) => reproject(journal, { fromSeq, since }, queue, structuralResource),
    segmentOf: ({ traceId, sampled }: Pick<RunTrace, "traceId" | "sampled">, runId, taskId, delivery) => ({
      traceId,
      spanId: segmentSpanId(runId, taskId, delivery),
      sampled,
    }),
    chat: (parent, start) => startChat(parent, start, leafOptions),
    tool: (parent, start) => startTool(tracer, parent, start, captureContent),
    hold: ({ spanId }) => held.hold(spanId),
    release: ({ spanId }) => held.release(spanId),
    discard: ({ spanId }) => held.discard(spanId),
    exportedThrough() {
      const pending = queue.lowestPending();
      return pending === undefined ? highest : Math.min(highest, pending - 1);
    },
    async stop(timeoutMs) {
      await sdk.stop();
      await queue.drain(timeoutMs);
    },
  };
}

async function reproject(
  journal: Parameters<Tracing["reproject"]>[0],
  { fromSeq, since }: { fromSeq: number; since: number | undefined },
  queue: SpanQueue,
  resource: Resource,
): Promise<void> {
  if (!journal.accepted.data.trace.sampled) return;
  if (!("read" in journal)) return exportAgain(journal, { fromSeq, since }, queue, resource);
  const release = queue.hold(since);
  try {
    await exportAgain(await journal.read(), { fromSeq, since }, queue, resource);
    release();
  } catch {
    // Not released: whoever comes next finds by the mark that these spans are not out.
  }
}

function exportAgain(
  { accepted, saved, entries }: JournalPart,
  { fromSeq, since }: { fromSeq: number; since: number | undefined },
  queue: SpanQueue,
  resource: Resource,
): Promise<void> {
  const { runId, data } = accepted;
  const fold = new StructuralFold({ runId, workflow: data.workflow, trace: data.trace, resource });
  if (saved) fold.restore(accepted, saved);
  // All of it is folded: later spans depend on what earlier entries said.
  const spans = entries.flatMap(({ events, seq }) => {
    const made = fold.fold(events);
    return seq > fromSeq ? made : [];
  });
  if (spans.length === 0) return Promise.resolve();
  return new Promise((resolve) => {
    const watch: Watch = { left: spans.length, settled: resolve };
    for (const span of spans) queue.add(span, since, watch);
  });
}

function openSender({ exporter, protocol, url }: ResolvedTracing): SpanSender {
  if (exporter === "console") return exporterSender("console", async () => new ConsoleSpanExporter());
  if (protocol !== "grpc") return openOtlpHttpSender({ protocol, ...(url === undefined ? {} : { url }) });
  const endpoint =
    url ??
    process.env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ??
    process.env.OTEL_EXPORTER_OTLP_ENDPOINT ??
    "http://localhost:4317";
  return exporterSender(endpoint, async () => {
    // Loaded here: gRPC is most of OpenTelemetry's start-up time, and few use it.
    const { OTLPTraceExporter } = await import("@opentelemetry/exporter-trace-otlp-grpc");
    return new OTLPTraceExporter(url === undefined ? {} : { url });
  });
}

/** Nothing in it may differ between processes of the service: they all make the same structural spans. */
function resourceOfService({ attributes }: Resource): Resource {
  return resourceFromAttributes({ [SERVICE_NAME]: attributes[SERVICE_NAME] });
}
