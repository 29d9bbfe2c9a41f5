import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Events, type NatsConnection } from "nats";
import { expect, test } from "vitest";
import { startNatsServer } from "../../src/runtime/nats/server.ts";
import { linesOf, reasonsOf, timesSaid } from "../helpers/daemon-log.ts";
import type { DaemonHome } from "../helpers/daemon-process.ts";
import { openStage } from "../helpers/stage.ts";
import { numberedIds, requestRuns, runsEnded } from "../helpers/start-runs.ts";
import { until } from "../helpers/until.ts";

const LOST = /streams are lost/;
const options = { lookAroundMs: 1_000 };

const isLost = (daemon: DaemonHome) =>
  until("the loss is seen", async () => (await reasonsOf(daemon)).find((reason) => /stream/.test(reason)));

test("a stream that is deleted under a running daemon is noticed and not made again, until the daemon is restarted", {
  timeout: 60_000,
}, async () => {
  await using stage = await openStage({ options, model: { delayMs: () => 1_000 } });
  const { daemon, journals, model } = stage;
  await requestRuns(journals, numberedIds(5), ["diamond"]);
  await until("the runs are at work", () => model.open().length === 5);
  const jsm = await journals.nc.jetstreamManager();
  await jsm.streams.delete("TROUPE_RUNS");

  expect(await isLost(daemon)).toMatch(/^the stream TROUPE_RUNS was deleted; restart this daemon/);
  await requestRuns(journals, ["later"], ["single"]);
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  expect(await timesSaid(daemon, LOST)).toBe(1);
  expect((await jsm.consumers.info("TROUPE_REQUESTS", "door")).num_pending).toBe(1);
  await expect(jsm.streams.info("TROUPE_RUNS")).rejects.toThrow("stream not found");

  await daemon.kill();
  await daemon.start();
  await runsEnded(journals, ["later"], 20_000);
  const stale = (await linesOf(daemon)).find(({ msg }) => /runs stream was made again/.test(msg));
  expect(stale).toMatchObject({ runs: 5, unfinished: 5 });
});

test("a stream that somebody deletes and makes again stops the daemon all the same: its runs are not begun anew", {
  timeout: 60_000,
}, async () => {
  await using stage = await openStage({ options, model: { delayMs: () => 1_000 } });
  const { daemon, journals, model } = stage;
  await requestRuns(journals, ["early"], ["single"]);
  await until("the run is at work", () => model.open().length === 1);
  const jsm = await journals.nc.jetstreamManager();
  await jsm.streams.delete("TROUPE_RUNS");
  await jsm.streams.add({ name: "TROUPE_RUNS", subjects: ["troupe.runs.*"] });
  expect(await isLost(daemon)).toMatch(/^the stream TROUPE_RUNS was deleted and made again/);
  await until("the reply has come", () => model.open().length === 0);
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  expect(await journals.runs()).toEqual([]);
});

test("a broker that comes back on an empty store is not taken for a new beginning, and on its own store all goes on", {
  timeout: 90_000,
}, async () => {
  await using stage = await openStage({ options, model: { delayMs: () => 2_000 } });
  const { nats, daemon, journals, model } = stage;
  const runIds = numberedIds(8);
  await requestRuns(journals, runIds, ["diamond", "single"]);
  await until("the runs are at work", () => model.open().length > 4);
  await nats.kill();
  const storeDir = await mkdtemp(join(tmpdir(), "troupe-empty-"));
  const back = reconnected(journals.nc);
  const empty = await startNatsServer({ storeDir, port: nats.port });
  await back;
  expect(await isLost(daemon)).toMatch(/the broker has none of the streams: its store is empty, or another one/);
  expect(await timesSaid(daemon, LOST)).toBe(1);
  expect((await (await journals.nc.jetstreamManager()).getAccountInfo()).streams).toBe(0);

  await empty.stop();
  await rm(storeDir, { recursive: true, force: true });
  const backAgain = reconnected(journals.nc);
  await nats.restart();
  await backAgain;
  await until("the daemon is ready", async () => (await reasonsOf(daemon)).length === 0);
  await runsEnded(journals, runIds, 40_000);
});

test("the door's consumer is made again when somebody deletes it", { timeout: 30_000 }, async () => {
  await using stage = await openStage({ options });
  const { daemon, journals } = stage;
  await (await journals.nc.jetstreamManager()).consumers.delete("TROUPE_REQUESTS", "door");
  await until("that is said", async () => (await timesSaid(daemon, /door's consumer/)) === 1);
  await requestRuns(journals, ["through"], ["single"]);
  await runsEnded(journals, ["through"], 20_000);
});

async function reconnected(nc: NatsConnection): Promise<void> {
  for await (const { type } of nc.status()) if (type === Events.Reconnect) return;
}
