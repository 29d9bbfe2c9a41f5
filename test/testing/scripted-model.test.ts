import { expect, test } from "vitest";
import type { ModelCallContext, ModelRequest } from "../../src/actors/model.ts";
import { ModelError } from "../../src/errors.ts";
import { callTool, callTools, fail, handOff, ScriptedModel, say } from "../../src/testing/index.ts";

const request: ModelRequest = {
  model: "m",
  instructions: "",
  messages: [{ role: "user", content: "hi there" }],
  tools: [],
};

function context(parts: Partial<ModelCallContext> = {}): ModelCallContext {
  return { signal: new AbortController().signal, runId: "r", taskId: "t", agent: "writer", turn: 1, ...parts };
}

test("entries answer calls in their order, and the script is complete after the last", async () => {
  const model = new ScriptedModel([
    callTool("search", { q: "x" }),
    handOff("billing", { reason: "money" }),
    say("done"),
  ]);
  const replies = [];
  for (let i = 0; i < 3; i++) replies.push(await model.call(request, context()));
  expect(replies.map(({ content, toolCalls, finishReason }) => ({ content, toolCalls, finishReason }))).toEqual([
    {
      content: null,
      toolCalls: [{ id: "call_1_1", name: "search", arguments: '{"q":"x"}' }],
      finishReason: "tool_calls",
    },
    {
      content: null,
      toolCalls: [{ id: "call_2_1", name: "transfer_to_billing", arguments: '{"reason":"money"}' }],
      finishReason: "tool_calls",
    },
    { content: "done", toolCalls: [], finishReason: "stop" },
  ]);
  expect(replies[2]).toMatchObject({
    model: "scripted-model",
    id: "scripted-3",
    usage: { inputTokens: 2, outputTokens: 2 },
  });
  model.assertComplete();
});

test("requests and contexts are recorded", async () => {
  const model = new ScriptedModel([say("ok")]);
  const here = context({ turn: 4 });
  await model.call(request, here);
  expect(model.calls).toEqual([{ request, context: here }]);
});

test("text goes out in pieces that make up the whole", async () => {
  const text = `${Array.from({ length: 100 }, (_, i) => `word${i}`).join(" ")}\n`;
  const pieces: string[] = [];
  const reply = await new ScriptedModel([say(text)]).call(request, context({ onDelta: (piece) => pieces.push(piece) }));
  expect(pieces.join("")).toBe(text);
  expect(reply.content).toBe(text);
  expect(pieces.length).toBeGreaterThan(10);
  expect(pieces.length).toBeLessThanOrEqual(24);
});

test("what is no text is said as JSON", async () => {
  expect((await new ScriptedModel([say({ score: 1 })]).call(request, context())).content).toBe('{"score":1}');
});

test("several calls in one turn keep their own ids and malformed arguments", async () => {
  const model = new ScriptedModel([
    callTools([
      { name: "a", id: "mine" },
      { name: "b", args: "{oops" },
    ]),
  ]);
  expect((await model.call(request, context())).toolCalls).toEqual([
    { id: "mine", name: "a", arguments: "{}" },
    { id: "call_1_2", name: "b", arguments: "{oops" },
  ]);
});

test("an entry may be a function of the request, or a whole reply", async () => {
  const whole = {
    content: "x",
    toolCalls: [],
    finishReason: "length" as const,
    usage: { inputTokens: 1, outputTokens: 2 },
    model: "m",
  };
  const model = new ScriptedModel([async ({ messages }) => say(`heard: ${messages[0]?.content}`), whole]);
  expect((await model.call(request, context())).content).toBe("heard: hi there");
  expect(await model.call(request, context())).toBe(whole);
});

test("a scripted failure is thrown as it is", async () => {
  const error = new ModelError("rate_limited", "busy", { retryable: true });
  await expect(new ScriptedModel([fail(error)]).call(request, context())).rejects.toBe(error);
});

test("a delay is slept through the given sleep and an abort during it wins", async () => {
  const slept: number[] = [];
  const sleep = async (ms: number) => void slept.push(ms);
  await new ScriptedModel([say("a b", { delayMs: 10 })], { sleep }).call(request, context());
  expect(slept.reduce((sum, ms) => sum + ms)).toBe(10);

  const controller = new AbortController();
  const call = new ScriptedModel([say("x")], { delayMs: 60_000 }).call(request, context({ signal: controller.signal }));
  controller.abort(new Error("cancelled"));
  await expect(call).rejects.toThrow("cancelled");
});

test("left-over entries and unexpected calls are told by assertComplete", async () => {
  const model = ScriptedModel.byAgent({ writer: [say("one")], editor: [callTool("check"), say("a text")] });
  await model.call(request, context());
  await expect(model.call(request, context({ turn: 2 }))).rejects.toMatchObject({
    code: "script_ended",
    retryable: false,
  });
  await expect(model.call(request, context({ agent: "stranger" }))).rejects.toThrow(/by stranger/);
  expect(() => model.assertComplete()).toThrow(
    [
      "ScriptedModel: expected 3 calls, got 3",
      "  never used: entry 1 of the script of editor, a call of check",
      '  never used: entry 2 of the script of editor, say("a text")',
      '  not expected: call 2 by writer, turn 2, after user "hi there"',
      '  not expected: call 3 by stranger, turn 1, after user "hi there"',
    ].join("\n"),
  );
});

test("agents that run at the same time each follow their own script", async () => {
  const model = ScriptedModel.byAgent({ a: [say("a1"), say("a2")], b: [say("b1")] });
  const said = await Promise.all(["a", "b", "a"].map((agent) => model.call(request, context({ agent }))));
  expect(said.map(({ content }) => content)).toEqual(["a1", "b1", "a2"]);
  model.assertComplete();
});
