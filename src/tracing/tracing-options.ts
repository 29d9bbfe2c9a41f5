/** What the outside says about tracing: options of the caller and the standard `OTEL_*` variables, resolved once. */
import { getBooleanFromEnv, getNumberFromEnv, getStringFromEnv, getStringListFromEnv } from "@opentelemetry/core";
import { AlwaysOffSampler, AlwaysOnSampler, type Sampler, TraceIdRatioBasedSampler } from "@opentelemetry/sdk-trace";
import type { TracingLogger } from "./span-queue.ts";

export type TracingOptions = {
  /** The `service.name` of every span. @default `OTEL_SERVICE_NAME`, or "troupe" */
  serviceName?: string;
  /** Which process of the service this is, on leaves only (`service.instance.id`). */
  instance?: string;
  /** The URL that takes the spans. @default what `OTEL_EXPORTER_OTLP_*` say, or http://localhost:4318/v1/traces */
  url?: string;
  /** Keeps what was said to models and tools on the spans. @default `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` */
  captureContent?: boolean;
  /** Told about spans that wait or are given up, at most once a minute. */
  logger?: TracingLogger;
  /** Told how many spans were given up. */
  onDropped?: (spans: number) => void;
};

type Protocol = "http/protobuf" | "http/json" | "grpc";

export type ResolvedTracing = {
  exporter: "otlp" | "console";
  protocol: Protocol;
  url: string | undefined;
  /** Whether somebody said where spans go; else the default endpoint is only tried. */
  configured: boolean;
  captureContent: boolean;
  /** Decides for runs and spans without a parent; everything else follows its parent. */
  rootSampler: Sampler;
  delayMs: number;
  batchSize: number;
  capacity: number;
};

/** Short enough that a killed process loses little, long enough to fill a request under load. */
const DEFAULT_DELAY_MS = 500;
const DEFAULT_BATCH_SIZE = 512;
/** About half a minute of the busiest daemon measured, in some 30 MB. */
const DEFAULT_CAPACITY = 50_000;

/** Resolves the options; undefined means that tracing is off (`OTEL_SDK_DISABLED`, `OTEL_TRACES_EXPORTER=none`). */
export function resolveTracing(options: TracingOptions): ResolvedTracing | undefined {
  if (getBooleanFromEnv("OTEL_SDK_DISABLED")) return undefined;
  const exporter = exporterFromEnv(options.logger);
  if (exporter === "none") return undefined;
  return {
    exporter,
    protocol: protocolFromEnv(options.logger),
    url: options.url,
    configured: options.url !== undefined || endpointInEnv(),
    captureContent:
      options.captureContent ?? getBooleanFromEnv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT") ?? false,
    rootSampler: samplerFromEnv(options.logger),
    delayMs: positiveFromEnv("OTEL_BSP_SCHEDULE_DELAY") ?? DEFAULT_DELAY_MS,
    batchSize: positiveFromEnv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE") ?? DEFAULT_BATCH_SIZE,
    capacity: positiveFromEnv("OTEL_BSP_MAX_QUEUE_SIZE") ?? DEFAULT_CAPACITY,
  };
}

function exporterFromEnv(logger: TracingLogger | undefined): "otlp" | "console" | "none" {
  const [first = "otlp", ...more] = getStringListFromEnv("OTEL_TRACES_EXPORTER") ?? [];
  if (more.length === 0 && (first === "otlp" || first === "console" || first === "none")) return first;
  return fallback(logger, "OTEL_TRACES_EXPORTER", "one of otlp, console, none", "otlp");
}

function protocolFromEnv(logger: TracingLogger | undefined): Protocol {
  const variable = getStringFromEnv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
    ? "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
    : "OTEL_EXPORTER_OTLP_PROTOCOL";
  const protocol = getStringFromEnv(variable) ?? "http/protobuf";
  if (protocol === "http/protobuf" || protocol === "http/json" || protocol === "grpc") return protocol;
  return fallback(logger, variable, "one of http/protobuf, http/json, grpc", "http/protobuf");
}

function samplerFromEnv(logger: TracingLogger | undefined): Sampler {
  // A run follows its caller in any case, so the parent-based samplers differ from the plain ones in nothing here.
  switch (getStringFromEnv("OTEL_TRACES_SAMPLER") ?? "always_on") {
    case "always_on":
    case "parentbased_always_on":
      return new AlwaysOnSampler();
    case "always_off":
    case "parentbased_always_off":
      return new AlwaysOffSampler();
    case "traceidratio":
    case "parentbased_traceidratio":
      return new TraceIdRatioBasedSampler(getNumberFromEnv("OTEL_TRACES_SAMPLER_ARG") ?? 1);
    default: {
      const samplers = "always_on, always_off or traceidratio, each also with parentbased_ before it";
      return fallback(logger, "OTEL_TRACES_SAMPLER", samplers, new AlwaysOnSampler());
    }
  }
}

function endpointInEnv(): boolean {
  return (
    getStringFromEnv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") !== undefined ||
    getStringFromEnv("OTEL_EXPORTER_OTLP_ENDPOINT") !== undefined
  );
}

function positiveFromEnv(variable: string): number | undefined {
  const value = getNumberFromEnv(variable);
  return value !== undefined && value > 0 ? value : undefined;
}

/** Telemetry that is set up wrongly must not stop a daemon: it is said, and the default holds. */
function fallback<T>(logger: TracingLogger | undefined, variable: string, expected: string, used: T): T {
  logger?.warn(
    {},
    `${variable}: expected ${expected}, got ${JSON.stringify(process.env[variable])}; using the default`,
  );
  return used;
}
