import { loadavg } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { startDaemonProcesses } from "../helpers/daemon-process.ts";
import { startTestNats } from "../helpers/nats-server.ts";
import { startNumberedModel } from "../helpers/numbered-model-server.ts";
import { startTestReceiver } from "../helpers/otlp-receiver.ts";
import { openRawJournals } from "../helpers/raw-journals.ts";
import { auditRuns, type Loss, quantile, standstills, tasksInFlight } from "../helpers/run-audit.ts";
import { requestRuns, runsEnded } from "../helpers/start-runs.ts";
import { checkTraces } from "../helpers/trace-checker.ts";

const RUNS = 200;
const KILLS = 12;

test("three daemons under SIGKILL every second end 200 runs of both kinds exactly once", { timeout: 180_000 }, async () => {
  await using nats = await startTestNats();
  await using model = await startNumberedModel({ delayMs: (_ask, n) => 50 + ((n * 37) % 250) });
  await using collector = await startTestReceiver();
  await using journals = await openRawJournals(nats.url);
  const setup = { modelUrl: model.url, otlpUrl: collector.url, options: { nats: [nats.url], ackWaitMs: 5_000, maxRuns: 40 } };
  await using daemons = await startDaemonProcesses(3, setup);

  const runIds = Array.from({ length: RUNS }, (_, i) => `run-${i + 1}`);
  await requestRuns(journals, runIds, ["diamond", "relay"]);
  const losses: Loss[] = [];
  const restarts: Promise<unknown>[] = [];
  for (let i = 0; i < KILLS; i += 1) {
    await sleep(1_000);
    const running = daemons.filter(({ life }) => life.isRunning());
    const victim = running[i % running.length];
    if (!victim) continue;
    const { pid, incarnation } = victim.life;
    losses.push({ at: Date.now(), pid, incarnation });
    await victim.kill();
    restarts.push(victim.start());
  }
  await Promise.all(restarts);
  await runsEnded(journals, runIds, 60_000);

  const facts = { runs: await journals.runs(), tasks: await journals.tasks(), calls: model.calls };
  const audit = auditRuns({ runIds, ...facts });
  const inFlight = losses.reduce((sum, loss) => sum + tasksInFlight(loss, facts), 0);
  const still = standstills(losses, facts.runs);
  const [p50, p99] = [quantile(still, 0.5), quantile(still, 0.99)].map(Math.round);
  console.log(
    `${losses.length} kills; ${audit.recorded} model replies recorded, ${audit.repeated} calls repeated, ${inFlight} tasks in flight at the kills; ` +
      `${still.length} runs orphaned, next step after p50 ${p50} ms, p99 ${p99} ms; load ${loadavg()[0]?.toFixed(1)}`,
  );
  expect(audit.problems).toEqual([]);
  expect(losses.length).toBeGreaterThanOrEqual(10);
  expect(audit.repeated).toBeLessThanOrEqual(inFlight);
  expect(p99).toBeLessThan(4_000);

  await collector.until(() => checkTraces(collector.spans, { runIds }).length === 0).catch(() => {});
  expect(checkTraces(collector.spans, { runIds }).slice(0, 20)).toEqual([]);
});
