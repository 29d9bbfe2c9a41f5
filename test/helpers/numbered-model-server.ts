/**
 * A model provider in the test's own process: counts every call that reaches it and answers each with its number, so that
 * whatever a journal holds can be traced back to the one call it came from. It depends on nothing of the runtime.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** What identifies a call: the same for every repetition of it. */
export type CallKey = { runId: string; taskId: string; agent: string; turn: number };

/** What a daemon asks. */
export type NumberedAsk = CallKey & {
  /** The process that asks. */
  pid: number;
  /** When it asked, in milliseconds since the epoch. */
  madeAt: number;
  /** The text of every message, in order. */
  texts: string[];
  /** The ids of the tool calls in the conversation, in order. */
  callIds: string[];
  /** The names of the tools offered. */
  tools: string[];
};

export type NumberedReply = {
  content: string | null;
  toolCalls: { id: string; name: string; arguments: string }[];
};

/** One call as it reached the server. */
export type NumberedCall = CallKey & {
  /** From 1, over all runs. */
  n: number;
  /** The process that asked. */
  pid: number;
  /** When it was made, in milliseconds since the epoch: a process may be stopped before what it asked is on its way. */
  at: number;
  state: "open" | "answered" | "aborted";
  /** When it was answered or aborted. */
  endedAt?: number;
};

export type NumberedModelOptions = {
  /** Makes the reply to call `n`. @default `answerNumbered` */
  reply?: (ask: NumberedAsk, n: number) => NumberedReply;
  /** How long an answer takes, in milliseconds. @default 50 to 250, spread by the call's number */
  delayMs?: (ask: NumberedAsk, n: number) => number;
};

export type NumberedModelServer = {
  readonly url: string;
  readonly calls: readonly NumberedCall[];
  /** Calls that have not been answered. */
  open(): NumberedCall[];
  [Symbol.asyncDispose](): Promise<void>;
};

/** Starts the server on a free loopback port. */
export async function startNumberedModel(options: NumberedModelOptions = {}): Promise<NumberedModelServer> {
  const { reply = answerNumbered, delayMs = (_ask, n) => 50 + ((n * 37) % 200) } = options;
  const calls: NumberedCall[] = [];

  async function answer(request: IncomingMessage, response: ServerResponse) {
    const chunks: Uint8Array[] = [];
    for await (const chunk of request) chunks.push(chunk as Uint8Array);
    const ask = JSON.parse(Buffer.concat(chunks).toString("utf8")) as NumberedAsk;
    const { runId, taskId, agent, turn, pid, madeAt } = ask;
    const n = calls.length + 1;
    const call: NumberedCall = { n, pid, runId, taskId, agent, turn, at: madeAt, state: "open" };
    calls.push(call);
    const timer = setTimeout(
      () => {
        call.state = "answered";
        call.endedAt = Date.now();
        response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(reply(ask, n)));
      },
      delayMs(ask, n),
    );
    response.once("close", () => {
      clearTimeout(timer);
      if (call.state !== "open") return;
      call.state = "aborted";
      call.endedAt = Date.now();
    });
  }

  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.destroy());
  });
  server.keepAliveTimeout = 60_000;
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    calls,
    open: () => calls.filter(({ state }) => state === "open"),
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** What an answer says: who gave it under which number, and the numbers of all answers it was given. */
export type NumberedAnswer = { agent: string; n: number; saw: number[] };

/**
 * Words by default; a call of the tool `lookup` in the first turn and two in the second where it is offered; a handoff where
 * there is somebody to hand over to.
 */
export function answerNumbered(ask: NumberedAsk, n: number): NumberedReply {
  const transfer = ask.tools.find((name) => name.startsWith("transfer_to_"));
  if (transfer) return { content: null, toolCalls: [toolCall(n, 0, transfer, {})] };
  if (ask.tools.includes("lookup") && ask.turn === 1) {
    return { content: null, toolCalls: [toolCall(n, 0, "lookup", { topic: "one" })] };
  }
  if (ask.tools.includes("lookup") && ask.turn === 2) {
    const both = ["two", "three"].map((topic, i) => toolCall(n, i, "lookup", { topic }));
    return { content: null, toolCalls: both };
  }
  const answer: NumberedAnswer = { agent: ask.agent, n, saw: numbersIn(ask) };
  return { content: JSON.stringify(answer), toolCalls: [] };
}

/** The number of the call that a tool call's id names. */
export function numberOfToolCall(id: string): number {
  return Number(/^call_(\d+)_/.exec(id)?.[1]);
}

function toolCall(n: number, i: number, name: string, args: object) {
  return { id: `call_${n}_${i}`, name, arguments: JSON.stringify(args) };
}

/** The numbers of the answers and tool calls in a conversation, each once, ascending. */
function numbersIn({ texts, callIds }: NumberedAsk): number[] {
  const numbers = new Set(callIds.map(numberOfToolCall));
  for (const text of texts) for (const [, n] of text.matchAll(/\\?"n\\?":(\d+)/g)) numbers.add(Number(n));
  return [...numbers].sort((a, b) => a - b);
}
