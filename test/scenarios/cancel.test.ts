import { expect, test } from "vitest";
import { connect } from "../../src/runtime/edges/client.ts";
import { byRun } from "../helpers/raw-journals.ts";
import { problemsOfJournal } from "../helpers/run-audit.ts";
import { openStage } from "../helpers/stage.ts";
import { numberedIds, requestRuns, runsEnded } from "../helpers/start-runs.ts";
import { until } from "../helpers/until.ts";

test("cancelling a run aborts its model calls in whichever process they are made", { timeout: 60_000 }, async () => {
  await using stage = await openStage({ daemons: 2, model: { delayMs: () => 600_000 } });
  const { nats, journals, model, daemons } = stage;
  await using client = await connect({ servers: nats.url });
  const runIds = numberedIds(20);
  await requestRuns(journals, runIds, ["single"]);
  await until("every call to be made", () => model.open().length === runIds.length);
  const processes = new Set(model.open().map(({ pid }) => pid));
  await Promise.all(runIds.map((runId) => client.cancel(runId, { reason: "not needed any more" })));
  const cancelledAt = Date.now();
  await until("every connection to be closed", () => model.open().length === 0);
  await runsEnded(journals, runIds, 10_000);

  expect(processes).toEqual(new Set(daemons.map(({ life }) => life.pid)));
  expect(Date.now() - cancelledAt).toBeLessThan(5_000);
  for (const [runId, entries] of byRun(await journals.runs())) {
    expect(problemsOfJournal(runId, entries)).toEqual([]);
    expect(entries.at(-1)?.value.at(-1)).toMatchObject({
      type: "run.cancelled",
      data: { reason: "not needed any more" },
    });
  }
  expect(model.calls.map(({ state }) => state)).toEqual(runIds.map(() => "aborted"));
});

test("a cancel that races the completion of its run leaves one end, fifty times", { timeout: 60_000 }, async () => {
  await using stage = await openStage({ daemons: 2, model: { delayMs: () => 100 } });
  const { nats, journals, model } = stage;
  await using client = await connect({ servers: nats.url });
  const runIds = numberedIds(50);
  await requestRuns(journals, runIds, ["single"]);
  await Promise.all(
    runIds.map(async (runId, i) => {
      await until(`the call of ${runId}`, () => model.calls.some((call) => call.runId === runId));
      // From well before the answer to well after it.
      await new Promise((resolve) => setTimeout(resolve, 40 + i * 2));
      await client.cancel(runId).catch((error: { code?: string }) => expect(error.code).toBe("run_finished"));
    }),
  );
  await runsEnded(journals, runIds, 15_000);

  const ends = { completed: 0, cancelled: 0 };
  for (const [runId, entries] of byRun(await journals.runs())) {
    expect(problemsOfJournal(runId, entries)).toEqual([]);
    const end = entries.at(-1)?.value.at(-1)?.type;
    if (end === "run.completed") ends.completed += 1;
    else if (end === "run.cancelled") ends.cancelled += 1;
  }
  console.log(`cancel against completion: ${ends.completed} completed, ${ends.cancelled} cancelled`);
  expect(ends.completed + ends.cancelled).toBe(50);
});

test("a request that is cancelled while it waits at the door executes nothing", { timeout: 60_000 }, async () => {
  await using stage = await openStage({
    options: { maxRuns: 1 },
    model: { delayMs: ({ runId }) => (runId === "first" ? 2_000 : 0) },
  });
  const { nats, journals, model } = stage;
  await using client = await connect({ servers: nats.url });
  await requestRuns(journals, ["first"], ["single"]);
  await until("the first run to be at work", () => model.calls.length === 1);
  await requestRuns(journals, ["second"], ["single"]);
  await client.cancel("second", { reason: "changed my mind", by: "me" });
  await runsEnded(journals, ["first", "second"], 20_000);

  const [entry, ...more] = byRun(await journals.runs()).get("second") ?? [];
  expect(more).toEqual([]);
  expect(entry?.value.map(({ type }) => type)).toEqual([
    "run.accepted",
    "run.claimed",
    "signal.received",
    "run.cancelling",
    "run.cancelled",
  ]);
  expect(model.calls.map(({ runId }) => runId)).toEqual(["first"]);
  expect(await client.get("second")).toMatchObject({ status: "cancelled" });
});

test("a run whose owner is killed while it is being cancelled ends cancelled", { timeout: 60_000 }, async () => {
  await using stage = await openStage({ daemons: 2, model: { delayMs: () => 600_000 } });
  const { journals, model, daemon } = stage;
  const runIds = numberedIds(10);
  await requestRuns(journals, runIds, ["single"]);
  await until("every call to be made", () => model.open().length === runIds.length);
  // Stopped, it neither records the cancel nor stops its calls.
  daemon.life.signal("SIGSTOP");
  const signal = { v: 1, kind: "cancel", id: "1", at: new Date().toISOString() };
  const js = journals.nc.jetstream();
  await Promise.all(runIds.map((runId) => js.publish(`troupe.signals.${runId}`, JSON.stringify(signal))));
  await daemon.kill();
  await runsEnded(journals, runIds, 20_000);

  for (const [runId, entries] of byRun(await journals.runs())) {
    expect(problemsOfJournal(runId, entries)).toEqual([]);
    expect(entries.at(-1)?.value.at(-1)?.type).toBe("run.cancelled");
  }
  await until("every connection to be closed", () => model.open().length === 0);
});
