import { expect, test } from "vitest";
import { type Deed, measureRecovery, PROMISED_MS, spreadOf } from "../../bench/recovery.ts";
import { expectWithin } from "../helpers/measured-bound.ts";

// `npm run bench -- --recovery` is the same with a thousand.
const RUNS = 200;
const SENTENCES: { [deed in Deed]: string } = {
  killed:
    "the runs of a daemon that is killed, and those whose tasks it had, go on within half a second of its being missed",
  restarted: "the runs of a lone daemon that is killed and restarted go on within a second of its being ready",
  drained: "the runs of a daemon that is told to stop go on elsewhere within a second",
  broker: "what the model answered while the broker was away is on record within two seconds of its being back",
};

test.each(Object.entries(SENTENCES) as [Deed, string][])("%s: %s", { timeout: 120_000 }, async (deed) => {
  const { still, inFlight } = await measureRecovery(deed, { runs: RUNS, rounds: 1 });
  const { p50, p99, max } = spreadOf(still);
  const told = `${deed}: ${still.length} of ${RUNS} runs touched, ${inFlight} calls in flight`;
  console.log(`${told}; on after p50 ${p50.toFixed(0)} ms, p99 ${p99.toFixed(0)} ms, max ${max.toFixed(0)} ms`);
  expect(still.length).toBeGreaterThan(20);
  expect(inFlight).toBeGreaterThan(20);
  const slowest = still.slice(-5).map(({ runId, ms, story }) => `${runId} ${ms.toFixed(0)} ms: ${story}`);
  expect(max, slowest.join("\n")).toBeLessThan(Number.POSITIVE_INFINITY);
  expectWithin(PROMISED_MS[deed], "99 of 100 runs went on", p99, slowest.join("\n"));
});
