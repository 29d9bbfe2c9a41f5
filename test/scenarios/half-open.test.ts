import { expect, test } from "vitest";
import { connect as connectClient } from "../../src/runtime/edges/client.ts";
import { startCable } from "../helpers/cable.ts";
import { linesOf } from "../helpers/daemon-log.ts";
import { auditRuns } from "../helpers/run-audit.ts";
import { openStage } from "../helpers/stage.ts";
import { numberedIds, requestRuns, runsEnded } from "../helpers/start-runs.ts";
import { startTroupe } from "../helpers/troupe.ts";
import { until } from "../helpers/until.ts";

// From the moment at which nothing arrives any more; the broker is there again at once for whoever connects anew.
const NOTICED_MS = 30_000;
// Until the broker notices as well, it gives every other task to the dead connection, and that is sent again.
const GOING_ON_MS = 20_000;

test("a network that swallows everything is noticed within 30 s by a lone daemon, a client and a command, and all go on", {
  timeout: 120_000,
}, async () => {
  await using stage = await openStage({
    daemons: 0,
    model: { delayMs: ({ runId }) => (runId === "watched" ? 1_000 : 500) },
  });
  const { nats, journals, model } = stage;
  await using cable = await startCable(nats.port);
  const daemon = await stage.join({ options: { nats: [cable.url] } });
  await using client = await connectClient({ servers: cable.url });
  const runIds = [...numberedIds(10), "watched"];
  const { nc } = journals;
  await requestRuns(journals, runIds.slice(0, 10), ["diamond", "relay"]);
  await nc.jetstream().publish("troupe.requests.diamond", JSON.stringify({ input: "x", runId: "watched" }));
  await until("all runs to be at work", () => new Set(model.open().map(({ runId }) => runId)).size === runIds.length);
  const result = client.result("watched");
  const events = allOf(client.events("watched", { live: false }));
  const command = startTroupe(["events", "watched", "--json", "--nats", cable.url], { cwd: "/tmp" });
  await until("the command follows the run", () => command.out.stdout.includes("run.accepted"));
  cable.swallow();
  const deadAt = Date.now();

  await until(
    "the daemon to notice",
    async () => (await linesOf(daemon)).some(({ msg }) => msg.startsWith("NATS is away")),
    {
      withinMs: NOTICED_MS,
    },
  );
  console.log(`the daemon noticed after ${Date.now() - deadAt} ms`);
  const output = await result;
  console.log(`the client had its result ${Date.now() - deadAt} ms after the network was dead`);
  expect((await events).at(-1)).toMatchObject({ type: "run.completed", data: { output } });
  expect(await command.ended).toMatchObject({ code: 0, stdout: expect.stringContaining("run.completed") });
  await runsEnded(journals, runIds, NOTICED_MS + GOING_ON_MS);
  console.log(`all runs were over ${Date.now() - deadAt} ms after the network was dead`);
  expect(Date.now() - deadAt).toBeLessThan(NOTICED_MS + GOING_ON_MS);
  const facts = { runs: await journals.runs(), tasks: await journals.tasks(), calls: model.calls };
  expect(auditRuns({ runIds, ...facts }).problems).toEqual([]);
});

async function allOf<T>(told: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const one of told) all.push(one);
  return all;
}
