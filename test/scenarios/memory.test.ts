import { expect, test } from "vitest";
import { openStage } from "../helpers/stage.ts";
import { numberedIds, requestRuns } from "../helpers/start-runs.ts";
import { until } from "../helpers/until.ts";

const MiB = 1_048_576;

test("ten thousand finished runs leave the daemon's memory where it was after one thousand", {
  timeout: 180_000,
}, async () => {
  await using stage = await openStage({ traced: true, logLevel: "warn", model: { delayMs: () => 0 } });
  const { daemon, journals } = stage;
  let ended = 0;
  journals.nc.subscribe("troupe.events.*.*.run.completed", {
    callback: () => {
      ended += 1;
    },
  });
  await journals.nc.flush();

  const after: { [runs: number]: number } = {};
  const all = numberedIds(10_000);
  for (let asked = 500; asked <= all.length; asked += 500) {
    await requestRuns(journals, all.slice(asked - 500, asked), ["single", "relay"]);
    await until(`${asked} runs`, () => ended === asked, { withinMs: 60_000 });
    if (asked === 1_000 || asked === 10_000) after[asked] = await daemon.life.heapUsed();
  }
  const [early = 0, late = 0] = [after[1_000], after[10_000]];
  console.log(`heap after 1,000 runs ${(early / MiB).toFixed(1)} MiB, after 10,000 ${(late / MiB).toFixed(1)} MiB`);
  // Memories with a bound (outcomes sent, 4,096 of them) are not full after a thousand runs.
  expect(late - early).toBeLessThan(4 * MiB);
});
