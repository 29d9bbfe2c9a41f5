import { setTimeout as sleep } from "node:timers/promises";
import { connect } from "nats";
import { expect, test } from "vitest";
import { crashBroker } from "../helpers/crash-broker.ts";
import { byRun } from "../helpers/raw-journals.ts";
import { auditRuns } from "../helpers/run-audit.ts";
import { openStage, type Stage } from "../helpers/stage.ts";
import { numberedIds, requestRuns, runsBegun, runsEnded } from "../helpers/start-runs.ts";
import { until } from "../helpers/until.ts";

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

// An append is given up, and looked for, after five seconds.
const STOPPED_MS = 6_500;

test("an append that times out while the broker is stopped, and is stored when it goes on, is one event", {
  timeout: 60_000,
}, async () => {
  await using stage = await openStage({ daemons: 2, model: { delayMs: () => 100 } });
  const { nats, journals, model } = stage;
  const runIds = numberedIds(60);
  await requestRuns(journals, runIds, ["diamond", "relay"]);
  await until("calls to be answered while it is stopped", () => model.open().length > 20);
  process.kill(nats.pid, "SIGSTOP");
  try {
    await sleep(STOPPED_MS);
  } finally {
    process.kill(nats.pid, "SIGCONT");
  }
  await runsEnded(journals, runIds, 30_000);
  expect(await problemsOf(stage, runIds)).toEqual([]);
  const late = [...(await journals.runs()), ...(await journals.tasks())].filter(
    ({ at, value }) => at - Date.parse([value].flat()[0]?.at ?? "") > 5_000,
  );
  console.log(`${late.length} entries were stored after their append had timed out`);
  expect(late.length).toBeGreaterThan(0);
});

test("a request that is in two daemons' hands, because the broker was killed after handing it out, becomes one run", {
  timeout: 60_000,
}, async () => {
  await using stage = await openStage({ options: { suspectAfterMs: 60_000 } });
  const { nats, daemon: first, journals, model } = stage;
  const asker = await connect({ servers: nats.url, maxReconnectAttempts: -1, reconnectTimeWait: 50 });
  let answers = 0;
  asker.subscribe("results.two", {
    callback() {
      answers += 1;
    },
  });
  await asker.flush();
  const ids = numberedIds(20);
  // Stopped, it has what the broker hands out in its socket, and goes on with it when it wakes.
  first.life.signal("SIGSTOP");
  const js = journals.nc.jetstream();
  for (const runId of ids) {
    await js.publish("troupe.requests.single", JSON.stringify({ input: "x", runId, replyTo: "results.two" }));
  }
  const door = async () => (await journals.nc.jetstreamManager()).consumers.info("TROUPE_REQUESTS", "door");
  await until("all are handed out", async () => (await door()).num_ack_pending === ids.length);
  await crashBroker(stage);
  await stage.join();
  await runsEnded(journals, ids, 30_000);
  await until("all answers", () => answers >= ids.length);
  first.life.signal("SIGCONT");
  // Whoever asked is answered once more for every request that is a run already.
  await until("the first daemon has handled what it had in hand", () => answers >= ids.length * 2);
  expect(await problemsOf(stage, ids)).toEqual([]);
  expect(model.calls).toHaveLength(ids.length);
  await asker.close();
});

test("nothing of a run is done again when the broker is killed after its request was acknowledged", {
  timeout: 60_000,
}, async () => {
  await using stage = await openStage({ daemons: 2, model: { delayMs: () => 10 } });
  const { journals, model } = stage;
  const jsm = await journals.nc.jetstreamManager();
  const runIds = numberedIds(200);
  for (let round = 0; round < 4; round += 1) {
    const ids = runIds.slice(round * 50, (round + 1) * 50);
    await requestRuns(journals, ids, ["single"]);
    await runsEnded(journals, ids, 20_000);
    // Old brokers have forgotten some of the acknowledgements, and hand those requests out again.
    await crashBroker(stage);
  }
  await until("nothing is at the door", async () => {
    const { num_pending, num_ack_pending } = await jsm.consumers.info("TROUPE_REQUESTS", "door");
    return num_pending === 0 && num_ack_pending === 0;
  });
  expect(await problemsOf(stage, runIds)).toEqual([]);
  expect(model.calls).toHaveLength(runIds.length);
  expect(byRun(await journals.runs()).size).toBe(runIds.length);
});

async function problemsOf({ journals, model }: Stage, runIds: readonly string[]): Promise<string[]> {
  const facts = { runs: await journals.runs(), tasks: await journals.tasks(), calls: model.calls };
  return auditRuns({ runIds, ...facts }).problems;
}
