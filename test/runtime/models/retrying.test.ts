import { expect, test, vi } from "vitest";
import type { ModelCallContext, ModelRequest } from "../../../src/actors/model.ts";
import { ModelError } from "../../../src/errors.ts";
import { openaiModel } from "../../../src/runtime/models/openai.ts";
import { type ModelRetry, type RetryOptions, retryModelCall } from "../../../src/runtime/models/retrying.ts";
import { sleep } from "../../../src/runtime/models/sleep.ts";
import { fail, type ScriptEntry, ScriptedModel, say } from "../../../src/testing/index.ts";
import { startOpenAIServer } from "../../helpers/openai-server.ts";

const request: ModelRequest = { model: "m", instructions: "", messages: [{ role: "user", content: "hi" }], tools: [] };

function busy(retryAfterMs?: number): ModelError {
  return new ModelError("rate_limited", "busy", {
    retryable: true,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

/** Runs a script; tells the delays that were slept and the retries that were told. */
async function run(entries: ScriptEntry[], parts: Partial<RetryOptions> = {}, signal = new AbortController().signal) {
  const model = new ScriptedModel(entries);
  const delays: number[] = [];
  const retries: ModelRetry[] = [];
  const context: ModelCallContext = { signal, runId: "r", taskId: "t", agent: "a", turn: 1, onDelta: () => {} };
  const options: RetryOptions = {
    maxAttempts: 5,
    sleep: async (ms) => void delays.push(ms),
    random: () => 1,
    onRetry: (retry) => retries.push(retry),
    ...parts,
  };
  const result = await retryModelCall(model, request, context, options).then(
    (reply) => ({ reply, error: undefined }),
    (error: unknown) => ({ reply: undefined, error }),
  );
  return { model, delays, retries, ...result };
}

test("delays double from 500 ms up to 30 s", async () => {
  const entries = [...Array.from({ length: 9 }, () => fail(busy())), say("at last")];
  const { delays, model } = await run(entries, { maxAttempts: 10 });
  expect(delays).toEqual([500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
  model.assertComplete();
});

test("jitter shortens a delay to no less than half", async () => {
  const { delays } = await run([fail(busy()), fail(busy()), say("ok")], { random: () => 0 });
  expect(delays).toEqual([250, 500]);
});

test("the last attempt's error is the result", async () => {
  const last = busy();
  const { error, retries } = await run([fail(busy()), fail(busy()), fail(last)], { maxAttempts: 3 });
  expect(error).toBe(last);
  expect(retries.map(({ attempt }) => attempt)).toEqual([1, 2]);
});

test.each<[string, Error]>([
  ["a fatal model error", new ModelError("unauthorized", "no", { retryable: false })],
  ["any other error", new TypeError("bug")],
])("%s is not tried again", async (_, thrown) => {
  const { error, model } = await run([fail(thrown)]);
  expect(error).toBe(thrown);
  model.assertComplete();
});

test("Retry-After is honoured and never undercut", async () => {
  expect((await run([fail(busy(7_000)), say("ok")], { random: () => 0 })).delays).toEqual([7_000]);
  expect((await run([fail(busy(7_000)), say("ok")], { random: () => 1 })).delays).toEqual([7_700]);
});

test("a Retry-After beyond a minute ends the attempts", async () => {
  const asked = busy(60_001);
  const { error, delays } = await run([fail(asked)]);
  expect(error).toBe(asked);
  expect(delays).toEqual([]);
});

test("a retry after pieces went out is told as a restart, the next one without pieces is not", async () => {
  let n = 0;
  await using server = await startOpenAIServer({
    reply: () => [{ text: "one two", cutAfter: 2 }, { status: 503 }, { text: "one two" }][n++] ?? { status: 500 },
  });
  const model = openaiModel({ baseURL: server.url });
  const pieces: string[] = [];
  const context: ModelCallContext = {
    signal: new AbortController().signal,
    runId: "r",
    taskId: "t",
    agent: "a",
    turn: 1,
    onDelta: (text) => pieces.push(text),
  };
  const told: [string, boolean][] = [];
  const reply = await retryModelCall(model, request, context, {
    maxAttempts: 5,
    sleep: async () => {},
    random: () => 0,
    onRetry: ({ error, restarted }) => told.push([error.code, restarted]),
  });
  expect(told).toEqual([
    ["stream_cut", true],
    ["provider_unavailable", false],
  ]);
  expect(reply.content).toBe("one two");
  expect(pieces.join("")).toBe("one one two");
});

test("an abort ends the wait at once with the signal's reason", async () => {
  const controller = new AbortController();
  const reason = new Error("cancelled");
  const onRetry = vi.fn(() => controller.abort(reason));
  const { error, model } = await run([fail(busy(60_000)), say("never")], { sleep, onRetry }, controller.signal);
  expect(error).toBe(reason);
  expect(onRetry).toHaveBeenCalledOnce();
  expect(model.calls.length).toBe(1);
});
