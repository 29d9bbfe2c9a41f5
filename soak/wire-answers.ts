/** Answers of the model server as bytes: streamed chat completions, and everything that goes wrong with them. */
import type { ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import type { NumberedReply } from "./answers.ts";
import type { Fault } from "./run-plan.ts";

const EVENTS = { "content-type": "text/event-stream" };
const RETRY_AFTER_MS = 300;
const MAX_PIECES = 20;

/** Streams an answer in pieces, `pieceMs` milliseconds apart. */
export async function sendAnswer(
  response: ServerResponse,
  reply: NumberedReply,
  { n, pieceMs, signal }: { n: number; pieceMs: number; signal: AbortSignal },
): Promise<void> {
  response.writeHead(200, EVENTS);
  const events = chunksOf(reply, n).map(eventOf);
  if (pieceMs === 0) return void response.end(`${events.join("")}data: [DONE]\n\n`);
  for (const event of events) {
    response.write(event);
    await sleep(pieceMs, undefined, { signal });
  }
  response.end("data: [DONE]\n\n");
}

/** A refusal with OpenAI's error JSON. */
export function sendRefusal(response: ServerResponse, status: number, headers: { [name: string]: string } = {}): void {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  const type = status < 500 ? "invalid_request_error" : "server_error";
  response.end(JSON.stringify({ error: { message: `refused with ${status}`, type, param: null, code: null } }));
}

/** Something that goes wrong once. Pieces that get out show no mark. */
export function sendFault(response: ServerResponse, fault: Fault, n: number): void {
  const beginning = eventOf(chunksOf({ content: "the beginning of", toolCalls: [] }, n)[1] as object);
  switch (fault) {
    case "429":
      // In turn in seconds, as in the standard, and in milliseconds, as OpenAI has it.
      sendRefusal(response, 429, n % 2 ? { "retry-after": "1" } : { "retry-after-ms": String(RETRY_AFTER_MS) });
      break;
    case "500":
    case "503":
      sendRefusal(response, Number(fault));
      break;
    case "reset":
      response.destroy();
      break;
    case "cut":
      response.writeHead(200, EVENTS).write(beginning, () => response.destroy());
      break;
    case "malformed":
      response.writeHead(200, EVENTS).end(`${beginning}data: {"id":"chatcmpl-${n}","choi\n\ndata: [DONE]\n\n`);
      break;
    case "html":
      response.writeHead(200, { "content-type": "text/html" }).end("<html><body>We will be back soon</body></html>");
      break;
    case "streamed error": {
      const error = eventOf({ error: { message: "overloaded", type: "server_error" } });
      response.writeHead(200, EVENTS).end(`${beginning}${error}`);
      break;
    }
    default:
      fault satisfies never;
  }
}

/** Pieces of a few words, or larger ones where that would be too many. */
function piecesOf(text: string): string[] {
  const length = Math.max(12, Math.ceil(text.length / MAX_PIECES));
  return Array.from({ length: Math.ceil(text.length / length) }, (_, i) => text.slice(i * length, (i + 1) * length));
}

function eventOf(chunk: object): string {
  return `data: ${JSON.stringify(chunk)}\n\n`;
}

function chunksOf({ content, toolCalls }: NumberedReply, n: number): object[] {
  const base = { id: `chatcmpl-${n}`, object: "chat.completion.chunk", created: 1, model: "soak" };
  const chunk = (delta: object, finish_reason: string | null = null) => ({
    ...base,
    choices: [{ index: 0, delta, finish_reason }],
  });
  const words = content === null ? [] : piecesOf(content).map((text) => chunk({ content: text }));
  const calls = toolCalls.flatMap(({ id, name, arguments: args }, index) => [
    chunk({ tool_calls: [{ index, id, type: "function", function: { name, arguments: "" } }] }),
    chunk({ tool_calls: [{ index, function: { arguments: args } }] }),
  ]);
  const usage = { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 };
  return [
    chunk({ role: "assistant", content: content === null ? null : "" }),
    ...words,
    ...calls,
    chunk({}, toolCalls.length > 0 ? "tool_calls" : "stop"),
    { ...base, choices: [], usage },
  ];
}
