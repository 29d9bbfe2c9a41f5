import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { defineAgent } from "../../../src/actors/define-agent.ts";
import { nuid } from "../../../src/runtime/nats/nats.ts";
import { defineWorkflow } from "../../../src/workflows/define-workflow.ts";
import { type Bench, startBench } from "../../helpers/agent-host-bench.ts";
import { type RunBench, startRunBench } from "../../helpers/run-host-bench.ts";
import { say } from "../../helpers/task-driver.ts";

const HOUR_MS = 3_600_000;
/** Shorter than every time after which somebody is missed, so that whatever has to be said comes in between. */
const STRIDE_MS = 200;
const REAL_MS = 5;

let workers: Bench;
let owners: RunBench;
const realTimeout = setTimeout;

beforeEach(async () => {
  owners = await startRunBench();
  workers = await startBench(owners.nats);
});
afterEach(async () => {
  vi.useRealTimers();
  await workers[Symbol.asyncDispose]();
  await owners[Symbol.asyncDispose]();
});

test("a step of an hour runs once, and a change of its run's owner in the middle does not start it again", {
  timeout: 120_000,
}, async () => {
  const agent = defineAgent({
    name: `thinker-${nuid.next()}`,
    instructions: "Take your time.",
    model: "m",
    timeoutMs: 2 * HOUR_MS,
  });
  const think = defineWorkflow({ name: "think", agents: [agent] });
  const done = Promise.withResolvers<void>();
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "Date", "performance"] });
  const worker = await whileTimePasses(
    workers.host([agent], async () => {
      await done.promise;
      return say("at last");
    }),
  );
  const silence = { silenceMs: 15_000, workersOf: () => ["host1/1"] };
  const first = await whileTimePasses(owners.host("first", [think], silence));
  const runId = await whileTimePasses(owners.start(first, "think"));
  await whileTimePasses(worker.called(1));
  await pass(HOUR_MS / 2);
  first.stop();
  const second = await whileTimePasses(owners.host("second", [think], silence));
  expect(await whileTimePasses(second.adopt(runId, "takeover"))).toBe("adopted");
  await pass(HOUR_MS / 2);
  done.resolve();
  const end = await whileTimePasses(owners.end(runId));

  expect(end).toMatchObject({ type: "run.completed", data: { output: "at last" } });
  expect(worker.calls).toHaveLength(1);
  const events = await whileTimePasses(owners.events(runId));
  expect(events.filter(({ type }) => type === "task.sent")).toHaveLength(1);
  const [begun, ended] = [events[0], events.at(-1)].map((event) => Date.parse(event?.at ?? ""));
  expect((ended ?? 0) - (begun ?? 0)).toBeGreaterThanOrEqual(HOUR_MS);
});

/** Lets the fake clock run, and everybody say and hear in between what is due. */
async function pass(ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += STRIDE_MS) {
    await vi.advanceTimersByTimeAsync(STRIDE_MS);
    // What was said has reached the broker when it answers this, and mostly whoever it was said to.
    await Promise.all([workers.bus.nc.flush(), owners.bus.nc.flush()]);
  }
}

/** Lets the fake clock go as the real one does. */
async function whileTimePasses<T>(something: Promise<T>): Promise<T> {
  let settled = false;
  const watched = something.finally(() => {
    settled = true;
  });
  watched.catch(() => {});
  while (!settled) {
    await new Promise((resolve) => realTimeout(resolve, REAL_MS));
    await vi.advanceTimersByTimeAsync(REAL_MS);
  }
  return watched;
}
