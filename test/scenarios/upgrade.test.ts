import { expect, test } from "vitest";
import { type BrokerVersion, findBrokerVersions } from "../helpers/broker-versions.ts";
import { auditRuns } from "../helpers/run-audit.ts";
import { openStage } from "../helpers/stage.ts";
import { numberedIds, requestRuns, runsEnded } from "../helpers/start-runs.ts";
import { until } from "../helpers/until.ts";

const WORKFLOWS = ["diamond", "relay"];

test("runs in flight go on when the broker is stopped and the newest one starts on its store", {
  timeout: 120_000,
}, async (context) => {
  const { from, to } = await chooseVersions();
  if (from.version === to.version) {
    const why = `skipped: nats-server ${to.version} is the newest here; npm run test:brokers brings other versions`;
    console.log(why);
    context.skip(why);
    return;
  }
  await using stage = await openStage({
    daemons: 2,
    executable: from.file,
    // So few at once that most requests wait at the door for the new broker.
    options: { maxRuns: 15 },
    model: { delayMs: () => 200 },
  });
  const { nats, daemons, journals, model } = stage;
  const runIds = numberedIds(150);
  await requestRuns(journals, runIds.slice(0, 120), WORKFLOWS);
  const lives = daemons.map(({ life }) => life);
  await until("runs at every stage", () => model.calls.length > 200 && model.open().length > 10);

  const before = (await journals.runs()).length;
  await nats.restart({ executable: to.file });
  expect(nats.version).toBe(to.version);
  await until("the client to be back", () => journals.nc.info?.version === to.version);
  const kept = (await journals.runs()).length;
  // One of them is asked for again: it is the same run, whichever broker heard of it first.
  await requestRuns(journals, [...runIds.slice(120), "run-1"], WORKFLOWS);
  await runsEnded(journals, runIds, 60_000);

  const audit = auditRuns({ runIds, runs: await journals.runs(), tasks: await journals.tasks(), calls: model.calls });
  console.log(
    `nats-server ${from.version} to ${to.version}: ${kept} entries kept, ` +
      `${audit.recorded} replies recorded, ${audit.repeated} calls repeated`,
  );
  expect(kept).toBeGreaterThanOrEqual(before);
  expect(audit.problems).toEqual([]);
  expect(lives.every((life) => life.isRunning())).toBe(true);
});

/** From the version that is being tested, or the oldest, to the newest. */
async function chooseVersions(): Promise<{ from: BrokerVersion; to: BrokerVersion }> {
  const versions = await findBrokerVersions();
  const [oldest, newest] = [versions[0], versions.at(-1)];
  if (!oldest || !newest) throw new Error("expected a nats-server, found none");
  const tested = versions.find(({ file }) => file === process.env.TROUPE_NATS_SERVER);
  return { from: tested ?? oldest, to: newest };
}
