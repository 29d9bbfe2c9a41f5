import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { byRun } from "../helpers/raw-journals.ts";
import { auditRuns } from "../helpers/run-audit.ts";
import { openStage } from "../helpers/stage.ts";
import { numberedIds, requestRuns, runsBegun, runsEnded } from "../helpers/start-runs.ts";
import { until } from "../helpers/until.ts";

const SUSPECT_MS = 800;
const STEP_MS = 10 * SUSPECT_MS;

test("a step that lasts ten times the suspicion time runs once, although its run's owner is killed and stopped meanwhile", {
  timeout: 90_000,
}, async () => {
  await using stage = await openStage({
    daemons: 3,
    // None of the three hosts the step's agent.
    options: {
      agents: ["expert"],
      beatMs: 100,
      suspectAfterMs: SUSPECT_MS,
      lookAroundMs: 1_000,
      workingEveryMs: 1_000,
    },
    model: { delayMs: () => STEP_MS },
  });
  const { daemons, journals, model } = stage;
  const runIds = numberedIds(20);
  await requestRuns(journals, runIds, ["single"]);
  await runsBegun(journals, runIds.length);
  const worker = await stage.join({ options: { agents: ["left"] } });
  await until("all steps to be at work", () => model.open().length === runIds.length);
  const [killed, stopped] = daemons;
  await killed?.kill();
  await sleep(SUSPECT_MS * 2);
  stopped?.life.signal("SIGSTOP");
  await sleep(SUSPECT_MS * 2);
  stopped?.life.signal("SIGCONT");
  await runsEnded(journals, runIds, STEP_MS + 20_000);

  const runs = await journals.runs();
  const claims = runs.flatMap(({ value }) => value.filter(({ type }) => type === "run.claimed"));
  const sent = runs.flatMap(({ value }) => value.filter(({ type }) => type === "task.sent"));
  console.log(
    `${claims.length - runIds.length} changes of owner while ${runIds.length} steps of ${STEP_MS} ms were at work`,
  );
  expect(claims.length).toBeGreaterThan(runIds.length);
  expect(sent).toHaveLength(runIds.length);
  expect(model.calls).toHaveLength(runIds.length);
  expect(new Set(model.calls.map(({ pid }) => pid))).toEqual(new Set([worker.life.pid]));
  expect(byRun(runs).size).toBe(runIds.length);
  const facts = { runs, tasks: await journals.tasks(), calls: model.calls };
  expect(auditRuns({ runIds, ...facts }).problems).toEqual([]);
});
