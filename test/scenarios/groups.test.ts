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

test("a group that fails calls off what is at work in it at its worker, and the run goes on without", async () => {
  const misstep = { content: null, toolCalls: [{ id: "x", name: "no-such-tool", arguments: "{" }] };
  await using stage = await openStage({
    traced: true,
    model: {
      delayMs: ({ taskId }) => (taskId === "both/slow-1" ? 600_000 : 300),
      reply: ({ taskId, texts }) =>
        taskId === "both/failing-1" ? misstep : { content: `after ${texts.at(-1)}`, toolCalls: [] },
    },
  });
  const { journals, model, collector } = stage;
  await requestRuns(journals, ["r"], ["hasty"]);
  await runsEnded(journals, ["r"], 60_000);
  // Nobody waits ten minutes for it, nor pays for it.
  await until("the slow call to be given up", () =>
    model.calls.some(({ taskId, state }) => taskId === "both/slow-1" && state === "aborted"),
  );
  const entries = byRun(await journals.runs()).get("r") ?? [];
  expect(problemsOfJournal("r", entries)).toEqual([]);
  const events = entries.flatMap(({ value }) => value);
  expect(events.find(({ type }) => type === "step.cancelled")?.data).toEqual({
    step: "both/slow",
    agent: "left",
    taskId: "both/slow-1",
  });
  expect(events.at(-1)?.data).toMatchObject({ output: expect.stringMatching(/^after step both\/failing: /) });
  await until("a whole trace", () => checkTraces(collector.spans, { runIds: ["r"] }).length === 0);
  const slow = collector.spans.find(({ attributes }) => attributes["troupe.step.id"] === "both/slow");
  expect(slow?.attributes["error.type"]).toBe("cancelled");
});

test("a list of 5,000 whose daemon is killed in its midst is gone through in order, each item once", {
  timeout: 400_000,
}, async () => {
  const items = Array.from({ length: 5_000 }, (_, i) => `item ${i}`);
  await using stage = await openStage({
    model: { delayMs: () => 0, reply: ({ texts }) => ({ content: `done ${texts.at(-1)}`, toolCalls: [] }) },
  });
  const { daemon, journals, model } = stage;
  await journals.nc.jetstream().publish("troupe.requests.listing", JSON.stringify({ input: { items }, runId: "r" }));
  await until("half of the list", () => model.calls.length > 2_500, { withinMs: 120_000 });
  await daemon.kill();
  await daemon.start();
  await runsEnded(journals, ["r"], 240_000);
  const entries = byRun(await journals.runs()).get("r") ?? [];
  expect(problemsOfJournal("r", entries)).toEqual([]);
  const events = entries.flatMap(({ value }) => value);
  const answers = new Map(
    events.flatMap((event) =>
      event.type === "task.settled" && event.data.outcome.type === "completed"
        ? [[event.data.taskId, event.data.outcome.output] as const]
        : [],
    ),
  );
  expect(answers.size).toBe(5_001);
  expect(answers.get("each/4321-1")).toBe("done item 4321");
  expect(answers.get("count-1")).toBe("done 5000");
  const ends = events.filter(({ type }) => type === "task.settled").map(({ at }) => Date.parse(at));
  const thousand = (from: number) => (ends[from + 1_000] ?? 0) - (ends[from] ?? 0);
  console.log(`the first thousand items took ${thousand(0)} ms, the fifth ${thousand(4_000)} ms`);
});
