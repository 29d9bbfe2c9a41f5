/**
 * The model provider of the soak: speaks chat completions over HTTP as strictly as OpenAI, counts every call, answers each
 * with its number, and goes wrong as the plan says. It depends on nothing of the runtime: what it saw is the evidence.
 *
 * Invariants
 * M1  Every call that arrives is told to `onCall` before anything is answered.
 * M2  The n-th call of one turn gets the n-th fault of its plan, whoever makes it; the ones after that get the answer.
 * M3  An answer's text leaves whole or with the mark still to come, so that no faulted call can be on record unnoticed.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { checkChatRequest } from "../test/helpers/openai-rules.ts";
import { answerTo } from "./answers.ts";
import { type Asker, type CallKey, KEY_MARK, type ModelCall, type ToolRunCall, taskName } from "./calls.ts";
import { answerOfCall, answersIn, runsIn, toolMark, toolsIn } from "./marks.ts";
import type { RunPlan, Topic, TurnPlan } from "./run-plan.ts";
import { EDGES } from "./shapes.ts";
import { sendAnswer, sendFault, sendRefusal } from "./wire-answers.ts";

export type ModelServerOptions = {
  /** The plan of a run that is going on; undefined for any other. */
  planOf(runId: string): RunPlan | undefined;
  onCall(call: ModelCall): void;
  onTool(call: ToolRunCall): void;
  /** What no daemon should ever do. */
  onProblem(problem: string): void;
};

export type SoakModelServer = {
  /** The base URL of the provider, with `/v1`. */
  readonly url: string;
  /** Where the tool asks. */
  readonly toolUrl: string;
  /** Calls that have reached it. */
  readonly count: number;
  /** Calls of a process that have no answer yet. */
  openOf(pid: number): number;
  /** Drops what is kept about a run that is over. */
  forget(runId: string): void;
  stop(): Promise<void>;
};

/** What the tool asks. */
export type ToolAsk = Asker & { runId: string; taskId: string; key: string; topic: string };
export type ToolSays = { text: string; failed: boolean };

type WireMessage = { content?: string | null; tool_calls?: { id: string; function: { arguments: string } }[] };

const SLOW_TOOL_MS = 1_500;
const FOREVER_MS = 600_000;

/** Starts the server on a free loopback port. */
export async function startModelServer(options: ModelServerOptions): Promise<SoakModelServer> {
  const { planOf, onCall, onTool, onProblem } = options;
  const open = new Set<ModelCall>();
  /** Calls of each turn so far (M2), by run. */
  const asked = new Map<string, Map<string, number>>();
  let calls = 0;
  let tools = 0;

  async function complete(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body: unknown = JSON.parse(await readBody(request));
    const problems = checkChatRequest(body);
    const { messages } = body as { messages: WireMessage[] };
    const key = keyOf(messages);
    if (problems.length > 0) onProblem(`${key.runId} ${key.taskId}: OpenAI would refuse: ${problems.join("; ")}`);
    const turn = planOf(key.runId)?.tasks.get(taskName(key.taskId))?.turns[key.turn - 1];
    if (!turn) {
      onProblem(
        `${key.runId} ${key.taskId} turn ${key.turn}: nobody planned this call (process ${key.pid}, begun ${Date.now() - key.begunAt} ms before)`,
      );
      return sendRefusal(response, 400);
    }
    calls += 1;
    const call = record(key, turn, messages);
    onCall(call); // M1
    open.add(call);
    const gone = new AbortController();
    response.once("close", () => {
      open.delete(call);
      call.endedAt = Date.now();
      if (call.state === "open") call.state = response.writableFinished ? "answered" : "aborted";
      gone.abort();
    });
    await answer(response, { call, turn, signal: gone.signal });
  }

  function record(key: CallKey & Asker, turn: TurnPlan, messages: readonly WireMessage[]): ModelCall {
    const [, ...shown] = messages;
    const texts = shown.flatMap(({ content, tool_calls = [] }) => [
      content ?? "",
      ...tool_calls.map((made) => made.function.arguments),
    ]);
    const text = texts.join("\n");
    const ids = shown.flatMap(({ tool_calls = [] }) => tool_calls.map(({ id }) => answerOfCall(id)));
    const fault = turn.faults[countCall(key)];
    const edges = (EDGES[key.agent] ?? []).map(({ to }) => to);
    const reply = fault === undefined ? answerTo(turn.says, { agent: key.agent, n: calls, edges }) : undefined;
    return {
      ...key,
      n: calls,
      at: Date.now(),
      state: "open",
      ...(fault !== undefined && { fault }),
      ...(turn.says.type === "refusal" && { fault: "refused" as const }),
      plannedMs: turn.says.type === "silence" ? FOREVER_MS : turn.delayMs + turn.pieceMs * 8,
      ...(reply && { reply }),
      saw: {
        answers: [...new Set([...answersIn(text), ...ids])].sort((a, b) => a - b),
        tools: toolsIn(text),
        runs: runsIn(text),
      },
    };
  }

  /** How often the turn was asked for before. */
  function countCall({ runId, taskId, turn }: CallKey): number {
    const turns = asked.get(runId) ?? new Map<string, number>();
    asked.set(runId, turns);
    const name = `${taskName(taskId)} ${turn}`;
    const before = turns.get(name) ?? 0;
    turns.set(name, before + 1);
    return before;
  }

  async function answer(
    response: ServerResponse,
    { call, turn, signal }: { call: ModelCall; turn: TurnPlan; signal: AbortSignal },
  ): Promise<void> {
    if (turn.says.type === "silence") return;
    await sleep(turn.delayMs, undefined, { signal });
    if (call.reply) return sendAnswer(response, call.reply, { n: call.n, pieceMs: turn.pieceMs, signal });
    call.state = "faulted";
    if (turn.says.type === "refusal") return sendRefusal(response, turn.says.status);
    if (call.fault !== undefined && call.fault !== "refused") return sendFault(response, call.fault, call.n);
  }

  async function runTool(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { topic, ...ask } = JSON.parse(await readBody(request)) as ToolAsk;
    if (!planOf(ask.runId))
      onProblem(`${ask.runId} ${ask.taskId}: a tool ran after the run was over (process ${ask.pid})`);
    tools += 1;
    const text = `${toolMark(tools)} about ${topic}`;
    onTool({ ...ask, n: tools, at: Date.now(), text });
    if ((topic as Topic) === "slow") await sleep(SLOW_TOOL_MS);
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ text, failed: (topic as Topic) === "fails" } satisfies ToolSays));
  }

  const server = createServer((request, response) => {
    const handled = request.url === "/tool" ? runTool(request, response) : complete(request, response);
    // Whoever asked may be gone by now; that is what the soak is about.
    handled.catch(() => response.destroy());
  });
  server.keepAliveTimeout = 60_000;
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const root = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url: `${root}/v1`,
    toolUrl: `${root}/tool`,
    get count() {
      return calls;
    },
    forget: (runId) => void asked.delete(runId),
    openOf: (pid) => [...open].filter((call) => call.pid === pid).length,
    stop: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function keyOf([system]: readonly WireMessage[]): CallKey & Asker {
  const found = KEY_MARK.exec(system?.content ?? "")?.[1];
  if (found === undefined) throw new Error("expected the key of the call in the system message, got none");
  return JSON.parse(found) as CallKey & Asker;
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of request) chunks.push(chunk as Uint8Array);
  return Buffer.concat(chunks).toString("utf8");
}
