import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import type { RunEvent } from "../../src/workflows/run-events.ts";
import { byRun } from "../helpers/raw-journals.ts";
import { problemsOfJournal } from "../helpers/run-audit.ts";
import { openStage, type Stage, type StageOptions } from "../helpers/stage.ts";
import { runsEnded } from "../helpers/start-runs.ts";
import { until } from "../helpers/until.ts";

const HOUR_MS = 3_600_000;
const DUE_MS = 3_000;
const failing = { content: null, toolCalls: [{ id: "x", name: "no-such-tool", arguments: "{" }] };

/** The first attempt at `again` fails at its last turn; the call of `overdue` never ends. */
const MODEL: StageOptions["model"] = {
  delayMs: ({ runId }) => (runId === "overdue" ? 600_000 : 0),
  reply: ({ runId, taskId, agent }, n) =>
    runId === "again" && taskId === "try-1"
      ? failing
      : { content: JSON.stringify({ agent, n, saw: [] }), toolCalls: [] },
};
const RUNS = ["later", "overdue", "again"];

test("timers that fall due while daemon and broker are down fire once, as soon as both are back", {
  timeout: 60_000,
}, async () => {
  await using stage = await openStage({ model: MODEL });
  const { nats, daemon, journals } = stage;
  const notBefore = await askAll(stage);
  await Promise.all([daemon.kill(), nats.kill()]);
  await sleep(DUE_MS + 500);
  await nats.restart();
  const { readyAt } = await daemon.start();
  await runsEnded(journals, RUNS, 10_000);
  const runs = await eventsByRun(stage);
  expect(await problemsOf(stage)).toEqual([]);
  expect(endsOf(runs)).toEqual(["run.completed", "run.failed", "run.completed"]);
  for (const runId of RUNS) {
    const fired = runs(runId).filter(({ type }) => type === "timer.fired");
    expect(fired, runId).toHaveLength(1);
    const lateMs = Date.parse(fired[0]?.at ?? "") - readyAt;
    console.log(`${runId}: its timer fired ${lateMs} ms after the daemon was ready`);
    expect(lateMs).toBeLessThan(2_000);
  }
  expect(startOf(runs("later"))).toBeGreaterThanOrEqual(notBefore);
});

test("a clock that is set back delays no retry and no deadline, and a start that lies ahead waits for its time", {
  timeout: 60_000,
}, async () => {
  await using stage = await openStage({ model: MODEL });
  const { daemon, journals, model } = stage;
  const notBefore = await askAll(stage);
  await daemon.life.shiftClock(-HOUR_MS);
  const setBackAt = Date.now();
  await runsEnded(journals, ["overdue", "again"], 15_000);
  console.log(`set back by an hour: the last timer fired after ${Date.now() - setBackAt} ms`);
  // The clock says that there is an hour left, and it is the clock that says when.
  await until("its time would be here", () => Date.now() > notBefore + 500);
  expect(model.calls.filter(({ runId }) => runId === "later")).toEqual([]);
  await daemon.life.shiftClock(0);
  await runsEnded(journals, RUNS, 20_000);
  const runs = await eventsByRun(stage);
  expect(await problemsOf(stage)).toEqual([]);
  expect(endsOf(runs)).toEqual(["run.completed", "run.failed", "run.completed"]);
  for (const runId of RUNS) {
    const times = runs(runId).map(({ at }) => Date.parse(at));
    expect(times, runId).toEqual(times.toSorted((a, b) => a - b));
  }
  expect(startOf(runs("later"))).toBeGreaterThanOrEqual(notBefore);
});

test("a daemon whose clock is behind takes up a run without waiting for the time its last owner was in", {
  timeout: 60_000,
}, async () => {
  await using stage = await openStage({ model: MODEL });
  const { daemon, journals } = stage;
  await daemon.life.shiftClock(HOUR_MS);
  await askAll(stage, { without: "later" });
  await daemon.kill();
  const { readyAt } = await daemon.start();
  await runsEnded(journals, ["overdue", "again"], 15_000);
  console.log(`an hour behind: the last timer fired ${Date.now() - readyAt} ms after the daemon was ready`);
  const runs = await eventsByRun(stage);
  expect(endsOf(runs).slice(1)).toEqual(["run.failed", "run.completed"]);
});

/** Asks for a run that starts ahead, one that has a deadline, and one that fails first; resolves when all wait for a timer. */
async function askAll(stage: Stage, { without }: { without?: string } = {}): Promise<number> {
  const { journals, model } = stage;
  const js = journals.nc.jetstream();
  const notBefore = Date.now() + DUE_MS;
  const requests = [
    ["later", "single", { notBefore: new Date(notBefore).toISOString() }],
    ["overdue", "single", { timeoutMs: DUE_MS }],
    ["again", "stubborn", {}],
  ] as const;
  for (const [runId, workflow, more] of requests) {
    if (runId === without) continue;
    await js.publish(`troupe.requests.${workflow}`, JSON.stringify({ input: runId, runId, ...more }));
  }
  await until("the slow call", () => model.open().some(({ runId }) => runId === "overdue"));
  await until("the retry and the start to be set", async () => {
    const runs = await eventsByRun(stage);
    const isSet = (runId: string, type: string) =>
      runId === without || runs(runId).some((event) => event.type === type);
    return isSet("again", "step.retrying") && isSet("later", "timer.set");
  });
  return notBefore;
}

async function eventsByRun({ journals }: Stage): Promise<(runId: string) => RunEvent[]> {
  const runs = byRun(await journals.runs());
  return (runId) => runs.get(runId)?.flatMap(({ value }) => value) ?? [];
}

async function problemsOf({ journals }: Stage): Promise<string[]> {
  return [...byRun(await journals.runs())].flatMap(([runId, entries]) => problemsOfJournal(runId, entries));
}

function endsOf(runs: (runId: string) => RunEvent[]): (string | undefined)[] {
  return RUNS.map((runId) => runs(runId).at(-1)?.type);
}

function startOf(events: readonly RunEvent[]): number {
  return Date.parse(events.find(({ type }) => type === "step.started")?.at ?? "");
}
