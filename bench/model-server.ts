/**
 * The model: a process that answers every call at once. `POST /lean` takes and gives the JSON of the `Model` interface,
 * `POST /v1/chat/completions` is OpenAI's, streamed or not.
 *
 * Shown a transfer tool it calls that, otherwise it says one sentence; so the definitions of W2 decide who hands over.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { answerParent } from "./answer-parent.ts";
import { ANSWER } from "./works.ts";

type ChatBody = { model: string; stream?: boolean; tools?: { function: { name: string } }[] };
type LeanBody = { tools: { name: string }[] };

const USAGE = { prompt_tokens: 60, completion_tokens: 8, total_tokens: 68 };
const PLAIN = JSON.stringify({
  content: ANSWER,
  toolCalls: [],
  finishReason: "stop",
  usage: { inputTokens: USAGE.prompt_tokens, outputTokens: USAGE.completion_tokens },
  model: "instant",
});

let calls = 0;

const server = createServer((request, response) => {
  let text = "";
  request.setEncoding("utf8");
  request.on("data", (piece: string) => {
    text += piece;
  });
  request.on("end", () => answer(request, response, text));
});
server.keepAliveTimeout = 0;
server.listen(0, "127.0.0.1", () => {
  const { port } = server.address() as AddressInfo;
  answerParent({ url: `http://127.0.0.1:${port}` }, { calls: () => calls, stop: () => server.closeAllConnections() });
});

function answer({ url }: IncomingMessage, response: ServerResponse, text: string): void {
  calls += 1;
  response.sendDate = false;
  if (url === "/lean") send(response, leanReply(JSON.parse(text) as LeanBody));
  else if (url === "/v1/chat/completions") answerChat(response, JSON.parse(text) as ChatBody);
  else response.writeHead(404).end();
}

function answerChat(response: ServerResponse, { model, stream, tools }: ChatBody): void {
  const transfer = tools?.[0]?.function.name;
  if (stream) send(response, chunks(model, transfer), "text/event-stream");
  else send(response, completion(model, transfer));
}

function send(response: ServerResponse, body: string, type = "application/json"): void {
  response.writeHead(200, { "content-type": type, "content-length": Buffer.byteLength(body) }).end(body);
}

function leanReply({ tools }: LeanBody): string {
  const [transfer] = tools;
  if (!transfer) return PLAIN;
  const toolCalls = [{ id: `call_${calls}`, name: transfer.name, arguments: "{}" }];
  return JSON.stringify({ ...JSON.parse(PLAIN), content: null, toolCalls, finishReason: "tool_calls" });
}

function completion(model: string, transfer: string | undefined): string {
  const message = { role: "assistant", content: transfer ? null : ANSWER, ...(transfer && toolCalls(transfer)) };
  const choices = [{ index: 0, message, finish_reason: transfer ? "tool_calls" : "stop" }];
  return JSON.stringify({ id: `c${calls}`, object: "chat.completion", created: 1, model, choices, usage: USAGE });
}

function chunks(model: string, transfer: string | undefined): string {
  const base = { id: `c${calls}`, object: "chat.completion.chunk", created: 1, model };
  const choice = (delta: object, finish_reason: string | null = null) => ({
    ...base,
    choices: [{ index: 0, delta, finish_reason }],
  });
  const said = transfer
    ? [choice({ role: "assistant", content: null, ...toolCalls(transfer) })]
    : [choice({ role: "assistant", content: "" }), ...ANSWER.split(/(?= )/).map((content) => choice({ content }))];
  const all = [...said, choice({}, transfer ? "tool_calls" : "stop"), { ...base, choices: [], usage: USAGE }];
  return `${all.map((chunk) => `data: ${JSON.stringify(chunk)}\n\n`).join("")}data: [DONE]\n\n`;
}

function toolCalls(name: string) {
  const call = { index: 0, id: `call_${calls}`, type: "function", function: { name, arguments: "{}" } };
  return { tool_calls: [call] };
}
