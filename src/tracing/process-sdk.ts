/**
 * The process's side of tracing, left to OpenTelemetry's `NodeSDK`: the global tracer provider for tools and for what users
 * trace inside them, the context manager, propagators, span limits and resource detectors, as the standard variables say.
 *
 * Three things are kept from it:
 * - exporting: its batch processor drops what a collector did not take, and nobody learns which spans that were; the queue does;
 * - the sampler: it shows nobody its own, which a run has to ask before there is a span, and `always_on` and `traceidratio`
 *   would record below a run that is not traced;
 * - detectors nobody asked for: by default it puts the command line and the name of the user on every span.
 */
import { ROOT_CONTEXT, TraceFlags, type Tracer, trace } from "@opentelemetry/api";
import { getStringFromEnv } from "@opentelemetry/core";
import {
  defaultResource,
  detectResources,
  envDetector,
  hostDetector,
  type Resource,
  type ResourceDetector,
  resourceFromAttributes,
  serviceInstanceIdDetector,
} from "@opentelemetry/resources";
import { ParentBasedSampler, type Sampler, type SpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";
import { SCOPE, SERVICE_INSTANCE_ID, SERVICE_NAME } from "./semconv.ts";

export type ProcessSdkOptions = {
  /** @default `OTEL_SERVICE_NAME`, the one in `OTEL_RESOURCE_ATTRIBUTES`, or "troupe" */
  serviceName: string | undefined;
  /** The `service.instance.id` where the variables give none. @default a random one */
  instance: string | undefined;
  /** Decides for spans without a parent; all others follow theirs. */
  rootSampler: Sampler;
  /** Takes every span that is made with `tracer`, and those that users make. */
  processor: SpanProcessor;
};

export type ProcessSdk = {
  tracer: Tracer;
  /** What the spans of `tracer` say about this process; it is settled. */
  resource: Resource;
  /** Makes room for another SDK; spans that are still open end as they would have. */
  stop(): Promise<void>;
};

/** A span below it is recorded whatever the sampler says about roots. */
const SAMPLED_PARENT = trace.setSpanContext(ROOT_CONTEXT, {
  traceId: "1".repeat(32),
  spanId: "1".repeat(16),
  traceFlags: TraceFlags.SAMPLED,
  isRemote: true,
});

/**
 * Starts the SDK for this process. Where the application has set up one of its own, that stays the global one, and only the
 * spans of `tracer` are taken.
 */
export async function startProcessSdk(options: ProcessSdkOptions): Promise<ProcessSdk> {
  // Loaded here: it brings every exporter there is, and a process without tracing should not pay for that.
  const { NodeSDK } = await import("@opentelemetry/sdk-node");
  const { serviceName, instance, rootSampler, processor } = options;
  const resources: Resource[] = [];
  const spanProcessors = [processor, witness((resource) => resources.push(resource))];
  const sampler = new ParentBasedSampler({ root: rootSampler });
  const sdk = new NodeSDK({
    resource: baseResource(instance),
    ...(serviceName === undefined ? {} : { serviceName }),
    ...(getStringFromEnv("OTEL_NODE_RESOURCE_DETECTORS") ? {} : { resourceDetectors: harmlessDetectors(instance) }),
    sampler,
    spanProcessors,
    metricReaders: [],
    logRecordProcessors: [],
  });
  sdk.start();

  let tracer = trace.getTracer(SCOPE.name);
  probe(tracer);
  const isGlobal = resources.length > 0;
  if (!isGlobal) {
    tracer = new TracerProvider({ resource: describeProcess(options), sampler, spanProcessors }).getTracer(SCOPE.name);
    probe(tracer);
  }
  const [resource = baseResource(instance)] = resources;
  await resource.waitForAsyncAttributes?.();
  return {
    tracer,
    resource,
    async stop() {
      // The SDK leaves its globals in place. Context manager and propagators may: others may have come to rely on them.
      if (isGlobal) trace.disable();
      await sdk.shutdown().catch(() => {});
    },
  };
}

/** Starts a span that nobody ends, so nobody exports it: it shows to `witness` whose `tracer` is, and with which resource. */
function probe(tracer: Tracer): void {
  tracer.startSpan("probe", {}, SAMPLED_PARENT);
}

/** Tells the resource of the first span that comes by. `NodeSDK` shows neither its provider nor its resource. */
function witness(tell: (resource: Resource) => void): SpanProcessor {
  let told = false;
  return {
    onStart({ resource }) {
      if (!told) tell(resource);
      told = true;
    },
    onEnd() {},
    forceFlush: () => Promise.resolve(),
    shutdown: () => Promise.resolve(),
  };
}

/** What holds where the variables say nothing else. */
function baseResource(instance: string | undefined): Resource {
  const ours = { [SERVICE_NAME]: "troupe", ...(instance === undefined ? {} : { [SERVICE_INSTANCE_ID]: instance }) };
  return defaultResource().merge(resourceFromAttributes(ours));
}

function harmlessDetectors(instance: string | undefined): ResourceDetector[] {
  const named = [hostDetector, envDetector];
  return instance === undefined ? [serviceInstanceIdDetector, ...named] : named;
}

function describeProcess({ serviceName, instance }: ProcessSdkOptions): Resource {
  const detected = baseResource(instance).merge(detectResources({ detectors: harmlessDetectors(instance) }));
  return serviceName === undefined ? detected : detected.merge(resourceFromAttributes({ [SERVICE_NAME]: serviceName }));
}
