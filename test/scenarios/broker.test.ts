import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { auditRuns } from "../helpers/run-audit.ts";
import { openStage } from "../helpers/stage.ts";
import { numberedIds, requestRuns, runsBegun, runsEnded } from "../helpers/start-runs.ts";

test("runs outlive a broker that is killed and started again under load, and so do the daemons", {
  timeout: 120_000,
}, async () => {
  await using stage = await openStage({ daemons: 2, options: { maxRuns: 30 }, model: { delayMs: () => 150 } });
  const { nats, daemons, journals, model } = stage;
  const runIds = numberedIds(150);
  await requestRuns(journals, runIds, ["diamond", "relay"]);
  await runsBegun(journals, 40);
  for (const downMs of [0, 1_500, 3_000]) {
    await nats.kill();
    await sleep(downMs);
    await nats.restart();
    await sleep(1_500);
  }
  await runsEnded(journals, runIds, 90_000);

  const audit = auditRuns({ runIds, runs: await journals.runs(), tasks: await journals.tasks(), calls: model.calls });
  console.log(`three broker crashes: ${audit.recorded} replies recorded, ${audit.repeated} calls repeated`);
  expect(audit.problems).toEqual([]);
  expect(daemons.map(({ life }) => life.isRunning())).toEqual([true, true]);
});
