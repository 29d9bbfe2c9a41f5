import { expect, test } from "vitest";
import { connect } from "../../src/runtime/edges/client.ts";
import type { RunEvent } from "../../src/workflows/run-events.ts";
import { crashBroker } from "../helpers/crash-broker.ts";
import { byRun } from "../helpers/raw-journals.ts";
import { openStage } from "../helpers/stage.ts";
import { checkTraces } from "../helpers/trace-checker.ts";
import { until } from "../helpers/until.ts";

test("the end of a run that is told again, by its owner's heir and on the live feed, is one end to everybody", {
  timeout: 60_000,
}, async () => {
  await using stage = await openStage({ traced: true, model: { delayMs: () => 50 } });
  const { nats, daemon, journals, model, collector } = stage;
  const { nc } = journals;
  // It dies when it has told the result, and its next life cannot know that it has.
  await daemon.kill();
  await daemon.start({ crashAt: "after-result" });
  await using client = await connect({ servers: nats.url });
  const results: unknown[] = [];
  const live: RunEvent[] = [];
  nc.subscribe("results.end", { callback: (_, message) => results.push(message.json()) });
  nc.subscribe("troupe.events.single.twice.>", { callback: (_, message) => live.push(message.json()) });
  await nc.flush();
  const followed = allOf(client.events("twice", { live: false }));
  const { runId } = await client.start("single", "x", { runId: "twice", replyTo: "results.end" });
  const result = client.result(runId);
  await until("it is dead", () => !daemon.life.isRunning());
  await daemon.start();
  await until("the result is told once more", () => results.length >= 2);
  const end = (await journals.runs()).at(-1)?.value.at(-1);
  for (let i = 0; i < 3; i += 1) nc.publish(`troupe.events.single.twice.${end?.type}`, JSON.stringify(end));
  // Whoever follows the stream of journals begins again from somewhere before the end.
  await crashBroker(stage);

  expect(end).toMatchObject({ type: "run.completed" });
  const output = end?.type === "run.completed" && end.data.output;
  expect(await result).toEqual(output);
  for (const told of results) expect(told).toEqual({ runId, workflow: "single", status: "completed", output });
  expect((await followed).filter(({ type }) => type === "run.completed")).toHaveLength(1);
  expect((await followed).map(({ n }) => n)).toEqual((await followed).map((_, i) => i + 1));
  const listed = await until("the list is there again", () => client.list().catch(() => undefined));
  expect(listed.runs).toMatchObject([{ runId, status: "completed", endedAt: end?.at }]);
  expect(await client.result(runId)).toEqual(output);
  const entries = byRun(await journals.runs()).get(runId) ?? [];
  expect(entries.flatMap(({ value }) => value).filter(({ type }) => type === "run.completed")).toHaveLength(1);
  expect(model.calls).toHaveLength(1);
  await until("whole traces", () => checkTraces(collector.spans, { runIds: [runId] }).length === 0).catch(() => {});
  expect(checkTraces(collector.spans, { runIds: [runId] })).toEqual([]);
});

async function allOf<T>(told: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const one of told) all.push(one);
  return all;
}
