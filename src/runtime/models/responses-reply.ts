/** From the events of a streamed response of the Responses API (or one whole response) to a model reply. */
import type { ToolCall } from "../../actors/conversation.ts";
import type { ModelReply, Usage } from "../../actors/model.ts";
import { giveMissingIds, toUsage } from "./openai-reply.ts";
import type { ReplyListener, ReplyReader } from "./reply-reader.ts";

type ContentPart = { type?: string; text?: string; refusal?: string };

/** What is read of an item of the output; compatible servers leave out parts. */
type Item = {
  type?: string;
  id?: string;
  call_id?: string;
  name?: string;
  arguments?: unknown;
  content?: ContentPart[] | null;
  summary?: { text?: string }[] | null;
  encrypted_content?: string | null;
};

type Whole = {
  object?: string;
  id?: string;
  model?: string;
  status?: string;
  output?: Item[] | null;
  error?: unknown;
  incomplete_details?: { reason?: string } | null;
  usage?: {
    input_tokens?: number;
    output_tokens?: number;
    input_tokens_details?: { cached_tokens?: number } | null;
    output_tokens_details?: { reasoning_tokens?: number } | null;
  } | null;
};

type Event = {
  type?: string;
  response?: Whole;
  item?: Item;
  output_index?: number;
  summary_index?: number;
  delta?: string;
  arguments?: string;
};

/** Puts a reply together event by event. */
export class ResponseAssembler implements ReplyReader {
  readonly what = "a response";
  readonly #by: string;
  readonly #requestedModel: string;
  readonly #listener: ReplyListener;
  /** By their place in the output. */
  readonly #items = new Map<number, Item>();
  #text: string | undefined;
  #whole: Whole | undefined;
  #ended = false;

  /** `by` is whose state the reply carries. */
  constructor(by: string, requestedModel: string, listener: ReplyListener = {}) {
    this.#by = by;
    this.#requestedModel = requestedModel;
    this.#listener = listener;
  }

  get finished(): boolean {
    return this.#ended;
  }

  get ended(): boolean {
    return this.#ended;
  }

  addWhole(document: unknown): object | boolean {
    const whole = (document ?? {}) as Whole;
    if (whole.error || whole.status === "failed") return failureOf(whole);
    if (!Array.isArray(whole.output)) return false;
    for (const { text } of whole.output.flatMap(({ summary }) => summary ?? [])) {
      if (text) this.#listener.onReasoning?.(text);
    }
    this.#end(whole);
    return true;
  }

  add(data: unknown): object | undefined {
    const event = (data ?? {}) as Event;
    const { type, item, delta = "", output_index: place = 0 } = event;
    switch (type) {
      case "error":
        return "error" in event ? event : { error: event };
      case "response.failed":
        return failureOf(event.response ?? {});
      case "response.output_text.delta":
      // A refusal is the model's answer, said in another field.
      case "response.refusal.delta":
        this.#say(delta);
        break;
      case "response.reasoning_summary_part.added":
        if ((event.summary_index ?? 0) > 0) this.#listener.onReasoning?.("\n\n");
        break;
      case "response.reasoning_summary_text.delta":
      case "response.reasoning_text.delta":
        if (delta !== "") this.#listener.onReasoning?.(delta);
        break;
      case "response.output_item.added":
      case "response.output_item.done":
        if (item) this.#items.set(place, item);
        break;
      case "response.function_call_arguments.delta":
        this.#addArguments(place, delta);
        break;
      case "response.completed":
      case "response.incomplete":
        this.#end(event.response ?? {});
        break;
      default:
        // There are many more, and will be; what they tell comes with the item, too.
        break;
    }
    return undefined;
  }

  reply(): ModelReply {
    const { id, model, usage, output } = this.#whole ?? {};
    const items = output && output.length > 0 ? output : [...this.#items.values()];
    const calls = items.filter(({ type }) => type === "function_call").map(toCall);
    giveMissingIds(calls);
    const state = calls.length > 0 ? items.filter(isEncryptedReasoning).map(toState) : [];
    return {
      content: this.#text ?? null,
      toolCalls: calls,
      finishReason: this.#finishReason(calls.length > 0),
      usage: usageOf(usage),
      model: model ?? this.#requestedModel,
      ...(id && { id }),
      ...(state.length > 0 && { providerState: { by: this.#by, items: state } }),
    };
  }

  #say(text: string): void {
    if (text === "") return;
    this.#text = (this.#text ?? "") + text;
    this.#listener.onDelta?.(text);
  }

  #addArguments(place: number, delta: string): void {
    const item = this.#items.get(place);
    if (item) this.#items.set(place, { ...item, arguments: `${asText(item.arguments)}${delta}` });
  }

  #end(whole: Whole): void {
    this.#whole = whole;
    this.#ended = true;
    // Nothing of it came in pieces.
    if (this.#text === undefined) for (const item of whole.output ?? []) this.#say(textOf(item));
  }

  #finishReason(hasCalls: boolean): ModelReply["finishReason"] {
    const { status, incomplete_details: details } = this.#whole ?? {};
    if (status === "incomplete") {
      if (details?.reason === "max_output_tokens") return "length";
      if (details?.reason === "content_filter") return "content_filter";
    }
    return hasCalls ? "tool_calls" : "stop";
  }
}

function failureOf({ error }: Whole): object {
  return { error: error ?? { message: "the response failed" } };
}

function textOf({ type, content }: Item): string {
  if (type !== "message") return "";
  return (content ?? []).map(({ text, refusal }) => text ?? refusal ?? "").join("");
}

function toCall({ call_id, id, name = "", arguments: args }: Item): ToolCall {
  return { id: call_id ?? id ?? "", name, arguments: asText(args) || "{}" };
}

/** Some servers send the arguments as the object they stand for. */
function asText(args: unknown): string {
  if (args === undefined || args === null) return "";
  return typeof args === "string" ? args : JSON.stringify(args);
}

function isEncryptedReasoning({ type, encrypted_content }: Item): boolean {
  return type === "reasoning" && Boolean(encrypted_content);
}

function toState({ id, summary, encrypted_content }: Item): object {
  return { type: "reasoning", ...(id && { id }), summary: summary ?? [], encrypted_content };
}

function usageOf(usage: Whole["usage"]): Usage {
  const { input_tokens = 0, output_tokens = 0, input_tokens_details, output_tokens_details } = usage ?? {};
  return toUsage(
    input_tokens,
    output_tokens,
    input_tokens_details?.cached_tokens,
    output_tokens_details?.reasoning_tokens,
  );
}
