import { expect, test } from "vitest";
import type { Message } from "../../../src/actors/conversation.ts";
import type { ModelCallContext, ModelRequest } from "../../../src/actors/model.ts";
import { ModelError } from "../../../src/errors.ts";
import { type OpenAIModelOptions, openaiModel } from "../../../src/runtime/models/openai.ts";
import { type ChatReply, type OpenAIServerOptions, startOpenAIServer } from "../../helpers/openai-server.ts";

function request(parts: Partial<ModelRequest> = {}): ModelRequest {
  const messages: Message[] = [{ role: "user", content: "hello" }];
  return { model: "gpt-test", instructions: "Be brief.", messages, tools: [], ...parts };
}

/** A context that keeps what is told on the way. */
function listening() {
  const words: string[] = [];
  const thoughts: string[] = [];
  const context: ModelCallContext = {
    signal: new AbortController().signal,
    runId: "r",
    taskId: "t",
    agent: "writer",
    turn: 1,
    onDelta: (text) => words.push(text),
    onReasoning: (text) => thoughts.push(text),
  };
  return { context, words, thoughts };
}

async function serve(reply: OpenAIServerOptions["reply"], options: OpenAIModelOptions = {}) {
  const server = await startOpenAIServer({ reply });
  const model = openaiModel({ baseURL: server.url, apiKey: "key", timeoutMs: 5_000, api: "responses", ...options });
  return { server, model };
}

const search = {
  name: "search",
  description: "Finds.",
  parameters: { type: "object", properties: { q: { type: "string" } }, required: ["q"], additionalProperties: false },
};

const thoughtful: ChatReply = {
  text: "It is about tea.",
  reasoning: { summary: "Thinking of tea." },
  usage: { prompt_tokens: 20, completion_tokens: 9, cached: 12, reasoning: 5 },
  model: "gpt-test-2026",
};

test("a streamed response is told piece by piece and comes with usage, model and id", async () => {
  const { server, model } = await serve(thoughtful);
  await using _ = server;
  const { context, words, thoughts } = listening();
  const reply = await model.call(request(), context);
  expect(reply).toEqual({
    content: "It is about tea.",
    toolCalls: [],
    finishReason: "stop",
    usage: { inputTokens: 20, outputTokens: 9, cachedTokens: 12, reasoningTokens: 5 },
    model: "gpt-test-2026",
    id: "resp_1",
  });
  expect(words).toEqual(["It ", "is ", "about ", "tea."]);
  expect(thoughts.join("")).toBe("Thinking of tea.");
  expect(server.calls[0]).toMatchObject({
    api: "responses",
    body: { model: "gpt-test", instructions: "Be brief.", input: [{ role: "user", content: "hello" }], store: false },
  });
  expect(server.calls[0]?.body).not.toHaveProperty("include");
  expect(server.violations).toEqual([]);
});

test.each<[string, OpenAIModelOptions, ChatReply]>([
  ["the provider is told not to stream", { stream: false }, thoughtful],
  ["a server ignores streaming", {}, { ...thoughtful, streamed: false }],
])("where %s, the reply is the same and told in one piece", async (_, options, scripted) => {
  const { server, model } = await serve(scripted, options);
  await using _server = server;
  const { context, words, thoughts } = listening();
  const { content, usage } = await model.call(request(), context);
  expect([content, usage.reasoningTokens, words, thoughts]).toEqual([
    "It is about tea.",
    5,
    ["It is about tea."],
    ["Thinking of tea."],
  ]);
  expect(server.calls[0]?.body.stream).toBe(options.stream ?? true);
});

test.each([{ stream: true }, { stream: false }])(
  "parallel tool calls come whole with $stream as stream",
  async (how) => {
    const toolCalls = [
      { name: "search", arguments: { q: "black tea" } },
      { name: "search", arguments: { q: "green tea, and a longer question" } },
    ];
    const { server, model } = await serve({ toolCalls }, how);
    await using _ = server;
    const reply = await model.call(request({ tools: [search] }), listening().context);
    expect(reply.finishReason).toBe("tool_calls");
    expect(reply.toolCalls.map(({ id, name, arguments: args }) => [id, name, JSON.parse(args)])).toEqual([
      ["call_1_0", "search", { q: "black tea" }],
      ["call_1_1", "search", { q: "green tea, and a longer question" }],
    ]);
    expect(server.calls[0]?.body.tools).toEqual([{ type: "function", ...search, strict: true }]);
    expect(server.violations).toEqual([]);
  },
);

test("a conversation with tools, other agents and foreign ids goes out as one a strict server accepts", async () => {
  const { server, model } = await serve("done");
  await using _ = server;
  const id = `call_${"x".repeat(80)}`;
  const messages: Message[] = [
    { role: "user", content: "hi" },
    {
      role: "assistant",
      content: "Let me look.",
      toolCalls: [{ id, name: "search", arguments: "{oops" }],
      name: "triage",
    },
    { role: "tool", toolCallId: id, content: "nothing" },
    { role: "assistant", content: "Nothing there." },
    { role: "user", content: "thanks" },
  ];
  await model.call(request({ messages, instructions: "" }), listening().context);
  expect(server.violations).toEqual([]);
  const input = server.calls[0]?.body.input ?? [];
  expect(input.map(({ type, role }) => type ?? role)).toEqual([
    "user",
    "assistant",
    "function_call",
    "function_call_output",
    "assistant",
    "user",
  ]);
  expect(server.calls[0]?.body).not.toHaveProperty("instructions");
});

test("encrypted reasoning before tool calls is asked for where there is reasoning, and goes back to the same model only", async () => {
  const { server, model } = await serve((_, n) =>
    n === 1
      ? { toolCalls: [{ name: "search", arguments: { q: "tea" } }], reasoning: { summary: "Hm.", encrypted: "sealed" } }
      : "done",
  );
  await using _ = server;
  const settings = { reasoningEffort: "low", reasoningSummary: "auto" };
  const first = await model.call(request({ tools: [search], settings }), listening().context);
  expect(server.calls[0]?.body).toMatchObject({
    include: ["reasoning.encrypted_content"],
    reasoning: { effort: "low", summary: "auto" },
  });
  const messages: Message[] = [
    { role: "user", content: "hello" },
    {
      role: "assistant",
      content: first.content,
      toolCalls: first.toolCalls,
      ...(first.providerState && { providerState: first.providerState }),
    },
    { role: "tool", toolCallId: "call_1_0", content: "found" },
  ];
  await model.call(request({ messages, tools: [search], settings }), listening().context);
  expect(server.calls[1]?.body.input?.[1]).toEqual({
    type: "reasoning",
    id: "rs_1",
    summary: [{ type: "summary_text", text: "Hm." }],
    encrypted_content: "sealed",
  });
  await model.call(request({ messages, tools: [search], settings, model: "other" }), listening().context);
  expect(server.calls[2]?.body.input?.map(({ type }) => type)).not.toContain("reasoning");
  expect(server.violations).toEqual([]);
});

test("settings and extra fields go out in the words of the API", async () => {
  const { server, model } = await serve("ok");
  await using _ = server;
  const settings = {
    temperature: 0.2,
    topP: 0.9,
    maxTokens: 50,
    extraBody: { service_tier: "flex", text: { verbosity: "low" } },
  };
  const output = { name: "answer", schema: { type: "array", items: { type: "string" } } };
  await model.call(request({ settings, output }), listening().context);
  expect(server.calls[0]?.body).toMatchObject({
    temperature: 0.2,
    top_p: 0.9,
    max_output_tokens: 50,
    service_tier: "flex",
    text: { verbosity: "low", format: { type: "json_schema", name: "answer", strict: true } },
  });
  expect(server.violations).toEqual([]);
});

test("an output that is no object travels wrapped and comes back as it is", async () => {
  const { server, model } = await serve('{"value": ["a"]}');
  await using _ = server;
  const output = { name: "answer", schema: { type: "array", items: { type: "string" } } };
  expect((await model.call(request({ output }), listening().context)).content).toBe('["a"]');
});

test.each([
  ["length", "length"],
  ["content_filter", "content_filter"],
])("a response that ends early for %s says so", async (finishReason, expected) => {
  const { server, model } = await serve({ text: "half of", finishReason });
  await using _ = server;
  expect((await model.call(request(), listening().context)).finishReason).toBe(expected);
});

test.each<[string, ChatReply, string, boolean]>([
  ["429", { status: 429, error: { code: "rate_limit_exceeded" } }, "rate_limited", true],
  ["400", { status: 400 }, "bad_request", false],
  ["503", { status: 503 }, "provider_unavailable", true],
  ["a connection that breaks before the answer", { reset: true }, "connection_failed", true],
  ["a stream cut in the middle", { text: "one two three", cutAfter: 6 }, "stream_cut", true],
  ["a stream that ends without an end", { chunks: [{ type: "response.created" }] }, "stream_cut", true],
  ["malformed JSON in a stream", { body: "event: x\ndata: {oops\n\n" }, "malformed_reply", true],
  ["a document that is no response", { body: '{"choices": []}' }, "malformed_reply", true],
  ["a silent server", { text: "late", firstByteMs: 10_000 }, "provider_timeout", true],
  ["silence between two pieces", { text: "one two", stallAfter: 6 }, "provider_timeout", true],
  [
    "an error in the middle of a stream",
    { chunks: [{ type: "error", code: "server_error", message: "overloaded" }] },
    "provider_unavailable",
    true,
  ],
  [
    "a response that failed",
    { chunks: [{ type: "response.failed", response: { error: { code: "rate_limit_exceeded", message: "slowly" } } }] },
    "rate_limited",
    true,
  ],
  [
    "a whole response that failed",
    { body: '{"object":"response","status":"failed","error":{"code":"invalid_prompt","message":"no"},"output":[]}' },
    "bad_request",
    false,
  ],
])("%s is classed", async (_, reply, code, retryable) => {
  const { server, model } = await serve(reply, { timeoutMs: 300 });
  await using _server = server;
  const error = await model.call(request(), listening().context).catch((thrown: unknown) => thrown);
  if (!(error instanceof ModelError)) throw error;
  expect({ code: error.code, retryable: error.retryable }).toEqual({ code, retryable });
  expect(error.message).toMatch(/^openai model gpt-test at http:\/\/127\.0\.0\.1:\d+\/v1: expected /);
});
