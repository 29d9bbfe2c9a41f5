import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { nuid } from "../../../src/runtime/nats/nats.ts";
import { defineWorkflow } from "../../../src/workflows/define-workflow.ts";
import type { WorkflowDefinition } from "../../../src/workflows/definition.ts";
import { hashOf } from "../../../src/workflows/run-events.ts";
import { type HandWorker, type RunBench, startRunBench } from "../../helpers/run-host-bench.ts";
import { until } from "../../helpers/until.ts";

let bench: RunBench;
let agent: string;
let worker: HandWorker;
let flow: WorkflowDefinition;

const nobody = () => false;

beforeAll(async () => {
  bench = await startRunBench();
});
beforeEach(async () => {
  agent = `agent-${nuid.next()}`;
  flow = defineWorkflow({ name: agent, steps: [{ id: "one", agent }] });
  worker = await bench.worker(agent, "hands/1");
});
afterAll(() => bench[Symbol.asyncDispose]());

/** A run whose first owner is gone and which a host without its definition has parked. */
async function parkedRun(): Promise<string> {
  const first = await bench.host("first", [flow]);
  const runId = await bench.start(first, agent);
  await worker.gets("one-1");
  first.stop();
  const other = await bench.host("other", []);
  expect(await other.adopt(runId, "takeover")).toBe("parked");
  other.stop();
  return runId;
}

/** Answers until an owner has recorded it. */
const completes = (taskId: string, output?: string) =>
  until("it is recorded", async () => (await worker.completes(taskId, output)) === "recorded");

test("a parked run is taken up where its own definition is, and ends with what its worker has done meanwhile", async () => {
  const runId = await parkedRun();
  const host = await bench.host("able", [flow]);
  expect(await host.resumeParked(runId, nobody)).toEqual({ is: "done" });
  await completes("one-1", "done meanwhile");
  expect((await bench.end(runId)).data).toEqual({ output: "done meanwhile" });
  const claim = (await bench.events(runId)).findLast(({ type }) => type === "run.claimed");
  expect(claim?.data).toEqual({ host: "able", incarnation: expect.any(String), reason: "resume" });
});

test("a parked run is left to the daemon that has its definition", async () => {
  const runId = await parkedRun();
  const changed = defineWorkflow({ name: agent, steps: [{ id: "one", agent, timeoutMs: 1_000 }] });
  const host = await bench.host("newer", [changed]);
  const before = await bench.told(runId);
  expect(await host.resumeParked(runId, (name, hash) => name === agent && hash === flow.hash)).toEqual({
    is: "elsewhere",
  });
  expect(await bench.told(runId)).toEqual(before);
});

test("a run that was taken up with another definition is bound to it, also for whoever owns it next", async () => {
  const runId = await parkedRun();
  const changed = defineWorkflow({
    name: agent,
    steps: [
      { id: "one", agent },
      { id: "two", agent, after: "one" },
    ],
  });
  const host = await bench.host("newer", [changed]);
  expect(await host.resumeParked(runId, nobody)).toEqual({ is: "done" });
  expect(hashOf(await bench.events(runId))).toBe(changed.hash);
  await completes("one-1");
  await worker.gets("two-1");
  host.stop();
  const next = await bench.host("next", [changed]);
  expect(await next.adopt(runId, "takeover")).toBe("adopted");
  await completes("two-1", "by the new definition");
  expect((await bench.end(runId)).data).toEqual({ output: "by the new definition" });
});

test("two who take up one parked run, or end it meanwhile, make one claim or one end", async () => {
  const runId = await parkedRun();
  const [a, b] = [await bench.host("a", [flow]), await bench.host("b", [flow])];
  const answers = await Promise.all([
    a.resumeParked(runId, nobody),
    b.resumeParked(runId, nobody),
    b.failParked(runId, "enough"),
  ]);
  expect(answers.filter(({ is }) => is === "done")).toHaveLength(1);
});
