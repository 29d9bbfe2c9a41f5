import { loadavg } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { expectWithin } from "../helpers/measured-bound.ts";
import type { NumberedModelServer } from "../helpers/numbered-model-server.ts";
import { auditRuns, type Loss, quantile, standstills, tasksInFlight } from "../helpers/run-audit.ts";
import { openStage } from "../helpers/stage.ts";
import { numberedIds, requestRuns, runsEnded } from "../helpers/start-runs.ts";
import { checkTraces } from "../helpers/trace-checker.ts";
import { until } from "../helpers/until.ts";

const RUNS = 200;
const KILLS = 12;

test("three daemons under SIGKILL every second end 200 runs of both kinds exactly once", {
  timeout: 180_000,
}, async () => {
  await using stage = await openStage({
    daemons: 3,
    traced: true,
    // So few at once that there is work to the last kill.
    options: { maxRuns: 15 },
    model: { delayMs: (_ask, n) => 100 + ((n * 37) % 300) },
  });
  const { daemons, journals, model, collector } = stage;
  const runIds = numberedIds(RUNS);
  await requestRuns(journals, runIds, ["diamond", "relay"]);

  const losses: Loss[] = [];
  const restarts: Promise<unknown>[] = [];
  for (let i = 0; losses.length < KILLS; i += 1) {
    await sleep(1_000);
    const victim = daemons[i % daemons.length];
    // Somebody has to survive, however long the others take to start.
    const running = daemons.filter(({ life }) => life.isRunning());
    if (running.length < 2 || !victim?.life.isRunning()) continue;
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
  console.log(
    `${losses.length} kills; ${audit.recorded} model replies recorded, ${audit.repeated} calls repeated, ` +
      `${inFlight} tasks in flight at the kills; ${told(still)}`,
  );
  expect(audit.problems).toEqual([]);
  expect(audit.repeated).toBeLessThanOrEqual(inFlight);
  await until("whole traces", () => checkTraces(collector.spans, { runIds }).length === 0).catch(() => {});
  expect(checkTraces(collector.spans, { runIds }).slice(0, 20)).toEqual([]);
  expectWithin(4_000, "99 of 100 runs went on", p99(still), slowest(still));
});

test("the runs of a daemon that is killed for good go on elsewhere within four seconds", {
  timeout: 120_000,
}, async () => {
  await using stage = await openStage({ daemons: 3, options: { maxRuns: 50 }, model: { delayMs: () => 200 } });
  const { daemon, journals, model } = stage;
  const runIds = numberedIds(300);
  await requestRuns(journals, runIds, ["diamond", "relay"]);
  const { pid, incarnation } = daemon.life;
  await until("calls in flight", () => model.calls.length > 300 && callsOf(model, pid) > 20);
  const loss = { at: Date.now(), pid, incarnation };
  await daemon.kill();
  await runsEnded(journals, runIds, 60_000);

  const facts = { runs: await journals.runs(), tasks: await journals.tasks(), calls: model.calls };
  const audit = auditRuns({ runIds, ...facts });
  const still = standstills([loss], facts.runs);
  console.log(
    `a kill for good: ${told(still)}; ${audit.repeated} calls repeated, ${tasksInFlight(loss, facts)} tasks in flight`,
  );
  expect(audit.problems).toEqual([]);
  expect(audit.repeated).toBeLessThanOrEqual(tasksInFlight(loss, facts));
  expect(still.length).toBeGreaterThan(10);
  expectWithin(4_000, "99 of 100 runs went on", p99(still), slowest(still));
});

test("a lone daemon that is killed and started again goes on within a second of being ready", {
  timeout: 120_000,
}, async () => {
  await using stage = await openStage({ model: { delayMs: () => 150 } });
  const { daemon, journals, model } = stage;
  const runIds = numberedIds(100);
  await requestRuns(journals, runIds, ["diamond", "relay"]);
  const { pid, incarnation } = daemon.life;
  await until("calls in flight", () => model.calls.length > 100 && callsOf(model, pid) > 20);
  const loss = { at: Date.now(), pid, incarnation };
  await daemon.kill();
  const { readyAt } = await daemon.start();
  await runsEnded(journals, runIds, 60_000);

  const facts = { runs: await journals.runs(), tasks: await journals.tasks(), calls: model.calls };
  const audit = auditRuns({ runIds, ...facts });
  const still = standstills([loss], facts.runs).map(({ ms, story }) => ({ ms: ms - (readyAt - loss.at), story }));
  console.log(`a lone daemon, counted from being ready: ${told(still)}`);
  expect(audit.problems).toEqual([]);
  expect(audit.repeated).toBeLessThanOrEqual(tasksInFlight(loss, facts));
  expect(still.length).toBeGreaterThan(10);
  expectWithin(1_000, "the last run went on", still.at(-1)?.ms ?? 0, slowest(still));
});

function callsOf(model: NumberedModelServer, pid: number): number {
  return model.open().filter((call) => call.pid === pid).length;
}

type Still = ReturnType<typeof standstills>;

function p99(still: Still): number {
  return quantile(
    still.map(({ ms }) => ms),
    0.99,
  );
}

function told(still: Still): string {
  const p50 = quantile(
    still.map(({ ms }) => ms),
    0.5,
  );
  const load = loadavg()[0]?.toFixed(1);
  return `${still.length} runs orphaned, next step after p50 ${Math.round(p50)} ms, p99 ${Math.round(p99(still))} ms (load ${load})`;
}

function slowest(still: Still): string {
  return still
    .slice(-5)
    .map(({ story }) => story)
    .join("\n");
}
