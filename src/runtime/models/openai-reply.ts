/** From the chunks of a streamed chat completion (or one whole completion) to a model reply. */
import { randomBytes } from "node:crypto";
import type { ToolCall } from "../../actors/conversation.ts";
import type { ModelReply, Usage } from "../../actors/model.ts";
import type { ReplyListener, ReplyReader } from "./reply-reader.ts";

/** A piece of a tool call; compatible servers leave out every part of it. */
type CallFragment = { index?: number; id?: string | null; function?: { name?: string | null; arguments?: unknown } };

type Part = {
  content?: string | null;
  refusal?: string | null;
  tool_calls?: CallFragment[] | null;
  /** No part of the standard; the two names that compatible servers have for it. */
  reasoning_content?: string | null;
  reasoning?: string | null;
};

/** What is read of a chunk, and of a whole completion, whose choice has a `message` in place of a `delta`. */
type Chunk = {
  id?: string;
  model?: string;
  choices?: { index?: number; delta?: Part | null; message?: Part | null; finish_reason?: string | null }[];
  usage?: {
    prompt_tokens?: number;
    completion_tokens?: number;
    prompt_tokens_details?: { cached_tokens?: number | null } | null;
    completion_tokens_details?: { reasoning_tokens?: number | null } | null;
  } | null;
  error?: unknown;
};

/** Puts a reply together chunk by chunk. */
export class ReplyAssembler implements ReplyReader {
  readonly what = "a chat completion";
  /** What ends the stream is no chunk. */
  readonly ended = false;
  readonly #requestedModel: string;
  readonly #listener: ReplyListener;
  readonly #calls: ToolCall[] = [];
  /** The call that fragments with a given index belong to now. */
  readonly #byIndex = new Map<number, ToolCall>();
  #text: string | undefined;
  #finishReason: string | undefined;
  #usage: Usage = { inputTokens: 0, outputTokens: 0 };
  #model: string | undefined;
  #id: string | undefined;

  constructor(requestedModel: string, listener: ReplyListener = {}) {
    this.#requestedModel = requestedModel;
    this.#listener = listener;
  }

  get finished(): boolean {
    return this.#finishReason !== undefined;
  }

  addWhole(document: unknown): object | boolean {
    const error = this.add(document);
    return error ?? Boolean((document as Chunk | null)?.choices);
  }

  add(data: unknown): object | undefined {
    const chunk = (data ?? {}) as Chunk;
    if (chunk.error) return { error: chunk.error };
    this.#addChunk(chunk);
    return undefined;
  }

  #addChunk(chunk: Chunk): void {
    if (chunk.id) this.#id = chunk.id;
    if (chunk.model) this.#model = chunk.model;
    if (chunk.usage) {
      const { prompt_tokens: inputTokens = 0, completion_tokens: outputTokens = 0 } = chunk.usage;
      const cached = chunk.usage.prompt_tokens_details?.cached_tokens;
      const reasoning = chunk.usage.completion_tokens_details?.reasoning_tokens;
      this.#usage = toUsage(inputTokens, outputTokens, cached, reasoning);
    }
    const choice = chunk.choices?.find(({ index }) => index === undefined || index === 0);
    if (!choice) return;
    const part = choice.delta ?? choice.message;
    if (part) this.#addPart(part);
    if (choice.finish_reason) this.#finishReason = choice.finish_reason;
  }

  reply(): ModelReply {
    for (const call of this.#calls) if (call.arguments === "") call.arguments = "{}";
    giveMissingIds(this.#calls);
    return {
      content: this.#text ?? null,
      toolCalls: this.#calls,
      finishReason: toFinishReason(this.#finishReason, this.#calls.length > 0),
      usage: this.#usage,
      model: this.#model ?? this.#requestedModel,
      ...(this.#id === undefined ? {} : { id: this.#id }),
    };
  }

  #addPart({ content, refusal, tool_calls: fragments, reasoning_content, reasoning }: Part): void {
    const thought = reasoning_content || reasoning;
    if (typeof thought === "string" && thought !== "") this.#listener.onReasoning?.(thought);
    // A refusal is the model's answer, said in another field.
    const text = content || refusal;
    if (text) {
      this.#text = (this.#text ?? "") + text;
      this.#listener.onDelta?.(text);
    }
    for (const fragment of fragments ?? []) this.#addFragment(fragment);
  }

  #addFragment(fragment: CallFragment): void {
    const call = this.#callOf(fragment);
    if (fragment.function?.name) call.name = fragment.function.name;
    const args = fragment.function?.arguments;
    // Some servers send the arguments as the object they stand for.
    if (args !== undefined && args !== null) call.arguments += typeof args === "string" ? args : JSON.stringify(args);
  }

  /** OpenAI tells calls apart by `index`; some servers leave it out or say 0 each time, then a new id is a new call. */
  #callOf({ index, id }: CallFragment): ToolCall {
    const current = index === undefined ? this.#calls.at(-1) : this.#byIndex.get(index);
    if (current && (!id || !current.id || current.id === id)) {
      if (id) current.id = id;
      return current;
    }
    const call: ToolCall = { id: id ?? "", name: "", arguments: "" };
    this.#calls.push(call);
    if (index !== undefined) this.#byIndex.set(index, call);
    return call;
  }
}

/** Answers are matched to calls by id: calls without one, or with that of a sibling, get their own. */
export function giveMissingIds(calls: ToolCall[]): void {
  const taken = new Set<string>();
  for (const call of calls) {
    if (call.id === "" || taken.has(call.id)) call.id = `call_${randomBytes(12).toString("hex")}`;
    taken.add(call.id);
  }
}

/** Figures of nothing are left out. */
export function toUsage(
  inputTokens: number,
  outputTokens: number,
  cachedTokens: number | null | undefined,
  reasoningTokens: number | null | undefined,
): Usage {
  const usage: Usage = { inputTokens, outputTokens };
  if (cachedTokens) usage.cachedTokens = cachedTokens;
  if (reasoningTokens) usage.reasoningTokens = reasoningTokens;
  return usage;
}

function toFinishReason(said: string | undefined, hasCalls: boolean): ModelReply["finishReason"] {
  if (said === "length" || said === "content_filter") return said;
  return hasCalls ? "tool_calls" : "stop";
}
