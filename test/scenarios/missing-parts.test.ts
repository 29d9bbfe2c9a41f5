import { expect, test } from "vitest";
import { connect } from "../../src/runtime/edges/client.ts";
import type { NumberedModelOptions } from "../helpers/numbered-model-server.ts";
import { byRun } from "../helpers/raw-journals.ts";
import { problemsOfJournal } from "../helpers/run-audit.ts";
import { openStage } from "../helpers/stage.ts";
import { requestRuns, runsEnded } from "../helpers/start-runs.ts";
import { until } from "../helpers/until.ts";

test("a run whose definition no living daemon has is parked with the reason, and goes on where it appears", {
  timeout: 60_000,
}, async () => {
  // The first call outlasts the daemon that made it, however long the other one takes to start.
  const model: NumberedModelOptions = { delayMs: (_ask, n) => (n === 1 ? 600_000 : 0) };
  await using stage = await openStage({ workflows: ["single", "diamond"], model });
  const { nats, daemon, journals } = stage;
  await requestRuns(journals, ["orphan"], ["single"]);
  await until("its call", () => stage.model.open().length === 1);
  await stage.join({ workflows: ["diamond"] });
  await daemon.kill();

  await using client = await connect({ servers: nats.url });
  const parked = await until(
    "the run to be parked",
    async () => {
      const run = await client.get("orphan");
      return run.status === "waiting" && run;
    },
    { withinMs: 20_000 },
  );
  expect(JSON.stringify(parked)).toMatch(/no living daemon has workflow single/);

  await stage.join({ workflows: ["single"] });
  await runsEnded(journals, ["orphan"], 20_000);
  const entries = byRun(await journals.runs()).get("orphan") ?? [];
  expect(problemsOfJournal("orphan", entries)).toEqual([]);
  expect(entries.at(-1)?.value.at(-1)?.type).toBe("run.completed");
});

test("a run that waits for a worker says so, and goes on when one appears", { timeout: 60_000 }, async () => {
  await using stage = await openStage({ options: { agents: ["planner"] }, model: { delayMs: () => 2_000 } });
  const { nats, journals } = stage;
  await using client = await connect({ servers: nats.url });
  await requestRuns(journals, ["patient"], ["single"]);
  const waiting = await until("the run to wait", async () => {
    const run = await client.get("patient").catch(() => undefined);
    return run?.status === "waiting" && run;
  });
  expect(JSON.stringify(waiting)).toMatch(/no worker serves agent left/);
  expect((await client.list({ status: "waiting" })).runs).toMatchObject([
    { runId: "patient", waitingFor: "left (left-1): no worker serves agent left" },
  ]);

  await stage.join({ options: { agents: ["left"] } });
  await until("the run to be at work", async () => (await client.get("patient")).status === "running");
  await runsEnded(journals, ["patient"], 20_000);
  expect((await client.get("patient")).status).toBe("completed");
});
