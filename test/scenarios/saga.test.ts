import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { connect } from "../../src/runtime/edges/client.ts";
import type { RunEvent } from "../../src/workflows/run-events.ts";
import type { NumberedAsk, NumberedReply } from "../helpers/numbered-model-server.ts";
import { byRun, type RawJournals } from "../helpers/raw-journals.ts";
import { problemsOfJournal } from "../helpers/run-audit.ts";
import { openStage } from "../helpers/stage.ts";
import { numberedIds, requestRuns, runsEnded } from "../helpers/start-runs.ts";
import { checkTraces } from "../helpers/trace-checker.ts";
import { until } from "../helpers/until.ts";

const say = (content: string): NumberedReply => ({ content, toolCalls: [] });
const MISSTEP: NumberedReply = { content: null, toolCalls: [{ id: "x", name: "no-such-tool", arguments: "{" }] };

/** The card is always declined; the first time a car is given back, that fails. */
function declined({ taskId }: NumberedAsk): NumberedReply {
  return taskId === "card-1" || taskId === "car/compensate-1" ? MISSTEP : say(`${taskId} done`);
}

/** Enough to die in the middle of most of what has to be undone. */
const MOST_KILLS = 12;

async function eventsOf(journals: RawJournals, runId: string): Promise<RunEvent[]> {
  const entries = byRun(await journals.runs()).get(runId) ?? [];
  expect(problemsOfJournal(runId, entries)).toEqual([]);
  return entries.flatMap(({ value }) => value);
}

/** The steps that events of a type are about, in order. */
function stepsOf(events: readonly RunEvent[], type: RunEvent["type"]): string[] {
  return events.flatMap((event) => (event.type === type && "step" in event.data ? [String(event.data.step)] : []));
}

/** What was given back and how: each once, in reverse, and everybody was told once. */
function expectUndone(events: readonly RunEvent[]): void {
  const completed = stepsOf(events, "step.completed").filter((step) => !step.startsWith("onFailure/"));
  const undone = completed.toReversed();
  expect(undone.toSorted()).toEqual(["car", "flight", "hotel"]);
  expect(stepsOf(events, "compensation.started")).toEqual(undone);
  expect(stepsOf(events, "compensation.completed")).toEqual(undone);
  expect(stepsOf(events, "compensation.retrying")).toEqual(["car"]);
  const settled = events.flatMap((event) => (event.type === "task.settled" ? [event.data.taskId] : []));
  expect(settled.toSorted()).toEqual([...new Set(settled)].toSorted());
  expect(settled.filter((taskId) => taskId.includes("/compensate")).toSorted()).toEqual([
    "car/compensate-1",
    "car/compensate-2",
    "flight/compensate-1",
    "hotel/compensate-1",
  ]);
}

test("what runs have done is undone once, in order, however often their daemon is killed meanwhile", {
  timeout: 180_000,
}, async () => {
  const runIds = numberedIds(4);
  await using stage = await openStage({
    traced: true,
    model: { reply: declined, delayMs: (_ask, n) => 30 + ((n * 53) % 170) },
  });
  const { daemon, journals, model, collector } = stage;
  await requestRuns(journals, runIds, ["trip"]);
  const isUndoing = () => model.open().some(({ taskId }) => /compensate|onFailure/.test(taskId));
  const isOver = async () => {
    const ends = [...byRun(await journals.runs()).values()].filter((entries) =>
      /^run\.(failed|completed|cancelled)$/.test(entries.at(-1)?.value.at(-1)?.type ?? ""),
    );
    return ends.length === runIds.length;
  };
  let kills = 0;
  while (kills < MOST_KILLS && !(await isOver())) {
    await until("something to be undone", async () => isUndoing() || (await isOver()), { withinMs: 30_000 });
    // Anywhere between one entry and the next.
    await sleep(Math.random() * 300);
    await daemon.kill();
    kills += 1;
    await daemon.start();
  }
  expect(kills).toBeGreaterThan(2);
  await runsEnded(journals, runIds, 60_000);

  for (const runId of runIds) {
    const events = await eventsOf(journals, runId);
    expectUndone(events);
    expect(stepsOf(events, "step.completed").filter((step) => step.startsWith("onFailure/"))).toEqual([
      "onFailure/tell",
    ]);
    expect(events.at(-1)).toMatchObject({
      type: "run.failed",
      data: { error: { message: expect.stringMatching(/^step card: /) } },
    });
  }
  const ended = () => collector.spans.filter(({ name }) => name === "invoke_workflow trip");
  await until("all ends", () => new Set(ended().map(({ traceId }) => traceId)).size === runIds.length);
  expect(checkTraces(collector.spans, { runIds })).toEqual([]);
  console.log(`${runIds.length} runs were undone over ${kills} kills`);
});

test("a run that is cancelled is undone by whoever lives, and is cancelled then", { timeout: 90_000 }, async () => {
  await using stage = await openStage({
    daemons: 2,
    model: {
      reply: (ask) => (ask.taskId === "card-1" ? say("paid") : declined(ask)),
      delayMs: ({ taskId }) => (taskId === "card-1" ? 600_000 : 50),
    },
  });
  const { nats, journals, model, daemons } = stage;
  await using client = await connect({ servers: nats.url });
  await requestRuns(journals, ["one"], ["trip"]);
  await until("the payment", () => model.open().some(({ taskId }) => taskId === "card-1"), { withinMs: 20_000 });
  await client.cancel("one", { reason: "no holiday" });
  await until("something to be undone", () => model.calls.some(({ taskId }) => taskId.includes("compensate")), {
    withinMs: 20_000,
  });
  const { owner, status } = await client.get("one");
  expect(status).toBe("cancelling");
  await daemons.find(({ life }) => life.incarnation === owner?.incarnation)?.kill();
  await runsEnded(journals, ["one"], 30_000);

  const events = await eventsOf(journals, "one");
  expectUndone(events);
  expect(events.at(-1)).toMatchObject({ type: "run.cancelled", data: { reason: "no holiday" } });
  const { steps, compensations } = await client.get("one");
  expect(steps.some(({ id }) => id.startsWith("onFailure"))).toBe(false);
  expect(compensations).toMatchObject([
    { status: "completed", output: expect.stringContaining("compensate") },
    { status: "completed" },
    { step: "flight", status: "completed" },
  ]);
});

test("a run whose undoing cannot end is ended by force, and says what is not undone", { timeout: 60_000 }, async () => {
  await using stage = await openStage({
    model: { reply: declined, delayMs: ({ taskId }) => (taskId === "flight/compensate-1" ? 600_000 : 20) },
  });
  const { nats, journals, model } = stage;
  await using client = await connect({ servers: nats.url });
  await requestRuns(journals, ["one"], ["trip"]);
  await until("the last one", () => model.open().some(({ taskId }) => taskId === "flight/compensate-1"), {
    withinMs: 30_000,
  });
  expect((await client.get("one")).status).toBe("failing");
  await client.cancel("one", { reason: "patience" });
  await client.cancel("one", { force: true });
  await runsEnded(journals, ["one"], 10_000);
  await until("its call to be called off", () => model.open().length === 0);

  const { status, error, compensations } = await client.get("one");
  expect(status).toBe("failed");
  expect(error).toMatchObject({
    code: "compensation_failed",
    message: expect.stringMatching(/^not undone: flight \(abandoned\); the run failed with /),
  });
  expect(compensations.at(-1)).toMatchObject({ step: "flight", status: "abandoned" });
  await eventsOf(journals, "one");
});

test("a workflow hears of a failed run also when the daemon dies as soon as that is on record", {
  timeout: 60_000,
}, async () => {
  await using stage = await openStage({ model: { reply: declined, delayMs: () => 10 } });
  const { daemon, journals } = stage;
  await daemon.kill();
  await daemon.start({ crashAt: "after-end-entry" });
  await requestRuns(journals, ["one"], ["trip"]);
  await daemon.life.exited;
  await runsEnded(journals, ["one"], 1_000);
  expect(await daemon.log()).not.toContain("onError one");
  await daemon.start();
  await until("it to hear of it", async () => (await daemon.log()).includes("onError one max_turns"));
});
