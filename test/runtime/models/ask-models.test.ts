import { expect, test } from "vitest";
import type { Model, ModelCallContext, ModelRequest } from "../../../src/actors/model.ts";
import { ModelError } from "../../../src/errors.ts";
import { type AskOptions, askModels, type Candidate } from "../../../src/runtime/models/ask-models.ts";
import { type GateOptions, openProviderGate } from "../../../src/runtime/models/provider-gate.ts";
import { fail, type ScriptEntry, ScriptedModel, say } from "../../../src/testing/index.ts";

const request: ModelRequest = {
  model: "one",
  instructions: "",
  messages: [{ role: "user", content: "hi" }],
  tools: [],
  settings: { seed: 1 },
};

const down = () => new ModelError("provider_unavailable", "503", { retryable: true });
const refused = () => new ModelError("bad_request", "400", { retryable: false });

type Scripted = Candidate & { script: ScriptedModel };

function candidate(model: string, entries: ScriptEntry[], gate?: GateOptions, maxAttempts = 2): Scripted {
  const script = new ScriptedModel(entries);
  const call: Model["call"] = (asked, context) => script.call(asked, context);
  const provider = `${model}-provider`;
  const provided = { provider, call, ...(gate && { gate: openProviderGate(provider, gate) }) };
  return { name: { provider, model }, model: provided, settings: { seed: model.length }, maxAttempts, script };
}

async function ask(candidates: [Scripted, ...Scripted[]], signal = new AbortController().signal) {
  const told: string[] = [];
  const context: ModelCallContext = {
    signal,
    runId: "r",
    taskId: "t",
    agent: "a",
    turn: 1,
    onDelta: (text) => told.push(text),
  };
  const options: AskOptions = {
    sleep: async () => {},
    random: () => 1,
    onRetry: ({ restarted }) => told.push(restarted ? "restarted" : "again"),
    onFallback: (from, to) => told.push(`${from.model} → ${to.model}`),
    onDown: (_, again) => told.push(again ? "down again" : "down"),
    onBack: () => told.push("back"),
    onRestart: () => told.push("restarted"),
    onWait: (gate, _, why) => told.push(`${gate.name} waited: ${why}`),
  };
  const result = await askModels(candidates, request, context, options).then(
    (reply) => ({ reply, error: undefined }),
    (error: unknown) => ({ reply: undefined, error }),
  );
  return { told, ...result };
}

test("the next model is asked once one has failed for good, with its own name and settings", async () => {
  const one = candidate("one", [fail(refused())]);
  const two = candidate("other", [say("hello")]);
  const { reply, told } = await ask([one, two]);
  expect(reply).toMatchObject({ content: "hello", answeredBy: { provider: "other-provider", model: "other" } });
  expect(told).toEqual(["one → other", "hello"]);
  expect(two.script.calls[0]?.request).toMatchObject({ model: "other", settings: { seed: 5 } });
  expect(one.script.calls[0]?.request).toMatchObject({ model: "one", settings: { seed: 1 } });
});

test("a model has all its attempts before the next one is asked, and the last error is the result", async () => {
  const last = refused();
  const { error, told } = await ask([
    candidate("one", [fail(down()), fail(down())]),
    candidate("two", [fail(down()), fail(last)]),
  ]);
  expect(error).toBe(last);
  expect(told).toEqual(["again", "one → two", "again"]);
});

test("once a piece of the answer went out there is no other model for this turn", async () => {
  const cut = new ModelError("stream_cut", "cut", { retryable: true });
  const speakThenFail: ScriptEntry = async (_, context) => {
    context.onDelta?.("Once upon");
    throw cut;
  };
  const two = candidate("two", [say("never")]);
  const { error, told } = await ask([candidate("one", [speakThenFail, speakThenFail]), two]);
  expect(error).toBe(cut);
  expect(told).toEqual(["Once upon", "restarted", "Once upon"]);
  expect(two.script.calls).toEqual([]);
});

test("a piece of the reasoning counts as output too", async () => {
  const think: ScriptEntry = async (_, context) => {
    context.onReasoning?.("Hm.");
    throw refused();
  };
  const two = candidate("two", [say("never")]);
  const one = candidate("one", [think]);
  const context = { onReasoning: () => {}, onDelta: () => {} };
  const signal = new AbortController().signal;
  const asked = askModels(
    [one, two],
    request,
    { signal, runId: "r", taskId: "t", agent: "a", turn: 1, ...context },
    { sleep: async () => {}, random: () => 1 },
  );
  await expect(asked).rejects.toMatchObject({ code: "bad_request" });
  expect(two.script.calls).toEqual([]);
});

test("a provider that is down is passed over at once while there is another", async () => {
  const gate = { breaker: { failures: 1, cooldownMs: 60_000 } };
  const one = candidate("one", [fail(down())], gate, 5);
  const two = candidate("two", [say("first"), say("second")], {});
  expect((await ask([one, two])).told).toEqual(["one → two", "first"]);
  expect((await ask([one, two])).told).toEqual(["second"]);
  expect(one.script.calls).toHaveLength(1);
});

test("where everybody is down the call waits until one is back, instead of failing", async () => {
  const gate = { breaker: { failures: 1, cooldownMs: 20 } };
  const one = candidate("one", [fail(down()), fail(down()), say("hello")], gate, 1);
  const { reply, told } = await ask([one]);
  expect(reply?.content).toBe("hello");
  const waited = "one-provider waited: down";
  expect(told).toEqual(["down", "back", waited, "down again", "back", waited, "hello"]);
});

test("a provider that goes down in the middle of an answer has the same model begin anew", async () => {
  const speakThenFail: ScriptEntry = async (_, context) => {
    context.onDelta?.("Once upon");
    throw down();
  };
  const one = candidate("one", [speakThenFail, say("Anew.")], { breaker: { failures: 1, cooldownMs: 20 } });
  const two = candidate("two", [say("never")]);
  const { reply, told } = await ask([one, two]);
  expect(reply).toMatchObject({ content: "Anew.", answeredBy: { model: "one" } });
  expect(told).toEqual(["Once upon", "restarted", "down", "back", "one-provider waited: down", "Anew."]);
  expect(two.script.calls).toEqual([]);
});

test("while everybody is down only one call at a time finds out, and all go on once it is back", async () => {
  const gate = { breaker: { failures: 1, cooldownMs: 20 } };
  const one = candidate(
    "one",
    [fail(down()), fail(down()), fail(down()), ...Array.from({ length: 20 }, () => say("ok"))],
    gate,
  );
  const results = await Promise.all(Array.from({ length: 20 }, () => ask([one])));
  expect(results.map(({ reply }) => reply?.content)).toEqual(Array.from({ length: 20 }, () => "ok"));
});

test("a call that waits for a provider ends with its signal", async () => {
  const gate = { breaker: { failures: 1, cooldownMs: 60_000 } };
  const aborter = new AbortController();
  const asked = ask([candidate("one", [fail(down())], gate, 1)], aborter.signal);
  aborter.abort(new Error("time is up"));
  expect((await asked).error).toMatchObject({ message: "time is up" });
  expect((await asked).told).not.toContain("back");
});

test("a provider's limits hold over all calls of it, and say how long was waited", async () => {
  let underWay = 0;
  let most = 0;
  const slowly: ScriptEntry = async () => {
    underWay += 1;
    most = Math.max(most, underWay);
    await new Promise((resolve) => setTimeout(resolve, 5));
    underWay -= 1;
    return say("ok");
  };
  const one = candidate(
    "one",
    Array.from({ length: 6 }, () => slowly),
    { maxConcurrency: 2 },
  );
  const results = await Promise.all(Array.from({ length: 6 }, () => ask([one])));
  expect(most).toBe(2);
  expect(results.filter(({ told }) => told.includes("one-provider waited: limits"))).toHaveLength(4);
});
