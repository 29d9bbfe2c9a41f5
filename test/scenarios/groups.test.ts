import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { fold } from "../../src/workflows/supervisor.ts";
import { grouping } from "../helpers/numbered-fleet.ts";
import { byRun } from "../helpers/raw-journals.ts";
import { problemsOfJournal } from "../helpers/run-audit.ts";
import { openStage } from "../helpers/stage.ts";
import { requestRuns, runsEnded } from "../helpers/start-runs.ts";
import { checkTraces } from "../helpers/trace-checker.ts";
import { until } from "../helpers/until.ts";

const WORDS = ["a", "b", "c", "d", "e", "f", "g"];
const KILLS = 6;

test("lists and repetitions go on where they were, the same however often their daemon is killed, wherever that is", {
  timeout: 180_000,
}, async () => {
  const misstep = { content: null, toolCalls: [{ id: "x", name: "no-such-tool", arguments: "{" }] };
  const inputs = new Map<string, string>();
  await using stage = await openStage({
    traced: true,
    model: {
      delayMs: () => 30 + Math.random() * 300,
      reply({ runId, taskId, texts }) {
        const text = texts.at(-1) ?? "";
        inputs.set(`${runId} ${taskId}`, text);
        // One attempt that fails, and one step for good where its item goes on.
        if (taskId === "each/2/check-1" || taskId === "each/4/write-1") return misstep;
        const words: { [task: string]: string } = { "plan-1": WORDS.join(" "), "refine/3/judge-1": "good" };
        return { content: words[taskId] ?? `${taskId} of ${text.slice(0, 20)}`, toolCalls: [] };
      },
    },
  });
  const { daemon, journals, model, collector } = stage;
  await requestRuns(journals, ["killed"], ["grouping"]);
  const killedAt: number[] = [];
  while (killedAt.length < KILLS) {
    const before = model.calls.length;
    await until("the run to get on", () => model.calls.length > before, { withinMs: 30_000 });
    const ms = Math.round(Math.random() * 700);
    killedAt.push(ms);
    await sleep(ms);
    await daemon.kill();
    await daemon.start();
  }
  await requestRuns(journals, ["straight"], ["grouping"]);
  await runsEnded(journals, ["killed", "straight"], 90_000);

  const runs = byRun(await journals.runs());
  const told = (runId: string) => {
    const entries = runs.get(runId) ?? [];
    expect(problemsOfJournal(runId, entries), `killed after ${killedAt.join(", ")} ms`).toEqual([]);
    const events = entries.flatMap(({ value }) => value);
    // Whoever replays it comes to the same decisions.
    expect(fold(grouping, events).value).toBe("completed");
    return events;
  };
  const decided = (runId: string) =>
    told(runId).flatMap(({ type, data }) =>
      type.startsWith("step.") ? [`${type} ${(data as { step: string }).step}`] : [],
    );
  const ended = (runId: string) => told(runId).findLast(({ type }) => type === "run.completed")?.data;
  expect(decided("killed").sort()).toEqual(decided("straight").sort());
  expect(ended("killed")).toEqual(ended("straight"));
  expect(inputs.get("killed sum-1")).toBe(inputs.get("straight sum-1"));
  const [list = ""] = (inputs.get("killed sum-1") ?? "").split("] ");
  const each = JSON.parse(`${list}]`) as unknown[];
  expect(each).toHaveLength(WORDS.length);
  expect(each[0]).toBe("each/0/write-1 of a each/0/check-1 of ");
  expect(each[2]).toBe("each/2/write-1 of c each/2/check-2 of ");
  expect(each[4]).toMatchObject({ error: { code: expect.stringMatching(/./) } });
  expect(decided("killed")).toContain("step.retrying each/2/check");
  expect(decided("killed").filter((words) => /^step.completed refine\/\d$/.test(words))).toHaveLength(4);

  const spans = () => collector.spans.filter(({ name }) => name === "invoke_workflow grouping");
  await until("both ends", () => new Set(spans().map(({ traceId }) => traceId)).size === 2);
  expect(checkTraces(collector.spans, { runIds: ["killed", "straight"] })).toEqual([]);
});
