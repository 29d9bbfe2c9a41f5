import { expect, test } from "vitest";
import { noMetrics } from "../../src/tracing/metrics.ts";
import { startMetrics } from "../../src/tracing/start-metrics.ts";

async function lines(metrics: ReturnType<typeof startMetrics>): Promise<string[]> {
  return (await metrics.render()).split("\n");
}

test("dashboards find the metrics under these names and labels", async () => {
  const metrics = startMetrics({ serviceName: "shop" });
  metrics.runAccepted("article");
  metrics.runEnded({ workflow: "article", status: "failed", seconds: 0.2, error: "timeout" });
  metrics.stepEnded({ workflow: "article", step: "write", agent: "writer", seconds: 0.2 });
  metrics.taskEnded({ agent: "writer", seconds: 0.2, modelCalls: 2, toolCalls: 1 });
  metrics.modelCall({
    provider: "openai",
    model: "gpt-5",
    seconds: 0.15,
    usage: { inputTokens: 7, outputTokens: 3, cachedTokens: 4, reasoningTokens: 2, cost: 0.25 },
    firstChunkSeconds: 0.05,
  });
  metrics.modelWaited({ provider: "local", seconds: 0.5, why: "limits" });
  metrics.observeProvidersDown(() => [["local", 1]]);
  metrics.observeModelQueue(() => [["local", 6]]);
  metrics.toolCall({ tool: "search", agent: "writer", seconds: 0.03, error: "tool_failed" });
  metrics.segmentLost("writer");
  metrics.deadLettered("requests");
  metrics.appendSeconds(0.0007);
  metrics.spansDropped(4);
  metrics.observeActiveRuns(() => [["article", 3]]);
  metrics.observeRestingRuns(() => [["article", 2]]);
  metrics.observeQueueDepth(() => [["requests", 9]]);
  const text = await lines(metrics);
  const call = 'gen_ai_operation_name="chat",gen_ai_provider_name="openai",gen_ai_request_model="gpt-5"';
  expect(text).toEqual(
    expect.arrayContaining([
      'target_info{service_name="shop"} 1',
      'workflow_executions_total{workflow="article",status="failed"} 1',
      'workflow_duration_seconds_bucket{workflow="article",status="failed",le="0.1"} 0',
      'workflow_duration_seconds_bucket{workflow="article",status="failed",le="0.5"} 1',
      'workflow_step_duration_seconds_count{workflow="article",step="write",agent="writer",status="completed"} 1',
      'workflow_active_count{workflow="article"} 3',
      'workflow_resting_count{workflow="article"} 2',
      'gen_ai_invoke_workflow_duration_sum{gen_ai_workflow_name="article",error_type="timeout"} 0.2',
      'gen_ai_invoke_agent_duration_count{gen_ai_agent_name="writer"} 1',
      'gen_ai_invoke_agent_inference_calls_sum{gen_ai_agent_name="writer"} 2',
      'gen_ai_invoke_agent_tool_calls_sum{gen_ai_agent_name="writer"} 1',
      'gen_ai_execute_tool_duration_count{gen_ai_tool_name="search",gen_ai_agent_name="writer",error_type="tool_failed"} 1',
      `gen_ai_client_inference_duration_bucket{${call},le="0.08"} 0`,
      `gen_ai_client_inference_duration_bucket{${call},le="0.16"} 1`,
      `gen_ai_client_inference_time_to_first_chunk_sum{${call}} 0.05`,
      `gen_ai_client_inference_usage_input_tokens_total{${call}} 7`,
      `gen_ai_client_inference_usage_output_tokens_total{${call}} 3`,
      `gen_ai_client_inference_usage_cache_read_input_tokens_total{${call}} 4`,
      `gen_ai_client_inference_usage_reasoning_output_tokens_total{${call}} 2`,
      `troupe_model_cost_total{${call}} 0.25`,
      'troupe_model_wait_sum{provider="local",why="limits"} 0.5',
      'troupe_provider_down{provider="local"} 1',
      'troupe_provider_waiting{provider="local"} 6',
      'troupe_run_accepted_total{workflow="article"} 1',
      'troupe_segment_lost_total{gen_ai_agent_name="writer"} 1',
      'troupe_dead_letters_total{kind="requests"} 1',
      'troupe_queue_depth{queue="requests"} 9',
      'troupe_journal_append_duration_bucket{le="0.001"} 1',
      "troupe_telemetry_dropped_spans_total 4",
    ]),
  );
  await metrics.stop();
});

test("a gauge whose owner is gone is no longer shown", async () => {
  const metrics = startMetrics();
  const unregister = metrics.observeActiveRuns(() => [["article", 3]]);
  unregister();
  expect((await lines(metrics)).filter((line) => line.includes("workflow_active_count{"))).toEqual([]);
  await metrics.stop();
});

test("metrics that are off take everything and show nothing", async () => {
  noMetrics.runEnded({ workflow: "article", status: "completed", seconds: 1 });
  noMetrics.observeActiveRuns(() => [["article", 1]])();
  expect(await noMetrics.render()).toBe("");
});
