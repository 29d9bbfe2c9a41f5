import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, test, vi } from "vitest";
import type { Message } from "../../../src/actors/conversation.ts";
import type { ModelCallContext, ModelRequest } from "../../../src/actors/model.ts";
import { ModelError } from "../../../src/errors.ts";
import { openaiModel } from "../../../src/runtime/models/openai.ts";
import { type ChatReply, type OpenAIServerOptions, startOpenAIServer } from "../../helpers/openai-server.ts";

function request(parts: Partial<ModelRequest> = {}): ModelRequest {
  const messages: Message[] = [{ role: "user", content: "hello" }];
  return { model: "gpt-test", instructions: "Be brief.", messages, tools: [], ...parts };
}

function context(parts: Partial<ModelCallContext> = {}): ModelCallContext {
  return { signal: new AbortController().signal, runId: "r", taskId: "t", agent: "writer", turn: 1, ...parts };
}

async function serve(reply: OpenAIServerOptions["reply"], timeoutMs = 5_000) {
  const server = await startOpenAIServer({ reply });
  return { server, model: openaiModel({ baseURL: server.url, apiKey: "key", timeoutMs }) };
}

/** The error of one call that is answered so. */
async function errorFor(reply: ChatReply, timeoutMs?: number): Promise<ModelError> {
  const { server, model } = await serve(reply, timeoutMs);
  await using _ = server;
  const error = await model.call(request(), context()).then(
    () => expect.fail("expected the call to fail"),
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof ModelError)) throw error;
  return error;
}

const tool = (name: string) => ({
  name,
  description: `does ${name}`,
  parameters: { type: "object", properties: { q: { type: "string" } } },
});

test("a text reply is streamed piece by piece and comes with usage, model and id", async () => {
  const { server, model } = await serve({ text: "one two three", usage: { prompt_tokens: 7, completion_tokens: 3 } });
  await using _ = server;
  const pieces: string[] = [];
  const reply = await model.call(request(), context({ onDelta: (text) => pieces.push(text) }));
  expect(reply).toEqual({
    content: "one two three",
    toolCalls: [],
    finishReason: "stop",
    usage: { inputTokens: 7, outputTokens: 3 },
    model: "gpt-test",
    id: "chatcmpl-1",
  });
  expect(pieces.length).toBeGreaterThan(1);
  expect(pieces.join("")).toBe("one two three");
});

test("text in several scripts survives pieces that break inside a character", async () => {
  const text = "žluťoučký 🐎 馬";
  const chunk = JSON.stringify({ choices: [{ index: 0, delta: { content: text }, finish_reason: "stop" }] });
  const bytes = Buffer.from(`data: ${chunk}\n\ndata: [DONE]\n\n`);
  const server = createServer(async (incoming, response) => {
    incoming.resume();
    response.writeHead(200, { "content-type": "text/event-stream" });
    for (const byte of bytes) await new Promise((resolve) => response.write(Buffer.of(byte), resolve));
    response.end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const model = openaiModel({ baseURL: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1` });
    expect((await model.call(request(), context())).content).toBe(text);
  } finally {
    server.close();
    server.closeAllConnections();
  }
});

test("fragments of parallel tool calls are put together by their index", async () => {
  const toolCalls = [
    { id: "a", name: "search", arguments: { q: "a long question about something" } },
    { id: "b", name: "fetch", arguments: { q: "another long question" } },
  ];
  const { server, model } = await serve({ text: "Looking.", toolCalls });
  await using _ = server;
  const reply = await model.call(request({ tools: [tool("search"), tool("fetch")] }), context());
  expect(reply.finishReason).toBe("tool_calls");
  expect(reply.content).toBe("Looking.");
  expect(reply.toolCalls).toEqual([
    { id: "a", name: "search", arguments: JSON.stringify(toolCalls[0]?.arguments) },
    { id: "b", name: "fetch", arguments: JSON.stringify(toolCalls[1]?.arguments) },
  ]);
});

test("calls of servers that say index 0 each time, or none, stay apart", async () => {
  const call = (fragment: object) => ({ choices: [{ index: 0, delta: { tool_calls: [fragment] } }] });
  const { server, model } = await serve({
    chunks: [
      call({ index: 0, id: "a", function: { name: "search", arguments: "{}" } }),
      call({ index: 0, id: "b", function: { name: "fetch", arguments: '{"q":' } }),
      call({ index: 0, function: { arguments: '"x"}' } }),
      call({ id: "c", function: { name: "search", arguments: { q: "object" } } }),
      { choices: [{ index: 0, delta: {}, finish_reason: "stop" }] },
    ],
  });
  await using _ = server;
  const reply = await model.call(request(), context());
  expect(reply.toolCalls).toEqual([
    { id: "a", name: "search", arguments: "{}" },
    { id: "b", name: "fetch", arguments: '{"q":"x"}' },
    { id: "c", name: "search", arguments: '{"q":"object"}' },
  ]);
  expect(reply.finishReason).toBe("tool_calls");
});

test("calls without an id or without arguments get legal ones", async () => {
  const fragments = [
    { index: 0, function: { name: "search" } },
    { index: 1, function: { name: "search", arguments: "" } },
  ];
  const { server, model } = await serve({
    chunks: [{ choices: [{ index: 0, delta: { tool_calls: fragments }, finish_reason: "tool_calls" }] }],
  });
  await using _ = server;
  const { toolCalls } = await model.call(request(), context());
  expect(new Set(toolCalls.map(({ id }) => id)).size).toBe(2);
  for (const call of toolCalls)
    expect(call).toMatchObject({ id: expect.stringMatching(/^call_\w+$/), arguments: "{}" });
});

test("a conversation with tool calls, other agents and foreign ids goes out as one a strict server accepts", async () => {
  const { server, model } = await serve("fine");
  await using _ = server;
  const long = "x".repeat(90);
  const messages: Message[] = [
    { role: "user", content: "hello" },
    {
      role: "assistant",
      content: null,
      name: "triage",
      toolCalls: [{ id: long, name: "search", arguments: "{not json" }],
    },
    { role: "tool", toolCallId: long, content: "bad arguments" },
    { role: "assistant", content: null, name: "writer" },
    { role: "user", content: "go on" },
  ];
  await model.call(
    request({ messages, tools: [tool("search")], settings: { temperature: 0, maxTokens: 9 } }),
    context(),
  );
  expect(server.violations).toEqual([]);
  const body = server.calls[0]?.body;
  expect(body?.messages[0]).toEqual({ role: "system", content: "Be brief." });
  expect(body?.messages[2]).toMatchObject({ name: "triage", content: null });
  expect(body?.messages[4]).toEqual({ role: "assistant", content: "" });
  expect(body).toMatchObject({ stream: true, stream_options: { include_usage: true }, temperature: 0, max_tokens: 9 });
  expect(body?.tools).toEqual([{ type: "function", function: tool("search") }]);
});

test("an illegal conversation is refused as bad_request and named by the strict server", async () => {
  const { server, model } = await serve("fine");
  await using _ = server;
  const messages: Message[] = [{ role: "tool", toolCallId: "nobody", content: "?" }];
  await expect(model.call(request({ messages }), context())).rejects.toMatchObject({
    code: "bad_request",
    retryable: false,
  });
  expect(server.violations).toEqual(["messages[1]: tool message answers no open call of the message before (nobody)"]);
});

test("structured output asks for strict mode where the schema qualifies, and only there", async () => {
  const { server, model } = await serve('{"a":1}');
  await using _ = server;
  const closed = {
    type: "object",
    properties: { a: { type: "number" } },
    required: ["a"],
    additionalProperties: false,
  };
  await model.call(request({ output: { name: "the answer", schema: closed } }), context());
  await model.call(request({ output: { name: "answer", schema: { ...closed, required: [] } } }), context());
  expect(server.violations).toEqual([]);
  const formats = server.calls.map(({ body }) => body.response_format);
  expect(formats[0]).toEqual({
    type: "json_schema",
    json_schema: { name: "the_answer", schema: closed, strict: true },
  });
  expect(formats[1]).not.toHaveProperty("json_schema.strict");
});

test("an output that is no object travels wrapped and comes back as it is", async () => {
  const { server, model } = await serve('{"value":["a","b"]}');
  await using _ = server;
  const schema = { type: "array", items: { $ref: "#/$defs/word" }, $defs: { word: { type: "string" } } };
  const reply = await model.call(request({ output: { name: "words", schema } }), context());
  expect(reply.content).toBe('["a","b"]');
  expect(server.violations).toEqual([]);
});

test("a server that ignores streaming and sends no usage still gives a reply", async () => {
  const { server, model } = await serve({
    text: "whole",
    toolCalls: [{ name: "search", arguments: {} }],
    streamed: false,
    usage: false,
  });
  await using _ = server;
  const pieces: string[] = [];
  const reply = await model.call(
    request({ tools: [tool("search")] }),
    context({ onDelta: (text) => pieces.push(text) }),
  );
  expect(reply).toMatchObject({
    content: "whole",
    finishReason: "tool_calls",
    toolCalls: [{ name: "search", arguments: "{}" }],
    usage: { inputTokens: 0, outputTokens: 0 },
  });
  expect(pieces).toEqual(["whole"]);
});

test("a stream with comments, CRLF and no empty line at its end is read", async () => {
  const chunk = JSON.stringify({ choices: [{ index: 0, delta: { content: "ok" }, finish_reason: "length" }] });
  const { server, model } = await serve({ body: `: keep-alive\r\n\r\nevent: chunk\r\ndata:${chunk}\r\n` });
  await using _ = server;
  expect(await model.call(request(), context())).toMatchObject({ content: "ok", finishReason: "length" });
});

test.each<[string, ChatReply, string, boolean]>([
  ["429", { status: 429, error: { code: "rate_limit_exceeded" } }, "rate_limited", true],
  ["429 with an empty account", { status: 429, error: { code: "insufficient_quota" } }, "insufficient_quota", false],
  ["401", { status: 401, error: { code: "invalid_api_key" } }, "unauthorized", false],
  ["403", { status: 403 }, "unauthorized", false],
  ["400", { status: 400 }, "bad_request", false],
  ["422", { status: 422 }, "bad_request", false],
  [
    "400 with a code for length",
    { status: 400, error: { code: "context_length_exceeded" } },
    "context_length_exceeded",
    false,
  ],
  [
    "400 with words for length",
    { status: 400, error: { message: "This model's maximum context length is 8192 tokens" } },
    "context_length_exceeded",
    false,
  ],
  ["400 of a content filter", { status: 400, error: { code: "content_filter" } }, "content_filter", false],
  ["404", { status: 404, error: { code: "model_not_found" } }, "model_not_found", false],
  ["408", { status: 408 }, "provider_timeout", true],
  ["409", { status: 409 }, "provider_unavailable", true],
  ["500", { status: 500 }, "provider_unavailable", true],
  ["503 with a page of HTML", { status: 503, body: "<html>busy</html>" }, "provider_unavailable", true],
  ["a connection that breaks before the answer", { reset: true }, "connection_failed", true],
  ["a stream cut in the middle", { text: "one two three", cutAfter: 2 }, "stream_cut", true],
  ["a stream that ends without a finish reason", { body: 'data: {"choices":[]}\n\n' }, "stream_cut", true],
  ["an empty answer", { body: "" }, "stream_cut", true],
  [
    "a stream cut inside an event",
    { body: 'data: {"choi', headers: { "content-length": "999" }, cutBody: true },
    "stream_cut",
    true,
  ],
  [
    "a document cut in the middle",
    { body: '{"choices": [', headers: { "content-length": "999" }, cutBody: true },
    "stream_cut",
    true,
  ],
  ["a document that is no completion", { body: '{"models": []}' }, "malformed_reply", true],
  ["malformed JSON in a stream", { body: "data: {oops\n\n" }, "malformed_reply", true],
  ["a page of HTML in place of a stream", { body: "<!doctype html>\n<p>hello" }, "malformed_reply", true],
  [
    "an error in the middle of a stream",
    { chunks: [{ error: { message: "overloaded", type: "server_error" } }] },
    "provider_unavailable",
    true,
  ],
  [
    "a refusal in the middle of a stream",
    { chunks: [{ error: { message: "no", type: "invalid_request_error" } }] },
    "bad_request",
    false,
  ],
])("%s is classed", async (_, reply, code, retryable) => {
  const error = await errorFor(reply);
  expect({ code: error.code, retryable: error.retryable }).toEqual({ code, retryable });
  expect(error.message).toMatch(/^openai model gpt-test at http:\/\/127\.0\.0\.1:\d+\/v1: expected /);
});

test("a redirect is told with its target", async () => {
  const error = await errorFor({ status: 308, headers: { location: "https://elsewhere.example/v1" } });
  expect(error).toMatchObject({
    code: "bad_request",
    message: expect.stringContaining("https://elsewhere.example/v1"),
  });
});

test("a refused connection is retryable and says which address refused", async () => {
  const { server, model } = await serve("never");
  await server.close();
  await expect(model.call(request(), context())).rejects.toMatchObject({
    code: "connection_failed",
    retryable: true,
    message: expect.stringContaining("ECONNREFUSED"),
  });
});

test("silence before the first byte and between pieces ends in provider_timeout", async () => {
  expect(await errorFor({ text: "late", firstByteMs: 10_000 }, 60)).toMatchObject({
    code: "provider_timeout",
    retryable: true,
  });
  expect(await errorFor({ text: "one two", stallAfter: 1 }, 60)).toMatchObject({
    code: "provider_timeout",
    retryable: true,
  });
});

test("a reply that keeps coming may take longer than the timeout", async () => {
  const { server, model } = await serve({ text: "one two three four five six", delayMs: 40 }, 150);
  await using _ = server;
  expect((await model.call(request(), context())).content).toBe("one two three four five six");
});

test.each([
  ["retry-after-ms", "1500", 1500],
  ["retry-after", "2", 2000],
  ["retry-after", "soon", undefined],
])("%s: %s asks for %s ms", async (name, value, expected) => {
  expect((await errorFor({ status: 429, headers: { [name]: value } })).retryAfterMs).toBe(expected);
});

test("Retry-After may be a date", async () => {
  const date = new Date(Date.now() + 20_000).toUTCString();
  const { retryAfterMs } = await errorFor({ status: 503, headers: { "retry-after": date } });
  expect(retryAfterMs).toBeGreaterThan(15_000);
  expect(retryAfterMs).toBeLessThanOrEqual(20_000);
});

test.each<[string, ChatReply]>([
  ["before the first byte", { text: "late", firstByteMs: 60_000 }],
  ["in the middle of the stream", { text: "one two three", stallAfter: 2 }],
])("an abort %s rejects with the signal's reason and closes the connection", async (_, reply) => {
  const { server, model } = await serve(reply, 60_000);
  await using _server = server;
  const controller = new AbortController();
  const seen: string[] = [];
  const call = model.call(request(), context({ signal: controller.signal, onDelta: (text) => seen.push(text) }));
  await vi.waitFor(() => expect(server.calls.length === 1 && (reply.firstByteMs || seen.length > 0)).toBeTruthy());
  const reason = new Error("cancelled");
  controller.abort(reason);
  await expect(call).rejects.toBe(reason);
  await vi.waitFor(() => expect(server.calls[0]?.aborted).toBe(true));
});

test("an answer that was finished counts, though the connection breaks or stalls before its end", async () => {
  const chunk = { choices: [{ index: 0, delta: { content: "all of it" }, finish_reason: "stop" }] };
  for (const reply of [
    { chunks: [chunk], cutAfter: 1 },
    { chunks: [chunk], stallAfter: 1 },
  ]) {
    const { server, model } = await serve(reply, 60);
    await using _ = server;
    expect((await model.call(request(), context())).content).toBe("all of it");
    await vi.waitFor(() => expect(server.calls[0]?.aborted).toBe(true));
  }
});

test("a signal that is aborted already makes no call", async () => {
  const { server, model } = await serve("never");
  await using _ = server;
  await expect(model.call(request(), context({ signal: AbortSignal.abort("why") }))).rejects.toBe("why");
  expect(server.calls).toEqual([]);
});

test("an onDelta that throws fails the call and not the process", async () => {
  const { server, model } = await serve("text");
  await using _ = server;
  const onDelta = () => {
    throw new Error("feed is gone");
  };
  await expect(model.call(request(), context({ onDelta }))).rejects.toMatchObject({ code: "model_failed" });
});

test("calls one after the other share a connection", async () => {
  const { server, model } = await serve("again");
  await using _ = server;
  for (let i = 0; i < 5; i++) await model.call(request(), context());
  expect(new Set(server.calls.map(({ clientPort }) => clientPort)).size).toBe(1);
});

test("a kept connection that turns out to be closed is replaced without an error", async () => {
  const { server, model } = await serve((_, n) => (n === 2 ? { reset: true } : `answer ${n}`));
  await using _ = server;
  await model.call(request(), context());
  expect((await model.call(request(), context())).content).toBe("answer 3");
  expect(server.calls.length).toBe(3);
});

test("headers of the provider are sent with every call, and the organisation of OpenAI is not", async () => {
  await using server = await startOpenAIServer({ reply: "ok", apiKey: "secret" });
  vi.stubEnv("OPENAI_ORG_ID", "org-of-openai");
  try {
    const model = openaiModel({ baseURL: server.url, apiKey: "secret", headers: { "x-team": "blue" } });
    await model.call(request(), context());
  } finally {
    vi.unstubAllEnvs();
  }
  expect(server.calls[0]?.headers).toMatchObject({ "x-team": "blue", authorization: "Bearer secret" });
  expect(server.calls[0]?.headers).not.toHaveProperty("openai-organization");
});

test("without a key and without an endpoint the call says which variable to set", async () => {
  const model = openaiModel({ apiKeyEnv: "MY_KEY" });
  await expect(model.call(request(), context())).rejects.toMatchObject({
    code: "unauthorized",
    retryable: false,
    message: "openai model gpt-test at https://api.openai.com/v1: expected an API key, got none; set MY_KEY",
  });
});

test("settings and extra fields go out in the words of the API", async () => {
  const { server, model } = await serve("ok");
  await using _ = server;
  const settings = {
    temperature: 0.2,
    topP: 0.9,
    seed: 7,
    maxTokens: 50,
    reasoningEffort: "low",
    extraBody: { user: "u-1", stream_options: { include_obfuscation: false } },
  };
  await model.call(request({ settings }), context());
  expect(server.calls[0]?.body).toMatchObject({
    temperature: 0.2,
    top_p: 0.9,
    seed: 7,
    max_tokens: 50,
    reasoning_effort: "low",
    user: "u-1",
    stream_options: { include_usage: true, include_obfuscation: false },
  });
});

test.each([true, false])(
  "cached and reasoning tokens, and what is told of the reasoning, come with stream %s",
  async (stream) => {
    const usage = { prompt_tokens: 20, completion_tokens: 9, cached: 12, reasoning: 5 };
    await using server = await startOpenAIServer({ reply: { text: "tea", usage, reasoning: { summary: "Hm." } } });
    const model = openaiModel({ baseURL: server.url, apiKey: "key", stream });
    const thoughts: string[] = [];
    const reply = await model.call(request(), context({ onReasoning: (text) => thoughts.push(text) }));
    expect(reply.usage).toEqual({ inputTokens: 20, outputTokens: 9, cachedTokens: 12, reasoningTokens: 5 });
    expect(reply.content).toBe("tea");
    expect(server.calls[0]?.body.stream).toBe(stream);
    if (stream) expect(thoughts).toEqual(["Hm."]);
    expect(server.violations).toEqual([]);
  },
);
