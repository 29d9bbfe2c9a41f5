import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { cpuMsOf } from "../helpers/cpu-of.ts";
import { reconnected } from "../helpers/crash-broker.ts";
import { linesOf } from "../helpers/daemon-log.ts";
import { LONG } from "../helpers/long-tests.ts";
import { auditRuns } from "../helpers/run-audit.ts";
import { openStage } from "../helpers/stage.ts";
import { numberedIds, requestRuns, runsEnded } from "../helpers/start-runs.ts";
import { until } from "../helpers/until.ts";

const AWAY_MS = LONG ? 120_000 : 20_000;
/** Of one processor: a daemon tries four times a second to connect, and looks after its clocks. */
const MOST_CPU = 0.05;

test(`a broker that is away for ${AWAY_MS / 1_000} s costs no daemon, no processor time and two lines of the log`, {
  timeout: AWAY_MS + 90_000,
}, async () => {
  await using stage = await openStage({ daemons: 2, logLevel: "info", model: { delayMs: () => 1_500 } });
  const { nats, daemons, journals, model } = stage;
  const pids = daemons.map(({ life }) => life.pid);
  const runIds = numberedIds(40);
  await requestRuns(journals, runIds, ["diamond", "relay"]);
  await until("all runs to be at work", () => model.open().length >= 20);
  const before = await Promise.all(daemons.map(async (daemon) => (await linesOf(daemon)).length));
  const back = reconnected(journals.nc);
  await nats.kill();
  // What was at work comes to its end first.
  await until("all replies", () => model.open().length === 0);
  await sleep(2_000);
  const cpu = await Promise.all(pids.map(cpuMsOf));
  const measuredFrom = performance.now();
  await sleep(AWAY_MS);
  const tookMs = performance.now() - measuredFrom;
  const busy = await Promise.all(pids.map(async (pid, i) => ((await cpuMsOf(pid)) - (cpu[i] ?? 0)) / tookMs));
  await nats.restart();
  const backAt = Date.now();
  await back;
  await runsEnded(journals, runIds, 30_000);

  const ends = (await journals.runs()).filter(({ value }) => value.at(-1)?.type === "run.completed");
  const first = Math.min(...(await journals.runs()).filter(({ at }) => at > backAt).map(({ at }) => at));
  console.log(
    `away for ${AWAY_MS / 1_000} s: ${busy.map((share) => `${(share * 100).toFixed(1)} %`).join(" and ")} of a processor; ` +
      `the first entry ${Math.round(first - backAt)} ms after it was back, all runs over after ${Date.now() - backAt} ms`,
  );
  for (const share of busy) expect(share).toBeLessThan(MOST_CPU);
  expect(ends).toHaveLength(runIds.length);
  expect(daemons.map(({ life }) => life.isRunning())).toEqual([true, true]);
  for (const [i, daemon] of daemons.entries()) {
    const said = (await linesOf(daemon)).slice(before[i]).map(({ msg }) => msg);
    expect(said).toEqual(["NATS is away; waiting for it", "NATS is back"]);
  }
  const facts = { runs: await journals.runs(), tasks: await journals.tasks(), calls: model.calls };
  expect(auditRuns({ runIds, ...facts }).problems).toEqual([]);
});
