/**
 * What people said, as span attributes: the parts schema of the GenAI conventions, as JSON text because not every backend
 * takes nested values. Only made where content capture is on.
 */
import type { Attributes } from "@opentelemetry/api";
import type { Message } from "../actors/conversation.ts";
import { CONTENT_TRUNCATED } from "./semconv.ts";

/** Collectors refuse whole batches that got too large; a value of 8 KiB is enough to recognise what was said. */
const MAX_CONTENT_BYTES = 8 * 1_024;

/** Sets `key` to `value` as text, cut at {@link MAX_CONTENT_BYTES}; a cut is marked on the span. */
export function setContent(attributes: Attributes, key: string, value: unknown): void {
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? "");
  const kept = cut(text);
  attributes[key] = kept;
  if (kept.length < text.length) attributes[CONTENT_TRUNCATED] = true;
}

/** A conversation in the parts schema. */
export function toParts(messages: readonly Message[]): object[] {
  return messages.map(messageParts);
}

/** What a model said in the parts schema; anything that is not a reply is kept as it is. */
export function toReplyParts(reply: unknown): unknown {
  if (typeof reply === "string") return [replyParts({ content: reply })];
  return isReply(reply) ? [replyParts(reply)] : reply;
}

function messageParts(message: Message): object {
  switch (message.role) {
    case "user":
      return { role: "user", parts: [textPart(message.content)] };
    case "assistant":
      return replyParts(message);
    case "tool":
      return {
        role: "tool",
        parts: [{ type: "tool_call_response", id: message.toolCallId, response: message.content }],
      };
  }
}

type Reply = { content: string | null; toolCalls?: { id: string; name: string; arguments: string }[] };

function replyParts({ content, toolCalls = [] }: Reply): object {
  const calls = toolCalls.map((call) => ({
    type: "tool_call",
    id: call.id,
    name: call.name,
    arguments: call.arguments,
  }));
  return { role: "assistant", parts: content === null ? calls : [textPart(content), ...calls] };
}

function textPart(content: string): object {
  return { type: "text", content };
}

function isReply(value: unknown): value is Reply {
  if (typeof value !== "object" || value === null || !("content" in value)) return false;
  const { toolCalls } = value as { toolCalls?: unknown };
  return (
    (typeof value.content === "string" || value.content === null) &&
    (toolCalls === undefined || Array.isArray(toolCalls))
  );
}

function cut(text: string): string {
  // A UTF-16 unit is at most three bytes of UTF-8: most values need no counting.
  if (text.length * 3 <= MAX_CONTENT_BYTES) return text;
  const bytes = new Uint8Array(MAX_CONTENT_BYTES);
  const { read } = new TextEncoder().encodeInto(text, bytes);
  return read < text.length ? text.slice(0, read) : text;
}
