import { pino } from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { z } from "zod";
import type { AgentOptions } from "../../../src/actors/define-agent.ts";
import { defineAgent } from "../../../src/actors/define-agent.ts";
import { defineTool, type ToolOptions } from "../../../src/actors/define-tool.ts";
import type { Task, TaskEntry } from "../../../src/actors/task.ts";
import type { Tool } from "../../../src/actors/tool.ts";
import { FencedError, ToolError } from "../../../src/errors.ts";
import { openLiveFeed } from "../../../src/runtime/hosts/live-feed.ts";
import { openTaskJournal } from "../../../src/runtime/hosts/task-journal.ts";
import type { TaskWork } from "../../../src/runtime/hosts/task-work.ts";
import { openToolEffects, type ToolEffectsOptions } from "../../../src/runtime/hosts/tool-effects.ts";
import { startMcp } from "../../../src/runtime/mcp/start-mcp.ts";
import { openPayloads } from "../../../src/runtime/nats/payloads.ts";
import { noMetrics } from "../../../src/tracing/metrics.ts";
import { noTracing } from "../../../src/tracing/no-tracing.ts";
import { type Bench, type BenchHost, type Script, startBench } from "../../helpers/agent-host-bench.ts";
import { type FakeOwner, startFakeOwner } from "../../helpers/fake-owner.ts";
import { type Call, call, say, taskFor } from "../../helpers/task-driver.ts";
import { until } from "../../helpers/until.ts";

let bench: Bench;
beforeAll(async () => {
  bench = await startBench();
});
afterAll(() => bench[Symbol.asyncDispose]());

let runs = 0;

/** One agent with these tools, whose model makes these calls in its first turn and then says what they gave. */
async function setting(tools: readonly Tool[], calls: readonly Call[], more: Partial<AgentOptions> = {}) {
  runs += 1;
  const agent = defineAgent({ name: `clerk${runs}`, instructions: "Do it.", model: "m", tools, ...more });
  const given: Task = taskFor(agent.name, { runId: `tools${runs}` });
  const owner = startFakeOwner(bench.bus, bench.subjects);
  const script: Script = ({ context, request }) => {
    if (context.turn === 1) return call(...calls);
    return say(JSON.stringify(request.messages.slice(2).map(({ content }) => content)));
  };
  return {
    given,
    owner,
    host: () => bench.host([agent], script),
    send: (delivery = 1) => owner.send({ ...given, delivery }),
    answers: () => answersOf(owner),
    entries: () => entriesOf(given),
  };
}

async function answersOf(owner: FakeOwner): Promise<string[]> {
  const outcome = await owner.outcome("t1");
  if (outcome.type !== "completed") throw new Error(`expected an output, got ${JSON.stringify(outcome)}`);
  return JSON.parse(String(outcome.output));
}

async function entriesOf({ runId, taskId }: Task): Promise<TaskEntry[]> {
  return (await bench.journals.read(bench.subjects.task(runId, taskId))).map(({ value }) => value);
}

const NOTHING = z.object({});
const NO_SEGMENT = { traceId: "0".repeat(32), spanId: "0".repeat(16), sampled: false };

/** Counts its executions, and does each as it is told. */
function counted(
  does: (n: number, ...rest: Parameters<Tool["execute"]>) => unknown,
  more: Partial<ToolOptions<typeof NOTHING>> = {},
) {
  const seen: { key: string; attempt: number }[] = [];
  const tool = defineTool({
    name: "act",
    description: "Acts.",
    parameters: NOTHING,
    ...more,
    execute(args, context) {
      seen.push({ key: context.idempotencyKey, attempt: context.attempt });
      return does(seen.length, args as never, context);
    },
  });
  return { tool, seen };
}

const RETRY = { maxAttempts: 3, delayMs: 1 };
const hang = () => new Promise<never>(() => {});

test("a tool that says it may be tried again is, with one idempotency key, and the model reads only the end", async () => {
  const { tool, seen } = counted(
    (n) => {
      if (n < 3) throw new ToolError(`busy ${n}`, { retryable: true });
      return "done";
    },
    { retry: RETRY },
  );
  const { given, host, send, answers, entries } = await setting([tool], [{ name: "act" }]);
  await host();
  send();
  expect(await answers()).toEqual(["done"]);
  const key = `${given.runId}.t1.1.c1`;
  expect(seen).toEqual([1, 2, 3].map((attempt) => ({ key, attempt })));
  expect((await entries()).map(({ type }) => type)).toEqual(["turn", "tool"]);
});

test("how often is what `retry` says, and then the model reads the last error", async () => {
  const { tool, seen } = counted(
    (n) => {
      throw Object.assign(new Error(`no ${n}`), { retryable: true });
    },
    { retry: RETRY },
  );
  const { host, send, answers } = await setting([tool], [{ name: "act" }]);
  await host();
  send();
  expect(await answers()).toEqual(["error: no 3"]);
  expect(seen).toHaveLength(3);
});

test.each([
  ["idempotent", undefined, 1],
  ["read", undefined, 3],
  ["read", false, 1],
  ["once", undefined, 1],
] as const)(
  "an error of a tool that is %s and says of a retry %s is tried %i times",
  async (effect, retryable, times) => {
    const { tool, seen } = counted(
      () => {
        throw new ToolError("no", retryable === undefined ? {} : { retryable });
      },
      { retry: RETRY, effect },
    );
    const { host, send, answers } = await setting([tool], [{ name: "act" }]);
    await host();
    send();
    expect(await answers()).toEqual(["error: no"]);
    expect(seen).toHaveLength(times);
  },
);

test("a result that is not what the tool promises is an error for the model; one that is comes as it was parsed", async () => {
  const output = z.object({ price: z.number() });
  const about = { description: "Prices.", parameters: NOTHING, output };
  const good = defineTool({ ...about, name: "good", execute: async () => ({ price: 3, secret: "s" }) });
  const bad = defineTool({ ...about, name: "bad", execute: () => ({ price: "3" }) as never });
  const { host, send, answers } = await setting([good, bad], [{ name: "good" }, { name: "bad" }]);
  await host();
  send();
  expect(await answers()).toEqual([
    `{"price":3}`,
    `error: bad was executed, and what it returned is not what it promises: price: expected a number, got "3"`,
  ]);
});

test("a result beyond the tool's maxResultBytes is an error that says how much it was", async () => {
  const about = { description: "Reads.", parameters: NOTHING, maxResultBytes: 10 };
  const fits = defineTool({ ...about, name: "fits", execute: () => "ééééé" });
  const large = defineTool({ ...about, name: "large", execute: () => "ééééé!" });
  const { host, send, answers } = await setting([fits, large], [{ name: "fits" }, { name: "large" }]);
  await host();
  send();
  expect(await answers()).toEqual([
    "ééééé",
    "error: what large returned is too large: expected at most 10 bytes (its maxResultBytes), got 11; ask for less of it",
  ]);
});

test("no more tools of a task are at work at once than maxParallelTools says, in the order of the calls", async () => {
  let atWork = 0;
  let most = 0;
  const began: number[] = [];
  const gates = Array.from({ length: 5 }, () => Promise.withResolvers<void>());
  const tool = defineTool({
    name: "act",
    description: "Acts.",
    parameters: z.object({ i: z.number() }),
    // Waiting for a place is not counted as its time.
    timeoutMs: 30_000,
    async execute({ i }) {
      began.push(i);
      atWork += 1;
      most = Math.max(most, atWork);
      await gates[i]?.promise;
      atWork -= 1;
      return i;
    },
  });
  const calls = gates.map((_, i) => ({ name: "act", args: { i } }));
  const { host, send, answers } = await setting([tool], calls, { maxParallelTools: 2 });
  await host();
  send();
  await until("two are at work", () => began.length === 2);
  expect(began).toEqual([0, 1]);
  gates[1]?.resolve();
  await until("a third one began", () => began.length === 3);
  for (const gate of gates) gate.resolve();
  expect(await answers()).toEqual(["0", "1", "2", "3", "4"]);
  expect([most, began]).toEqual([2, [0, 1, 2, 3, 4]]);
});

test("progress is told live, throttled, with the last word before the end", async () => {
  const { tool } = counted((_n, _args, { progress }) => {
    progress("begins");
    for (let percent = -1; percent <= 101; percent += 1) progress({ percent });
    progress({ percent: 100, message: "all of it" });
    return "done";
  });
  const { given, host, send, answers } = await setting([tool], [{ name: "act" }]);
  const told: { type: string; data: { percent?: number; message?: string } }[] = [];
  bench.bus.nc.subscribe(bench.subjects.event("flow", given.runId, ">"), {
    callback: (_error, msg) => told.push(msg.json()),
  });
  await host();
  send();
  await answers();
  await until("the end is told", () => told.some(({ type }) => type === "tool.completed"));
  const about = { turn: 1, tool: "act", callId: "c1", taskId: "t1", agent: given.agent };
  expect(told.filter(({ type }) => type.startsWith("tool.")).map(({ type, data }) => [type, data])).toEqual([
    ["tool.started", about],
    ["tool.progress", { ...about, message: "begins" }],
    ["tool.progress", { ...about, percent: 100, message: "all of it" }],
    ["tool.completed", { ...about, failed: false }],
  ]);
});

/** A first worker that is stopped in the middle of the call, and a second one that gets the task. */
async function interruptedOnce(tool: Tool, seen: readonly unknown[]) {
  const made = await setting([tool], [{ name: "act" }]);
  const first: BenchHost = await made.host();
  made.send();
  await until("the tool is at work", () => seen.length === 1);
  await first.stop();
  await made.host();
  made.send(2);
  return made;
}

test("a tool that is to be executed once is not executed again when its worker was lost, and the model reads so", async () => {
  const { tool, seen } = counted(hang, { effect: "once" });
  const { answers, entries } = await interruptedOnce(tool, seen);
  expect(await answers()).toEqual([
    "error: it is not known whether act was executed (the worker that was to execute act was lost before it had said " +
      "what came of it); do not call it again before you know",
  ]);
  expect(seen).toHaveLength(1);
  expect((await entries()).map(({ type }) => type)).toEqual(["turn", "calling", "begun", "tool"]);
});

test("an idempotent tool is executed again, and writes no mark", async () => {
  const { tool, seen } = counted((n) => (n === 1 ? hang() : "done"));
  const { answers, entries } = await interruptedOnce(tool, seen);
  expect(await answers()).toEqual(["done"]);
  expect(seen).toHaveLength(2);
  expect((await entries()).map(({ type }) => type)).toEqual(["turn", "begun", "tool"]);
});

test("`onUnknown` finds out what came of it, by the same idempotency key", async () => {
  const asked: string[] = [];
  const { tool, seen } = counted(hang, {
    effect: "once",
    onUnknown: async (_args, { idempotencyKey }) => {
      asked.push(idempotencyKey);
      return { done: true, result: { receipt: 7 } };
    },
  });
  const { answers } = await interruptedOnce(tool, seen);
  expect(await answers()).toEqual([`{"receipt":7}`]);
  expect(asked).toEqual(seen.map(({ key }) => key));
  expect(seen).toHaveLength(1);
});

test("`onUnknown` finds out that it was not done, and then it is", async () => {
  const { tool, seen } = counted((n) => (n === 1 ? hang() : "done now"), {
    effect: "once",
    onUnknown: () => ({ done: false }),
  });
  const { answers } = await interruptedOnce(tool, seen);
  expect(await answers()).toEqual(["done now"]);
  expect(seen).toHaveLength(2);
});

test("`onUnknown` that fails leaves it unknown", async () => {
  const { tool, seen } = counted(hang, {
    effect: "once",
    onUnknown: () => {
      throw new Error("the ledger is closed");
    },
  });
  const { answers } = await interruptedOnce(tool, seen);
  expect((await answers())[0]).toMatch(/^error: it is not known .* finding out failed: the ledger is closed/);
  expect(seen).toHaveLength(1);
});

test("`onUnknown: stop` fails the task for good", async () => {
  const { tool, seen } = counted(hang, { effect: "once", onUnknown: "stop" });
  const { owner } = await interruptedOnce(tool, seen);
  expect(await owner.outcome("t1")).toMatchObject({
    type: "failed",
    error: { code: "outcome_unknown", retryable: false, message: expect.stringContaining("act") },
  });
  expect(seen).toHaveLength(1);
});

test("a tool that is to be executed once and is out of time is not known either, and not tried again", async () => {
  const { tool, seen } = counted(hang, { effect: "once", timeoutMs: 20, retry: RETRY });
  const { host, send, answers } = await setting([tool], [{ name: "act" }]);
  await host();
  send();
  expect((await answers())[0]).toMatch(
    /^error: it is not known whether act was executed .*did not finish within 20 ms/,
  );
  expect(seen).toHaveLength(1);
});

test("who is not the one writer of the journal does not execute a tool that is to be executed once", async () => {
  const { tool, seen } = counted(() => "done", { effect: "once" });
  const { given, entries, runTool } = await effectsOf(tool);
  const other: TaskEntry = { v: 1, id: "other", at: "", type: "calling", turn: 1, callId: "c1" };
  const subject = bench.subjects.task(given.runId, given.taskId);
  await bench.journals.append(subject, Buffer.from(JSON.stringify(other)), { expected: 0, id: other.id });
  await expect(runTool(new AbortController().signal)).rejects.toThrow(FencedError);
  expect(seen).toEqual([]);
  expect(await entries()).toEqual([other]);
});

test("a task that another worker has written to is given back once, however many of its tools find out", async () => {
  const gate = Promise.withResolvers<void>();
  const { tool, seen } = counted(() => gate.promise);
  const { given, owner, host, send } = await setting([tool], [{ name: "act" }, { name: "act" }, { name: "act" }]);
  const worker = await host();
  send();
  await until("the tools are at work", () => seen.length === 3);
  const subject = bench.subjects.task(given.runId, given.taskId);
  const begun = { v: 1, id: "elsewhere", at: "", type: "begun", delivery: 1, worker: "another/1" };
  await bench.bus.js.publish(subject, JSON.stringify(begun));
  gate.resolve();
  await owner.hears("t1", "busy");
  // Whatever else it has to say it has said by the time it answers this.
  const notice = { v: 1, runId: given.runId, tasks: ["t1"], reply: owner.reply };
  await until("all three have found out", async () => {
    bench.bus.nc.publish(bench.subjects.owners, JSON.stringify(notice));
    await bench.bus.nc.flush();
    return owner.heard.filter(({ type }) => type === "unknown").length > 20;
  });
  expect(worker.taskIds()).toEqual([]);
  expect(owner.heard.filter(({ type }) => type === "busy")).toHaveLength(1);
});

test("a task that is stopped while the mark of a tool is written does not execute it", async () => {
  const { tool, seen } = counted(() => "done", { effect: "once" });
  const stopping = new AbortController();
  const { entries, runTool } = await effectsOf(tool, {
    async journaled(_work, write) {
      await write();
      stopping.abort(new Error("the task was stopped"));
    },
  });
  await expect(runTool(stopping.signal)).rejects.toThrow("the task was stopped");
  expect(seen).toEqual([]);
  expect((await entries()).map(({ type }) => type)).toEqual(["calling"]);
});

test.each([
  ["after its mark was written", { calls: 1, before: [] }],
  ["between two attempts", { calls: 2, before: ["executed"] }],
] as const)("a task that is another worker's %s does not execute its tool from then on", async (_when, lost) => {
  const seen: string[] = [];
  const { tool } = counted(
    () => {
      seen.push("executed");
      throw new ToolError("busy", { retryable: true });
    },
    { effect: "once", retry: RETRY },
  );
  let asked = 0;
  const { runTool } = await effectsOf(tool, {
    async ready() {
      asked += 1;
      if (asked > lost.calls) throw new Error("another worker has it");
    },
  });
  await expect(runTool(new AbortController().signal)).rejects.toThrow("another worker has it");
  expect(seen).toEqual(lost.before);
});

test("nor what was found out not to have been done, where finding out took too long", async () => {
  let elsewhere = false;
  const { tool, seen } = counted(() => "done", {
    effect: "once",
    onUnknown: () => {
      elsewhere = true;
      return { done: false };
    },
  });
  const { work, runTool } = await effectsOf(tool, {
    async ready() {
      if (elsewhere) throw new Error("another worker has it");
    },
  });
  work.calling = new Set(["1.c1"]);
  await expect(runTool(new AbortController().signal)).rejects.toThrow("another worker has it");
  expect(seen).toEqual([]);
});

/** One call of a tool, with the seams of its worker as a test wants them. */
async function effectsOf(tool: Tool, seams: Partial<ToolEffectsOptions> = {}) {
  const { given, entries } = await setting([tool], []);
  const agent = defineAgent({ name: given.agent, instructions: "Do it.", model: "m", tools: [tool] });
  const journal = openTaskJournal({
    journals: bench.journals,
    payloads: openPayloads(bench.bus.objects, bench.subjects, { maxBytes: undefined }),
    runId: given.runId,
    subject: bench.subjects.task(given.runId, given.taskId),
    before: [],
    limits: { events: 100, bytes: 10_000 },
    signal: new AbortController().signal,
  });
  const logger = pino({ level: "silent" });
  const { runTool } = openToolEffects({
    ready: async () => {},
    journaled: (_work, write) => write(),
    fail: () => {},
    mcp: startMcp({ servers: [], agents: [], logger }),
    loggerFor: () => logger,
    feed: openLiveFeed(bench.bus, bench.subjects),
    loop: { begin: () => () => {} },
    tracing: noTracing,
    metrics: noMetrics,
    ...seams,
  });
  const work = { task: given, agent, journal, toolCalls: 0, segment: NO_SEGMENT } as unknown as TaskWork;
  const run = { turn: 1, call: { id: "c1", name: "act", arguments: "{}" }, tool, args: {} };
  return { given, entries, work, runTool: (signal: AbortSignal) => runTool(work, run, signal) };
}
