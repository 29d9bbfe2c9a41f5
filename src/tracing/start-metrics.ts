/**
 * Keeps metrics with the OpenTelemetry SDK and renders them for Prometheus. The daemon serves the text on its own port.
 *
 * In Prometheus a name has its dots turned into underscores, a counter gets `_total`, and units are not appended; dashboards
 * depend on that, so a test pins the names.
 */
import type { Attributes, ObservableGauge } from "@opentelemetry/api";
import { PrometheusExporter, PrometheusSerializer } from "@opentelemetry/exporter-prometheus";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { MeterProvider } from "@opentelemetry/sdk-metrics";
import type { Metrics, ModelCalled, Observe } from "./metrics.ts";
import * as name from "./semconv.ts";

export type MetricsOptions = {
  /** The `service_name` in `target_info`. @default `OTEL_SERVICE_NAME`, or "troupe" */
  serviceName?: string;
  /** Which process of the service this is. */
  instance?: string;
};

/** Seconds; runs and steps of agents last from milliseconds (tests, caches) to hours (approvals). */
const RUN_SECONDS = [0.01, 0.05, 0.1, 0.5, 1, 5, 15, 30, 60, 300, 1_800, 3_600, 14_400];
/** Seconds; the boundaries the GenAI conventions give for calls of models. */
const CALL_SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/** Seconds; an append is a local write or a quorum of one. */
const APPEND_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5];
/** Seconds; on time is within milliseconds, after a failover within seconds, after an outage anything. */
const LATE_SECONDS = [0.05, 0.1, 0.5, 1, 2.5, 5, 10, 60, 600, 3_600, 86_400];
const CALLS = [0, 1, 2, 3, 5, 8, 13, 21, 34];

/** Starts keeping metrics. */
export function startMetrics({ serviceName, instance }: MetricsOptions = {}): Metrics {
  const exporter = new PrometheusExporter({ preventServerStart: true });
  const serializer = new PrometheusSerializer(undefined, false, undefined, false, true);
  const provider = new MeterProvider({
    readers: [exporter],
    resource: resourceFromAttributes({
      [name.SERVICE_NAME]: serviceName ?? (process.env.OTEL_SERVICE_NAME || "troupe"),
      ...(instance === undefined ? {} : { [name.SERVICE_INSTANCE_ID]: instance }),
    }),
  });
  const meter = provider.getMeter(name.SCOPE.name);
  const seconds = (metric: string, description: string, explicitBucketBoundaries: number[]) =>
    meter.createHistogram(metric, { description, unit: "s", advice: { explicitBucketBoundaries } });
  const calls = (metric: string, description: string) =>
    meter.createHistogram(metric, { description, unit: "{call}", advice: { explicitBucketBoundaries: CALLS } });
  const counter = (metric: string, description: string, unit: string) =>
    meter.createCounter(metric, { description, unit });

  const accepted = counter("troupe.run.accepted", "Runs accepted", "{run}");
  const executions = counter("workflow_executions", "Runs ended, by status", "{run}");
  const runSeconds = seconds("workflow_duration_seconds", "How long runs took", RUN_SECONDS);
  const stepSeconds = seconds("workflow_step_duration_seconds", "How long attempts at steps took", RUN_SECONDS);
  const invokeWorkflow = seconds("gen_ai.invoke_workflow.duration", "How long workflows took", RUN_SECONDS);
  const invokeAgent = seconds("gen_ai.invoke_agent.duration", "How long agents took", RUN_SECONDS);
  const inferenceCalls = calls("gen_ai.invoke_agent.inference_calls", "Model calls of one invocation");
  const toolCalls = calls("gen_ai.invoke_agent.tool_calls", "Tool calls of one invocation");
  const executeTool = seconds("gen_ai.execute_tool.duration", "How long tools took", CALL_SECONDS);
  const inference = seconds("gen_ai.client.inference.duration", "How long model calls took", CALL_SECONDS);
  const firstChunk = seconds(
    "gen_ai.client.inference.time_to_first_chunk",
    "How long the first piece of a streamed reply took",
    CALL_SECONDS,
  );
  const inputTokens = counter("gen_ai.client.inference.usage.input_tokens", "Tokens sent to models", "{token}");
  const outputTokens = counter("gen_ai.client.inference.usage.output_tokens", "Tokens models answered with", "{token}");
  const cachedTokens = counter(
    "gen_ai.client.inference.usage.cache_read.input_tokens",
    "Tokens sent to models that their providers had in a cache",
    "{token}",
  );
  const reasoningTokens = counter(
    "gen_ai.client.inference.usage.reasoning.output_tokens",
    "Tokens models answered with that went into reasoning",
    "{token}",
  );
  const cost = counter("troupe.model.cost", "What model calls cost, by the configuration's prices", "{currency}");
  const modelWait = seconds("troupe.model.wait", "How long model calls waited for their provider", CALL_SECONDS);
  const lost = counter("troupe.segment.lost", "Tasks sent again because their worker was lost", "{segment}");
  const dead = counter("troupe.dead_letters", "Messages given up", "{message}");
  const due = counter("troupe.schedule.firings", "Instants of schedules that came, by outcome", "{firing}");
  const lateness = seconds("troupe.schedule.lateness", "How late schedules started runs", LATE_SECONDS);
  const append = seconds("troupe.journal.append.duration", "How long appends to journals took", APPEND_SECONDS);
  const dropped = counter("troupe.telemetry.dropped_spans", "Spans the collector never got", "{span}");
  const activeRuns = meter.createObservableGauge("workflow_active_count", {
    description: "Runs this daemon owns that have not ended",
    unit: "{run}",
  });
  const restingRuns = meter.createObservableGauge("workflow_resting_count", {
    description: "Runs this daemon owns that only wait for their time",
    unit: "{run}",
  });
  const queueDepth = meter.createObservableGauge("troupe.queue.depth", {
    description: "Messages waiting",
    unit: "{message}",
  });

  const providersDown = meter.createObservableGauge("troupe.provider.down", {
    description: "1 for a provider that is not asked because it is down",
  });
  const modelQueue = meter.createObservableGauge("troupe.provider.waiting", {
    description: "Model calls that wait for the limits of their provider",
    unit: "{call}",
  });

  function modelCall(call: ModelCalled): void {
    const what: Attributes = {
      [name.OPERATION]: "chat",
      [name.PROVIDER]: call.provider,
      [name.REQUEST_MODEL]: call.model,
    };
    if (call.usage) {
      inputTokens.add(call.usage.inputTokens, what);
      outputTokens.add(call.usage.outputTokens, what);
      if (call.usage.cachedTokens) cachedTokens.add(call.usage.cachedTokens, what);
      if (call.usage.reasoningTokens) reasoningTokens.add(call.usage.reasoningTokens, what);
      if (call.usage.cost) cost.add(call.usage.cost, what);
    }
    const whole = { ...what };
    if (call.responseModel !== undefined) whole[name.RESPONSE_MODEL] = call.responseModel;
    if (call.serverAddress !== undefined) whole[name.SERVER_ADDRESS] = call.serverAddress;
    if (call.firstChunkSeconds !== undefined) firstChunk.record(call.firstChunkSeconds, { ...whole });
    if (call.error !== undefined) whole[name.ERROR_TYPE] = call.error;
    inference.record(call.seconds, whole);
  }

  return {
    runAccepted: (workflow) => accepted.add(1, { workflow }),
    runEnded({ workflow, status, seconds: took, error }) {
      executions.add(1, { workflow, status });
      runSeconds.record(took, { workflow, status });
      const outcome = error ?? (status === "completed" ? undefined : status);
      invokeWorkflow.record(took, withError({ [name.WORKFLOW_NAME]: workflow }, outcome));
    },
    stepEnded({ workflow, step, agent, seconds: took, error }) {
      stepSeconds.record(took, { workflow, step, agent, status: error === undefined ? "completed" : "failed" });
    },
    taskEnded(task) {
      const agent = { [name.AGENT_NAME]: task.agent };
      inferenceCalls.record(task.modelCalls, agent);
      toolCalls.record(task.toolCalls, agent);
      invokeAgent.record(task.seconds, withError({ ...agent }, task.error));
    },
    modelCall,
    modelWaited: ({ provider: asked, seconds: took, why }) => modelWait.record(took, { provider: asked, why }),
    toolCall({ tool, agent, seconds: took, error }) {
      executeTool.record(took, withError({ [name.TOOL_NAME]: tool, [name.AGENT_NAME]: agent }, error));
    },
    segmentLost: (agent) => lost.add(1, { [name.AGENT_NAME]: agent }),
    scheduleDue({ workflow, outcome, lateSeconds }) {
      due.add(1, { workflow, outcome });
      if (outcome === "fired") lateness.record(lateSeconds, { workflow });
    },
    deadLettered: (kind) => dead.add(1, { kind }),
    appendSeconds: (took) => append.record(took),
    spansDropped: (spans) => dropped.add(spans),
    observeActiveRuns: (observe) => register(activeRuns, "workflow", observe),
    observeRestingRuns: (observe) => register(restingRuns, "workflow", observe),
    observeQueueDepth: (observe) => register(queueDepth, "queue", observe),
    observeProvidersDown: (observe) => register(providersDown, "provider", observe),
    observeModelQueue: (observe) => register(modelQueue, "provider", observe),
    async render() {
      const { resourceMetrics } = await exporter.collect();
      return serializer.serialize(resourceMetrics);
    },
    stop: () => provider.shutdown().catch(() => {}),
  };
}

function withError(attributes: Attributes, error: string | undefined): Attributes {
  if (error !== undefined) attributes[name.ERROR_TYPE] = error;
  return attributes;
}

function register(gauge: ObservableGauge, label: string, observe: Observe): () => void {
  const callback: Parameters<ObservableGauge["addCallback"]>[0] = (result) => {
    for (const [value, count] of observe()) result.observe(count, { [label]: value });
  };
  gauge.addCallback(callback);
  return () => gauge.removeCallback(callback);
}
