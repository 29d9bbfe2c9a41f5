import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { auditRuns, type Loss, tasksInFlight, tasksOpen } from "../helpers/run-audit.ts";
import { openStage } from "../helpers/stage.ts";
import { numberedIds, requestRuns, runsBegun, runsEnded } from "../helpers/start-runs.ts";
import { checkTraces } from "../helpers/trace-checker.ts";
import { until } from "../helpers/until.ts";

const PAUSES = 3;
// The suspicion time is 2.5 s.
const PAUSE_MS = 4_500;

test("daemons that are stopped for longer than the suspicion time write nothing when they wake", {
  timeout: 180_000,
}, async () => {
  await using stage = await openStage({
    daemons: 3,
    traced: true,
    options: { maxRuns: 30 },
    model: { delayMs: () => 250 },
  });
  const { daemons, journals, model, collector } = stage;
  const runIds = numberedIds(200);
  await requestRuns(journals, runIds, ["diamond", "relay"]);
  await runsBegun(journals, 20);

  const losses: Loss[] = [];
  const owned: number[] = [];
  for (let i = 0; i < PAUSES; i += 1) {
    const { life } = daemons[i] as (typeof daemons)[number];
    losses.push({ at: Date.now(), pid: life.pid, incarnation: life.incarnation });
    life.signal("SIGSTOP");
    await sleep(PAUSE_MS);
    owned.push(
      (await journals.runs()).filter(({ value }) =>
        value.some((event) => event.type === "run.claimed" && event.data.reason === "takeover"),
      ).length,
    );
    life.signal("SIGCONT");
    await sleep(500);
  }
  await runsEnded(journals, runIds, 60_000);

  const facts = { runs: await journals.runs(), tasks: await journals.tasks(), calls: model.calls };
  const audit = auditRuns({ runIds, ...facts });
  const inFlight = losses.reduce((sum, loss) => sum + tasksInFlight(loss, facts) + tasksOpen(loss, facts.runs), 0);
  console.log(
    `${PAUSES} pauses; takeovers so far ${owned.join(", ")}; ${audit.repeated} calls repeated, ${inFlight} tasks in flight or just sent at the pauses`,
  );
  expect(owned.at(-1)).toBeGreaterThan(0);
  expect(audit.problems).toEqual([]);
  expect(audit.repeated).toBeLessThanOrEqual(inFlight);
  expect(daemons.map(({ life }) => life.isRunning())).toEqual([true, true, true]);
  await until("whole traces", () => checkTraces(collector.spans, { runIds }).length === 0).catch(() => {});
  expect(checkTraces(collector.spans, { runIds }).slice(0, 20)).toEqual([]);
});
