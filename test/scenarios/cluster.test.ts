import { expect, test } from "vitest";
import { startDaemonProcesses } from "../helpers/daemon-process.ts";
import { startNatsCluster } from "../helpers/nats-cluster.ts";
import { startNumberedModel } from "../helpers/numbered-model-server.ts";
import { openRawJournals, type RawJournals } from "../helpers/raw-journals.ts";
import { auditRuns } from "../helpers/run-audit.ts";
import { numberedIds, requestRuns, runsBegun, runsEnded } from "../helpers/start-runs.ts";
import { until } from "../helpers/until.ts";

const RUNS_STREAM = "TROUPE_RUNS";
const LEADERS_KILLED = 2;
/** Runs asked for before a leader is killed, and while there is none. */
const [BEFORE, DURING] = [60, 20];

test("runs outlive the leader of a replicated stream that is killed under load, and nothing is lost", {
  timeout: 300_000,
}, async () => {
  await using cluster = await startNatsCluster();
  await using model = await startNumberedModel({ delayMs: () => 300 });
  await using journals = await openRawJournals(cluster.urls[0] ?? "");
  await using daemons = await startDaemonProcesses(2, {
    modelUrl: model.url,
    options: { nats: cluster.urls, replicas: 3, ackWaitMs: 3_000, maxRuns: 20 },
  });
  await cluster.whole(RUNS_STREAM);
  const runIds = numberedIds(LEADERS_KILLED * (BEFORE + DURING));

  const stallsMs: number[] = [];
  for (let i = 0; i < LEADERS_KILLED; i += 1) {
    const batch = runIds.slice(i * (BEFORE + DURING), (i + 1) * (BEFORE + DURING));
    await requestRuns(journals, batch.slice(0, BEFORE), ["diamond", "relay"]);
    await runsBegun(journals, i * (BEFORE + DURING) + BEFORE / 3);
    const leader = await cluster.leaderOf(RUNS_STREAM);
    await cluster.kill(leader);
    const goneAt = Date.now();
    await requestUntilStored(journals, batch.slice(BEFORE));
    expect(await cluster.leaderOf(RUNS_STREAM)).not.toBe(leader);
    stallsMs.push(await firstEntryAfter(journals, goneAt));
    await cluster.start(leader);
    await cluster.whole(RUNS_STREAM);
  }
  await runsEnded(journals, runIds, 120_000);

  const facts = { runs: await journals.runs(), tasks: await journals.tasks(), calls: model.calls };
  const audit = auditRuns({ runIds, ...facts });
  console.log(
    `nats-server ${cluster.version}, ${LEADERS_KILLED} leaders killed: writers stalled for ${stallsMs.join(" and ")} ms; ` +
      `${audit.recorded} replies recorded, ${audit.repeated} calls repeated`,
  );
  expect(audit.problems).toEqual([]);
  expect(daemons.map(({ life }) => life.isRunning())).toEqual([true, true]);
});

/** Asks for each run again until the broker has the request: the same id twice is one run. */
async function requestUntilStored(journals: RawJournals, runIds: readonly string[]): Promise<void> {
  await Promise.all(
    runIds.map((runId) =>
      until(
        `the request for ${runId} to be stored`,
        () =>
          requestRuns(journals, [runId], ["diamond"]).then(
            () => true,
            () => false,
          ),
        { withinMs: 60_000 },
      ),
    ),
  );
}

/** Milliseconds from `since` to the first entry stored after it, in any journal of a run. */
async function firstEntryAfter(journals: RawJournals, since: number): Promise<number> {
  return await until(
    "a journal to go on",
    async () => {
      const entries = await journals.runs().catch(() => []);
      const next = entries.find(({ at }) => at > since);
      return next && Math.ceil(next.at - since);
    },
    { withinMs: 60_000 },
  );
}
