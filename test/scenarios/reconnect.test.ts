import { connect } from "nats";
import { expect, test } from "vitest";
import { crashBroker, reconnected } from "../helpers/crash-broker.ts";
import { byRun } from "../helpers/raw-journals.ts";
import { auditRuns } from "../helpers/run-audit.ts";
import { openStage } from "../helpers/stage.ts";
import { numberedIds, requestRuns, runsBegun, runsEnded } from "../helpers/start-runs.ts";
import { until } from "../helpers/until.ts";

test("whoever asked for results gets every one of them although the broker is killed while runs end", {
  timeout: 60_000,
}, async () => {
  await using stage = await openStage({ model: { delayMs: () => 30 } });
  const { nats, journals } = stage;
  const asker = await connect({ servers: nats.url, maxReconnectAttempts: -1, reconnectTimeWait: 50 });
  const heard = new Set<string>();
  asker.subscribe("results.all", { callback: (_, message) => heard.add(message.json<{ runId: string }>().runId) });
  await asker.flush();
  const runIds = numberedIds(200);
  const js = journals.nc.jetstream();
  for (const runId of runIds) {
    await js.publish("troupe.requests.single", JSON.stringify({ input: "bees", runId, replyTo: "results.all" }));
  }
  for (const share of [20, 80]) {
    await until(`${share} results`, () => heard.size >= share);
    await crashBroker(stage);
  }
  await runsEnded(journals, runIds, 30_000);
  const missing = () => runIds.filter((runId) => !heard.has(runId));
  await until(`all results, not without ${missing().join()}`, () => missing().length === 0);
  await asker.close();
});

test("an outcome that was ready while the broker was away is recorded as soon as it is back", {
  timeout: 60_000,
}, async () => {
  await using stage = await openStage({ daemons: 2, model: { delayMs: () => 1_500 } });
  const { nats, journals, model } = stage;
  const runIds = numberedIds(10);
  await requestRuns(journals, runIds, ["single"]);
  await until("all calls", () => model.open().length === runIds.length);
  await nats.kill();
  await until("all replies", () => model.open().length === 0);
  // Longer than three tries of an outcome take.
  await new Promise((resolve) => setTimeout(resolve, 7_000));
  const back = reconnected(journals.nc);
  await nats.restart();
  const backAt = Date.now();
  await back;
  await runsEnded(journals, runIds, 10_000);
  console.log(`the last of ${runIds.length} runs ended ${Date.now() - backAt} ms after the broker was back`);
  expect(Date.now() - backAt).toBeLessThan(4_000);
  const audit = auditRuns({ runIds, runs: await journals.runs(), tasks: await journals.tasks(), calls: model.calls });
  expect(audit.problems).toEqual([]);
  expect(audit.repeated).toBe(0);
});

test("a run that is being cancelled while the broker is killed is cancelled, and its worker hears of it", {
  timeout: 60_000,
}, async () => {
  await using stage = await openStage({
    daemons: 2,
    model: { delayMs: () => 60_000 },
    options: { cancelGraceMs: 30_000 },
  });
  const { journals, model } = stage;
  const runIds = numberedIds(10);
  await requestRuns(journals, runIds, ["single"]);
  await runsBegun(journals, runIds.length);
  await until("all calls", () => model.open().length === runIds.length);
  const js = journals.nc.jetstream();
  for (const runId of runIds) {
    const cancel = { v: 1, kind: "cancel", id: runId, at: new Date().toISOString() };
    await js.publish(`troupe.signals.${runId}`, JSON.stringify(cancel));
  }
  await until("a cancel is on record", async () =>
    (await journals.runs()).some(({ value }) => value.some(({ type }) => type === "run.cancelling")),
  );
  await crashBroker(stage);
  await runsEnded(journals, runIds, 10_000);
  const ends = [...byRun(await journals.runs()).values()].map((entries) => entries.at(-1)?.value.at(-1)?.type);
  expect(new Set(ends)).toEqual(new Set(["run.cancelled"]));
});
