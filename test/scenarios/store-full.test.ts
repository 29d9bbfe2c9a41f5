import type { NatsConnection } from "nats";
import { expect, test } from "vitest";
import { cpuMsOf } from "../helpers/cpu-of.ts";
import { linesOf, reasonsOf, timesSaid } from "../helpers/daemon-log.ts";
import { auditRuns } from "../helpers/run-audit.ts";
import { openStage } from "../helpers/stage.ts";
import { numberedIds, requestRuns, runsEnded } from "../helpers/start-runs.ts";
import { until } from "../helpers/until.ts";

/** A block of its own takes the place of the one before. */
const limited = (storeDir: string) => `jetstream { store_dir: ${JSON.stringify(storeDir)}, max_file_store: 8MB }`;

/** Leaves no room for a byte more. */
async function fill(nc: NatsConnection): Promise<void> {
  for (let bytes = 200_000; bytes >= 10; ) {
    const answer = (await nc.request("filler.x", new Uint8Array(bytes))).json<{ error?: object }>();
    if (answer.error) bytes = Math.floor(bytes / 4);
  }
}

test("where JetStream has no room everything waits and the daemon says so once, and with room it goes on without a loss", {
  timeout: 90_000,
}, async () => {
  await using stage = await openStage({ natsConfig: limited, model: { delayMs: () => 300 } });
  const { daemon, journals, model } = stage;
  const runIds = numberedIds(40);
  const jsm = await journals.nc.jetstreamManager();
  await jsm.streams.add({ name: "FILLER", subjects: ["filler.>"] });
  await requestRuns(journals, runIds, ["diamond", "relay", "single"]);
  await until("runs are at work", () => model.open().length > 3);
  await fill(journals.nc);
  await until("the daemon refuses", async () => (await reasonsOf(daemon)).length > 0);
  expect(await reasonsOf(daemon)).toEqual([
    expect.stringMatching(/^JetStream refuses to store: TROUPE_\w+: insufficient resources/),
  ]);
  const before = await cpuMsOf(daemon.life.pid);
  await new Promise((resolve) => setTimeout(resolve, 4_000));
  expect((await cpuMsOf(daemon.life.pid)) - before).toBeLessThan(1_200);
  expect(await timesSaid(daemon, /JetStream refuses to store/)).toBe(1);

  await jsm.streams.purge("FILLER");
  await runsEnded(journals, runIds, 30_000);
  await until("it is ready again", async () => (await reasonsOf(daemon)).length === 0);
  const said = (await linesOf(daemon)).filter(({ level, msg }) => level >= 40 || /JetStream stores again/.test(msg));
  expect(said.map(({ msg }) => msg)).toEqual([
    "JetStream refuses to store; everything waits until there is room",
    "JetStream stores again",
  ]);
  const audit = auditRuns({ runIds, runs: await journals.runs(), tasks: await journals.tasks(), calls: model.calls });
  expect(audit.problems).toEqual([]);
  expect(audit.repeated).toBe(0);
});
