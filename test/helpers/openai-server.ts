/**
 * A local server that speaks chat completions and the Responses API over HTTP and is as strict as OpenAI about what it is sent.
 * What it answers is scripted, the same for both; every request is recorded.
 */
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import { toResponse, toResponseEvents } from "./openai-responses.ts";
import { checkChatRequest } from "./openai-rules.ts";
import { checkResponsesRequest } from "./responses-rules.ts";

export type ChatRequestBody = {
  model: string;
  /** Of a chat completion. */
  messages: { role: string; content: string | null; [key: string]: unknown }[];
  /** Of a request to the Responses API, which has this in place of `messages`. */
  input?: { [key: string]: unknown }[];
  stream?: boolean;
  [key: string]: unknown;
};

export type RecordedRequest = {
  headers: IncomingHttpHeaders;
  api: "chat" | "responses";
  body: ChatRequestBody;
  /** Tells connections apart. */
  clientPort: number | undefined;
  /** Set once the client went away before its answer was complete. */
  aborted: boolean;
};

/** An answer; without more it is a complete, streamed one. */
export type ChatReply = {
  text?: string;
  toolCalls?: { id?: string; name: string; arguments: unknown }[];
  finishReason?: string;
  /** What the last chunk says was used; `false` for a server that does not tell. */
  usage?: { prompt_tokens: number; completion_tokens: number; cached?: number; reasoning?: number } | false;
  /** What the model is told to have thought: pieces of a summary, and what only the provider can read. */
  reasoning?: { summary?: string; encrypted?: string };
  /** The model that says it answered. @default the one asked for */
  model?: string;
  /** An HTTP status other than 200, with OpenAI's error JSON unless `body` says otherwise. */
  status?: number;
  headers?: { [name: string]: string };
  error?: { message?: string; type?: string; code?: string | null };
  /** Sent as it is in place of an answer. */
  body?: string;
  /** The connection breaks after `body`. */
  cutBody?: true;
  /** Sent as they are, one event each, in place of the chunks made from `text` and `toolCalls`. */
  chunks?: unknown[];
  /** The connection breaks after so many chunks. */
  cutAfter?: number;
  /** So many chunks are sent, then nothing more, for as long as the client waits. */
  stallAfter?: number;
  /** Milliseconds before the first byte. */
  firstByteMs?: number;
  /** Milliseconds between chunks. */
  delayMs?: number;
  /** `false` for a server that ignores `stream: true`. */
  streamed?: false;
  /** The connection breaks before the first byte. */
  reset?: true;
};

export type OpenAIServerOptions = {
  /** Answers the n-th request, from 1. A text is the answer's text. */
  reply:
    | string
    | ChatReply
    | ((request: ChatRequestBody, n: number) => string | ChatReply | Promise<string | ChatReply>);
  /** The only key accepted. @default any */
  apiKey?: string;
  /** Whether `calls` keeps the requests; off for long measurements. @default true */
  record?: boolean;
};

export type OpenAIServer = AsyncDisposable & {
  /** The base URL, with `/v1`. */
  url: string;
  calls: RecordedRequest[];
  /** What OpenAI would have refused, in the order it came. */
  violations: string[];
  close(): Promise<void>;
};

/** Starts the server on a free loopback port. */
export async function startOpenAIServer(options: OpenAIServerOptions): Promise<OpenAIServer> {
  const calls: RecordedRequest[] = [];
  const violations: string[] = [];
  const closing = new AbortController();
  let count = 0;

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const raw = await readBody(request);
    const refusal = refuse(request, options.apiKey);
    if (refusal) return sendError(response, refusal);
    const body = parse(raw);
    const api = request.url?.split("?")[0] === "/v1/responses" ? "responses" : "chat";
    const problems = api === "chat" ? checkChatRequest(body) : checkResponsesRequest(body);
    if (problems.length > 0) {
      violations.push(...problems);
      return sendError(response, { status: 400, error: { message: problems.join("; ") } });
    }
    const asked = body as ChatRequestBody;
    const call: RecordedRequest = {
      headers: request.headers,
      api,
      body: asked,
      clientPort: request.socket.remotePort,
      aborted: false,
    };
    if (options.record !== false) calls.push(call);
    const gone = new AbortController();
    response.once("close", () => {
      call.aborted = !response.writableFinished;
      gone.abort();
    });
    const n = ++count;
    const scripted = typeof options.reply === "function" ? await options.reply(asked, n) : options.reply;
    const reply = typeof scripted === "string" ? { text: scripted } : scripted;
    await send(response, asked, reply, { n, api, signal: AbortSignal.any([gone.signal, closing.signal]) });
  }

  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => {
      if (response.destroyed || closing.signal.aborted) return;
      violations.push(`the server's own reply failed: ${String(error)}`);
      response.destroy();
    });
  });
  server.keepAliveTimeout = 60_000;
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));

  const close = () =>
    new Promise<void>((resolve) => {
      closing.abort();
      server.close(() => resolve());
      server.closeAllConnections();
    });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
  return { url, calls, violations, close, [Symbol.asyncDispose]: close };
}

function refuse(request: IncomingMessage, apiKey: string | undefined): ChatReply | undefined {
  if (request.method !== "POST" || !/^\/v1\/(chat\/completions|responses)(\?|$)/.test(request.url ?? "")) {
    return { status: 404, error: { message: `Invalid URL (${request.method} ${request.url})` } };
  }
  const { authorization = "" } = request.headers;
  const fits = apiKey === undefined ? /^Bearer \S+$/.test(authorization) : authorization === `Bearer ${apiKey}`;
  if (!fits) return { status: 401, error: { message: "Incorrect API key provided", code: "invalid_api_key" } };
  return undefined;
}

type Sending = { n: number; api: RecordedRequest["api"]; signal: AbortSignal };

async function send(
  response: ServerResponse,
  body: ChatRequestBody,
  reply: ChatReply,
  { n, api, signal }: Sending,
): Promise<void> {
  if (reply.firstByteMs) await wait(reply.firstByteMs, undefined, { signal });
  if (reply.reset) return void response.destroy();
  if (reply.status !== undefined && reply.status !== 200) return sendError(response, reply);
  if (reply.body !== undefined) {
    response.writeHead(200, { "content-type": "text/event-stream", ...reply.headers });
    if (!reply.cutBody) return void response.end(reply.body);
    await new Promise((resolve) => response.write(reply.body, resolve));
    return void response.destroy();
  }
  if (body.stream !== true || reply.streamed === false) {
    response.writeHead(200, { "content-type": "application/json", ...reply.headers });
    const whole = api === "chat" ? toCompletion(reply, body.model, n) : toResponse(reply, body.model, n);
    return void response.end(JSON.stringify(whole));
  }
  response.writeHead(200, { "content-type": "text/event-stream", ...reply.headers });
  const events = eventsOf(reply, body.model, n, api);
  const end = api === "chat" ? "data: [DONE]\n\n" : "";
  const { cutAfter, stallAfter, delayMs } = reply;
  const until = cutAfter ?? stallAfter;
  // At once where nothing asks for pieces: measurements are about the client.
  if (until === undefined && !delayMs) return void response.end(`${events.join("")}${end}`);
  response.flushHeaders();
  for (const event of events.slice(0, until)) {
    await new Promise((resolve) => response.write(event, resolve));
    if (delayMs) await wait(delayMs, undefined, { signal });
  }
  if (cutAfter !== undefined) response.destroy();
  else if (stallAfter === undefined) response.end(end);
}

function eventsOf(reply: ChatReply, model: string, n: number, api: RecordedRequest["api"]): string[] {
  if (api === "chat")
    return (reply.chunks ?? toChunks(reply, model, n)).map((chunk) => `data: ${JSON.stringify(chunk)}\n\n`);
  return ((reply.chunks as { type: string }[]) ?? toResponseEvents(reply, model, n)).map(
    (event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`,
  );
}

function sendError(response: ServerResponse, { status = 500, headers, error, body }: ChatReply): void {
  const told = {
    message: `status ${status}`,
    type: status < 500 ? "invalid_request_error" : "server_error",
    code: null,
    ...error,
  };
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(body ?? JSON.stringify({ error: { param: null, ...told } }));
}

function finishReasonOf({ finishReason, toolCalls }: ChatReply): string {
  return finishReason ?? (toolCalls ? "tool_calls" : "stop");
}

function usageOf({ usage, text = "" }: ChatReply) {
  if (usage === false) return undefined;
  const { prompt_tokens, completion_tokens, cached, reasoning } = usage ?? {
    prompt_tokens: 11,
    completion_tokens: Math.ceil(text.length / 4),
  };
  return {
    prompt_tokens,
    completion_tokens,
    total_tokens: prompt_tokens + completion_tokens,
    ...(cached !== undefined && { prompt_tokens_details: { cached_tokens: cached } }),
    ...(reasoning !== undefined && { completion_tokens_details: { reasoning_tokens: reasoning } }),
  };
}

function callsOf({ toolCalls }: ChatReply, n: number) {
  return toolCalls?.map(({ id, name, arguments: args }, index) => ({
    index,
    id: id ?? `call_${n}_${index}`,
    type: "function",
    function: { name, arguments: typeof args === "string" ? args : JSON.stringify(args) },
  }));
}

function toCompletion(reply: ChatReply, model: string, n: number): object {
  const message = { role: "assistant", content: reply.text ?? null, tool_calls: callsOf(reply, n) };
  return {
    id: `chatcmpl-${n}`,
    object: "chat.completion",
    created: 1,
    model: reply.model ?? model,
    choices: [{ index: 0, message, finish_reason: finishReasonOf(reply) }],
    usage: usageOf(reply),
  };
}

function toChunks(reply: ChatReply, model: string, n: number): object[] {
  const base = { id: `chatcmpl-${n}`, object: "chat.completion.chunk", created: 1, model: reply.model ?? model };
  const chunk = (delta: object, finish_reason: string | null = null) => ({
    ...base,
    choices: [{ index: 0, delta, finish_reason }],
  });
  const chunks: object[] = [chunk({ role: "assistant", content: reply.toolCalls ? null : "" })];
  if (reply.reasoning?.summary) chunks.push(chunk({ reasoning_content: reply.reasoning.summary }));
  for (const content of reply.text?.match(/\s*\S+\s*/g) ?? []) chunks.push(chunk({ content }));
  for (const { function: called, ...call } of callsOf(reply, n) ?? []) {
    chunks.push(chunk({ tool_calls: [{ ...call, function: { name: called.name, arguments: "" } }] }));
    for (const piece of called.arguments.match(/.{1,12}/gs) ?? []) {
      chunks.push(chunk({ tool_calls: [{ index: call.index, function: { arguments: piece } }] }));
    }
  }
  chunks.push(chunk({}, finishReasonOf(reply)));
  const usage = usageOf(reply);
  return usage ? [...chunks, { ...base, choices: [], usage }] : chunks;
}

async function readBody(request: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece as Buffer);
  return Buffer.concat(pieces).toString();
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
