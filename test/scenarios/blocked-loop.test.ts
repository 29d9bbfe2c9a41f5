import { expect, test } from "vitest";
import { linesOf } from "../helpers/daemon-log.ts";
import { GRIND_MS } from "../helpers/numbered-fleet.ts";
import { byRun } from "../helpers/raw-journals.ts";
import { problemsOfJournal } from "../helpers/run-audit.ts";
import { openStage } from "../helpers/stage.ts";
import { requestRuns, runsEnded } from "../helpers/start-runs.ts";

test("a tool that blocks its daemon for longer than the suspicion time leaves no second record, and is named", {
  timeout: 120_000,
}, async () => {
  // Runs of both daemons, and one that blocks whichever hosts its agent.
  await using stage = await openStage({ daemons: 2, model: { delayMs: () => 400 } });
  const { daemons, journals } = stage;
  const runIds = ["grinding", "a", "b", "c", "d"];
  await requestRuns(journals, runIds, ["grinding", "diamond", "relay", "diamond", "relay"]);
  await runsEnded(journals, runIds, 90_000);

  const runs = byRun(await journals.runs());
  for (const runId of runIds) {
    const events = runs.get(runId)?.flatMap(({ value }) => value) ?? [];
    expect(problemsOfJournal(runId, runs.get(runId) ?? [])).toEqual([]);
    const settled = events.flatMap(({ type, data }) => (type === "task.settled" ? [data.taskId] : []));
    expect(new Set(settled).size).toBe(settled.length);
    expect(events.at(-1)?.type).toBe("run.completed");
  }
  const results = (await journals.tasks()).flatMap(({ subject, value }) =>
    value.type === "tool" ? [`${subject} ${value.callId}`] : [],
  );
  expect(new Set(results).size).toBe(results.length);
  const warnings = (await Promise.all(daemons.map(linesOf)))
    .flat()
    .filter(({ msg }) => /event loop was blocked/.test(msg));
  expect(warnings.length).toBeGreaterThan(0);
  for (const { msg, blockedMs, tools } of warnings) {
    expect(msg).toMatch(/tools at work then: .*lookup \(agent grinder\)/);
    expect(blockedMs).toBeGreaterThan(GRIND_MS * 0.9);
    expect(tools).toContainEqual(expect.objectContaining({ runId: "grinding", taskId: "grinder-1" }));
  }
});
