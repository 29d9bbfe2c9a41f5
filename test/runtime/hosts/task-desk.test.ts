import { pino } from "pino";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { OutcomeMessage, Task } from "../../../src/actors/task.ts";
import { type Answer, openTaskDesk, type TaskDesk } from "../../../src/runtime/hosts/task-desk.ts";
import type { Holder } from "../../../src/runtime/hosts/tracked-task.ts";
import { nuid } from "../../../src/runtime/nats/nats.ts";
import { LARGE, openPayloads } from "../../../src/runtime/nats/payloads.ts";
import { SENT_AGAIN_HEADER } from "../../../src/runtime/subjects.ts";
import { type HandWorker, type RunBench, startRunBench } from "../../helpers/run-host-bench.ts";
import { taskFor } from "../../helpers/task-driver.ts";
import { until } from "../../helpers/until.ts";

const TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const ACCEPT_MS = 300;
const SILENCE_MS = 700;
const CAP = 2 * 1024 * 1024;

let bench: RunBench;
let agent: string;
let task: Task;
let desk: TaskDesk;
/** What the desk told, as short words. */
let told: string[];
let strays: Holder[];
let outcomes: { message: OutcomeMessage; answer: Answer }[];
let workersOf: string[];
let workers: HandWorker[];

beforeAll(async () => {
  bench = await startRunBench();
});
beforeEach(async () => {
  agent = `agent-${nuid.next()}`;
  task = taskFor(agent, { runId: nuid.next() });
  [told, strays, outcomes, workersOf, workers] = [[], [], [], [], []];
  desk = openTaskDesk({
    bus: bench.bus,
    subjects: bench.subjects,
    logger: pino({ level: "silent" }),
    payloads: openPayloads(bench.bus.objects, bench.subjects, { maxBytes: CAP }),
    inbox: `_INBOX_bench.desk.${nuid.next()}`,
    acceptTimeoutMs: ACCEPT_MS,
    silenceMs: SILENCE_MS,
    workersOf: () => workersOf,
    checkOwnership: () => Promise.resolve(),
    listener: {
      outcome: (_run, message, answer) => outcomes.push({ message, answer }),
      lost: (_run, taskId, { worker, reason }) => told.push(`lost ${taskId} of ${worker}: ${reason}`),
      unserved: (_run, taskId) => told.push(`unserved ${taskId}`),
      unsendable: (_run, taskId, error) => told.push(`unsendable ${taskId}: ${(error as { code?: string }).code}`),
      accepted: (_run, taskId, by) => told.push(`accepted ${taskId} by ${by}`),
      stray: (_run, taskId, holder) => {
        told.push(`stray ${taskId} of ${holder.worker}`);
        strays.push(holder);
      },
    },
  });
  await bench.bus.nc.flush();
});
afterEach(() => {
  desk.stop();
  for (const worker of workers) worker.stop();
});
afterAll(() => bench[Symbol.asyncDispose]());

/** A worker of the test's agent; `silent` ones do not even say what they have when asked. */
async function join(name: string, { silent = false } = {}): Promise<HandWorker> {
  const worker = await bench.worker(agent, name);
  worker.honest = !silent;
  workers.push(worker);
  return worker;
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const hears = (words: string) => until(words, () => told.includes(words));

describe("a task", () => {
  test("comes to one worker of its agent and is known to be there once the worker says so", async () => {
    const [first, second] = [await join("w/1"), await join("w/2")];
    desk.send(task, TRACE);
    const taker = await until("somebody got it", () => [first, second].find(({ tasks }) => tasks.length > 0));
    expect(taker.tasks).toEqual([task]);
    expect(desk.isTaken(task.runId, "t1")).toBe(false);
    taker.say("accepted", "t1");
    await hears(`accepted t1 by ${taker.name}`);
    expect(desk.isTaken(task.runId, "t1")).toBe(true);
    await pause(ACCEPT_MS * 2);
    expect(first.tasks.length + second.tasks.length).toBe(1);
  });

  test("that nobody answers for is sent again, after it was asked for", async () => {
    const worker = await join("w/1", { silent: true });
    desk.send(task, TRACE);
    await worker.gets("t1", 2);
    worker.say("accepted", "t1");
    await hears("accepted t1 by w/1");
  });

  test("whose worker's answer was lost is found by asking and not sent again", async () => {
    const worker = await join("w/1");
    desk.send(task, TRACE);
    await hears("accepted t1 by w/1");
    await pause(ACCEPT_MS * 2);
    expect(worker.tasks).toHaveLength(1);
  });

  test("that is still with the worker of an earlier delivery is known to be that worker's", async () => {
    const worker = await join("w/1");
    desk.send({ ...task, delivery: 2 }, TRACE);
    await worker.gets("t1");
    worker.say("working", "t1", 1);
    expect(await worker.controlled("known", "t1")).toEqual({ type: "known", taskId: "t1", delivery: 2 });
  });

  test("that is found by asking is known to be on record from then on", async () => {
    const worker = await join("w/1");
    desk.send(task, TRACE);
    await hears("accepted t1 by w/1");
    await worker.controlled("known", "t1");
  });

  test("that is refused for want of room is offered again, and again, until somebody has room", async () => {
    const worker = await join("w/1");
    desk.send(task, TRACE);
    for (let nth = 1; nth <= 4; nth += 1) {
      await worker.gets("t1", nth);
      worker.say("busy", "t1");
    }
    await worker.gets("t1", 5);
    worker.say("accepted", "t1");
    await hears("accepted t1 by w/1");
    expect(told).toEqual(["accepted t1 by w/1"]);
  });

  test("that was sent again says so however often it is refused from then on: who did not answer may have recorded something", async () => {
    const again: boolean[] = [];
    bench.bus.nc.subscribe(bench.subjects.mailbox(agent), {
      callback: (_, message) => again.push(message.headers?.has(SENT_AGAIN_HEADER) === true),
    });
    const worker = await join("w/1", { silent: true });
    desk.send(task, TRACE);
    for (let nth = 2; nth <= 3; nth += 1) {
      await worker.gets("t1", nth);
      worker.say("busy", "t1");
    }
    await worker.gets("t1", 4);
    expect(again).toEqual([false, true, true, true]);
  });

  test("that is withdrawn while it is offered again is not offered any more, but asked for", async () => {
    const worker = await join("w/1", { silent: true });
    desk.send(task, TRACE);
    await worker.gets("t1");
    worker.say("busy", "t1");
    await worker.gets("t1", 2);
    expect(desk.withdraw(task.runId, "t1")).toBe(true);
    await hears("lost t1 of undefined: withdrawn");
    expect(worker.tasks).toHaveLength(2);
  });

  test("that nobody serves is said to wait, once, and is with the first worker that comes at once", async () => {
    desk.send(task, TRACE);
    await hears("unserved t1");
    await pause(1_300);
    expect(told).toEqual(["unserved t1"]);
    const worker = await join("w/1");
    desk.serversChanged();
    await worker.gets("t1");
    worker.say("accepted", "t1");
    await hears("accepted t1 by w/1");
  });

  test("that nobody serves for a moment only is not said to wait", async () => {
    desk.send(task, TRACE);
    await pause(300);
    const worker = await join("w/1");
    desk.serversChanged();
    await worker.gets("t1");
    worker.say("accepted", "t1");
    await hears("accepted t1 by w/1");
    expect(told).toEqual(["accepted t1 by w/1"]);
  });

  test("is found by a worker that says nothing but subscribes", async () => {
    desk.send(task, TRACE);
    await hears("unserved t1");
    const worker = await join("w/1");
    await worker.gets("t1");
  });

  test("that is forgotten is not sent again, and its worker is a stray from then on", async () => {
    const worker = await join("w/1", { silent: true });
    desk.send(task, TRACE);
    await worker.gets("t1");
    desk.forget(task.runId, "t1");
    await pause(ACCEPT_MS + 1_000);
    expect(worker.tasks).toHaveLength(1);
    worker.say("working", "t1");
    await hears("stray t1 of w/1");
    desk.tellHolder(strays[0] as Holder, { type: "cancel", taskId: "t1", reason: "over" });
    await worker.controlled("cancel", "t1");
  });

  test("too long for a message goes without its large values, and says where they are", async () => {
    const worker = await join("w/1");
    const input = "é".repeat((bench.bus.nc.info?.max_payload ?? 0) / 2);
    desk.send({ ...task, input }, TRACE);
    const got = await worker.gets("t1");
    expect(got).toMatchObject({ taskId: "t1", refs: [{ at: "/input", bytes: Buffer.byteLength(input) + 2 }] });
    expect(got).not.toHaveProperty("input");
    const payloads = openPayloads(bench.bus.objects, bench.subjects);
    expect(await payloads.resolve(got, { of: got })).toMatchObject({ input });
  });

  test("beyond the cap is said to be so and kept from being tried for ever", async () => {
    const worker = await join("w/1");
    desk.send({ ...task, input: "x".repeat(CAP) }, TRACE);
    await hears("unsendable t1: payload_too_large");
    await pause(ACCEPT_MS * 2);
    expect(told).toHaveLength(1);
    expect(worker.tasks).toEqual([]);
  });
});

test("an outcome with large values that is sent again while they are read is told once, and who asked last is answered", async () => {
  const worker = await join("w/1");
  desk.send(task, TRACE);
  await worker.gets("t1");
  const whole = { v: 1, taskId: "t1", attempt: 1, worker: "w/1", type: "completed", output: "x".repeat(1_500_000) };
  const about = { what: "it", fields: LARGE.outcome, bytes: 1_500_100, room: 1_000, runId: task.runId };
  const [left] = await openPayloads(bench.bus.objects, bench.subjects).detach([whole], about);
  const reply = worker.replyTo("t1");
  const first = bench.bus.request(reply, JSON.stringify(left), { timeoutMs: 300 });
  const second = bench.bus.request(reply, JSON.stringify(left), { timeoutMs: 5_000 });
  await until("the outcome is told", () => outcomes.length > 0);
  expect(outcomes[0]?.message).toEqual(whole);
  outcomes[0]?.answer({ type: "recorded" });
  expect((await second).json()).toEqual({ type: "recorded" });
  await expect(first).rejects.toThrow("no answer in time");
  expect(outcomes).toHaveLength(1);
});

test("an outcome whose large values are not there is told as a failure that may be tried again", async () => {
  const worker = await join("w/1");
  desk.send(task, TRACE);
  await worker.gets("t1");
  const refs = [{ at: "/output", ref: `obj:troupe_payloads/${task.runId}/x`, bytes: 9, sha256: "0".repeat(64) }];
  void worker.settle("t1", { type: "completed", refs });
  await until("the outcome is told", () => outcomes.length > 0);
  expect(outcomes[0]?.message).toMatchObject({ type: "failed", error: { code: "payload_missing" } });
  expect(outcomes[0]?.message).not.toMatchObject({ error: { retryable: false } });
});

describe("a worker", () => {
  async function taken(name = "w/1"): Promise<HandWorker> {
    const worker = await join(name);
    desk.send(task, TRACE);
    await worker.gets("t1");
    worker.say("accepted", "t1");
    await hears(`accepted t1 by ${name}`);
    return worker;
  }

  test("that is silent for too long has lost its task; one that says it is working has not", async () => {
    const worker = await taken();
    const working = setInterval(() => worker.say("working", "t1"), 200);
    await pause(SILENCE_MS * 2);
    expect(told).toEqual(["accepted t1 by w/1"]);
    clearInterval(working);
    await hears(`lost t1 of w/1: silent for ${SILENCE_MS} ms`);
    expect(desk.isTaken(task.runId, "t1")).toBe(false);
  });

  test("that is gone has lost its task; the others have not", async () => {
    const worker = await taken("host/one");
    worker.honest = false;
    desk.workerGone("other");
    desk.workerGone("host");
    await pause(200);
    expect(told).toEqual(["accepted t1 by host/one"]);
    desk.workerGone("one");
    await hears("lost t1 of host/one: worker gone");
  });

  test("that was only taken for dead, and says so when asked, keeps its task", async () => {
    await taken("host/one");
    desk.workerGone("one");
    await pause(300);
    expect(told).toEqual(["accepted t1 by host/one"]);
    expect(desk.isTaken(task.runId, "t1")).toBe(true);
  });

  test("that comes with the outcome of an earlier delivery is not answered while another one has the task", async () => {
    const early = await taken("host/one");
    const again = { ...task, delivery: 2 };
    early.stop();
    const late = await join("host/two");
    desk.send(again, TRACE);
    await late.gets("t1");
    const outcome = { type: "completed", output: "text", delivery: 1 };
    // On its way to another worker, and at work there: it may be about to ask its model.
    const onItsWay = early.settle("t1", outcome);
    const working = setInterval(() => late.say("working", "t1"), 200);
    expect(await onItsWay).toBeUndefined();
    expect(told.at(-1)).toBe("accepted t1 by host/two");
    expect(await early.settle("t1", outcome)).toBeUndefined();
    clearInterval(working);
    expect(outcomes).toEqual([]);
    void late.settle("t1", { ...outcome, delivery: 2 });
    await until("the outcome is here", () => outcomes.length === 1);
  });

  test("may give its task back, but not another one's", async () => {
    const worker = await taken();
    const other = await join("w/2");
    other.forward(task, worker.replyTo("t1"));
    other.say("busy", "t1");
    await bench.bus.nc.flush();
    await pause(100);
    expect(desk.isTaken(task.runId, "t1")).toBe(true);
    worker.say("busy", "t1");
    await hears("lost t1 of w/1: handed back");
  });

  test("that has a task somebody else has too does not take it from them", async () => {
    const worker = await taken();
    const zombie = await join("w/0");
    zombie.forward(task, worker.replyTo("t1"));
    zombie.say("working", "t1");
    await bench.bus.nc.flush();
    await pause(100);
    expect(desk.tell(task.runId, { type: "cancel", taskId: "t1", reason: "enough" })).toBe(true);
    await worker.controlled("cancel", "t1");
    expect(zombie.controls).toEqual([]);
    desk.workerGone("0");
    expect(told).toEqual(["accepted t1 by w/1"]);
  });

  test("that sends an outcome hears what has become of it, from whoever recorded it", async () => {
    const worker = await taken();
    const asked = worker.completes("t1", "text");
    const { message, answer } = await until("the outcome is here", () => outcomes[0]);
    expect(message).toMatchObject({ type: "completed", output: "text", worker: "w/1" });
    answer({ type: "recorded" });
    expect(await asked).toBe("recorded");
  });

  test("that says what is no answer is passed over", async () => {
    const worker = await join("w/1");
    desk.send(task, TRACE);
    await worker.gets("t1");
    const reply = worker.replyTo("t1");
    for (const words of ["hello", "null", "[]", "{}", '{"type":"what"}', '{"type":"accepted"}', " "]) {
      bench.bus.nc.publish(reply, words);
    }
    bench.bus.nc.publish(`${reply}.more`, '{"type":"busy","taskId":"t1"}');
    worker.say("accepted", "t1");
    await hears("accepted t1 by w/1");
    expect(outcomes).toEqual([]);
  });
});

describe("a task that was handed on already", () => {
  test("is not sent, and its worker is told that it is on record", async () => {
    const worker = await join("w/1");
    desk.expect(task, TRACE);
    // The worker got it from whoever handed off and answers here, because it was asked.
    worker.forward(task, "nowhere");
    await worker.controlled("known", "t1");
    await hears("accepted t1 by w/1");
    expect(worker.tasks).toHaveLength(1);
  });

  test("by a worker that said so before the journal did is told at once", async () => {
    const worker = await join("w/1", { silent: true });
    desk.send(task, TRACE);
    await worker.gets("t1");
    desk.forget(task.runId, "t1");
    worker.say("accepted", "t1");
    await hears("stray t1 of w/1");
    desk.expect(task, TRACE, strays[0] as Holder);
    expect(desk.isTaken(task.runId, "t1")).toBe(true);
    await worker.controlled("known", "t1");
  });

  test("but is with nobody is sent", async () => {
    const worker = await join("w/1", { silent: true });
    desk.expect(task, TRACE);
    await worker.gets("t1");
  });
});

describe("a new owner that asks where its tasks are", () => {
  test("knows it as soon as their workers have answered", async () => {
    const worker = await join("w/1");
    worker.forward(task, "the old owner");
    workersOf = ["w/1"];
    const before = performance.now();
    await desk.whereAre(task.runId, [{ task, traceparent: TRACE }]);
    expect(performance.now() - before).toBeLessThan(500);
    expect(desk.isTaken(task.runId, "t1")).toBe(true);
    expect(worker.replyTo("t1")).not.toBe("the old owner");
  });

  test("knows as soon as everybody has said so that nobody has them", async () => {
    await join("w/1");
    await join("w/2");
    workersOf = ["w/1", "w/2"];
    const before = performance.now();
    await desk.whereAre(task.runId, [{ task, traceparent: TRACE }]);
    expect(performance.now() - before).toBeLessThan(500);
    expect(desk.isTaken(task.runId, "t1")).toBe(false);
  });

  test("does not wait for ever for one that says nothing", async () => {
    workersOf = ["w/1"];
    const before = performance.now();
    await desk.whereAre(task.runId, [{ task, traceparent: TRACE }]);
    expect(performance.now() - before).toBeLessThan(2_000);
    expect(desk.isTaken(task.runId, "t1")).toBe(false);
  });
});

test("a desk that was closed sends and hears nothing more", async () => {
  const worker = await join("w/1", { silent: true });
  desk.send(task, TRACE);
  await worker.gets("t1");
  desk.stop();
  worker.say("accepted", "t1");
  await pause(ACCEPT_MS + 900);
  expect(worker.tasks).toHaveLength(1);
  expect(told).toEqual([]);
});

test("a task nobody has answered for is asked for at once when the connection is back, and then sent again", async () => {
  const worker = await join("w/1", { silent: true });
  const questions: string[] = [];
  const ears = bench.bus.nc.subscribe(bench.subjects.owners, {
    callback: (_, message) => questions.push(message.json<{ tasks: string[] }>().tasks.join()),
  });
  desk.send(task, TRACE);
  await worker.gets("t1");
  await desk.restored();
  await bench.bus.nc.flush();
  expect(questions).toEqual(["t1"]);
  await worker.gets("t1", 2);
  worker.say("accepted", "t1");
  await hears("accepted t1 by w/1");
  ears.unsubscribe();
});
