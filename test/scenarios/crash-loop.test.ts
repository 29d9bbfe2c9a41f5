import { expect, test } from "vitest";
import { answerNumbered } from "../helpers/numbered-model-server.ts";
import { byRun } from "../helpers/raw-journals.ts";
import { openStage } from "../helpers/stage.ts";
import { requestRuns, runsEnded } from "../helpers/start-runs.ts";
import { until } from "../helpers/until.ts";

const INNOCENT = ["slow-1", "slow-2", "slow-3", "slow-4"];
/** Longer than the daemon lives while the other task is with it. */
const CALL_MS = 2_500;

test("a task that kills its daemon over and over is failed, and those that were at work beside it come to their end", {
  timeout: 180_000,
}, async () => {
  await using stage = await openStage({
    model: {
      delayMs: ({ agent }) => (agent === "bomber" ? 0 : CALL_MS),
      reply: (ask, n) =>
        ask.agent === "bomber"
          ? { content: null, toolCalls: [{ id: `call_${n}_0`, name: "explode", arguments: "{}" }] }
          : answerNumbered(ask, n),
    },
  });
  const { daemon, journals, model } = stage;
  await requestRuns(journals, INNOCENT, ["single"]);
  await until("their calls", () => model.open().length === INNOCENT.length);
  await requestRuns(journals, ["killer"], ["bomb"]);
  let deaths = 0;
  const revived = (async () => {
    for (;;) {
      const { signal } = await daemon.life.exited;
      if (signal !== "SIGKILL") return;
      deaths += 1;
      await daemon.start();
    }
  })();
  await runsEnded(journals, [...INNOCENT, "killer"], 150_000);
  console.log(`${deaths} deaths`);
  const runs = byRun(await journals.runs());
  const endOf = (runId: string) => runs.get(runId)?.at(-1)?.value.at(-1);
  expect(INNOCENT.map((runId) => endOf(runId)?.type)).toEqual(INNOCENT.map(() => "run.completed"));
  expect(endOf("killer")).toMatchObject({ type: "run.failed", data: { error: { code: "worker_lost" } } });
  // The first time nothing was marked, and the last time it was not begun.
  expect(deaths).toBe(11);
  daemon.life.signal("SIGTERM");
  await revived;
});
