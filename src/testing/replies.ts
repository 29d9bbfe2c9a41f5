/** What a scripted model answers: builders for replies, and how they are spoken. */
import type { ModelCallContext, ModelReply, ModelRequest } from "../actors/model.ts";

/** A tool call to be made by a scripted model. */
export type ScriptedCall = {
  name: string;
  /** @default {} */
  args?: unknown;
  /** @default derived from the position in the script or conversation, the same every time */
  id?: string;
};

/** A reply of a scripted model. Make one with {@link say}, {@link callTool}, {@link handOff} or {@link fail}. */
export type ScriptedReply = { text: string | null; calls: readonly ScriptedCall[]; delayMs?: number } | { fail: Error };

export type ReplyOptions = {
  /** How long the reply takes, in milliseconds. @default the model's own delay */
  delayMs?: number;
};

/** Answers with text; anything else is said as JSON, for agents with an output schema. */
export function say(answer: unknown, options: ReplyOptions = {}): ScriptedReply {
  return { text: typeof answer === "string" ? answer : JSON.stringify(answer), calls: [], ...options };
}

/** Calls one tool. */
export function callTool(name: string, args: unknown = {}, id?: string): ScriptedReply {
  return { text: null, calls: [{ name, args, ...(id === undefined ? {} : { id }) }] };
}

/** Calls several tools in one turn. A text as `args` goes out as it is, so that malformed arguments can be scripted. */
export function callTools(calls: readonly ScriptedCall[], options: ReplyOptions = {}): ScriptedReply {
  return { text: null, calls, ...options };
}

/** Hands off to another agent: calls the tool `transfer_to_<agent>`. */
export function handOff(to: string, args: unknown = {}): ScriptedReply {
  return callTool(`transfer_to_${to}`, args);
}

/** Fails the call; give a `ModelError` to say whether trying again may help. */
export function fail(error: Error): ScriptedReply {
  return { fail: error };
}

export type Speech = {
  /** Told as the model that answered. */
  model: string;
  /** The id of the reply, and what ids of tool calls without one are made from. */
  id: string;
  delayMs: number;
  sleep: (ms: number, signal: AbortSignal) => Promise<void>;
};

/** Pieces a text is sent in at most, so that a long one does not wait on hundreds of timers. */
const MAX_PIECES = 24;

/** Gives a reply the way a provider would: after its delay, the text piece by piece. */
export async function speak(
  reply: ScriptedReply,
  request: ModelRequest,
  context: ModelCallContext,
  speech: Speech,
): Promise<ModelReply> {
  context.signal.throwIfAborted();
  if ("fail" in reply) throw reply.fail;
  const { text, calls, delayMs = speech.delayMs } = reply;
  const pieces = text === null ? [] : toPieces(text);
  const pauses = Math.max(pieces.length, 1);
  for (let i = 0; i < pauses; i++) {
    if (delayMs > 0) await speech.sleep(delayMs / pauses, context.signal);
    const piece = pieces[i];
    if (piece !== undefined) context.onDelta?.(piece);
  }
  const toolCalls = calls.map(({ name, args = {}, id }, i) => ({
    id: id ?? `call_${speech.id}_${i + 1}`,
    name,
    arguments: typeof args === "string" ? args : JSON.stringify(args),
  }));
  return {
    content: text,
    toolCalls,
    finishReason: toolCalls.length > 0 ? "tool_calls" : "stop",
    usage: { inputTokens: tokensIn(request), outputTokens: tokens((text ?? "") + JSON.stringify(toolCalls)) },
    model: speech.model,
    id: `scripted-${speech.id}`,
  };
}

/** Words with the space after them, several to a piece where there are many. */
export function toPieces(text: string): string[] {
  const words = text.match(/\s*\S+\s*/g) ?? (text === "" ? [] : [text]);
  const size = Math.ceil(words.length / MAX_PIECES);
  const pieces: string[] = [];
  for (let i = 0; i < words.length; i += size) pieces.push(words.slice(i, i + size).join(""));
  return pieces;
}

function tokensIn({ instructions, messages }: ModelRequest): number {
  return messages.reduce((sum, { content }) => sum + tokens(content ?? ""), tokens(instructions));
}

/** About four characters make a token; near enough for figures that are only looked at. */
function tokens(text: string): number {
  return Math.ceil(text.length / 4);
}
