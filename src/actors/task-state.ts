/**
 * What a task knows while it is at work, and how each result moves it on: plain data and pure functions, which the task
 * machine assigns from. Hosts use {@link goesOn} to know what has to be journaled first.
 *
 * Invariants
 * T1  `opening` and `transcript` together are a conversation a provider accepts whenever the model is asked.
 * T2  Every call of a turn is answered exactly once, in the order of the calls, whatever becomes of it.
 * T3  Once `outcome` is set nothing changes any more.
 */
import type { ErrorRecord } from "../errors.ts";
import type { Agent } from "./agent.ts";
import { checkConversation, closeOpenCalls, type Message, type ToolCall, withoutState } from "./conversation.ts";
import type { ModelReply } from "./model.ts";
import { readOutput, repairRequest } from "./output.ts";
import type { Outcome, Task, TaskUsage } from "./task.ts";
import type { Tool } from "./tool.ts";
import { readCall } from "./tool-calls.ts";
import { runOf, toolOutcome } from "./tool-task.ts";
import { openingMessages } from "./transfer.ts";
import { isTransferTool, readTransfer, type Transfer } from "./transfer-tools.ts";
import { withReply } from "./usage.ts";

/**
 * One call of a tool that is to be made. Without `tool` it is one of an MCP server, which only the host can reach, and the
 * arguments are an object that nobody has checked yet.
 */
export type ToolRun = { turn: number; call: ToolCall; tool?: Tool; args: unknown };

export type TaskState = {
  /** A function, because persisting a snapshot walks through the objects of its context, and schemas have cycles. */
  readonly agent: () => Agent;
  readonly task: Task;
  /** The number of the turn at work, from 1. */
  readonly turn: number;
  readonly opening: readonly Message[];
  /** What this task added to the conversation. */
  readonly transcript: readonly Message[];
  readonly usage: TaskUsage;
  /** The calls of the turn at work; empty while the model is asked. */
  readonly calls: readonly ToolCall[];
  readonly answers: { readonly [callId: string]: string };
  /** The calls that have to be executed for this turn. */
  readonly runs: readonly ToolRun[];
  /** Agents the model has been told it cannot hand over to any more. */
  readonly refused: readonly string[];
  /** The model has been told what is wrong with its output. */
  readonly repaired: boolean;
  readonly outcome?: Outcome;
};

/** Where a task stands before its first turn. */
export function beginTask(agent: () => Agent, task: Task): TaskState {
  const isTool = task.kind === "tool";
  const state: TaskState = {
    agent,
    task,
    turn: 1,
    opening: isTool ? [] : openingMessages(task),
    transcript: [],
    usage: { inputTokens: 0, outputTokens: 0, modelCalls: 0 },
    calls: [],
    answers: {},
    runs: [],
    refused: [],
    repaired: false,
  };
  return isTool ? beginTool(state) : checked(state);
}

function beginTool(state: TaskState): TaskState {
  const made = runOf(state.agent(), state.task);
  if ("error" in made) return { ...state, outcome: toolOutcome(made, false) };
  return { ...state, calls: [made.run.call], runs: [made.run] };
}

/** Takes in what a task's only tool gave, where it is a tool's. */
export function afterOnlyTool(state: TaskState, result: Parameters<typeof toolOutcome>[0]): TaskState {
  // T3
  if (state.outcome) return state;
  return { ...state, calls: [], runs: [], outcome: toolOutcome(result, true) };
}

/** Takes in the model's reply: the end, tools to run, or another turn. */
export function afterReply(before: TaskState, reply: ModelReply): TaskState {
  const state = { ...before, usage: withReply(before.usage, reply) };
  if (reply.finishReason === "length") {
    return failed(state, "output_truncated", "the model's answer was cut off at its token limit");
  }
  if (reply.finishReason === "content_filter") {
    return failed(state, "content_filtered", "the provider's content filter stopped the model's answer");
  }
  if (reply.toolCalls.length > 0) return afterCalls(state, reply, withOwnIds(reply.toolCalls, state.turn));
  return afterWords(state, reply.content ?? "");
}

/** Whether the task goes on after this reply, so that the reply must be journaled before it is acted on. */
export function goesOn(state: TaskState, reply: ModelReply): boolean {
  // The most frequent case costs nothing: words, and no shape to check.
  if (reply.toolCalls.length === 0 && !state.agent().output) return false;
  return afterReply(state, reply).outcome === undefined;
}

/** Takes in what a tool answered; with the last answer of a turn the next one begins. */
export function afterTool(state: TaskState, callId: string, content: string): TaskState {
  // T2
  if (state.outcome || callId in state.answers || !state.calls.some((call) => call.id === callId)) return state;
  const answers = { ...state.answers, [callId]: content };
  const usage = { ...state.usage, toolCalls: (state.usage.toolCalls ?? 0) + 1 };
  if (state.calls.some((call) => !(call.id in answers))) return { ...state, usage, answers };
  return nextTurn({ ...state, usage, answers: {}, calls: [], runs: [] }, answersInOrder(state.calls, answers));
}

/** Ends a task from outside; what it has said so far stays a legal conversation. */
export function stopTask(state: TaskState, error: ErrorRecord): TaskState {
  if (state.outcome) return state;
  const { calls, answers } = state;
  const given = calls.flatMap((call) => (call.id in answers ? answersInOrder([call], answers) : []));
  const transcript = closeOpenCalls([...state.transcript, ...given], `not executed: interrupted (${error.code})`);
  return {
    ...state,
    transcript,
    calls: [],
    answers: {},
    runs: [],
    outcome: { type: "failed", error, usage: state.usage },
  };
}

function afterWords(state: TaskState, content: string): TaskState {
  const said = { ...state, transcript: [...state.transcript, assistant(state, content)] };
  if (content.trim() === "") {
    return failed(state, "empty_answer", "the model answered with nothing", { retryable: true });
  }
  const { output } = state.agent();
  if (!output) return completed(said, content);
  const read = readOutput(output, content);
  if (read.ok) return completed(said, read.value);
  if (state.repaired) {
    const message = `the model's answer does not have the required shape: ${read.problems.join("; ")}`;
    return failed(said, "invalid_output", message, { retryable: true });
  }
  return nextTurn({ ...said, repaired: true }, [{ role: "user", content: repairRequest(read.problems) }]);
}

function afterCalls(state: TaskState, { content, providerState }: ModelReply, calls: readonly ToolCall[]): TaskState {
  const agent = state.agent();
  const message = { ...assistant(state, content, calls), ...(providerState && { providerState }) };
  const said = { ...state, transcript: [...state.transcript, message] };
  const answers: { [callId: string]: string } = {};
  const runs: ToolRun[] = [];
  const refused = new Set<string>();
  let askedAgain: string | undefined;
  for (const call of calls) {
    if (isTransferTool(call.name) && !agent.tools.some((tool) => tool.name === call.name)) {
      const read = readTransfer(call, state.task);
      // The first one wins, whatever else was called in this turn.
      if (read.type === "transfer") return handedOver(said, calls, read.transfer);
      if (read.type === "limit") {
        if (state.refused.includes(read.to)) askedAgain ??= read.to;
        for (const to of read.refused) refused.add(to);
      }
      answers[call.id] = read.answer;
      continue;
    }
    const read = readCall(call, agent);
    if (!read.ok) answers[call.id] = read.answer;
    else runs.push({ turn: state.turn, call, args: read.args, ...(read.tool && { tool: read.tool }) });
  }
  if (askedAgain !== undefined) {
    const message = `${agent.name} went on handing over to ${askedAgain} after it was told of the limit`;
    return failed(said, "handoff_limit", message);
  }
  const told = refused.size === 0 ? said : { ...said, refused: [...new Set([...state.refused, ...refused])] };
  if (runs.length === 0) return nextTurn(told, answersInOrder(calls, answers));
  // Tools whose answers nobody would read are not worth their side effects.
  if (state.turn >= agent.maxTurns) return tooManyTurns(told);
  return { ...told, calls, answers, runs };
}

function handedOver(state: TaskState, calls: readonly ToolCall[], transfer: Transfer): TaskState {
  const { to, reason, callId } = transfer;
  const answers = calls.map((call): Message => {
    const content = call.id === callId ? `control passed to ${to}` : `not executed: control passed to ${to}`;
    return { role: "tool", toolCallId: call.id, content };
  });
  const transcript = [...withoutState(state.transcript), ...answers];
  const view = viewByFunction(state, transcript, transfer);
  if (view.type === "problem") return failed({ ...state, transcript }, "handoff_context_failed", view.message);
  const outcome: Outcome = {
    type: "handoff",
    to,
    ...("input" in transfer && { input: transfer.input }),
    ...(reason !== undefined && { reason }),
    transcript,
    ...(view.type === "messages" && { messages: view.messages }),
    usage: state.usage,
  };
  return { ...state, transcript, outcome };
}

type ViewByFunction =
  | { type: "none" }
  | { type: "messages"; messages: Message[] }
  | { type: "problem"; message: string };

/** A function on the edge runs here, where it is defined; another daemon may not have it. */
function viewByFunction(
  state: TaskState,
  transcript: readonly Message[],
  { to, reason, input }: Transfer,
): ViewByFunction {
  const agent = state.agent();
  const context = agent.handoffs.find((edge) => edge.to === to)?.context;
  if (typeof context !== "function") return { type: "none" };
  const where = `the context function of the handoff from ${agent.name} to ${to}`;
  try {
    const messages = context({
      from: agent.name,
      to,
      ...(reason !== undefined && { reason }),
      ...(input !== undefined && { input }),
      messages: [...state.opening, ...transcript],
    });
    const problem = checkConversation(messages);
    return problem ? { type: "problem", message: `${where}: ${problem}` } : { type: "messages", messages };
  } catch (error) {
    return { type: "problem", message: `${where} threw: ${error instanceof Error ? error.message : String(error)}` };
  }
}

function nextTurn(state: TaskState, added: readonly Message[]): TaskState {
  const said = { ...state, transcript: [...state.transcript, ...added] };
  if (state.turn >= state.agent().maxTurns) return tooManyTurns(said);
  return checked({ ...said, turn: state.turn + 1 });
}

function tooManyTurns(state: TaskState): TaskState {
  const { name, maxTurns } = state.agent();
  return failed(state, "max_turns", `${name} had no answer after ${maxTurns} turns (its maxTurns)`);
}

// T1
function checked(state: TaskState): TaskState {
  const problem = checkConversation([...state.opening, ...state.transcript]);
  return problem ? failed(state, "illegal_conversation", problem) : state;
}

function completed(state: TaskState, output: unknown): TaskState {
  const { usage, transcript, task } = state;
  // Only a session goes on from the transcript; elsewhere it would store the output twice.
  const kept = task.sessionId === undefined ? {} : { transcript: [...withoutState(transcript)] };
  return { ...state, outcome: { type: "completed", output, usage, ...kept } };
}

function failed(state: TaskState, code: string, message: string, more: { retryable?: boolean } = {}): TaskState {
  return stopTask(state, { code, message, ...more });
}

function assistant(state: TaskState, content: string | null, calls: readonly ToolCall[] = []): Message {
  const { name } = state.agent();
  return { role: "assistant", content, ...(calls.length > 0 && { toolCalls: [...calls] }), name };
}

function answersInOrder(calls: readonly ToolCall[], answers: { readonly [callId: string]: string }): Message[] {
  return calls.map((call) => ({ role: "tool", toolCallId: call.id, content: answers[call.id] ?? "" }));
}

/** Providers promise ids; some servers send none, or the same for each call. */
function withOwnIds(calls: readonly ToolCall[], turn: number): readonly ToolCall[] {
  const ids = new Set(calls.map((call) => call.id));
  if (ids.size === calls.length && !ids.has("")) return calls;
  return calls.map((call, index) => ({ ...call, id: `call_${turn}_${index + 1}` }));
}
