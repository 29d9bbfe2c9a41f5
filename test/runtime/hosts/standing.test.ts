import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Agent } from "../../../src/actors/agent.ts";
import { defineAgent } from "../../../src/actors/define-agent.ts";
import type { Task } from "../../../src/actors/task.ts";
import { ModelError } from "../../../src/errors.ts";
import type { AgentHostOptions } from "../../../src/runtime/hosts/agent-host.ts";
import { connectBus } from "../../../src/runtime/nats/connection.ts";
import { headers, nuid } from "../../../src/runtime/nats/nats.ts";
import { SENT_AT_HEADER } from "../../../src/runtime/subjects.ts";
import type { RunEvent, RunEventBody } from "../../../src/workflows/run-events.ts";
import { type Bench, startBench } from "../../helpers/agent-host-bench.ts";
import { type Cable, startCable } from "../../helpers/cable.ts";
import { startFakeOwner } from "../../helpers/fake-owner.ts";
import { eventsOf } from "../../helpers/run-events.ts";
import { call, say, taskFor } from "../../helpers/task-driver.ts";
import { until } from "../../helpers/until.ts";

// Longer than the first pause before a model call is tried again, and than what counts as a pause of the process.
const BLOCKED_MS = 900;
// Longer than a worker may be unheard without being in doubt about its tasks.
const MISSED_MS = 1_600;
/** How long a provider asks to wait; it becomes up to a tenth more. */
const RETRY_MS = 2_000;

let bench: Bench;
let agent: Agent;
let task: Task;
beforeAll(async () => {
  bench = await startBench();
});
afterAll(() => bench[Symbol.asyncDispose]());

test("a worker that did not run for a while does not try a call again that is another one's by now", async () => {
  const { host, owner } = await failOnce();
  await record({ type: "task.sent", data: { taskId: "t1", agent: agent.name, attempt: 1, delivery: 2 } });
  block();
  await until("the host has let go of it", () => host.taskIds().length === 0);
  expect(host.calls).toHaveLength(1);
  expect(owner.heard.map(({ type }) => type)).toEqual(["accepted"]);
});

test("but one that its owner found here all the same is gone on with, also after it did not run once more", async () => {
  const { host, owner } = await failOnce();
  await record({ type: "task.sent", data: { taskId: "t1", agent: agent.name, attempt: 1, delivery: 2 } });
  owner.tell({ type: "known", taskId: "t1", delivery: 2 });
  await bench.bus.nc.flush();
  block();
  expect(await owner.outcome("t1")).toMatchObject({ output: "at last" });
  expect(host.calls).toHaveLength(2);
});

test("nor one that another worker has begun, of which the run's journal says nothing", async () => {
  const { host, owner } = await failOnce();
  await bench.journals.append(bench.subjects.task(task.runId, "t1"), Buffer.from(JSON.stringify(begunElsewhere)), {
    expected: 0,
    id: begunElsewhere.id,
  });
  block();
  await until("the host has let go of it", () => host.taskIds().length === 0);
  expect(host.calls).toHaveLength(1);
  // Whichever of the two the run counts on, one of them goes on.
  await owner.hears("t1", "busy");
});

test("a worker that did not run for a while tells the owner of what is still its own, which may have asked in vain", async () => {
  const { host, owner } = await failOnce({ options: { workingEveryMs: 60_000 } }, RETRY_MS);
  block();
  await owner.hears("t1", "working");
  expect(host.calls).toHaveLength(1);
});

test("nor one whose outcome is on record, nor one of a run that is over", async () => {
  const usage = { inputTokens: 1, outputTokens: 1, modelCalls: 1 };
  const outcome = { type: "completed", output: "by another worker", usage } as const;
  const ends: RunEventBody[] = [
    { type: "task.settled", data: { taskId: "t1", agent: "writer", outcome } },
    { type: "run.cancelled", data: {} },
  ];
  for (const end of ends) {
    const { host } = await failOnce();
    await record(end);
    block();
    await until("the host has let go of it", () => host.taskIds().length === 0);
    expect(host.calls).toHaveLength(1);
  }
});

test("nor one that its run goes on without", async () => {
  const ends: RunEventBody[] = [
    { type: "step.cancelled", data: { step: "draft", taskId: "t1" } },
    { type: "timer.fired", data: { id: "cancel" } },
  ];
  for (const end of ends) {
    const { host } = await failOnce();
    await record({ type: "task.sent", data: { taskId: "t1", agent: agent.name, attempt: 1, delivery: 1 } });
    await record(end);
    block();
    await until("the host has let go of it", () => host.taskIds().length === 0);
    expect(host.calls).toHaveLength(1);
  }
});

test("nor one of a run whose journal is gone", async () => {
  const { host } = await failOnce();
  await bench.bus.js.publish(bench.subjects.run(task.runId), "[]");
  const jsm = await bench.bus.jsm();
  await jsm.streams.purge(bench.subjects.streams.runs, { filter: bench.subjects.run(task.runId) });
  block();
  await until("the host has let go of it", () => host.taskIds().length === 0);
  expect(host.calls).toHaveLength(1);
});

test("being asked for by somebody who may call it off does not make a task one's own again", async () => {
  const { host, owner } = await failOnce({}, RETRY_MS);
  await record({ type: "run.cancelled", data: {} });
  block();
  const notice = { v: 1, runId: task.runId, tasks: ["t1"], reply: owner.reply };
  // What comes first may count as old.
  await until("an answer to the question", () => {
    bench.bus.nc.publish(bench.subjects.owners, JSON.stringify(notice));
    return owner.heard.length > 1;
  });
  await until("the host has let go of it", () => host.taskIds().length === 0);
  expect(host.calls).toHaveLength(1);
});

test("a call in flight for a run that ended unheard is stopped, and one for a run that goes on is not", async () => {
  setting();
  const stopped: string[] = [];
  const host = await bench.host(
    [agent],
    ({ context }) => {
      context.signal.addEventListener("abort", () => stopped.push(context.runId));
      return new Promise<never>(() => {});
    },
    { options: { workingEveryMs: 100 } },
  );
  const owner = startFakeOwner(bench.bus, bench.subjects);
  const other = { ...task, runId: nuid.next() };
  owner.send(task);
  owner.send(other);
  await host.called(2);
  await record({ type: "run.cancelled", data: {} });
  block();
  await until("the host has let go of it", () => host.taskIds().every(({ runId }) => runId !== task.runId));
  expect(stopped).toEqual([task.runId]);
  expect(host.taskIds()).toEqual([{ runId: other.runId, taskId: "t1" }]);
});

test("a run that cannot be read does not keep what nobody waits for from being stopped", async () => {
  setting();
  const host = await bench.host([agent], () => new Promise<never>(() => {}), { options: { workingEveryMs: 100 } });
  const owner = startFakeOwner(bench.bus, bench.subjects);
  const unreadable = { ...task, runId: nuid.next() };
  owner.send(unreadable);
  await host.called(1);
  owner.send(task);
  await host.called(2);
  await bench.bus.js.publish(bench.subjects.run(unreadable.runId), "no JSON");
  await record({ type: "run.cancelled", data: {} });
  block();
  await until("the host has let go of it", () => host.taskIds().every(({ runId }) => runId !== task.runId));
  expect(host.taskIds()).toEqual([{ runId: unreadable.runId, taskId: "t1" }]);
});

test("what many tasks of a run are looked up in is read once, and only what is new of it the next time", async () => {
  setting();
  const host = await bench.host([agent], () => new Promise<never>(() => {}), { options: { workingEveryMs: 60_000 } });
  const owner = startFakeOwner(bench.bus, bench.subjects);
  const ids = Array.from({ length: 50 }, (_, i) => `t${i + 1}`);
  for (const taskId of ids) owner.send({ ...task, taskId });
  await host.called(ids.length);
  await record({ type: "run.parked", data: { reason: "so that there is more than one entry" } });
  const reads: string[] = [];
  const api = `$JS.API.CONSUMER.CREATE.${bench.subjects.streams.runs}.>`;
  const watching = bench.bus.nc.subscribe(api, { callback: (_, { subject }) => void reads.push(subject) });
  await bench.bus.nc.flush();
  for (const nth of [1, 2]) {
    block();
    for (const taskId of ids) await owner.hears(taskId, "working", nth);
    await bench.bus.nc.flush();
    expect(reads).toHaveLength(1);
  }
  await record({ type: "run.cancelled", data: {} });
  block();
  await until("the host has let go of them", () => host.taskIds().length === 0);
  watching.unsubscribe();
});

test("a worker that did not run for a while goes on with what is still its own", async () => {
  const { host, owner } = await failOnce();
  await record({ type: "task.sent", data: { taskId: "t1", agent: agent.name, attempt: 1, delivery: 1 } });
  block();
  expect(await owner.outcome("t1")).toMatchObject({ output: "at last" });
  expect(host.calls).toHaveLength(2);
});

test("a worker that lost its connection does not try a call again that is another one's by now", async () => {
  await using cable = await startCable(bench.nats.port);
  const { host, bus } = await failOnceOver(cable);
  // Longer than it takes to be missed; its client notices and tells nobody before it is back.
  cable.refuse();
  await until("the connection is lost", () => !bus.connected());
  await record({ type: "task.sent", data: { taskId: "t1", agent: agent.name, attempt: 1, delivery: 2 } });
  await sleep(MISSED_MS);
  cable.accept();
  await until("the host has let go of it", () => host.taskIds().length === 0);
  expect(host.calls).toHaveLength(1);
  await bus.close();
});

test("nor does one whose connection was dead, and which heard of nothing", async () => {
  await using cable = await startCable(bench.nats.port);
  const { host, bus } = await failOnceOver(cable);
  cable.hold();
  await record({ type: "task.sent", data: { taskId: "t1", agent: agent.name, attempt: 1, delivery: 2 } });
  await sleep(RETRY_MS * 1.25);
  expect(bus.connected()).toBe(true);
  cable.release();
  await until("the host has let go of it", () => host.taskIds().length === 0);
  expect(host.calls).toHaveLength(1);
  await bus.close();
});

test("a worker that lost its connection goes on with what is still its own as soon as that is back", async () => {
  await using cable = await startCable(bench.nats.port);
  const { host, bus } = await failOnceOver(cable);
  cable.refuse();
  await sleep(RETRY_MS * 1.25);
  expect(host.calls).toHaveLength(1);
  cable.accept();
  await until("it is connected", () => bus.connected());
  await until("the call is tried again", () => host.calls.length === 2, { withinMs: 2_000 });
  await bus.close();
});

test("a worker whose broker is slow to answer goes on with what is its own", async () => {
  await using cable = await startCable(bench.nats.port);
  const { host, bus } = await failOnceOver(cable);
  cable.slow(300);
  await sleep(RETRY_MS * 1.25);
  await until("the call is tried again", () => host.calls.length === 2, { withinMs: 10_000 });
  await bus.close();
}, 30_000);

test("what came for it meanwhile does not make the task its own again", async () => {
  // First, for it takes longer than the pause before the call is tried again.
  await using elsewhere = await connectElsewhere();
  const { host, owner } = await failOnce();
  await record({ type: "task.sent", data: { taskId: "t1", agent: agent.name, attempt: 1, delivery: 2 } });
  const subject = bench.subjects.mailbox(agent.name);
  elsewhere.publishSoon(subject, JSON.stringify({ ...task, delivery: 2 }), `${owner.reply}.t1`);
  block({ until: elsewhere.published });
  await until("the host has let go of it", () => host.taskIds().length === 0);
  expect(host.calls).toHaveLength(1);
  expect(owner.heard.map(({ type }) => type)).toEqual(["accepted"]);
});

test("a reply that came while the task was given to another worker is recorded for it, and not gone on with", async () => {
  setting();
  const gate = Promise.withResolvers<void>();
  const host = await bench.host([agent], async () => {
    await gate.promise;
    return call({ name: "no_such_tool", args: {} });
  });
  const owner = startFakeOwner(bench.bus, bench.subjects);
  owner.send(task);
  await host.called(1);
  await record({ type: "task.sent", data: { taskId: "t1", agent: agent.name, attempt: 1, delivery: 2 } });
  block();
  gate.resolve();
  await until("the host has let go of it", () => host.taskIds().length === 0);
  const entries = await bench.journals.read(bench.subjects.task(task.runId, "t1"));
  expect(entries[0]?.value).toMatchObject({ type: "turn", turn: 1 });
  expect(host.calls).toHaveLength(1);
});

test("a task that was long on its way is begun if its run still waits for it, and only then", async () => {
  setting();
  const host = await bench.host([agent], () => say("done"));
  const owner = startFakeOwner(bench.bus, bench.subjects);
  await record({ type: "task.settled", data: { taskId: "t1", agent: agent.name, outcome: failed } });
  const hdrs = headers();
  hdrs.set(SENT_AT_HEADER, String(Date.now() - 5_000));
  for (const late of [task, { ...task, taskId: "t2" }]) {
    const reply = `${owner.reply}.${late.taskId}`;
    bench.bus.nc.publish(bench.subjects.mailbox(agent.name), JSON.stringify(late), { reply, headers: hdrs });
  }
  expect(await owner.outcome("t2")).toMatchObject({ output: "done" });
  await until("the host has let go of them", () => host.taskIds().length === 0);
  expect(owner.heard.filter(({ taskId }) => taskId === "t1")).toEqual([]);
  expect(host.calls).toHaveLength(1);
});

const begunElsewhere = {
  v: 1,
  id: nuid.next(),
  at: new Date().toISOString(),
  type: "begun",
  delivery: 1,
  worker: "another/1",
};
const failed = { type: "failed", error: { code: "cancelled", message: "the run was cancelled" } } as const;

function setting(): void {
  agent = defineAgent({ name: `writer-${nuid.next()}`, instructions: "Write.", model: "m" });
  task = taskFor(agent.name, { runId: nuid.next() });
}

/** The same behind a cable. */
async function failOnceOver(cable: Cable) {
  const bus = await connectBus({ servers: cable.url, name: "host", inboxPrefix: "_INBOX" });
  return { ...(await failOnce({ bus }, RETRY_MS)), bus };
}

/** A host that waits to try its first model call again, for as long as the provider says. */
async function failOnce(more: Partial<AgentHostOptions> = {}, retryAfterMs?: number) {
  setting();
  const script = () => {
    if (host.calls.length > 1) return say("at last");
    throw new ModelError("provider_unavailable", "not now", {
      retryable: true,
      ...(retryAfterMs !== undefined && { retryAfterMs }),
    });
  };
  const host = await bench.host([agent], script, more);
  await more.bus?.nc.flush();
  const owner = startFakeOwner(bench.bus, bench.subjects);
  owner.send(task);
  await owner.hears("t1", "accepted");
  await host.called(1);
  return { host, owner };
}

/** Puts an event into the run's journal, as its owner would. */
async function record(body: RunEventBody): Promise<void> {
  const entry: RunEvent[] = [eventsOf(task.runId).next(body)];
  await bench.bus.js.publish(bench.subjects.run(task.runId), JSON.stringify(entry));
}

/** A connection in a thread of its own, which publishes while this one is blocked. */
async function connectElsewhere() {
  const code = `
    const { parentPort, workerData } = require("node:worker_threads");
    const { servers, published } = workerData;
    require("nats").connect({ servers }).then((nc) => {
      parentPort.on("message", ({ subject, data, reply }) => setTimeout(async () => {
        nc.publish(subject, data, { reply });
        await nc.flush();
        Atomics.store(published, 0, 1);
        Atomics.notify(published, 0);
      }, 200));
      parentPort.postMessage("connected");
    });`;
  const published = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(code, { eval: true, workerData: { servers: bench.nats.url, published } });
  await once(worker, "message");
  return {
    published,
    publishSoon: (subject: string, data: string, reply: string) =>
      worker.postMessage({ subject, data: Buffer.from(data), reply }),
    [Symbol.asyncDispose]: async () => void (await worker.terminate()),
  };
}

/** Keeps this thread from running, as a stop would the process; where `until` is given, until it is set as well. */
function block({ until }: { until?: Int32Array<SharedArrayBuffer> } = {}): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, BLOCKED_MS);
  if (until) Atomics.wait(until, 0, 0, 10_000);
}
