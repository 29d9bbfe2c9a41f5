import { afterEach, expect, test, vi } from "vitest";
import { askRuns } from "../helpers/asked-runs.ts";
import { startCable } from "../helpers/cable.ts";
import { openStage } from "../helpers/stage.ts";
import { checkTraces } from "../helpers/trace-checker.ts";
import { until } from "../helpers/until.ts";

const RUNS = Array.from({ length: 200 }, (_, i) => (i % 2 === 0 ? "diamond" : "relay"));
/** Less than all spans of so many runs, more than those that others hang below. */
const CAPACITY = 1_300;
const MOST_MEMORY = 30 * 2 ** 20;
// Whoever hangs is given up after ten seconds, and tried again after as long.
const WELL_AGAIN_MS = 60_000;

afterEach(() => vi.unstubAllEnvs());

test.each(["refuses for now", "hangs", "is away"] as const)(
  "a collector that %s holds up no run and costs bounded memory, and gets every trace whole when it is well",
  { timeout: 180_000 },
  async (what) => {
    vi.stubEnv("OTEL_BSP_MAX_QUEUE_SIZE", String(CAPACITY));
    // What is on its way to a collector that hangs has room beside the queue: little of it.
    vi.stubEnv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "64");
    await using stage = await openStage({ daemons: 0, model: { delayMs: () => 20 } });
    const { model, collector } = stage;
    const url = new URL(collector.url);
    await using cable = await startCable(Number(url.port));
    url.port = new URL(cable.url).port;
    const daemon = await stage.join({ otlpUrl: url.href, logLevel: "info" });
    const calm = askRuns(stage, "calm");
    const calmMs = await timed(async () => {
      await calm.ask(RUNS);
      await until("all results", calm.allTold, { withinMs: 60_000 });
    });
    await calm.expectCompleted();

    const heapBefore = await daemon.life.heapUsed();
    if (what === "hangs") collector.behave("hang");
    else if (what === "refuses for now") collector.behave({ refuse: 503 });
    else cable.refuse();
    const troubled = askRuns(stage, "troubled");
    const troubledMs = await timed(async () => {
      await troubled.ask(RUNS);
      await until("all results", troubled.allTold, { withinMs: 60_000 });
    });
    const grown = (await daemon.life.heapUsed()) - heapBefore;
    console.log(
      `${RUNS.length} runs took ${calmMs} ms with a collector, ${troubledMs} ms with one that ${what}; ` +
        `the heap grew by ${(grown / 2 ** 20).toFixed(1)} MiB`,
    );
    expect(troubledMs).toBeLessThan(calmMs * 2 + 2_000);
    expect(grown).toBeLessThan(MOST_MEMORY);

    collector.behave("accept");
    cable.accept();
    const { runIds } = troubled;
    await until("whole traces", () => checkTraces(collector.spans, { runIds }).length === 0, {
      withinMs: WELL_AGAIN_MS,
    });
    const chats = collector.spans.filter(({ name }) => name.startsWith("chat"));
    console.log(`${chats.length} spans of ${model.calls.length} calls`);
    // There was not room for all of them.
    expect(chats.length).toBeLessThan(model.calls.length);
    await troubled.expectCompleted();
  },
);

async function timed(work: () => Promise<void>): Promise<number> {
  const since = performance.now();
  await work();
  return Math.round(performance.now() - since);
}
