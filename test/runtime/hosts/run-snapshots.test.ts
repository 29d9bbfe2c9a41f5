import { gunzipSync, gzipSync } from "node:zlib";
import { pino } from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { defineAgent } from "../../../src/actors/define-agent.ts";
import { handoff } from "../../../src/actors/handoff.ts";
import { openRunSnapshots, type RunSnapshot } from "../../../src/runtime/hosts/run-snapshots.ts";
import { type Journals, openJournals } from "../../../src/runtime/nats/journal.ts";
import { nuid } from "../../../src/runtime/nats/nats.ts";
import { type Newest, openNewest } from "../../../src/runtime/nats/newest.ts";
import { defineWorkflow } from "../../../src/workflows/define-workflow.ts";
import type { WorkflowDefinition } from "../../../src/workflows/definition.ts";
import type { RunEvent } from "../../../src/workflows/run-events.ts";
import { type HandWorker, type RunBench, startRunBench } from "../../helpers/run-host-bench.ts";
import { settableClock } from "../../helpers/settable-clock.ts";
import { until } from "../../helpers/until.ts";

/** Four events each, so that one snapshot is behind the step at which the owner goes. */
const STEPS = 300;
const STOP_AT = 290;
const AT_REST = `s${STOP_AT}-1`;

let bench: RunBench;
beforeAll(async () => {
  bench = await startRunBench();
});
afterAll(() => bench[Symbol.asyncDispose]());

type LongRun = {
  runId: string;
  agent: string;
  definition: WorkflowDefinition;
  worker: HandWorker;
  goOn(): Promise<void>;
};

/** A chain that has come to one of its last steps, whose task is in the test's hands, and whose owner is gone. */
async function longRun(): Promise<LongRun> {
  const agent = `agent-${nuid.next()}`;
  const worker = await bench.worker(agent);
  const definition = chain(agent);
  const host = await bench.host("a", [definition]);
  let rests = true;
  worker.answersWith(({ taskId }) => (rests && taskId === AT_REST ? undefined : `output of ${taskId}`));
  const runId = await bench.start(host, "chain");
  await worker.gets(AT_REST);
  await until("a snapshot", () => standing(runId));
  host.stop();
  return {
    runId,
    agent,
    definition,
    worker,
    async goOn() {
      rests = false;
      await until("an owner for the outcome", () => worker.completes(AT_REST));
    },
  };
}

const stepsOf = (agent: string) =>
  Array.from({ length: STEPS }, (_, i) => ({ id: `s${i}`, agent, ...(i > 0 && { after: `s${i - 1}` }) }));
const chain = (agent: string) => defineWorkflow({ name: "chain", steps: stepsOf(agent) });

const store = () => openNewest(bench.bus, bench.subjects.streams.snapshots);
const standing = (runId: string) => store().get(bench.subjects.snapshot(runId));
const read = ({ data }: Newest) => JSON.parse(gunzipSync(data).toString("utf8")) as RunSnapshot;

/** Puts something else in the place of a run's snapshot. */
async function replace(runId: string, data: Uint8Array): Promise<void> {
  const before = await until("a snapshot", () => standing(runId));
  await store().put(bench.subjects.snapshot(runId), data, before.seq);
}

async function change(runId: string, changes: (snapshot: RunSnapshot) => object): Promise<void> {
  const snapshot = read(await until("a snapshot", () => standing(runId)));
  await replace(runId, gzipSync(JSON.stringify({ ...snapshot, ...changes(snapshot) })));
}

/** Lets another host take a run over; tells where it began to read. */
async function takeOver({ runId, definition }: LongRun, definitions = [definition]) {
  const from: (number | "the beginning")[] = [];
  const journals = openJournals<RunEvent[]>(bench.bus, bench.subjects.streams.runs);
  const watched: Journals<RunEvent[]> = {
    ...journals,
    read(subject, options) {
      from.push(options?.from ?? "the beginning");
      return journals.read(subject, options);
    },
  };
  const host = await bench.host("b", definitions, { journals: watched });
  return { host, from, taken: await host.adopt(runId, "takeover") };
}

async function expectWhole(run: LongRun): Promise<void> {
  await run.goOn();
  expect((await bench.end(run.runId)).type).toBe("run.completed");
  const events = await bench.events(run.runId);
  expect(events.map(({ n }) => n)).toEqual(events.map((_, i) => i + 1));
  const settled = events.flatMap(({ type, data }) => (type === "task.settled" ? [data.taskId] : []));
  expect(settled).toEqual(Array.from({ length: STEPS }, (_, i) => `s${i}-1`));
}

test("a long run is taken over from its snapshot and goes on as if all of it had been folded", async () => {
  const run = await longRun();
  const { seq, n } = read(await until("a snapshot", () => standing(run.runId)));
  expect(n).toBeGreaterThanOrEqual(1_000);
  const { from, taken } = await takeOver(run);
  expect(taken).toBe("adopted");
  expect(from).toEqual([seq]);
  await expectWhole(run);
});

test("the snapshot of a run that rested on the way names the claim it goes on under", async () => {
  const agent = `agent-${nuid.next()}`;
  const worker = await bench.worker(agent);
  const retry = { maxAttempts: 2, delayMs: 30_000, backoff: "fixed" } as const;
  const definition = defineWorkflow({
    name: "restful",
    steps: stepsOf(agent).map((step, i) => (i === 0 ? { ...step, retry } : step)),
  });
  const clock = settableClock();
  const host = await bench.host("a", [definition], { clock });
  worker.answersWith(({ taskId }) => (taskId === "s0-1" ? undefined : "output"));
  const runId = await bench.start(host, "restful");
  await worker.gets("s0-1");
  await worker.settle("s0-1", { type: "failed", error: { code: "model_error", message: "no" } });
  await until("the run to rest", () => host.restingByWorkflow().size > 0);
  clock.set(Date.now() + 30_000);
  const { claim } = read(await until("a snapshot", () => standing(runId)));
  const [first] = await bench.journals.read(bench.subjects.run(runId));
  expect(claim).toEqual({ host: "a", incarnation: expect.any(String), seq: first?.seq });
});

test("the journal says nothing of snapshots and is whole", async () => {
  const run = await longRun();
  const types = new Set((await bench.events(run.runId)).map(({ type }) => type));
  expect([...types].sort()).toEqual([
    "run.accepted",
    "run.claimed",
    "step.completed",
    "step.started",
    "task.sent",
    "task.settled",
  ]);
});

test("a snapshot is small beside the journal it stands for", async () => {
  const { runId } = await longRun();
  const { data } = await until("a snapshot", () => standing(runId));
  const entries = await bench.journals.read(bench.subjects.run(runId));
  expect(data.length).toBeLessThan(entries.reduce((sum, { bytes }) => sum + bytes, 0) / 20);
});

test.each<[string, (run: LongRun) => Promise<void>]>([
  ["that is no gzip", ({ runId }) => replace(runId, Buffer.from("rubbish"))],
  [
    "that ends in the middle",
    async ({ runId }) => replace(runId, ((await standing(runId)) as Newest).data.subarray(0, 400)),
  ],
  ["of the version before", ({ runId }) => change(runId, () => ({ v: 1 }))],
  [
    "whose states have the form before",
    ({ runId }) => change(runId, ({ supervisor }) => ({ supervisor: { ...supervisor, form: 1 } })),
  ],
  ["of another run", ({ runId }) => change(runId, () => ({ runId: "other" }))],
  ["of an entry the journal does not have", ({ runId }) => change(runId, () => ({ entryId: "other" }))],
  ["of another definition", ({ runId }) => change(runId, () => ({ hash: "other" }))],
  ["with its parts missing", ({ runId }) => change(runId, () => ({ claim: undefined }))],
  [
    "whose states are damaged",
    ({ runId }) => change(runId, ({ supervisor }) => ({ supervisor: { ...supervisor, state: null } })),
  ],
  [
    "that the events after it do not fit",
    ({ runId }) => change(runId, ({ supervisor }) => ({ supervisor: { ...supervisor, open: {} } })),
  ],
])("a snapshot %s is passed over, and the whole journal is folded", async (_, spoil) => {
  const run = await longRun();
  await spoil(run);
  const { from, taken } = await takeOver(run);
  expect(taken).toBe("adopted");
  expect(from.at(-1)).toBe("the beginning");
  await expectWhole(run);
});

test("a journal without a snapshot is folded whole, and soon has one", async () => {
  const run = await longRun();
  await store().purge(bench.subjects.snapshot(run.runId));
  const { from } = await takeOver(run);
  expect(from).toEqual(["the beginning"]);
  const made = read(await until("a snapshot", () => standing(run.runId)));
  expect(made.epoch).toBe(2);
  await expectWhole(run);
});

test("whoever does not own the run any more does not put its snapshot in the place of a later one", async () => {
  const run = await longRun();
  await change(run.runId, ({ seq }) => ({ seq: seq + 1_000_000, epoch: 9 }));
  const stale = await until("a snapshot", () => standing(run.runId));
  // It reads the whole journal, because that snapshot's entry is not there, and would make one at once.
  await takeOver(run);
  await expectWhole(run);
  expect((await standing(run.runId))?.seq).toBe(stale.seq);
});

test("decisions that the definition does not make still park the run where they come after the snapshot", async () => {
  const run = await longRun();
  // Another definition under the hash of the one the run is bound to.
  const ids = Array.from({ length: STEPS }, (_, i) => (i === STOP_AT ? "other" : `s${i}`));
  const steps = ids.map((id, i) => ({ id, agent: run.agent, after: ids.slice(Math.max(0, i - 1), i) }));
  const forged = { ...defineWorkflow({ name: "chain", steps }), hash: run.definition.hash };
  const { taken } = await takeOver(run, [forged]);
  expect(taken).toBe("parked");
  const last = (await bench.events(run.runId)).at(-1);
  expect(last).toMatchObject({ type: "run.parked", data: { reason: expect.stringContaining("cannot_fold") } });
});

test("a snapshot that cannot be made, because its values come to more than a text can hold, is left out", () => {
  const keeper = openRunSnapshots(store(), bench.subjects.snapshot, pino({ level: "silent" })).keep("r", {
    n: 0,
    bytes: 0,
  });
  let tries = 0;
  const make = () => {
    tries += 1;
    throw new RangeError("Invalid string length");
  };
  keeper.stored(1_000, 1_000, make);
  keeper.stored(1_001, 1_001, make);
  expect(tries).toBe(1);
});

test("a long run whose input is a large value is taken over from its snapshot and still has it", async () => {
  const agent = `agent-${nuid.next()}`;
  const worker = await bench.worker(agent);
  const steps = stepsOf(agent).map((step, i) => (i === STEPS - 1 ? { ...step, input: "{{ input }}" } : step));
  const definition = defineWorkflow({ name: "chain", steps });
  const host = await bench.host("a", [definition]);
  let rests = true;
  worker.answersWith(({ taskId }) =>
    taskId === `s${STEPS - 1}-1` || (rests && taskId === AT_REST) ? undefined : "output",
  );
  const runId = await bench.start(host, "chain", { input: "x".repeat(2 * 1024 * 1024) });
  await worker.gets(AT_REST);
  await until("a snapshot", () => standing(runId));
  host.stop();
  const { from, taken } = await takeOver({ runId, definition } as LongRun);
  expect([taken, from.length, from[0] === "the beginning"]).toEqual(["adopted", 1, false]);
  rests = false;
  await until("an owner for the outcome", () => worker.completes(AT_REST));
  expect((await worker.gets(`s${STEPS - 1}-1`)).refs).toMatchObject([{ at: "/input", bytes: 2 * 1024 * 1024 + 2 }]);
});

test("a handoff run of many hops is taken over from its snapshot", async () => {
  const [ping, pong] = [`ping-${nuid.next()}`, `pong-${nuid.next()}`];
  const common = { instructions: "Play.", model: "none" };
  const last = defineAgent({ ...common, name: pong, handoffs: [{ to: ping, context: "none" }] });
  const first = defineAgent({ ...common, name: ping, handoffs: [handoff(last, { context: "none" })] });
  const definition = defineWorkflow({
    name: "rally",
    entry: first,
    agents: [first, last],
    maxHandoffs: 600,
    maxVisits: 600,
  });
  const host = await bench.host("a", [definition]);
  const workers = await Promise.all([bench.worker(ping), bench.worker(pong)]);
  const runId = await bench.start(host, "rally");
  let taskId = "h0";
  const HOPS = 520;
  for (let hop = 0; hop < HOPS; hop += 1) {
    const [mine, other] = hop % 2 === 0 ? [workers[0], pong] : [workers[1], ping];
    await mine?.gets(taskId);
    const next = { taskId: `h${hop + 1}-x`, forwarded: false };
    expect(await mine?.settle(taskId, { type: "handoff", to: other, reason: "yours", next })).toBe("recorded");
    taskId = next.taskId;
  }
  await workers[0]?.gets(taskId);
  await until("a snapshot", () => standing(runId));
  host.stop();
  const { from, taken } = await takeOver({ runId, definition } as LongRun);
  expect(taken).toBe("adopted");
  expect(from).toHaveLength(1);
  expect(from[0]).not.toBe("the beginning");
  await until("an owner for the outcome", () => workers[0]?.completes(taskId, "over"));
  expect(await bench.end(runId)).toMatchObject({ type: "run.completed", data: { output: "over" } });
}, 60_000);
