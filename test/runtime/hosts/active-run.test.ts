import { pino } from "pino";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { defineAgent } from "../../../src/actors/define-agent.ts";
import { nuid } from "../../../src/runtime/nats/nats.ts";
import { openPayloads } from "../../../src/runtime/nats/payloads.ts";
import { defineWorkflow } from "../../../src/workflows/define-workflow.ts";
import type { RunEvent } from "../../../src/workflows/run-events.ts";
import { applyEvents } from "../../../src/workflows/run-record.ts";
import { type HandWorker, type RunBench, startRunBench } from "../../helpers/run-host-bench.ts";
import { until } from "../../helpers/until.ts";

let bench: RunBench;
let agent: string;
let worker: HandWorker;

beforeAll(async () => {
  bench = await startRunBench();
});
/** Every test has an agent of its own, so that they share a server and nothing else. */
beforeEach(async () => {
  agent = `agent-${nuid.next()}`;
  worker = await bench.worker(agent);
});
afterEach(() => worker.stop());
afterAll(() => bench[Symbol.asyncDispose]());

/** Steps of the one agent, each after the one before unless it says otherwise. */
const chain = (...ids: string[]) =>
  defineWorkflow({
    name: "chain",
    steps: ids.map((id, i) => ({ id, agent, after: ids.slice(Math.max(0, i - 1), i) })),
  });

describe("what a run leads to", () => {
  test("is in the journal as one entry for each thing that happened", async () => {
    const host = await bench.host("a", [chain("one", "two")]);
    const runId = await bench.start(host, "chain");
    await worker.gets("one-1");
    expect(await worker.completes("one-1")).toBe("recorded");
    await worker.gets("two-1");
    expect(await worker.completes("two-1")).toBe("recorded");
    const entries = await bench.journals.read(bench.subjects.run(runId));
    expect(entries.map(({ value }) => value.map(({ type }) => type))).toEqual([
      ["run.accepted", "run.claimed", "step.started", "task.sent"],
      ["task.settled", "step.completed", "step.started", "task.sent"],
      ["task.settled", "step.completed", "run.completed"],
    ]);
    const events = entries.flatMap(({ value }) => value);
    expect(events.map(({ n }) => n)).toEqual(events.map((_, i) => i + 1));
    expect(new Set(events.map(({ id }) => id)).size).toBe(events.length);
    expect(new Set(events.map(({ runId }) => runId))).toEqual(new Set([runId]));
    expect(host.owns(runId)).toBe(false);
  });

  test("is told live in the order of the journal, and the result goes where the request said", async () => {
    const host = await bench.host("a", [chain("one")]);
    const live: RunEvent[] = [];
    const results: unknown[] = [];
    const replyTo = `answers.${nuid.next()}`;
    const heard = [
      bench.bus.nc.subscribe(bench.subjects.allEvents, { callback: (_, m) => live.push(m.json<RunEvent>()) }),
      bench.bus.nc.subscribe(replyTo, { callback: (_, m) => results.push(m.json()) }),
    ];
    await bench.bus.nc.flush();
    const runId = await bench.start(host, "chain", { replyTo });
    await worker.gets("one-1");
    await worker.completes("one-1", { text: "done" });
    await until("the result is there", () => results.length > 0);
    expect(results).toEqual([{ runId, workflow: "chain", status: "completed", output: { text: "done" } }]);
    expect(live.filter((event) => event.runId === runId)).toEqual(await bench.events(runId));
    for (const subscription of heard) subscription.unsubscribe();
  });

  test("an outcome sent again after it was recorded changes nothing", async () => {
    const host = await bench.host("a", [chain("one", "two")]);
    const runId = await bench.start(host, "chain");
    await worker.gets("one-1");
    const receipts = await Promise.all([worker.completes("one-1"), worker.completes("one-1", "other")]);
    expect(receipts.sort()).toEqual(["recorded", "superseded"]);
    await worker.gets("two-1");
    expect(await worker.completes("two-1")).toBe("recorded");
    expect(await worker.completes("two-1")).toBe("superseded");
    expect((await bench.told(runId)).filter((words) => words.startsWith("task.settled"))).toHaveLength(2);
  });

  test("steps with the names of handed-off tasks are answered like others", async () => {
    const both = defineWorkflow({
      name: "chain",
      steps: [
        { id: "h1", agent },
        { id: "h2", agent },
      ],
    });
    const host = await bench.host("a", [both]);
    await bench.start(host, "chain");
    await Promise.all([worker.gets("h1-1"), worker.gets("h2-1")]);
    expect(await worker.completes("h2-1")).toBe("recorded");
    expect(await worker.completes("h2-1")).toBe("superseded");
    expect(await worker.completes("h1-1")).toBe("recorded");
  });

  test("a hundred runs at once each end once with their own output", async () => {
    const host = await bench.host("a", [chain("one", "two")]);
    worker.answersWith(({ input }) => input);
    const runIds = await Promise.all(Array.from({ length: 100 }, (_, i) => bench.start(host, "chain", { input: i })));
    await until("all runs are over", () => host.size() === 0);
    for (const [i, runId] of runIds.entries()) {
      const events = await bench.events(runId);
      expect(events.filter(({ type }) => type === "run.completed")).toHaveLength(1);
      const end = events.at(-1) as RunEvent & { type: "run.completed" };
      expect(end.data.output).toContain(`<request>\n${i}\n</request>`);
    }
  });
});

describe("outputs near the broker's limit", () => {
  const text = (kilobytes: number) => "x".repeat(kilobytes * 1_024);
  const parallel = (count: number) => {
    const ids = Array.from({ length: count }, (_, i) => `s${i}`);
    return defineWorkflow({ name: "wide", steps: ids.map((id) => ({ id, agent, input: "go" })) });
  };

  test("that come together but fit only apart are all recorded", async () => {
    const host = await bench.host("a", [parallel(9)]);
    const runId = await bench.start(host, "wide");
    await until("all tasks are there", () => worker.tasks.length === 9);
    const receipts = await Promise.all(worker.tasks.slice(1).map(({ taskId }) => worker.completes(taskId, text(200))));
    expect(receipts).toEqual(receipts.map(() => "recorded"));
    expect(host.owns(runId)).toBe(true);
    expect((await bench.told(runId)).filter((words) => words.startsWith("step.completed"))).toHaveLength(8);
    await worker.settle("s0-1", { type: "failed", error: { code: "enough", message: "no" } });
    expect(await bench.end(runId)).toMatchObject({ type: "run.failed", data: { error: { code: "enough" } } });
  });

  test("beyond the cap fail their step with the reason, and the others are kept", async () => {
    const host = await bench.host("a", [parallel(3)], { maxPayloadBytes: 1_000_000 });
    const runId = await bench.start(host, "wide");
    await until("all tasks are there", () => worker.tasks.length === 3);
    // The message still fits; the entry, which says more, does not.
    const near = text(1_024).slice(350);
    const receipts = await Promise.all([
      worker.completes("s0-1", "small"),
      worker.completes("s1-1", near),
      worker.completes("s2-1", "small"),
    ]);
    expect(receipts).toContain("recorded");
    const end = await bench.end(runId);
    expect(end).toMatchObject({ type: "run.failed", data: { error: { code: "payload_too_large" } } });
    expect(await bench.told(runId)).toContain("step.failed s1-1");
    const settled = (await bench.events(runId)).find(({ type }) => type === "step.failed");
    expect(JSON.stringify(settled)).toContain("expected at most 1000000 bytes (maxPayloadBytes)");
  });

  test("whose consequences do not fit either way fail the run, also where steps may fail", async () => {
    const steps = ["s0", "s1", "s2"].map((id) => ({ id, agent, input: "go", onError: "continue" }));
    const host = await bench.host("a", [defineWorkflow({ name: "lenient", steps })], { maxPayloadBytes: 1_000_000 });
    const runId = await bench.start(host, "lenient");
    await until("all tasks are there", () => worker.tasks.length === 3);
    expect(await worker.completes("s0-1", text(600))).toBe("recorded");
    expect(await worker.completes("s1-1", text(600))).toBe("recorded");
    // The run's output is beyond the cap, with or without the last step's.
    expect(await worker.completes("s2-1", "small")).toBe("recorded");
    expect(await bench.end(runId)).toMatchObject({ type: "run.failed", data: { error: { code: "entry_too_large" } } });
    expect(await bench.told(runId)).toContain("step.completed s1-1");
  });

  test("that do not fit even alone are stored beside their entry, which says where", async () => {
    const host = await bench.host("a", [parallel(1)]);
    const runId = await bench.start(host, "wide");
    await until("the task is there", () => worker.tasks.length === 1);
    const near = text(1_024).slice(350);
    expect(await worker.completes("s0-1", near)).toBe("recorded");
    await bench.end(runId);
    const payloads = openPayloads(bench.bus.objects, bench.subjects);
    const [settled, completed] = (await bench.events(runId)).slice(-3).filter(({ refs }) => refs !== undefined);
    expect(settled).toMatchObject({ type: "task.settled", refs: [{ at: "/data/outcome/output" }] });
    // What is said twice is stored once.
    expect(completed).toMatchObject({ type: "run.completed", refs: [{ ref: settled?.refs?.[0]?.ref }] });
    const whole = await payloads.resolve(settled as RunEvent);
    expect(whole.data).toMatchObject({ outcome: { output: near } });
  });

  test.each([
    ["go to the next task by reference", undefined, "run.completed"],
    ["fail that step where they are beyond the cap", 1_000_000, "run.failed"],
  ])("that do not fit into the next task %s", async (_, maxPayloadBytes, end) => {
    const ids = ["a", "b", "c", "d", "e", "f"];
    const join = [...ids.map((id) => ({ id, agent, input: "go" })), { id: "join", agent, after: ids }];
    const host = await bench.host("a", [defineWorkflow({ name: "join", steps: join })], {
      ...(maxPayloadBytes !== undefined && { maxPayloadBytes }),
    });
    const runId = await bench.start(host, "join");
    await until("all tasks are there", () => worker.tasks.length === 6);
    for (const id of ids) await worker.completes(`${id}-1`, text(200));
    if (end === "run.completed") {
      expect(await worker.gets("join-1")).toMatchObject({ refs: [{ at: "/input" }] });
      await worker.completes("join-1");
    }
    const last = await bench.end(runId);
    expect(last.type).toBe(end);
    if (end === "run.failed") expect(last.data).toMatchObject({ error: { code: "payload_too_large" } });
    expect(host.owns(runId)).toBe(false);
  });
});

describe("outcomes that are none", () => {
  test.each([
    ["a failure without an error", { type: "failed" }],
    ["a failure whose error is words", { type: "failed", error: "no" }],
    ["a completion without an output", { type: "completed" }],
    ["a handoff to nobody", { type: "handoff" }],
    ["a usage that is no usage", { type: "completed", output: 1, usage: { tokens: 5 } }],
  ])("%s fails the step with the reason instead of parking the run", async (_, outcome) => {
    const host = await bench.host("a", [chain("one")]);
    const runId = await bench.start(host, "chain");
    await worker.gets("one-1");
    expect(await worker.settle("one-1", outcome)).toBe("recorded");
    expect(await bench.end(runId)).toMatchObject({ type: "run.failed", data: { error: { code: "bad_outcome" } } });
  });
});

describe("a run that is cancelled", () => {
  test("stops the task at its worker and ends when that has stopped", async () => {
    const host = await bench.host("a", [chain("one", "two")]);
    const runId = await bench.start(host, "chain");
    await worker.gets("one-1");
    worker.say("accepted", "one-1");
    await bench.bus.nc.flush();
    await until("the task is known to be taken", async () => {
      host.cancel(runId, 7, { reason: "enough", by: "me" });
      return worker.controls.some(({ type }) => type === "cancel");
    });
    expect(host.owns(runId)).toBe(true);
    await worker.settle("one-1", { type: "failed", error: { code: "cancelled", message: "stopped" } });
    expect(await bench.end(runId)).toMatchObject({ type: "run.cancelled", data: { reason: "enough" } });
    const told = await bench.told(runId);
    expect(told.filter((words) => words.startsWith("run.cancelling"))).toHaveLength(1);
    expect(told.slice(-2)).toEqual(["task.settled one-1", "run.cancelled"]);
  });

  test("leaves alone the worker of a task that has stopped while another one is still at work", async () => {
    const said: { msg: string; taskId?: string }[] = [];
    const logger = pino({ level: "warn" }, { write: (line) => said.push(JSON.parse(line)) });
    const ids = ["a", "b"];
    const pair = defineWorkflow({ name: "pair", steps: ids.map((id) => ({ id, agent })) });
    const host = await bench.host("a", [pair], { silenceMs: 400, logger });
    const runId = await bench.start(host, "pair");
    for (const taskId of ["a-1", "b-1"]) {
      await worker.gets(taskId);
      worker.say("accepted", taskId);
    }
    await bench.bus.nc.flush();
    await until("both tasks are known to be taken", () => {
      host.cancel(runId, 7, {});
      return worker.controls.filter(({ type }) => type === "cancel").length === 2;
    });
    await worker.settle("a-1", { type: "failed", error: { code: "cancelled", message: "stopped" } });
    worker.say("working", "b-1");
    // The one that was heard last falls silent last.
    await bench.end(runId);
    const lost = said.filter(({ msg }) => msg.startsWith("task lost"));
    expect(lost.map(({ taskId }) => taskId)).toEqual(["b-1"]);
  });

  test("tells a worker that says only afterwards that it has the task", async () => {
    const host = await bench.host("a", [chain("one")]);
    const runId = await bench.start(host, "chain");
    await worker.gets("one-1");
    host.cancel(runId, 7, {});
    worker.say("accepted", "one-1");
    await worker.controlled("cancel", "one-1");
    await worker.settle("one-1", { type: "failed", error: { code: "cancelled", message: "stopped" } });
    expect((await bench.end(runId)).type).toBe("run.cancelled");
  });

  test("ends soon when no worker has its task", async () => {
    worker.stop();
    const host = await bench.host("a", [chain("one")]);
    const runId = await bench.start(host, "chain");
    host.cancel(runId, 7, {});
    expect((await bench.end(runId)).type).toBe("run.cancelled");
  });

  test("before its time never asks anybody", async () => {
    const host = await bench.host("a", [chain("one")]);
    const runId = await bench.start(host, "chain", { notBefore: new Date(Date.now() + 60_000).toISOString() });
    host.cancel(runId, 7, {});
    expect((await bench.end(runId)).type).toBe("run.cancelled");
    expect(worker.tasks).toEqual([]);
  });

  test("twice in one moment leaves one terminal event, also when its outcome comes in the same moment", async () => {
    const host = await bench.host("a", [chain("one")]);
    const runId = await bench.start(host, "chain");
    await worker.gets("one-1");
    const done = worker.completes("one-1");
    host.cancel(runId, 7, {});
    host.cancel(runId, 8, {});
    await done;
    await bench.end(runId);
    expect((await bench.told(runId)).filter((words) => /^run\.(completed|cancelled|failed)$/.test(words))).toHaveLength(
      1,
    );
  });

  test("while its agent hands off stops the agent it was handed to as well", async () => {
    const other = `${agent}-other`;
    const target = await bench.worker(other);
    const agents = [
      defineAgent({ name: agent, instructions: "i", model: "m", handoffs: [other] }),
      defineAgent({ name: other, instructions: "i", model: "m" }),
    ];
    const host = await bench.host("a", [defineWorkflow({ name: "team", entry: agent, agents })]);
    const runId = await bench.start(host, "team");
    const first = await worker.gets("h0");
    worker.say("accepted", "h0");
    await until("the task is known to be taken", () => {
      host.cancel(runId, 7, {});
      return worker.controls.length > 0;
    });
    // The next agent has it before the journal can know.
    const task = { ...first, taskId: "h1-early", agent: other, forwarded: true };
    target.forward(task, worker.replyTo("h0").replace(/h0$/, "h1-early"));
    target.say("accepted", "h1-early");
    await target.controlled("cancel", "h1-early");
    await worker.settle("h0", { type: "handoff", to: other, next: { taskId: "h1-early", forwarded: true } });
    expect((await bench.end(runId)).type).toBe("run.cancelled");
    target.stop();
  });

  test("stops the agent it was handed to also where that answers to an owner that is gone", async () => {
    const other = `${agent}-other`;
    const target = await bench.worker(other);
    const agents = [
      defineAgent({ name: agent, instructions: "i", model: "m", handoffs: [other] }),
      defineAgent({ name: other, instructions: "i", model: "m" }),
    ];
    const host = await bench.host("a", [defineWorkflow({ name: "team", entry: agent, agents })]);
    for (const when of ["while it is cancelled", "after its end"]) {
      const runId = await bench.start(host, "team");
      const first = await worker.gets("h0");
      worker.say("accepted", "h0");
      await bench.bus.nc.flush();
      host.cancel(runId, 7, {});
      await worker.controlled("cancel", "h0");
      const next = { taskId: `h1-${nuid.next()}`, forwarded: true };
      target.forward({ ...first, taskId: next.taskId, agent: other, forwarded: true }, `nobody.${next.taskId}`);
      if (when === "after its end") await worker.settle("h0", { type: "failed", error: { code: "no", message: "no" } });
      await worker.settle("h0", { type: "handoff", to: other, next });
      expect((await bench.end(runId)).type).toBe("run.cancelled");
      await target.controlled("cancel", next.taskId);
      worker.tasks.length = 0;
      worker.controls.length = 0;
    }
    target.stop();
  });
});

test("nobody is asked for a task that came to its end in the same entry in which its handoff is on record", async () => {
  const names = [agent, `${agent}-other`, `${agent}-last`];
  const agents = names.map((name, i) =>
    defineAgent({ name, instructions: "i", model: "m", handoffs: names.slice(i + 1, i + 2) }),
  );
  const host = await bench.host("a", [defineWorkflow({ name: "team", entry: agent, agents })]);
  const asked: string[] = [];
  const listening = bench.bus.nc.subscribe(bench.subjects.owners, {
    callback: (_, message) => asked.push(...message.json<{ tasks: string[] }>().tasks),
  });
  await bench.bus.nc.flush();
  const runId = await bench.start(host, "team");
  const first = await worker.gets("h0");
  // One worker has all three, so that they come in this order.
  for (const taskId of ["h1", "h2"]) {
    const task = { ...first, taskId, agent: names[Number(taskId.slice(1))] ?? "", forwarded: true };
    worker.forward(task, worker.replyTo("h0").replace(/h0$/, taskId));
  }
  // While the first one is on its way to the journal the others wait for the next entry.
  const receipts = await Promise.all([
    worker.settle("h0", { type: "handoff", to: names[1], next: { taskId: "h1", forwarded: true } }),
    worker.settle("h1", { type: "handoff", to: names[2], next: { taskId: "h2", forwarded: true } }),
    worker.completes("h2"),
  ]);
  expect(receipts).toEqual(["recorded", "recorded", "recorded"]);
  expect((await bench.end(runId)).type).toBe("run.completed");
  const entries = await bench.journals.read(bench.subjects.run(runId));
  expect(entries.at(-1)?.value.filter(({ type }) => type === "agent.handoff")).toHaveLength(1);
  await bench.bus.nc.flush();
  expect(asked).not.toContain("h2");
  listening.unsubscribe();
});

describe("a run that is over", () => {
  test("stops a worker that still has a task of it, whenever it says so", async () => {
    const both = defineWorkflow({
      name: "both",
      steps: [
        { id: "a", agent },
        { id: "b", agent },
      ],
    });
    const host = await bench.host("a", [both]);
    const runId = await bench.start(host, "both");
    await Promise.all([worker.gets("a-1"), worker.gets("b-1")]);
    await worker.settle("a-1", { type: "failed", error: { code: "no", message: "no" } });
    await bench.end(runId);
    worker.say("accepted", "b-1");
    await worker.controlled("cancel", "b-1");
    expect(await worker.completes("b-1")).toBe("superseded");
  });
});

test("a worker that has a task after all, just when it is sent again, is not told to stop it", async () => {
  const host = await bench.host("a", [chain("one")]);
  const runId = await bench.start(host, "chain");
  await worker.gets("one-1");
  worker.say("accepted", "one-1");
  worker.say("busy", "one-1");
  worker.say("working", "one-1");
  await worker.gets("one-1", 2);
  await bench.bus.nc.flush();
  expect(worker.controls).toEqual([]);
  expect(await worker.completes("one-1")).toBe("recorded");
  expect((await bench.end(runId)).type).toBe("run.completed");
});

test("a run that times out fails with the time, and is not held up by its worker", async () => {
  const host = await bench.host("a", [chain("one")]);
  const runId = await bench.start(host, "chain", { timeoutMs: 300 });
  await worker.gets("one-1");
  worker.say("accepted", "one-1");
  expect(await bench.end(runId)).toMatchObject({
    type: "run.failed",
    data: { error: { code: "timeout", message: "the run took longer than 300 ms" } },
  });
  await worker.controlled("cancel", "one-1");
});

describe("a journal that comes to its limit", () => {
  /** Steps one after the other, beside one that is at work all the time. */
  const beside = (count: number) =>
    defineWorkflow({
      name: "beside",
      steps: [
        { id: "busy", agent },
        ...Array.from({ length: count }, (_, i) => ({ id: `s${i}`, agent, ...(i > 0 && { after: `s${i - 1}` }) })),
      ],
    });
  let asked: string[];
  const answers = () => {
    asked = [];
    worker.answersWith(({ taskId }) => {
      asked.push(taskId);
      return taskId === "busy-1" ? undefined : `output of ${taskId}`;
    });
  };

  test.each([
    ["events", { events: 50, bytes: 1_000_000 }, /expected at most 50 events, got 5[1-4]/],
    ["bytes", { events: 1_000, bytes: 9_000 }, /expected at most 9000 bytes, got 9\d\d\d/],
  ])("of %s ends its run as failed, with what was done so far", async (limit, journalLimits, words) => {
    const host = await bench.host("a", [beside(100)], { journalLimits });
    const results: unknown[] = [];
    const replyTo = `answers.${nuid.next()}`;
    const heard = bench.bus.nc.subscribe(replyTo, { callback: (_, m) => results.push(m.json()) });
    answers();
    const runId = await bench.start(host, "beside", { replyTo });
    await worker.gets("busy-1");
    worker.say("accepted", "busy-1");
    const error = { code: "journal_full", message: expect.stringMatching(words) };
    expect(await bench.end(runId)).toMatchObject({ type: "run.failed", data: { error } });
    await worker.controlled("cancel", "busy-1");
    await until("the result", () => results.length === 1);
    expect(results).toMatchObject([{ runId, status: "failed", error }]);
    heard.unsubscribe();
    const events = await bench.events(runId);
    expect(events.at(-2)).toMatchObject({ type: "run.exceeded", data: { limit } });
    const { steps } = applyEvents(undefined, events);
    expect(steps.slice(1, 4).map(({ output }) => output)).toEqual([
      "output of s0-1",
      "output of s1-1",
      "output of s2-1",
    ]);
    expect(steps.at(-1)).toMatchObject({ status: "cancelled" });
    expect(host.owns(runId)).toBe(false);
    // The step that was decided on with the end was never asked for.
    const sent = events.flatMap(({ type, data }) => (type === "task.sent" ? [data.taskId] : []));
    expect(asked).toEqual(sent.slice(0, -1));
    expect(await worker.completes("busy-1")).toBe("superseded");
  });

  test("is counted over all its owners", async () => {
    const limits = { journalLimits: { events: 40, bytes: 1_000_000 } };
    const definition = beside(100);
    const before = await bench.host("a", [definition], limits);
    let until20 = true;
    worker.answersWith(({ taskId }) => (taskId === "busy-1" || (until20 && taskId === "s5-1") ? undefined : "output"));
    const runId = await bench.start(before, "beside");
    await worker.gets("s5-1");
    before.stop();
    const heir = await bench.host("b", [definition], limits);
    expect(await heir.adopt(runId, "takeover")).toBe("adopted");
    until20 = false;
    await until("an owner for the outcome", () => worker.completes("s5-1"));
    const error = { code: "journal_full", message: expect.stringMatching(/expected at most 40 events, got 4[1-4]/) };
    expect(await bench.end(runId)).toMatchObject({ type: "run.failed", data: { error } });
  });

  test("ends a run that is being cancelled as cancelled", async () => {
    const host = await bench.host("a", [chain("one")], { journalLimits: { events: 6, bytes: 1_000_000 } });
    const runId = await bench.start(host, "chain");
    await worker.gets("one-1");
    worker.say("accepted", "one-1");
    host.cancel(runId, 1, {});
    expect(await bench.end(runId)).toMatchObject({ type: "run.cancelled" });
    expect((await bench.told(runId)).slice(-3)).toEqual(["timer.set cancel", "run.exceeded", "run.cancelled"]);
  });
});

test("a step that fails is asked again after its delay, with a timer on record", async () => {
  const retry = { maxAttempts: 2, delayMs: 100, backoff: "fixed" } as const;
  const host = await bench.host("a", [defineWorkflow({ name: "again", steps: [{ id: "one", agent, retry }] })]);
  const runId = await bench.start(host, "again");
  await worker.gets("one-1");
  await worker.settle("one-1", { type: "failed", error: { code: "model_error", message: "no" } });
  await worker.gets("one-2");
  await worker.completes("one-2", "at last");
  expect(await bench.end(runId)).toMatchObject({ type: "run.completed", data: { output: "at last" } });
  expect((await bench.told(runId)).slice(4, 10)).toEqual([
    "task.settled one-1",
    "step.retrying one",
    "timer.set retry.one",
    "timer.fired retry.one",
    "task.sent one-2",
    "task.settled one-2",
  ]);
});

describe("a request", () => {
  test("with the id of a run is that run, at once, at the same time and afterwards", async () => {
    const [a, b] = [await bench.host("a", [chain("one")]), await bench.host("b", [chain("one")])];
    const runId = nuid.next();
    const request = { workflow: "chain", runId, request: { input: "bees" } };
    const results = await Promise.all([a.accept(request), b.accept(request), a.accept(request)]);
    expect(results.filter((result) => result === "accepted")).toHaveLength(1);
    await worker.gets("one-1");
    await worker.completes("one-1");
    await bench.end(runId);
    expect(await b.accept(request)).toBe("exists");
    expect(await a.accept(request)).toBe("exists");
    expect(worker.tasks).toHaveLength(1);
  });

  test.each([
    ["for a workflow nobody knows", { workflow: "nothing" }, "unknown_workflow"],
    ["with a problem", { problem: "timeoutMs: expected a number" }, "invalid_request"],
    ["whose input does not fit", { request: { input: 7 } }, "invalid_input"],
    ["that its supervisor cannot begin with", { request: { input: "x", timeoutMs: 2 ** 53 - 1 } }, "internal"],
  ])("%s becomes a failed run that says why", async (_, more, code) => {
    const typed = defineWorkflow({ name: "typed", steps: [{ id: "one", agent }], input: { type: "string" } });
    const host = await bench.host("a", [typed]);
    const runId = nuid.next();
    const incoming = { workflow: "typed", runId, request: { input: "bees" }, ...more };
    expect(await host.accept(incoming)).toBe("accepted");
    const events = await bench.events(runId);
    expect(events.map(({ type }) => type)).toEqual(["run.accepted", "run.claimed", "run.failed"]);
    expect(events.at(-1)?.data).toMatchObject({ error: { code } });
    expect(host.size()).toBe(0);
  });
});

test("a writer that was superseded while it waited writes nothing, answers nothing, and lets go", async () => {
  const host = await bench.host("a", [chain("one", "two")]);
  const runId = await bench.start(host, "chain");
  await worker.gets("one-1");
  const subject = bench.subjects.run(runId);
  const last = await bench.journals.last(subject);
  const claim = { v: 1, id: nuid.next(), type: "run.claimed", runId, n: 5, at: new Date().toISOString(), epoch: 2 };
  const body = JSON.stringify([{ ...claim, data: { host: "b", incarnation: "b1", reason: "takeover" } }]);
  await bench.journals.append(subject, Buffer.from(body), { expected: last?.seq ?? 0, id: claim.id });
  expect(await worker.completes("one-1")).toBeUndefined();
  await until("the run is let go of", () => !host.owns(runId));
  expect((await bench.events(runId)).map(({ type }) => type).slice(-1)).toEqual(["run.claimed"]);
  expect(worker.tasks).toHaveLength(1);
});
