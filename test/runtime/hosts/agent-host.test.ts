import { afterAll, beforeAll, expect, test } from "vitest";
import { z } from "zod";
import type { Agent } from "../../../src/actors/agent.ts";
import { type AgentOptions, defineAgent } from "../../../src/actors/define-agent.ts";
import { defineTool } from "../../../src/actors/define-tool.ts";
import type { ModelReply } from "../../../src/actors/model.ts";
import type { HandoffOption, Task, TaskEntry } from "../../../src/actors/task.ts";
import { ModelError } from "../../../src/errors.ts";
import { openPayloads } from "../../../src/runtime/nats/payloads.ts";
import { type Bench, type Script, startBench } from "../../helpers/agent-host-bench.ts";
import { startFakeOwner } from "../../helpers/fake-owner.ts";
import { call, echo, say, taskFor } from "../../helpers/task-driver.ts";
import { until } from "../../helpers/until.ts";

let bench: Bench;
beforeAll(async () => {
  bench = await startBench();
});
afterAll(() => bench[Symbol.asyncDispose]());

let runs = 0;
/** Every test has agents and runs of its own, so that they share a server and nothing else. */
function setting(options: Partial<AgentOptions> = {}): { agent: Agent; task: (more?: Partial<Task>) => Task } {
  runs += 1;
  const agent = defineAgent({ name: `writer${runs}`, instructions: "Write.", model: "m", ...options });
  const runId = `run${runs}`;
  return { agent, task: (more) => taskFor(agent.name, { runId, ...more }) };
}

const never = () => new Promise<ModelReply>(() => {});
const entriesOf = async ({ runId, taskId }: Task) =>
  (await bench.journals.read(bench.subjects.task(runId, taskId))).map((entry) => entry.value);

test("a task is accepted, worked on and answered, and its worker keeps no journal of one turn", async () => {
  const { agent, task } = setting();
  const owner = startFakeOwner(bench.bus, bench.subjects);
  const { promise: wasAccepted, resolve: goOn } = Promise.withResolvers<void>();
  const host = await bench.host([agent], () => wasAccepted.then(() => say("Hello.")));
  owner.send(task());
  const accepted = await owner.hears("t1", "accepted");
  goOn();
  expect(accepted.answer).toEqual({
    type: "accepted",
    taskId: "t1",
    delivery: 1,
    worker: expect.stringMatching(/^host\d+\/1$/),
  });
  expect(accepted.control).toBeDefined();
  expect(await owner.outcome("t1")).toEqual({
    v: 1,
    taskId: "t1",
    attempt: 1,
    delivery: 1,
    worker: expect.any(String),
    type: "completed",
    output: "Hello.",
    usage: { inputTokens: 10, outputTokens: 5, modelCalls: 1 },
  });
  await until("the host has let go of it", () => host.taskIds().length === 0);
  expect(host.load()).toEqual({ running: 0, waiting: 0 });
  expect(await entriesOf(task())).toEqual([]);
});

test("an outcome that is there at once needs no acceptance, and none comes after it", async () => {
  const { agent, task } = setting();
  const owner = startFakeOwner(bench.bus, bench.subjects);
  await bench.host([agent], ({ context }) => (context.taskId === "slow" ? never() : say("Hello.")));
  for (let i = 0; i < 5; i += 1) owner.send(task({ taskId: `quick${i}` }));
  owner.send(task({ taskId: "slow" }));
  for (let i = 0; i < 5; i += 1) await owner.outcome(`quick${i}`);
  // What came together is acknowledged together, so the others would have been by now.
  await owner.hears("slow", "accepted");
  expect(owner.heard.filter(({ type }) => type === "accepted").map(({ taskId }) => taskId)).toEqual(["slow"]);
});

test("replies with tool calls and tools' results are in the journal before they are acted on", async () => {
  const seen: { type: string }[][] = [];
  const tool = defineTool({
    name: "look",
    description: "Looks at the journal.",
    parameters: z.object({}),
    execute: async (_args, { runId, taskId, idempotencyKey, signal }) => {
      seen.push(await entriesOf({ runId, taskId } as Task));
      return { idempotencyKey, aborted: signal.aborted };
    },
  });
  const { agent, task } = setting({ tools: [tool] });
  const owner = startFakeOwner(bench.bus, bench.subjects);
  const host = await bench.host([agent], async ({ context }) => {
    if (context.turn === 1) return call({ name: "look" });
    seen.push(await entriesOf(task()));
    return say("Seen.");
  });
  owner.send(task());
  expect(await owner.outcome("t1")).toMatchObject({ type: "completed", output: "Seen." });
  expect(seen.map((entries) => entries.map((entry) => entry.type))).toEqual([["turn"], ["turn", "tool"]]);
  expect(host.calls[1]?.request.messages.at(-1)).toEqual({
    role: "tool",
    toolCallId: "c1",
    content: `{"idempotencyKey":"${task().runId}.t1.1.c1","aborted":false}`,
  });
});

test("results of tools that end at once are all recorded, one after the other", async () => {
  const { agent, task } = setting({ tools: [echo] });
  const owner = startFakeOwner(bench.bus, bench.subjects);
  await bench.host([agent], ({ context }) =>
    context.turn === 1 ? call(...["a", "b", "c", "d"].map((text) => ({ name: "echo", args: { text } }))) : say("ok"),
  );
  owner.send(task());
  expect(await owner.outcome("t1")).toMatchObject({ output: "ok" });
  expect((await entriesOf(task())).map((entry) => entry.type)).toEqual(["turn", "tool", "tool", "tool", "tool"]);
});

test("a task sent again to another worker goes on from its journal, with the same idempotency keys", async () => {
  const keys: string[] = [];
  const tool = defineTool({
    name: "pay",
    description: "Pays.",
    parameters: z.object({ what: z.string() }),
    execute: ({ what }, { idempotencyKey, signal }) => {
      keys.push(idempotencyKey);
      if (what === "fast" || keys.length > 2) return `paid ${what}`;
      return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    },
  });
  const { agent, task } = setting({ tools: [tool] });
  const owner = startFakeOwner(bench.bus, bench.subjects);
  const first = await bench.host([agent], () =>
    call({ name: "pay", args: { what: "fast" } }, { name: "pay", args: { what: "slow" } }),
  );
  owner.send(task());
  await until("one of two tools is recorded", async () => (await entriesOf(task())).length === 2);
  await first.stop();

  const second = await bench.host([agent], ({ context }) => say(`turn ${context.turn}`));
  owner.send(task({ delivery: 2 }));
  expect(await owner.outcome("t1")).toMatchObject({
    type: "completed",
    output: "turn 2",
    delivery: 2,
    usage: { modelCalls: 2 },
  });
  const key = `${task().runId}.t1.1`;
  expect(keys).toEqual([`${key}.c1`, `${key}.c2`, `${key}.c2`]);
  expect(second.calls).toHaveLength(1);
  expect(second.calls[0]?.request.messages.slice(2).map((message) => message.content)).toEqual([
    "paid fast",
    "paid slow",
  ]);
});

test("a worker whose journal somebody else writes to gives the task back, for whoever has it next to go on from that", async () => {
  const { agent, task } = setting({ tools: [echo] });
  const owner = startFakeOwner(bench.bus, bench.subjects);
  const gate = Promise.withResolvers<void>();
  const host = await bench.host([agent], async () => {
    await gate.promise;
    return call({ name: "echo", args: { text: "a" } });
  });
  owner.send(task());
  await host.called(1);
  const entry: TaskEntry = { v: 1, id: "other", at: new Date().toISOString(), type: "turn", turn: 1, reply: say("x") };
  const subject = bench.subjects.task(task().runId, "t1");
  await bench.journals.append(subject, Buffer.from(JSON.stringify(entry)), { expected: 0, id: entry.id });
  gate.resolve();
  await until("the host has let go of it", () => host.taskIds().length === 0);
  expect(host.load()).toEqual({ running: 0, waiting: 0 });
  // It takes the next task, so its place is free.
  owner.send(task({ taskId: "t2" }));
  expect((await owner.hears("t2", "accepted")).type).toBe("accepted");
  await owner.hears("t1", "busy");
  expect(owner.heard.filter((said) => said.taskId === "t1").map((said) => said.type)).toEqual(["accepted", "busy"]);
  expect((await entriesOf(task())).map((stored) => stored.id)).toEqual(["other"]);
});

test("a task that was begun and is given back before it was acknowledged is acknowledged first: it has a journal to go on from", async () => {
  const { agent, task } = setting({ tools: [echo] });
  const owner = startFakeOwner(bench.bus, bench.subjects);
  await bench.host([agent], () => call({ name: "echo", args: { text: "a" } }));
  const entry: TaskEntry = { v: 1, id: "other", at: new Date().toISOString(), type: "turn", turn: 1, reply: say("x") };
  const subject = bench.subjects.task(task().runId, "t1");
  await bench.journals.append(subject, Buffer.from(JSON.stringify(entry)), { expected: 0, id: entry.id });
  owner.send(task());
  await owner.hears("t1", "busy");
  expect(owner.heard.map(({ type }) => type)).toEqual(["accepted", "busy"]);
});

test("the same task again while at work is not started twice; its answers go where the newest came from", async () => {
  const { agent, task } = setting();
  const gate = Promise.withResolvers<void>();
  const host = await bench.host([agent], async () => {
    await gate.promise;
    return say("once");
  });
  const [old, young] = [startFakeOwner(bench.bus, bench.subjects), startFakeOwner(bench.bus, bench.subjects)];
  old.send(task());
  await old.hears("t1", "accepted");
  young.send(task({ delivery: 2 }));
  expect((await young.hears("t1", "accepted")).answer).toMatchObject({ delivery: 2 });
  gate.resolve();
  expect(await young.outcome("t1")).toMatchObject({ output: "once", delivery: 2 });
  expect(old.heard.map((said) => said.type)).toEqual(["accepted"]);
  expect(host.calls).toHaveLength(1);
});

test("the same task again after its end gets the same outcome, and no model is asked", async () => {
  const { agent, task } = setting();
  const host = await bench.host([agent], () => say("once"));
  const owner = startFakeOwner(bench.bus, bench.subjects);
  owner.send(task());
  const outcome = await owner.outcome("t1");
  await until("the host has let go of it", () => host.taskIds().length === 0);
  const other = startFakeOwner(bench.bus, bench.subjects);
  other.send(task({ delivery: 2 }));
  expect(await other.outcome("t1")).toEqual(outcome);
  expect(host.calls).toHaveLength(1);
});

test("a new owner that asks who is at work gets answered, and then the outcome", async () => {
  const { agent, task } = setting();
  const gate = Promise.withResolvers<void>();
  await bench.host([agent], async ({ context }) => {
    if (context.taskId === "slow") await gate.promise;
    return say(context.taskId);
  });
  const dead = startFakeOwner(bench.bus, bench.subjects);
  dead.send(task({ taskId: "fast" }));
  dead.send(task({ taskId: "slow" }));
  await dead.outcome("fast");
  await dead.hears("slow", "accepted");
  dead.die();
  const owner = startFakeOwner(bench.bus, bench.subjects);
  const notice = { v: 1, runId: task().runId, tasks: ["fast", "slow", "unknown"], reply: owner.reply };
  bench.bus.nc.publish(bench.subjects.owners, JSON.stringify(notice));
  expect(await owner.outcome("fast")).toMatchObject({ output: "fast" });
  expect(await owner.hears("slow", "accepted")).toMatchObject({ control: expect.any(String) });
  gate.resolve();
  expect(await owner.outcome("slow")).toMatchObject({ output: "slow" });
  const ofUnknown = owner.heard.filter((said) => said.taskId === "unknown").map((said) => said.type);
  expect(new Set(ofUnknown)).toEqual(new Set(["unknown"]));
});

test("an outcome nobody takes is stored in the task's journal, and whoever sends the task again gets it", async () => {
  const { agent, task } = setting();
  const options = { options: { outcomeTimeoutMs: 50, outcomeAttempts: 2 } };
  const owner = startFakeOwner(bench.bus, bench.subjects, () => "silence");
  const host = await bench.host([agent], () => say("kept"), options);
  owner.send(task());
  await until("the outcome is stored", async () => (await entriesOf(task())).length === 1);
  expect(await entriesOf(task())).toMatchObject([{ type: "outcome", outcome: { type: "completed", output: "kept" } }]);
  expect(owner.heard.filter((said) => said.type === "completed")).toHaveLength(2);
  await host.stop();

  const other = await bench.host([agent], () => say("new"));
  const next = startFakeOwner(bench.bus, bench.subjects);
  next.send(task({ delivery: 2 }));
  expect(await next.outcome("t1")).toMatchObject({ output: "kept" });
  expect(other.calls).toEqual([]);
});

test("an outcome finds its way to an owner that takes over while nobody listens", async () => {
  const { agent, task } = setting();
  const gate = Promise.withResolvers<void>();
  const script = async () => {
    await gate.promise;
    return say("found");
  };
  // Only the new owner's question can end a wait this long.
  const host = await bench.host([agent], script, { options: { outcomeTimeoutMs: 60_000 } });
  const dead = startFakeOwner(bench.bus, bench.subjects);
  dead.send(task());
  await dead.hears("t1", "accepted");
  dead.die();
  await bench.bus.nc.flush();
  gate.resolve();
  await until("the task is over", () => host.load().running === 0);
  const owner = startFakeOwner(bench.bus, bench.subjects);
  const notice = { v: 1, runId: task().runId, tasks: ["t1"], reply: owner.reply };
  bench.bus.nc.publish(bench.subjects.owners, JSON.stringify(notice));
  expect(await owner.outcome("t1")).toMatchObject({ output: "found" });
  await until("the host has let go of it", () => host.taskIds().length === 0);
  expect(await entriesOf(task())).toEqual([]);
});

test("beyond its room the host says busy, and waiting tasks get their turn", async () => {
  const { agent, task } = setting({ concurrency: 1, maxWaiting: 1 });
  const gate = Promise.withResolvers<void>();
  const host = await bench.host([agent], async ({ context }) => {
    await gate.promise;
    return say(context.taskId);
  });
  const owner = startFakeOwner(bench.bus, bench.subjects);
  for (const taskId of ["a", "b", "c"]) owner.send(task({ taskId }));
  expect((await owner.hears("c", "busy")).answer).toMatchObject({ type: "busy", taskId: "c" });
  expect(host.load()).toEqual({ running: 1, waiting: 1 });
  gate.resolve();
  expect(await owner.outcome("a")).toMatchObject({ output: "a" });
  expect(await owner.outcome("b")).toMatchObject({ output: "b" });
});

test("tasks at work and waiting say so, with where to control them", async () => {
  const { agent, task } = setting({ concurrency: 1 });
  const owner = startFakeOwner(bench.bus, bench.subjects);
  await bench.host([agent], never, { options: { workingEveryMs: 20 } });
  owner.send(task({ taskId: "a" }));
  owner.send(task({ taskId: "b" }));
  expect(await owner.hears("a", "working", 2)).toMatchObject({ control: expect.any(String) });
  await owner.hears("b", "working", 2);
});

test("cancel aborts a model call, a tool and a waiting task", async () => {
  const aborted: string[] = [];
  const tool = defineTool({
    name: "hang",
    description: "Hangs.",
    parameters: z.object({}),
    execute: (_args, { signal, taskId }) =>
      new Promise(() => {
        aborted.push(`began ${taskId}`);
        signal.addEventListener("abort", () => aborted.push(`aborted ${taskId}`));
      }),
  });
  const { agent, task } = setting({ tools: [tool], concurrency: 2 });
  const host = await bench.host([agent], ({ context }) =>
    context.taskId === "tool" ? call({ name: "hang" }) : never(),
  );
  const owner = startFakeOwner(bench.bus, bench.subjects);
  for (const taskId of ["model", "tool", "waits"]) owner.send(task({ taskId }));
  await until("the tool runs", () => aborted.length === 1);
  await owner.hears("waits", "accepted");
  for (const taskId of ["waits", "model", "tool"]) {
    owner.tell({ type: "cancel", taskId, reason: "enough" });
    expect(await owner.outcome(taskId)).toMatchObject({
      type: "failed",
      error: { code: "cancelled", message: expect.stringContaining("enough") },
    });
  }
  expect(aborted).toEqual(["began tool", "aborted tool"]);
  expect(host.calls.find((made) => made.context.taskId === "model")?.context.signal.aborted).toBe(true);
  expect(host.calls.some((made) => made.context.taskId === "waits")).toBe(false);
  // An interrupted tool has no result that a resume could mistake for one.
  expect((await entriesOf(task({ taskId: "tool" }))).map((entry) => entry.type)).toEqual(["turn"]);
});

test("a tool that is out of time is an answer, even when it ignores its signal", async () => {
  const tool = defineTool({
    name: "hang",
    description: "Hangs.",
    timeoutMs: 20,
    parameters: z.object({}),
    execute: () => new Promise(() => {}),
  });
  const { agent, task } = setting({ tools: [tool, echo] });
  const host = await bench.host([agent], ({ context }) =>
    context.turn === 1 ? call({ name: "hang" }, { name: "echo", args: { text: "kept" } }) : say("ok"),
  );
  const owner = startFakeOwner(bench.bus, bench.subjects);
  owner.send(task());
  expect(await owner.outcome("t1")).toMatchObject({ output: "ok" });
  expect(host.calls[1]?.request.messages.slice(2).map((message) => message.content)).toEqual([
    "error: hang did not finish within 20 ms",
    "kept",
  ]);
  expect(await entriesOf(task())).toContainEqual(expect.objectContaining({ type: "tool", callId: "c1", failed: true }));
});

const MUCH = "x".repeat(5 * 1_024 * 1_024);
const big = defineTool({
  name: "big",
  description: "Gives much.",
  parameters: z.object({}),
  execute: () => MUCH,
});

test("a tool's result that is too long for an entry is read by the model, and again by whoever goes on with the task", async () => {
  const { agent, task } = setting({ tools: [big] });
  const first = await bench.host([agent], ({ context }) =>
    context.turn === 1 ? call({ name: "big" }) : new Promise<never>(() => {}),
  );
  const owner = startFakeOwner(bench.bus, bench.subjects);
  owner.send(task());
  await first.called(2);
  expect(first.calls[1]?.request.messages.at(-1)?.content).toBe(MUCH);
  expect((await entriesOf(task())).at(-1)).toMatchObject({ type: "tool", refs: [{ at: "/content" }] });
  await first.stop();
  const second = await bench.host([agent], () => say("ok"));
  owner.send({ ...task(), delivery: 2 });
  expect(await owner.outcome("t1")).toMatchObject({ output: "ok" });
  expect(second.calls).toHaveLength(1);
  expect(second.calls[0]?.request.messages.at(-1)?.content).toBe(MUCH);
});

test("a tool's result beyond the cap is an answer that says so", async () => {
  const { agent, task } = setting({ tools: [big] });
  const script: Script = ({ context }) => (context.turn === 1 ? call({ name: "big" }) : say("ok"));
  const host = await bench.host([agent], script, { maxPayloadBytes: 1_500_000 });
  const owner = startFakeOwner(bench.bus, bench.subjects);
  owner.send(task());
  expect(await owner.outcome("t1")).toMatchObject({ output: "ok" });
  expect(host.calls[1]?.request.messages.at(-1)?.content).toMatch(
    /^error: what big returned is too large .*at most 1500000 bytes/,
  );
});

test.each([
  ["entries", { events: 3, bytes: 1_000_000 }, "expected at most 3 entries, got 4"],
  ["bytes", { events: 1_000, bytes: 500 }, "expected at most 500 bytes, got "],
])(
  "a task whose journal comes to its limit of %s fails with it, and is not worth another attempt",
  async (_, journalLimits, words) => {
    const { agent, task } = setting({ tools: [echo], maxTurns: 1_000 });
    const host = await bench.host([agent], () => call({ name: "echo", args: { text: "again" } }), {
      options: { journalLimits },
    });
    const owner = startFakeOwner(bench.bus, bench.subjects);
    owner.send(task());
    const outcome = await owner.outcome("t1");
    expect(outcome).toMatchObject({ type: "failed", error: { code: "journal_full", retryable: false } });
    expect((outcome as { error: { message: string } }).error.message).toContain(`the task's journal: ${words}`);
    await until("the host has let go of it", () => host.taskIds().length === 0);
  },
);

test("an outcome too long for a message goes by reference; one beyond the cap fails clearly", async () => {
  const { agent, task } = setting();
  const first = await bench.host([agent], () => say(MUCH));
  const owner = startFakeOwner(bench.bus, bench.subjects);
  owner.send(task());
  const outcome = await owner.outcome("t1");
  expect(outcome).toMatchObject({ type: "completed", usage: {}, refs: [{ at: "/output", bytes: MUCH.length + 2 }] });
  expect(await openPayloads(bench.bus.objects, bench.subjects).resolve(outcome)).toMatchObject({ output: MUCH });
  await first.stop();
  await bench.host([agent], () => say(MUCH), { maxPayloadBytes: 1_500_000 });
  owner.send({ ...task(), taskId: "t2" });
  expect(await owner.outcome("t2")).toMatchObject({ type: "failed", error: { code: "payload_too_large" } });
});

test.each([
  ["the agent's timeout", { timeoutMs: 30 }, {}],
  ["the task's timeout", {}, { timeoutMs: 30 }],
  ["the run's deadline", {}, { deadline: "2020-01-01T00:00:00.000Z" }],
])("%s ends a task", async (_, options, more) => {
  const { agent, task } = setting(options);
  const host = await bench.host([agent], never);
  const owner = startFakeOwner(bench.bus, bench.subjects);
  owner.send(task(more));
  expect(await owner.outcome("t1")).toMatchObject({ type: "failed", error: { code: "timeout", retryable: true } });
  expect(host.calls.every((made) => made.context.signal.aborted)).toBe(true);
});

test.each([
  ["text", "hello", "expected JSON"],
  ["another agent's task", JSON.stringify(taskFor("somebody")), "task.agent"],
  ["an id that is no subject token", JSON.stringify(taskFor("somebody", { taskId: "a.>" })), "task.taskId"],
])("%s in a mailbox is answered bad_task", async (_, message, words) => {
  const { agent } = setting();
  await bench.host([agent], never);
  const answer = await bench.bus.nc.request(bench.subjects.mailbox(agent.name), message, { timeout: 5_000 });
  expect(answer.json()).toMatchObject({
    type: "failed",
    error: { code: "bad_task", message: expect.stringContaining(words) },
  });
});

test("the live feed has the model's words together, tools, and where an answer began again", async () => {
  const { agent, task } = setting({ tools: [echo] });
  const events: { type: string; data: { text?: string; turn: number; tool?: string } }[] = [];
  const hear = (event: (typeof events)[number]) => {
    events.push(event);
  };
  bench.bus.nc.subscribe(bench.subjects.eventsOf(task().runId), { callback: (_, msg) => hear(msg.json()) });
  await bench.bus.nc.flush();
  let broken = false;
  await bench.host([agent], ({ context }) => {
    if (context.turn === 1) return call({ name: "echo", args: { text: "a" } });
    context.onDelta?.("Hel");
    if (!broken) {
      broken = true;
      throw new ModelError("stream_cut", "the stream ended early", { retryable: true });
    }
    for (const piece of ["lo", "."]) context.onDelta?.(piece);
    return say("Hello.");
  });
  const owner = startFakeOwner(bench.bus, bench.subjects);
  owner.send(task());
  await owner.outcome("t1");
  const types = ["tool.started", "tool.completed", "model.delta", "model.restarted", "model.delta"];
  // What was logged comes when it comes.
  const live = () => events.filter(({ type }) => type !== "log.line");
  await until("all of it was heard", () => events.length > types.length);
  expect(live().map(({ type }) => type)).toEqual(types);
  expect(events.find(({ type }) => type === "log.line")?.data).toMatchObject({
    taskId: "t1",
    level: "warn",
    message: "model call failed: the stream ended early",
  });
  expect(live()[4]).toMatchObject({
    v: 1,
    runId: task().runId,
    data: { taskId: "t1", agent: agent.name, turn: 2, text: "Hello." },
  });
});

function handingTeam() {
  const { agent: triage, task } = setting();
  const billing = defineAgent({ name: `billing${runs}`, instructions: "Bill.", model: "m" });
  const handoffs: HandoffOption[] = [{ to: billing.name }];
  const back: HandoffOption[] = [{ to: triage.name }];
  const handoffsOf = (workflow: string, agent: string) =>
    workflow === "flow" && agent === billing.name ? back : undefined;
  const script = ({ context }: { context: { agent: string } }) =>
    context.agent === triage.name
      ? call({ name: `transfer_to_${billing.name}`, args: { reason: "money" } })
      : say("Billed.");
  return { triage, billing, handoffs, back, handoffsOf, script, task: task({ handoffs, limits: { maxHandoffs: 3 } }) };
}

test("a handoff goes straight to the other agent, and its answers to the same owner", async () => {
  const { triage, billing, back, handoffsOf, script, task } = handingTeam();
  const owner = startFakeOwner(bench.bus, bench.subjects);
  await bench.host([triage], script, { handoffsOf });
  const target = await bench.host([billing], script);
  const mailbox: Task[] = [];
  bench.bus.nc.subscribe(bench.subjects.mailbox(billing.name), { callback: (_, msg) => mailbox.push(msg.json()) });
  await bench.bus.nc.flush();
  owner.send(task);
  const outcome = await owner.outcome("t1");
  if (outcome.type !== "handoff") throw new Error(`expected a handoff, got ${outcome.type}`);
  expect(outcome).toMatchObject({ to: billing.name, reason: "money", next: { forwarded: true } });
  const next = outcome.next?.taskId ?? "";
  expect(next).toMatch(/^h1-\w{6}$/);
  expect(await owner.outcome(next)).toMatchObject({ type: "completed", output: "Billed." });
  expect(mailbox).toHaveLength(1);
  expect(mailbox[0]).toMatchObject({
    taskId: next,
    forwarded: true,
    delivery: 1,
    attempt: 1,
    handoffs: back,
    hops: [{ from: triage.name, to: billing.name }],
    limits: { maxHandoffs: 3 },
  });
  expect(target.calls[0]?.request.messages.at(-1)).toMatchObject({ content: `control passed to ${billing.name}` });
});

test("where the other agent's handoffs are not known here, its task is left to the owner", async () => {
  const { triage, script, task } = handingTeam();
  const owner = startFakeOwner(bench.bus, bench.subjects);
  await bench.host([triage], script);
  owner.send(task);
  expect(await owner.outcome("t1")).toMatchObject({ type: "handoff", next: { forwarded: false } });
});

test("draining hands back what waits at once and what does not finish at the end, and another host goes on", async () => {
  const { agent, task } = setting({ concurrency: 2, tools: [echo] });
  const gate = Promise.withResolvers<void>();
  const owner = startFakeOwner(bench.bus, bench.subjects);
  const host = await bench.host([agent], async ({ context }) => {
    if (context.taskId === "quick") await gate.promise;
    else if (context.turn === 1) return call({ name: "echo", args: { text: "kept" } });
    else return never();
    return say("done");
  });
  for (const taskId of ["quick", "stuck", "waits"]) owner.send(task({ taskId }));
  await owner.hears("waits", "accepted");
  await until("the stuck one is in its second turn", () => host.calls.some((made) => made.context.turn === 2));
  const drained = host.drain(300);
  await owner.hears("waits", "busy");
  expect(owner.heard.some((said) => said.taskId === "stuck" && said.type === "busy")).toBe(false);
  gate.resolve();
  expect(await owner.outcome("quick")).toMatchObject({ output: "done" });
  await drained;
  await owner.hears("stuck", "busy");
  expect(host.taskIds()).toEqual([]);

  const other = await bench.host([agent], ({ context }) => say(`turn ${context.turn}`));
  owner.send(task({ taskId: "stuck", delivery: 2 }));
  expect(await owner.outcome("stuck")).toMatchObject({ output: "turn 2", usage: { modelCalls: 2 } });
  expect(other.calls).toHaveLength(1);
});

test("an idle host drains at once, and a stopped one takes nothing", async () => {
  const { agent, task } = setting();
  const host = await bench.host([agent], never);
  const before = performance.now();
  await host.drain(20_000);
  expect(performance.now() - before).toBeLessThan(5_000);
  await expect(bench.bus.nc.request(bench.subjects.mailbox(agent.name), JSON.stringify(task()))).rejects.toMatchObject({
    code: "503",
  });
});

test("a task whose large values are not there fails so that it may be tried again", async () => {
  const { agent, task } = setting();
  const host = await bench.host([agent], () => say("ok"));
  const owner = startFakeOwner(bench.bus, bench.subjects);
  const { input: _, ...rest } = task();
  const ref = (runId: string) => ({
    at: "/input",
    ref: `obj:troupe_payloads/${runId}/x`,
    bytes: 9,
    sha256: "0".repeat(64),
  });
  owner.send({ ...rest, refs: [ref(rest.runId)] } as never);
  expect(await owner.outcome("t1")).toMatchObject({ error: { code: "payload_missing", retryable: true } });
  owner.send({ ...rest, taskId: "t2", refs: [ref("another")] } as never);
  expect(await owner.outcome("t2")).toMatchObject({ error: { code: "bad_reference" } });
  expect(host.calls).toHaveLength(0);
});
