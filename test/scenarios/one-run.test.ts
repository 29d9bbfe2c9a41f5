import { setTimeout as sleep } from "node:timers/promises";
import { headers } from "nats";
import { expect, test } from "vitest";
import { crashBroker } from "../helpers/crash-broker.ts";
import { byRun } from "../helpers/raw-journals.ts";
import { openStage } from "../helpers/stage.ts";
import { until } from "../helpers/until.ts";

const AT_ONCE = 100;
/** Two minutes by default; whoever runs the broker may set another, and daemons leave it alone. */
const WINDOW_MS = 2_000;

test("the same request a hundred times at once, again after the window for duplicates and a crash of the broker, is one run", {
  timeout: 60_000,
}, async () => {
  await using stage = await openStage({ daemons: 2 });
  const { journals, model } = stage;
  const { nc } = journals;
  const jsm = await nc.jetstreamManager();
  await jsm.streams.update("TROUPE_REQUESTS", { duplicate_window: WINDOW_MS * 1e6 });
  const results = new Map<string, unknown[]>();
  nc.subscribe("answers.*", {
    callback: (_error, message) =>
      results.set(message.subject, [...(results.get(message.subject) ?? []), message.json()]),
  });
  await nc.flush();
  const js = nc.jetstream();
  let asked = 0;
  const stored = async () => (await jsm.streams.info("TROUPE_REQUESTS")).state.last_seq;

  // By the id in the body: the broker stores each of them.
  const byBody = () => {
    asked += 1;
    const request = { input: "x", runId: "by-body", replyTo: `answers.${asked}` };
    return js.publish("troupe.requests.single", JSON.stringify(request));
  };
  // By the message id: the broker drops those that come within its window.
  const byHeader = () => {
    const hdrs = headers();
    hdrs.set("Nats-Msg-Id", "by-header");
    return js.publish("troupe.requests.single", "x", { headers: hdrs });
  };
  const askAll = async () => {
    const before = await stored();
    const acks = await Promise.all(Array.from({ length: AT_ONCE }, byHeader));
    await Promise.all(Array.from({ length: AT_ONCE }, byBody));
    await until(`${asked} answers`, () => results.size === asked);
    expect(acks.filter(({ duplicate }) => !duplicate)).toHaveLength(1);
    expect((await stored()) - before).toBe(AT_ONCE + 1);
  };
  await askAll();
  await sleep(WINDOW_MS * 1.5);
  await askAll();
  await crashBroker(stage);
  await askAll();
  await until("nothing is at the door", async () => {
    const { num_pending, num_ack_pending } = await jsm.consumers.info("TROUPE_REQUESTS", "door");
    return num_pending === 0 && num_ack_pending === 0;
  });

  const runs = byRun(await journals.runs());
  expect([...runs.keys()].sort()).toEqual(["by-body", "by-header"]);
  expect(model.calls.map(({ runId }) => runId).sort()).toEqual(["by-body", "by-header"]);
  const output = runs.get("by-body")?.at(-1)?.value.at(-1)?.data;
  for (const [result] of results.values()) {
    expect(result).toMatchObject({ runId: "by-body", workflow: "single", status: "completed", ...output });
  }
  const { config } = await jsm.streams.info("TROUPE_REQUESTS");
  expect(config.duplicate_window).toBe(WINDOW_MS * 1e6);
});
