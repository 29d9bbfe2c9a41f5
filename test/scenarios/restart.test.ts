import { expect, test } from "vitest";
import { byRun } from "../helpers/raw-journals.ts";
import { openStage, type Stage } from "../helpers/stage.ts";
import { runsEnded } from "../helpers/start-runs.ts";
import { until } from "../helpers/until.ts";

async function request({ journals }: Stage, workflow: string, runId: string, more: object = {}) {
  await journals.nc
    .jetstream()
    .publish(`troupe.requests.${workflow}`, JSON.stringify({ input: runId, runId, ...more }));
}

async function eventsOf({ journals }: Stage, runId: string) {
  return (
    byRun(await journals.runs())
      .get(runId)
      ?.flatMap(({ value }) => value) ?? []
  );
}

test("a start that lies ahead, a run's deadline and a step's retry hold over a restart of the daemon", {
  timeout: 60_000,
}, async () => {
  const failFirst = { content: null, toolCalls: [{ id: "x", name: "no-such-tool", arguments: "{" }] };
  await using stage = await openStage({
    model: {
      delayMs: ({ runId }) => (runId === "overdue" ? 600_000 : 0),
      // The first attempt of `again` never gets to words and fails at its last turn.
      reply: ({ runId, taskId, agent }, n) =>
        runId === "again" && taskId === "try-1"
          ? failFirst
          : { content: JSON.stringify({ agent, n, saw: [] }), toolCalls: [] },
    },
  });
  const { daemon, journals, model } = stage;
  const notBefore = new Date(Date.now() + 6_000).toISOString();
  await request(stage, "single", "later", { notBefore });
  await request(stage, "single", "overdue", { timeoutMs: 6_000 });
  await request(stage, "stubborn", "again");
  await until("the retry to be set", async () =>
    (await eventsOf(stage, "again")).some(({ type }) => type === "step.retrying"),
  );
  await until("the slow call", () => model.open().some(({ runId }) => runId === "overdue"));
  await daemon.kill();
  await daemon.start();
  await runsEnded(journals, ["later", "overdue", "again"], 20_000);

  const later = await eventsOf(stage, "later");
  expect(later.at(-1)?.type).toBe("run.completed");
  const started = later.find(({ type }) => type === "step.started")?.at ?? "";
  expect(Date.parse(started) - Date.parse(notBefore)).toBeGreaterThanOrEqual(0);
  expect(Date.parse(started) - Date.parse(notBefore)).toBeLessThan(1_000);

  const overdue = await eventsOf(stage, "overdue");
  expect(overdue.at(-1)).toMatchObject({ type: "run.failed", data: { error: { code: "timeout" } } });
  const tookMs = Date.parse(overdue.at(-1)?.at ?? "") - Date.parse(overdue[0]?.at ?? "");
  expect(tookMs).toBeGreaterThanOrEqual(6_000);
  expect(tookMs).toBeLessThan(7_500);

  const again = await eventsOf(stage, "again");
  const retrying = again.find((event) => event.type === "step.retrying");
  const second = again.find((event) => event.type === "task.sent" && event.data.taskId === "try-2");
  expect(again.at(-1)?.type).toBe("run.completed");
  expect(Date.parse(second?.at ?? "")).toBeGreaterThanOrEqual(Date.parse(retrying?.data.dueAt ?? ""));
  expect(again.some((event) => event.type === "run.claimed" && event.data.reason === "restart")).toBe(true);
});
