import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { RunHost } from "../../../src/runtime/hosts/run-host.ts";
import { nuid } from "../../../src/runtime/nats/nats.ts";
import { defineWorkflow } from "../../../src/workflows/define-workflow.ts";
import type { WorkflowDefinition } from "../../../src/workflows/definition.ts";
import { type HandWorker, type RunBench, startRunBench } from "../../helpers/run-host-bench.ts";
import { settableClock } from "../../helpers/settable-clock.ts";
import { until } from "../../helpers/until.ts";

const HOUR = 3_600_000;
const FAILURE = { type: "failed", error: { code: "model_error", message: "no" } };

let bench: RunBench;
let agent: string;
let worker: HandWorker;
let flow: WorkflowDefinition;
let clock: ReturnType<typeof settableClock>;
let host: RunHost;

beforeAll(async () => {
  bench = await startRunBench();
});
beforeEach(async () => {
  agent = `agent-${nuid.next()}`;
  worker = await bench.worker(agent);
  const retry = { maxAttempts: 2, delayMs: 30_000, backoff: "fixed" } as const;
  flow = defineWorkflow({ name: agent, steps: [{ id: "one", agent, retry }] });
  clock = settableClock();
  host = await bench.host("a", [flow], { clock });
});
afterEach(() => worker.stop());
afterAll(() => bench[Symbol.asyncDispose]());

const inAnHour = () => ({ notBefore: new Date(Date.now() + HOUR).toISOString() });
const restsAt = (owner: RunHost) => owner.restingByWorkflow().get(agent) ?? 0;
const rests = () => until("the run to rest", () => restsAt(host) === 1);
const claims = async (runId: string) => (await bench.events(runId)).filter(({ type }) => type === "run.claimed");

test("a run that waits for its time rests, is still this daemon's, and goes on under the claim it has", async () => {
  const runId = await bench.start(host, agent, inAnHour());
  await rests();
  expect([host.owns(runId), host.size(), host.room()]).toEqual([true, 1, 1_000]);
  expect(host.byWorkflow()).toEqual(new Map([[agent, 1]]));
  expect(await host.accept({ workflow: agent, runId, request: { input: "again" } })).toBe("exists");
  clock.set(Date.now() + HOUR);
  // Until it is looked for: what is due goes before what is new.
  expect(host.room()).toBe(0);
  await worker.gets("one-1");
  expect([restsAt(host), host.room()]).toEqual([0, 999]);
  await worker.completes("one-1", "done");
  expect(await bench.end(runId)).toMatchObject({ type: "run.completed", data: { output: "done" }, epoch: 1 });
  expect(await claims(runId)).toHaveLength(1);
  const numbers = (await bench.events(runId)).map(({ n }) => n);
  expect(numbers).toEqual(numbers.map((_, i) => i + 1));
});

test("a run rests between two attempts at a step, and a worker that says again what is on record is answered", async () => {
  const runId = await bench.start(host, agent);
  await worker.gets("one-1");
  expect(await worker.settle("one-1", FAILURE)).toBe("recorded");
  await rests();
  expect(await worker.settle("one-1", FAILURE)).toBe("superseded");
  await rests();
  clock.set(Date.now() + 30_000);
  expect((await worker.gets("one-2")).attempt).toBe(2);
  await worker.completes("one-2");
  expect((await bench.end(runId)).type).toBe("run.completed");
  expect((await bench.told(runId)).filter((words) => words.startsWith("timer."))).toHaveLength(2);
});

test("a run at rest that is cancelled ends at once, and nobody is ever asked", async () => {
  const runId = await bench.start(host, agent, inAnHour());
  await rests();
  expect(host.cancel(runId, 7, { reason: "enough" })).toBe(true);
  expect(await bench.end(runId)).toMatchObject({ type: "run.cancelled", data: { reason: "enough" } });
  await until("it is let go of", () => !host.owns(runId));
  expect(worker.tasks).toEqual([]);
});

test("a run at rest that another daemon took over is left to that one, though its time comes", async () => {
  const runId = await bench.start(host, agent, inAnHour());
  await rests();
  const other = await bench.host("b", [flow], { clock });
  expect(await other.adopt(runId, "takeover")).toBe("adopted");
  expect([restsAt(other), other.owns(runId)]).toEqual([1, true]);
  clock.set(Date.now() + HOUR);
  await worker.gets("one-1");
  await until("the old owner lets go", () => !host.owns(runId));
  await worker.completes("one-1");
  expect((await bench.end(runId)).epoch).toBe(2);
  expect(worker.tasks).toHaveLength(1);
});

test("a run at rest that was left behind is claimed by who keeps it when it wakes, and not before", async () => {
  const runId = await bench.start(host, agent, inAnHour());
  await rests();
  host.releaseAll();
  expect(host.owns(runId)).toBe(false);
  const heir = await bench.host("b", [flow], { clock });
  heir.keep(await leftResting(runId), "takeover");
  expect(heir.owns(runId)).toBe(true);
  expect(await claims(runId)).toHaveLength(1);
  clock.set(Date.now() + HOUR);
  await worker.gets("one-1");
  expect((await claims(runId)).at(-1)).toMatchObject({ epoch: 2, data: { host: "b", reason: "takeover" } });
});

test("a run at rest whose owner turns out to live is left to it", async () => {
  const runId = await bench.start(host, agent, inAnHour());
  await rests();
  const left = await leftResting(runId);
  const ahead = settableClock();
  const doubter = await bench.host("b", [flow], { clock: ahead, isLiving: (incarnation) => incarnation === left.by });
  doubter.keep(left, "takeover");
  ahead.set(left.dueMs);
  await until("it is let go of", () => !doubter.owns(runId));
  expect(await claims(runId)).toHaveLength(1);
  expect(host.owns(runId)).toBe(true);
});

test("a retry that rests comes in time although the clock is set back meanwhile", async () => {
  const runId = await bench.start(host, agent);
  await worker.gets("one-1");
  await worker.settle("one-1", FAILURE);
  await rests();
  clock.set(Date.now() + 28_000);
  // It looks at the clock twice a second.
  await new Promise((resolve) => setTimeout(resolve, 750));
  const since = performance.now();
  clock.set(clock.now() - HOUR);
  expect((await worker.gets("one-2")).attempt).toBe(2);
  expect(performance.now() - since).toBeGreaterThan(500);
  await worker.completes("one-2");
  expect((await bench.end(runId)).type).toBe("run.completed");
  const times = (await bench.events(runId)).map(({ at }) => at);
  expect(times).toEqual(times.toSorted());
});

test("a clock that is set back and then right again brings no retry early, and its run no time that has not passed", async () => {
  const runId = await bench.start(host, agent);
  await worker.gets("one-1");
  await worker.settle("one-1", FAILURE);
  await rests();
  const looked = () => new Promise((resolve) => setTimeout(resolve, 750));
  clock.set(Date.now() - HOUR);
  await looked();
  clock.set(Date.now());
  await looked();
  expect([restsAt(host), worker.tasks.length]).toEqual([1, 1]);
  clock.set(Date.now() + 30_000);
  await worker.gets("one-2");
  await worker.completes("one-2");
  const { at } = await bench.end(runId);
  expect(Date.parse(at)).toBeLessThan(Date.now() + 60_000);
});

test("a retry that rests comes in time on a daemon whose clock is behind", async () => {
  // Time that really passes: a clock that is set forward is taken for one that is put right.
  const retry = { maxAttempts: 2, delayMs: 7_000, backoff: "fixed" } as const;
  const soon = defineWorkflow({ name: `${agent}-soon`, steps: [{ id: "one", agent, retry }] });
  const owner = await bench.host("owner", [soon]);
  const runId = await bench.start(owner, soon.name);
  await worker.gets("one-1");
  const since = performance.now();
  await worker.settle("one-1", FAILURE);
  await until("the run to rest", () => owner.restingByWorkflow().size === 1);
  const left = { ...(await leftResting(runId)), workflow: soon.name };
  owner.releaseAll();
  const behind = settableClock();
  behind.set(Date.now() - HOUR);
  const heir = await bench.host("b", [soon], { clock: behind });
  heir.keep(left, "takeover");
  expect((await worker.gets("one-2")).attempt).toBe(2);
  expect(performance.now() - since).toBeGreaterThan(6_900);
});

test("a run whose time has come waits for room", async () => {
  const small = await bench.host("small", [flow], { clock, maxRuns: 1 });
  const runId = await bench.start(small, agent, inAnHour());
  await until("it to rest", () => restsAt(small) === 1);
  const busy = await bench.start(small, agent);
  await worker.gets("one-1");
  clock.set(Date.now() + HOUR);
  await bench.start(small, agent, { notBefore: new Date(clock.now() + HOUR).toISOString() });
  expect([small.room(), restsAt(small), worker.tasks.length]).toEqual([0, 2, 1]);
  await worker.completes("one-1");
  expect((await bench.end(busy)).type).toBe("run.completed");
  await until("the other one to begin", () => worker.tasks.some((task) => task.runId === runId));
});

test("a run whose time is near is not put to rest", async () => {
  const runId = await bench.start(host, agent, { notBefore: new Date(Date.now() + 1_500).toISOString() });
  expect([host.owns(runId), restsAt(host)]).toEqual([true, 0]);
  await worker.gets("one-1");
});

/** A run as the index of another daemon has it. */
async function leftResting(runId: string) {
  const seq = (await bench.journals.last(bench.subjects.run(runId)))?.seq ?? 0;
  const [claim] = await claims(runId);
  const by = claim?.type === "run.claimed" ? claim.data.incarnation : "";
  const events = await bench.events(runId);
  const timer = events.findLast((event) => event.type === "timer.set");
  const { id, dueAt } = timer?.type === "timer.set" ? timer.data : { id: "", dueAt: "" };
  const lastMs = Date.parse(events.at(-1)?.at ?? "");
  return { runId, workflow: agent, seq, dueMs: Date.parse(dueAt), lastMs, isStart: id === "start", by };
}
