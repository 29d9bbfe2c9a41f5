import { readFile } from "node:fs/promises";
import { expect, it } from "vitest";
import * as semconv from "../../src/tracing/semconv.ts";
import { startMetrics } from "../../src/tracing/start-metrics.ts";

const root = new URL("../../", import.meta.url);

/** On the resource or on links, which the table of attributes is not about. */
const ELSEWHERE: readonly string[] = [semconv.SERVICE_NAME, semconv.SERVICE_INSTANCE_ID, semconv.LINK_RELATION];

it("docs/traces.md names every attribute that spans have", async () => {
  const page = await textOf("docs/traces.md");
  const attributes = Object.values<unknown>(semconv).filter(
    (value): value is string => typeof value === "string" && value.includes("."),
  );
  expect(attributes.length).toBeGreaterThan(40);
  expect(attributes.filter((name) => !ELSEWHERE.includes(name) && !page.includes(`\`${name}\``))).toEqual([]);
});

it("docs/operations.md names the metrics that a daemon has, and no other", async () => {
  const documented = [...(await textOf("docs/operations.md")).matchAll(/^\| (`(?:troupe|workflow|gen_ai)_.*?) \|/gm)]
    .flatMap(([, cell = ""]) => cell.split(", "))
    .map((name) => name.replaceAll("`", "").replace("…", "gen_ai_client_inference_usage"))
    .sort();
  expect(documented).toEqual((await metricsOfADaemon()).sort());
});

/** The names on the page for Prometheus once everything has happened that the hosts tell. */
async function metricsOfADaemon(): Promise<string[]> {
  const metrics = startMetrics();
  const seconds = 1;
  metrics.runAccepted("article");
  metrics.runEnded({ workflow: "article", status: "completed", seconds });
  metrics.stepEnded({ workflow: "article", step: "facts", agent: "researcher", seconds });
  metrics.taskEnded({ agent: "researcher", seconds, modelCalls: 1, toolCalls: 1 });
  metrics.modelCall({
    provider: "openai",
    model: "gpt-5-mini",
    seconds,
    usage: { inputTokens: 1, outputTokens: 1, cachedTokens: 1, reasoningTokens: 1, cost: 1 },
    firstChunkSeconds: seconds,
  });
  metrics.modelWaited({ provider: "openai", seconds, why: "limits" });
  metrics.observeProvidersDown(() => [["openai", 0]]);
  metrics.observeModelQueue(() => [["openai", 0]]);
  metrics.toolCall({ tool: "lookup", agent: "researcher", seconds });
  metrics.segmentLost("researcher");
  metrics.appendSeconds(seconds);
  metrics.observeQueueDepth(() => [["requests", 1]]);
  metrics.scheduleDue({ workflow: "report", outcome: "fired", lateSeconds: seconds });
  metrics.deadLettered("requests");
  metrics.spansDropped(1);
  metrics.observeActiveRuns(() => new Map([["article", 1]]));
  metrics.observeRestingRuns(() => new Map([["article", 1]]));
  const page = await metrics.render();
  await metrics.stop();
  return [...page.matchAll(/^# TYPE (\w+)/gm)]
    .map(([, name]) => name as string)
    .filter((name) => name !== "target_info");
}

function textOf(page: string): Promise<string> {
  return readFile(new URL(page, root), "utf8");
}
