/**
 * A conversation as every provider understands it, without the system message: instructions belong to the agent that
 * reads the conversation, not to the conversation.
 */

/** A call of a tool as the model wrote it; `arguments` is JSON text that may be malformed. */
export type ToolCall = { id: string; name: string; arguments: string };

/**
 * What a provider keeps no record of and wants to see again with an assistant's message, such as encrypted reasoning. Only whoever
 * made it, `by`, can read it; to anybody else it is not sent.
 */
export type ProviderState = { by: string; items: unknown[] };

export type Message =
  | { role: "user"; content: string }
  /** `name` is the agent that said it. */
  | { role: "assistant"; content: string | null; toolCalls?: ToolCall[]; name?: string; providerState?: ProviderState }
  | { role: "tool"; toolCallId: string; content: string };

/**
 * Says what a provider would refuse about a conversation, or nothing.
 *
 * It begins with a user's words; an assistant's message has words or calls; every tool call is answered exactly once,
 * directly after its message; no answer is without a call.
 */
export function checkConversation(messages: readonly Message[]): string | undefined {
  let open: Set<string> | undefined;
  for (const [index, message] of messages.entries()) {
    if (message.role === "tool") {
      if (!open?.delete(message.toolCallId)) {
        return `messages[${index}]: expected an answer to an open tool call, got one to ${JSON.stringify(message.toolCallId)}`;
      }
      continue;
    }
    if (open && open.size > 0) {
      return `messages[${index}]: expected the answers to ${[...open].join(", ")} first, got a message of the ${message.role}`;
    }
    if (index === 0 && message.role !== "user") {
      return `messages[0]: expected a message of the user, got one of the ${message.role}`;
    }
    if (message.role === "user") {
      open = undefined;
      continue;
    }
    const calls = message.toolCalls ?? [];
    if (calls.length === 0 && !message.content) return `messages[${index}]: expected words or tool calls, got neither`;
    open = new Set(calls.map((call) => call.id));
    if (open.size < calls.length)
      return `messages[${index}]: expected tool calls with ids of their own, got the same twice`;
  }
  if (open && open.size > 0) return `messages: expected the answers to ${[...open].join(", ")}, got the end`;
  return messages.length === 0 ? "messages: expected a message of the user, got none" : undefined;
}

/** Answers every call that has no answer yet with `why`, so that whatever was cut off here can be gone on from. */
export function closeOpenCalls(messages: readonly Message[], why: string): Message[] {
  const closed: Message[] = [];
  let open: string[] = [];
  for (const message of messages) {
    if (message.role === "tool") {
      open = open.filter((id) => id !== message.toolCallId);
    } else {
      closed.push(...answersTo(open, why));
      open = message.role === "assistant" ? (message.toolCalls ?? []).map((call) => call.id) : [];
    }
    closed.push(message);
  }
  return [...closed, ...answersTo(open, why)];
}

/** A conversation as it leaves its task: what a provider wants back is of use only while its task goes on. */
export function withoutState(messages: readonly Message[]): readonly Message[] {
  if (!messages.some((message) => "providerState" in message)) return messages;
  return messages.map((message) => {
    if (message.role !== "assistant") return message;
    const { providerState: _, ...rest } = message;
    return rest;
  });
}

function answersTo(callIds: readonly string[], content: string): Message[] {
  return callIds.map((toolCallId) => ({ role: "tool", toolCallId, content }));
}

/** A conversation as text, one paragraph a message, for whoever writes or reads a summary of it. */
export function renderConversation(messages: readonly Message[]): string {
  return messages.map(renderMessage).join("\n\n");
}

function renderMessage(message: Message): string {
  switch (message.role) {
    case "user":
      return `user: ${message.content}`;
    case "tool":
      return `tool (${message.toolCallId}): ${message.content}`;
    case "assistant": {
      const calls = (message.toolCalls ?? []).map(({ id, name, arguments: args }) => `calls ${name} (${id}): ${args}`);
      const words = message.content ? [message.content] : [];
      return `${message.name ?? "assistant"}: ${[...words, ...calls].join("\n")}`;
    }
  }
}

/** The text by which a value is shown to a model: text stays as it is, anything else is JSON. */
export function asText(value: unknown): string {
  return typeof value === "string" ? value : (JSON.stringify(value) ?? "");
}
