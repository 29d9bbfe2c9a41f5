import { expect, test } from "vitest";
import { byRun } from "../helpers/raw-journals.ts";
import { openStage } from "../helpers/stage.ts";
import { until } from "../helpers/until.ts";

test("the same request fifty times at once is one run, and everyone who asked gets its result", {
  timeout: 60_000,
}, async () => {
  await using stage = await openStage({ daemons: 2 });
  const { journals, model } = stage;
  const { nc } = journals;
  const results = new Map<string, unknown[]>();
  nc.subscribe("answers.*", {
    callback: (_error, message) =>
      results.set(message.subject, [...(results.get(message.subject) ?? []), message.json()]),
  });
  await nc.flush();
  const js = nc.jetstream();
  const request = (i: number) => JSON.stringify({ input: "x", runId: "the-one", replyTo: `answers.${i}` });
  await Promise.all(Array.from({ length: 50 }, (_, i) => js.publish("troupe.requests.single", request(i))));
  await until("fifty answers", () => results.size === 50);
  // Long after it ended, too.
  await js.publish("troupe.requests.single", request(50));
  await until("one more answer", () => results.size === 51);

  const runs = byRun(await journals.runs());
  expect([...runs.keys()]).toEqual(["the-one"]);
  expect(model.calls.length).toBe(1);
  const output = runs.get("the-one")?.at(-1)?.value.at(-1)?.data;
  for (const [result] of results.values()) {
    expect(result).toMatchObject({ runId: "the-one", workflow: "single", status: "completed", ...output });
  }
});
