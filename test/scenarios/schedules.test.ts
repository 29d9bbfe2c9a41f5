import { expect, test } from "vitest";
import { type Client, connect } from "../../src/runtime/edges/client.ts";
import { byRun } from "../helpers/raw-journals.ts";
import { problemsOfJournal } from "../helpers/run-audit.ts";
import { openStage, type Stage } from "../helpers/stage.ts";
import { until as look } from "../helpers/until.ts";

const SECONDS = 12;
/** Daemons that start, die and take over do so on a busy machine. */
const until: typeof look = (what, found, { withinMs = 60_000 } = {}) => look(what, found, { withinMs });

test("of three daemons that fire every second, the one that does is killed: every instant has exactly one run", {
  timeout: 180_000,
}, async () => {
  await using stage = await openStage({ daemons: 3 });
  const client = await connect({ servers: stage.nats.url });
  // However long nobody fires: with `skip` an instant that is taken for missed would have no run.
  await client.putSchedule("tick", { workflow: "single", everyMs: 1_000, missed: "skip" });
  const from = await until("it has fired", () => lastDue(client));
  const first = await whoFires(stage);
  await first.kill();
  await until("it has fired for long enough", async () => ((await lastDue(client)) ?? 0) >= from + SECONDS * 1_000);
  await client.deleteSchedule("tick");
  const fired = await runsOf(stage, "tick");
  const expected = Array.from({ length: SECONDS + 1 }, (_, i) => from + i * 1_000);
  expect(fired.slice(fired.indexOf(from)).slice(0, expected.length)).toEqual(expected);
  const others = stage.daemons.filter((daemon) => daemon !== first);
  const heirs = await Promise.all(others.map((daemon) => daemon.log()));
  expect(heirs.some((log) => log.includes("schedule fired"))).toBe(true);
  await until("every run is over", async () => (await problemsOf(stage)).length === 0);
  await client.close();
});

test("instants that come while the broker is down for a moment are late, and each has exactly one run", {
  timeout: 180_000,
}, async () => {
  await using stage = await openStage({ daemons: 2 });
  const client = await connect({ servers: stage.nats.url });
  await client.putSchedule("tick", { workflow: "single", everyMs: 1_000, missed: "skip" });
  const from = await until("it has fired", () => lastDue(client));
  await stage.nats.kill();
  const down = Date.now();
  await until("some instants have passed", () => Date.now() > down + 3_200);
  await stage.nats.restart();
  const through = from + 8_000;
  const isThrough = async () => ((await lastDue(client).catch(() => 0)) ?? 0) >= through;
  await until("it has fired for long enough", isThrough);
  await client.deleteSchedule("tick");
  const fired = (await runsOf(stage, "tick")).filter((due) => due >= from && due <= through);
  expect(fired).toEqual(Array.from({ length: 9 }, (_, i) => from + i * 1_000));
  await client.close();
});

test("what was due while all were down is made up for once, not at all, or for each instant, as declared", {
  timeout: 180_000,
}, async () => {
  await using stage = await openStage({ daemons: 2 });
  const client = await connect({ servers: stage.nats.url });
  const schedule = { workflow: "single", everyMs: 1_000 };
  for (const missed of ["once", "skip", "all"] as const) await client.putSchedule(missed, { ...schedule, missed });
  await until("all have fired", async () => (await client.schedules()).every(({ last }) => last !== undefined));
  await Promise.all(stage.daemons.map((daemon) => daemon.kill()));
  const down = Date.now();
  await until("three instants have passed", () => Date.now() > down + 3_500);
  const back = await stage.daemon.start();
  await until("all have fired again", async () => {
    const listed = await client.schedules();
    return listed.length === 3 && listed.every(({ last }) => Date.parse(last?.firedAt ?? "") > back.readyAt + 1_500);
  });
  // Instants of which nobody can say that they were fired before the kill, nor that the daemon was there for them.
  const wholeFrom = Math.ceil(down / 1_000) * 1_000;
  const wholeUntil = Math.floor((down + 3_500) / 1_000) * 1_000;
  const missedBy = async (name: string) =>
    (await runsOf(stage, name)).filter((due) => due > wholeFrom && due <= wholeUntil).length;
  const whole = (wholeUntil - wholeFrom) / 1_000;
  expect(await missedBy("all")).toBe(whole);
  expect(await missedBy("skip")).toBe(0);
  // The newest of those missed, which may lie after these.
  expect(await missedBy("once")).toBeLessThanOrEqual(1);
  const madeUpFor = (await runsOf(stage, "once")).filter((due) => due > wholeFrom && due < back.readyAt);
  expect(madeUpFor.length).toBeGreaterThanOrEqual(1);
  await client.close();
});

test("a schedule that fires at an instant whose request was asked for already makes no second run, also when its run is long over", {
  timeout: 60_000,
}, async () => {
  await using stage = await openStage({ daemons: 1 });
  const client = await connect({ servers: stage.nats.url });
  const at = Math.ceil((Date.now() + 3_000) / 1_000) * 1_000;
  const runId = `nightly-${new Date(at).toISOString().replace(".000", "").replaceAll(/[-:]/g, "")}`;
  await client.run("single", "by hand", { runId });
  // What retention leaves of it: its journal is gone, its id is taken.
  const jsm = await stage.journals.nc.jetstreamManager();
  await jsm.streams.purge("TROUPE_RUNS", { filter: `troupe.runs.${runId}` });
  await client.putSchedule("nightly", { workflow: "single", at: new Date(at).toISOString() });
  const fired = await until("it has fired", async () => (await client.schedules())[0]?.last);
  expect(fired.runId).toBe(runId);
  await expect(client.get(runId)).rejects.toThrow(/no run/);
  expect(await runsOf(stage, "nightly")).toEqual([]);
  await client.close();
});

async function lastDue(client: Client): Promise<number | undefined> {
  const [schedule] = await client.schedules();
  return schedule?.last && Date.parse(schedule.last.dueAt);
}

async function whoFires({ daemons }: Stage) {
  return until("somebody has fired", async () => {
    for (const daemon of daemons) if ((await daemon.log()).includes("schedule fired")) return daemon;
    return undefined;
  });
}

/** The instants that have a run, by what is in the journals; each run counts. */
async function runsOf({ journals }: Stage, name: string): Promise<number[]> {
  const accepted = (await journals.runs()).flatMap(({ value }) => value).filter(({ type }) => type === "run.accepted");
  const instants = accepted.flatMap((event) => {
    const metadata = event.type === "run.accepted" ? event.data.metadata : undefined;
    return metadata?.schedule === name ? [Date.parse(String(metadata.dueAt))] : [];
  });
  return instants.sort((a, b) => a - b);
}

async function problemsOf({ journals }: Stage): Promise<string[]> {
  return [...byRun(await journals.runs())].flatMap(([runId, entries]) => problemsOfJournal(runId, entries));
}
