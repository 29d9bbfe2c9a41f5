import { expect, test } from "vitest";
import { createActor, fromPromise, toPromise } from "xstate";
import { z } from "zod";
import type { Agent } from "../../src/actors/agent.ts";
import { checkConversation } from "../../src/actors/conversation.ts";
import { type AgentOptions, defineAgent } from "../../src/actors/define-agent.ts";
import { defineTool } from "../../src/actors/define-tool.ts";
import type { ModelReply } from "../../src/actors/model.ts";
import { type ToolInput, type ToolResult, taskMachine } from "../../src/actors/task-machine.ts";
import type { TaskState } from "../../src/actors/task-state.ts";
import { ModelError } from "../../src/errors.ts";
import { call, driveTask, echo, say, taskFor } from "../helpers/task-driver.ts";

function agentWith(options: Partial<AgentOptions> = {}): Agent {
  return defineAgent({ name: "writer", instructions: "Write.", model: "m", ...options });
}

const shaped = agentWith({ output: z.object({ score: z.number() }) });

test("words are the answer", async () => {
  const { outcome, requests } = await driveTask(agentWith({ settings: { temperature: 0.5 } }), taskFor("writer"), [
    say("Hello."),
  ]);
  expect(outcome).toEqual({
    type: "completed",
    output: "Hello.",
    usage: { inputTokens: 10, outputTokens: 5, modelCalls: 1 },
  });
  expect(requests).toEqual([
    {
      model: "m",
      instructions: "Write.",
      messages: [{ role: "user", content: "hello" }],
      tools: [],
      settings: { temperature: 0.5 },
    },
  ]);
});

test("tools of one turn run at once, and the model reads their answers in the order of its calls", async () => {
  const second = Promise.withResolvers<void>();
  const { outcome, requests, executed, journal } = await driveTask(
    agentWith({ tools: [echo] }),
    taskFor("writer"),
    [call({ name: "echo", args: { text: "a" } }, { name: "echo", args: { text: "b" } }), say("Both.")],
    {
      runTool: async ({ run }) => {
        // The first call ends only after the second has.
        if (run.call.id === "c1") await second.promise;
        else setImmediate(second.resolve);
        return (run.args as { text: string }).text;
      },
    },
  );
  expect(journal.flatMap((entry) => (entry.type === "tool" ? [entry.callId] : []))).toEqual(["c2", "c1"]);
  expect(executed).toEqual(["1.c1", "1.c2"]);
  expect(requests[1]?.messages.slice(2)).toEqual([
    { role: "tool", toolCallId: "c1", content: "a" },
    { role: "tool", toolCallId: "c2", content: "b" },
  ]);
  expect(outcome).toMatchObject({ type: "completed", output: "Both.", usage: { modelCalls: 2, inputTokens: 20 } });
});

test.each([
  ["arguments that are no JSON", { name: "echo", args: "{oops" }, "JSON object"],
  ["arguments of the wrong shape", { name: "echo", args: { text: 1 } }, "text"],
  ["an unknown tool", { name: "ecco", args: {} }, "there are: echo"],
  ["a handoff to nobody it knows", { name: "transfer_to_boss", args: {} }, "no handoff to"],
] as const)("%s is an answer the model reads, and its sibling runs", async (_, bad, words) => {
  const { outcome, requests, executed } = await driveTask(agentWith({ tools: [echo] }), taskFor("writer"), [
    call(bad, { name: "echo", args: { text: "kept" } }),
    say("Fine."),
  ]);
  expect(executed).toEqual(["1.c2"]);
  const [first, second] = requests[1]?.messages.slice(2) ?? [];
  expect(first).toMatchObject({ role: "tool", toolCallId: "c1", content: expect.stringContaining(words) });
  expect(second).toMatchObject({ role: "tool", toolCallId: "c2", content: "kept" });
  expect(outcome.type).toBe("completed");
});

test("a refinement that throws is an answer too", async () => {
  const picky = defineTool({
    name: "picky",
    description: "Throws while it checks.",
    parameters: z.object({
      text: z.string().refine(() => {
        throw new Error("checker broke");
      }),
    }),
    execute: () => "never",
  });
  const { requests } = await driveTask(agentWith({ tools: [picky] }), taskFor("writer"), [
    call({ name: "picky", args: { text: "x" } }),
    say("ok"),
  ]);
  expect(requests[1]?.messages.at(-1)).toMatchObject({
    role: "tool",
    content: expect.stringContaining("checker broke"),
  });
});

test("a tool whose promise rejects keeps its sibling's answer", async () => {
  const { requests } = await driveTask(
    agentWith({ tools: [echo] }),
    taskFor("writer"),
    [call({ name: "echo", args: { text: "a" } }, { name: "echo", args: { text: "b" } }), say("ok")],
    {
      runTool: ({ run }) => (run.call.id === "c1" ? Promise.reject(new Error("disk full")) : Promise.resolve("b")),
    },
  );
  expect(requests[1]?.messages.slice(2).map((message) => message.content)).toEqual(["error: disk full", "b"]);
});

test("calls without ids of their own get some", async () => {
  const { requests } = await driveTask(agentWith({ tools: [echo] }), taskFor("writer"), [
    call({ name: "echo", args: { text: "a" }, id: "" }, { name: "echo", args: { text: "b" }, id: "" }),
    say("ok"),
  ]);
  expect(requests[1]?.messages.slice(2)).toMatchObject([
    { toolCallId: "call_1_1", content: "a" },
    { toolCallId: "call_1_2", content: "b" },
  ]);
});

test("the same call ids in two turns are two calls", async () => {
  const { executed, outcome } = await driveTask(agentWith({ tools: [echo] }), taskFor("writer"), [
    call({ name: "echo", args: { text: "a" } }),
    call({ name: "echo", args: { text: "b" } }),
    say("ok"),
  ]);
  expect(executed).toEqual(["1.c1", "2.c1"]);
  expect(outcome.type).toBe("completed");
});

test("at maxTurns the task fails, and tools nobody would hear of are not run", async () => {
  const again = call({ name: "echo", args: { text: "a" } });
  const { outcome, executed, requests } = await driveTask(
    agentWith({ tools: [echo], maxTurns: 2 }),
    taskFor("writer"),
    [again, again, say("never")],
  );
  expect(outcome).toMatchObject({ type: "failed", error: { code: "max_turns" }, usage: { modelCalls: 2 } });
  expect([requests.length, executed.length]).toEqual([2, 1]);
});

test.each([
  ["length", "output_truncated"],
  ["content_filter", "content_filtered"],
] as const)("a reply that ended by %s fails the task", async (finishReason, code) => {
  const { outcome } = await driveTask(agentWith(), taskFor("writer"), [say("half an ans", { finishReason })]);
  expect(outcome).toMatchObject({ type: "failed", error: { code }, usage: { modelCalls: 1 } });
});

test("an empty answer is an error", async () => {
  const { outcome } = await driveTask(agentWith(), taskFor("writer"), [say(" \n")]);
  expect(outcome).toMatchObject({ type: "failed", error: { code: "empty_answer" } });
});

test("a failing model fails the task with the provider's code", async () => {
  const error = new ModelError("rate_limited", "slow down", { retryable: true });
  const { outcome } = await driveTask(agentWith(), taskFor("writer"), [error]);
  expect(outcome).toMatchObject({
    type: "failed",
    error: { code: "rate_limited", message: "slow down", retryable: true },
  });
});

test("structured output is asked for, checked and given as a value", async () => {
  const { outcome, requests } = await driveTask(shaped, taskFor("writer"), [say('```json\n{"score": 0.5}\n```')]);
  expect(requests[0]?.output).toMatchObject({ name: "writer", schema: { type: "object", required: ["score"] } });
  expect(outcome).toMatchObject({ type: "completed", output: { score: 0.5 } });
});

test("output of the wrong shape gets one turn to be repaired", async () => {
  const { outcome, requests } = await driveTask(shaped, taskFor("writer"), [
    say('{"score": "high"}'),
    say('{"score": 1}'),
  ]);
  expect(requests[1]?.messages.at(-1)).toMatchObject({ role: "user", content: expect.stringContaining("score") });
  expect(outcome).toMatchObject({ type: "completed", output: { score: 1 }, usage: { modelCalls: 2 } });
});

test("output that is still wrong after the repair fails the task", async () => {
  const { outcome, requests } = await driveTask(shaped, taskFor("writer"), [
    say("no json"),
    say("still none"),
    say("{}"),
  ]);
  expect(outcome).toMatchObject({ type: "failed", error: { code: "invalid_output" } });
  expect(requests).toHaveLength(2);
});

test("a task with messages shows them and does not repeat its input", async () => {
  const messages = [
    { role: "user" as const, content: "earlier" },
    { role: "assistant" as const, content: null, toolCalls: [{ id: "x", name: "echo", arguments: "{}" }] },
  ];
  const { requests } = await driveTask(agentWith(), taskFor("writer", { messages, input: "not this" }), [say("ok")]);
  expect(requests[0]?.messages).toEqual([
    ...messages,
    { role: "tool", toolCallId: "x", content: "not executed: interrupted" },
  ]);
});

test("a conversation no provider accepts fails before any model is asked", async () => {
  const messages = [{ role: "assistant" as const, content: "I begin" }];
  const { outcome, requests } = await driveTask(agentWith(), taskFor("writer", { messages }), [say("ok")]);
  expect(outcome).toMatchObject({ type: "failed", error: { code: "illegal_conversation" } });
  expect(requests).toEqual([]);
});

test("a session's task gives back what it added to the conversation", async () => {
  const { outcome } = await driveTask(agentWith(), taskFor("writer", { sessionId: "s" }), [say("Hello.")]);
  expect(outcome).toMatchObject({ transcript: [{ role: "assistant", content: "Hello.", name: "writer" }] });
});

test("stopping in the middle of a tool aborts it, and leaves a legal conversation with the finished sibling's answer", async () => {
  const slow: AbortSignal[] = [];
  const machine = taskMachine.provide({
    actors: {
      callModel: fromPromise<ModelReply, TaskState>(async () =>
        call({ name: "echo", args: { text: "a" } }, { name: "echo", args: { text: "b" } }),
      ),
      runTool: fromPromise<ToolResult, ToolInput>(({ input, signal }) => {
        if (input.run.call.id === "c1") return Promise.resolve({ callId: "c1", content: "first" });
        slow.push(signal);
        return new Promise(() => {});
      }),
    },
  });
  const agent = agentWith({ tools: [echo] });
  const actor = createActor(machine, { input: { agent: () => agent, task: taskFor("writer") } });
  const ended = toPromise(actor);
  const answered = new Promise<void>((resolve) => {
    actor.subscribe(({ context }) => {
      if ("c1" in context.answers) resolve();
    });
  });
  actor.start();
  await answered;
  expect(slow[0]?.aborted).toBe(false);
  actor.send({ type: "stop", error: { code: "cancelled", message: "enough" } });
  expect(await ended).toMatchObject({ type: "failed", error: { code: "cancelled", message: "enough" } });
  expect(slow[0]?.aborted).toBe(true);
  const { opening, transcript } = actor.getSnapshot().context;
  expect(checkConversation([...opening, ...transcript])).toBeUndefined();
  expect(transcript.slice(1).map((message) => message.content)).toEqual([
    "first",
    expect.stringContaining("interrupted"),
  ]);
});

test("what a provider wants back goes with the conversation while the task goes on, and no further", async () => {
  const providerState = { by: "p/m", items: [{ sealed: "…" }] };
  const handoffs = [{ to: "editor" }];
  const { outcome, requests } = await driveTask(
    agentWith({ tools: [echo], handoffs: ["editor"] }),
    taskFor("writer", { handoffs }),
    [
      { ...call({ name: "echo", args: { text: "a" } }), providerState },
      { ...call({ name: "transfer_to_editor", args: { reason: "done" } }), providerState },
    ],
  );
  expect(requests[1]?.messages[1]).toMatchObject({ role: "assistant", providerState });
  if (outcome.type !== "handoff") throw new Error(`expected a handoff, got ${outcome.type}`);
  expect(outcome.transcript).toHaveLength(4);
  expect(JSON.stringify(outcome)).not.toContain("sealed");
});
