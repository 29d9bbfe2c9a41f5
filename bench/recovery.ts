/**
 * How soon runs go on after a daemon is killed, restarted or told to stop, and after the broker was away: real processes, with
 * so many runs at work that most calls of the model are in flight and the other tasks wait in mailboxes.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { NumberedModelServer } from "../test/helpers/numbered-model-server.ts";
import { quantile } from "../test/helpers/run-audit.ts";
import { openStage, type Stage } from "../test/helpers/stage.ts";
import { numberedIds, requestRuns } from "../test/helpers/start-runs.ts";
import { until } from "../test/helpers/until.ts";
import { withCleanUp } from "./clean-up.ts";
import { afterBroker, afterLeaving, type Standstill } from "./recovery-times.ts";

export const DEEDS = ["killed", "restarted", "drained", "broker"] as const;
export type Deed = (typeof DEEDS)[number];

export type RecoveryEffort = {
  /** How many runs are active. @default 1000 */
  runs: number;
  /** How often each deed is done. @default 1 */
  rounds: number;
};

/** The promises are about so many runs. */
export const USUAL_RECOVERY: RecoveryEffort = { runs: 1_000, rounds: 1 };

export type Recovered = {
  deed: Deed;
  /** Runs at work when it happened, and how many of them had a call of the model in flight. */
  active: number;
  inFlight: number;
  /** How long what it touched stood still, ascending. */
  still: Standstill[];
};

/** What was promised of each, as the most that 99 of 100 may take, in milliseconds. */
export const PROMISED_MS: { [deed in Deed]: number } = {
  killed: 3_000,
  restarted: 1_000,
  drained: 1_000,
  broker: 2_000,
};

const LABELS: { [deed in Deed]: string } = {
  killed: "SIGKILL of one of three, until on a survivor",
  restarted: "lone daemon restarted, from its being ready",
  drained: "SIGTERM of one of three, until on a survivor",
  broker: "broker killed and restarted, from its being back",
};

// Longer than anything that is measured here: whatever has not gone on by then stands still.
const WATCHED_MS = 10_000;
const BROKER_AWAY_MS = 2_000;
const SOON_MS = 3_000;
// Well beyond what is measured, so that runs stay active and few end by themselves.
const CALL_MS = { least: 4_000, spread: 8_000 };

/** Measures a deed among so many active runs, `rounds` times: where in the beat of a daemon it is done decides some of it. */
export async function measureRecovery(deed: Deed, { runs, rounds }: RecoveryEffort): Promise<Recovered> {
  const all: Recovered[] = [];
  for (let round = 0; round < rounds; round += 1) all.push(await measureOnce(deed, runs));
  const still = all.flatMap((each) => each.still).sort((a, b) => a.ms - b.ms);
  const inFlight = all.reduce((sum, each) => sum + each.inFlight, 0) / rounds;
  return { deed, active: runs, inFlight, still };
}

/** Once, with everything started for it and gone afterwards. */
function measureOnce(deed: Deed, runs: number): Promise<Recovered> {
  return withCleanUp(async ({ after }) => {
    const stage = after(
      await openStage({
        daemons: deed === "restarted" ? 1 : 3,
        // Whoever reads the daemons' logs is busy here.
        logLevel: "error",
        options: { maxRuns: Math.max(1_000, runs), ackWaitMs: 5_000 },
        model: { delayMs: (_ask, n) => CALL_MS.least + ((n * 379) % CALL_MS.spread) },
      }),
      (opened) => opened[Symbol.asyncDispose](),
    );
    await begin(stage, runs);
    const inFlight = stage.model.open().length;
    return { deed, active: runs, inFlight, still: await DOINGS[deed](stage) };
  });
}

/** Starts the runs and waits until all of them are at work, some with calls of the model in flight. */
async function begin({ journals, model }: Stage, runs: number): Promise<void> {
  await requestRuns(journals, numberedIds(runs), ["diamond", "relay"]);
  const jsm = await journals.nc.jetstreamManager();
  await until(`${runs} runs`, async () => ((await jsm.streams.info("TROUPE_RUNS")).state.num_subjects ?? 0) >= runs, {
    withinMs: 60_000,
  });
  const answered = () => model.calls.filter(({ state }) => state === "answered").length;
  // By then runs are in every stage of their beginning.
  await until("the first answers", () => answered() >= runs / 20, { withinMs: 60_000 });
}

const DOINGS: { [deed in Deed]: (stage: Stage) => Promise<Standstill[]> } = {
  async killed(stage) {
    const { daemon } = stage;
    const at = Date.now();
    await daemon.kill();
    await sleep(WATCHED_MS);
    return left(stage, { at, ...daemon.life });
  },
  async restarted(stage) {
    const { daemon } = stage;
    const { pid, incarnation } = daemon.life;
    const at = Date.now();
    await daemon.kill();
    const { readyAt } = await daemon.start();
    await sleep(WATCHED_MS);
    return left(stage, { at, pid, incarnation, from: readyAt });
  },
  async drained(stage) {
    const { daemon } = stage;
    const at = Date.now();
    daemon.life.signal("SIGTERM");
    await sleep(WATCHED_MS);
    const { incarnation } = daemon.life;
    // What is in its hands it finishes; only what it gives back is sent again.
    return left(stage, { at, incarnation, pid: Number.NaN });
  },
  async broker({ nats, journals, model }) {
    const goneAt = Date.now();
    await nats.kill();
    await sleep(BROKER_AWAY_MS);
    await nats.restart();
    const backAt = Date.now();
    await sleep(WATCHED_MS);
    const entries = [...(await journals.runs()), ...(await journals.tasks())].sort((a, b) => a.at - b.at);
    return afterBroker({ goneAt, backAt, soonMs: SOON_MS }, entries, model.calls);
  },
};

async function left(
  { journals, model }: { journals: Stage["journals"]; model: NumberedModelServer },
  leaving: Parameters<typeof afterLeaving>[0],
): Promise<Standstill[]> {
  return afterLeaving(leaving, await journals.runs(), model.calls);
}

/** The times that half, 99 of 100 and all of them did not exceed, in milliseconds. */
export function spreadOf(still: readonly Standstill[]): { p50: number; p99: number; max: number } {
  const times = still.map(({ ms }) => ms);
  return { p50: quantile(times, 0.5), p99: quantile(times, 0.99), max: times.at(-1) ?? Number.NaN };
}

/** The measurements as a table for a terminal. */
export function renderRecovery(all: readonly Recovered[]): string {
  const rows = all.map(({ deed, active, inFlight, still }) => {
    const { p50, p99, max } = spreadOf(still);
    const numbers = [active, inFlight, still.length, p50, p99, max, PROMISED_MS[deed]];
    return [LABELS[deed], ...numbers.map((n) => n.toFixed(0))];
  });
  const table = [
    ["", "active runs", "calls in flight", "touched", "p50 ms", "p99 ms", "max ms", "promised p99"],
    ...rows,
  ];
  const widths = table[0]?.map((_, column) => Math.max(...table.map((row) => row[column]?.length ?? 0))) ?? [];
  return table
    .map((row) =>
      row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join("  "),
    )
    .join("\n");
}
