/** What the local OpenAI server answers by the Responses API: a whole response, or the events it is streamed in. */
import type { ChatReply } from "./openai-server.ts";

type Item = { type: string; id: string; [key: string]: unknown };

/** A scripted answer as one response. */
export function toResponse(reply: ChatReply, model: string, n: number): object {
  const cut = reply.finishReason === "length" || reply.finishReason === "content_filter";
  const reason = reply.finishReason === "length" ? "max_output_tokens" : reply.finishReason;
  return {
    ...opening(reply, model, n),
    status: cut ? "incomplete" : "completed",
    incomplete_details: cut ? { reason } : null,
    output: itemsOf(reply, n),
    usage: usageOf(reply),
  };
}

/** A scripted answer as events, in the order and with the numbers OpenAI gives them. */
export function toResponseEvents(reply: ChatReply, model: string, n: number): { type: string }[] {
  const events: { type: string }[] = [];
  const say = (type: string, fields: object) =>
    events.push({ type, sequence_number: events.length, ...fields } as never);
  const response = { ...opening(reply, model, n), status: "in_progress", output: [] };
  say("response.created", { response });
  say("response.in_progress", { response });
  for (const [output_index, item] of itemsOf(reply, n).entries()) {
    const at = { output_index, item_id: item.id };
    say("response.output_item.added", { output_index, item: begun(item) });
    if (item.type === "reasoning") {
      for (const [summary_index, { text }] of (item.summary as { text: string }[]).entries()) {
        say("response.reasoning_summary_part.added", {
          ...at,
          summary_index,
          part: { type: "summary_text", text: "" },
        });
        for (const delta of pieces(text)) say("response.reasoning_summary_text.delta", { ...at, summary_index, delta });
        say("response.reasoning_summary_text.done", { ...at, summary_index, text });
      }
    } else if (item.type === "message") {
      const part = { type: "output_text", text: "", annotations: [] };
      say("response.content_part.added", { ...at, content_index: 0, part });
      for (const delta of pieces(reply.text ?? ""))
        say("response.output_text.delta", { ...at, content_index: 0, delta });
      say("response.output_text.done", { ...at, content_index: 0, text: reply.text });
    } else {
      const args = String(item.arguments);
      for (const delta of args.match(/.{1,12}/gs) ?? [])
        say("response.function_call_arguments.delta", { ...at, delta });
      say("response.function_call_arguments.done", { ...at, arguments: args });
    }
    say("response.output_item.done", { output_index, item });
  }
  const whole = toResponse(reply, model, n) as { status: string };
  say(`response.${whole.status}`, { response: whole });
  return events;
}

function opening(reply: ChatReply, model: string, n: number): object {
  return { id: `resp_${n}`, object: "response", created_at: 1, model: reply.model ?? model, error: null, store: false };
}

function itemsOf({ text, toolCalls = [], reasoning }: ChatReply, n: number): Item[] {
  return [
    ...(reasoning
      ? [
          {
            type: "reasoning",
            id: `rs_${n}`,
            summary: reasoning.summary ? [{ type: "summary_text", text: reasoning.summary }] : [],
            ...(reasoning.encrypted && { encrypted_content: reasoning.encrypted }),
          },
        ]
      : []),
    ...(text === undefined
      ? []
      : [
          {
            type: "message",
            id: `msg_${n}`,
            role: "assistant",
            status: "completed",
            content: [{ type: "output_text", text, annotations: [] }],
          },
        ]),
    ...toolCalls.map(({ id, name, arguments: args }, index) => ({
      type: "function_call",
      id: `fc_${n}_${index}`,
      call_id: id ?? `call_${n}_${index}`,
      name,
      arguments: typeof args === "string" ? args : JSON.stringify(args),
      status: "completed",
    })),
  ];
}

/** An item before its content came. */
function begun(item: Item): object {
  if (item.type === "message") return { ...item, status: "in_progress", content: [] };
  if (item.type === "function_call") return { ...item, status: "in_progress", arguments: "" };
  const { encrypted_content: _, ...rest } = item;
  return { ...rest, summary: [] };
}

function usageOf({ usage, text = "" }: ChatReply) {
  if (usage === false) return undefined;
  const { prompt_tokens, completion_tokens, cached, reasoning } = usage ?? {
    prompt_tokens: 11,
    completion_tokens: Math.ceil(text.length / 4),
  };
  return {
    input_tokens: prompt_tokens,
    output_tokens: completion_tokens,
    total_tokens: prompt_tokens + completion_tokens,
    input_tokens_details: { cached_tokens: cached ?? 0 },
    output_tokens_details: { reasoning_tokens: reasoning ?? 0 },
  };
}

function pieces(text: string): string[] {
  return text.match(/\s*\S+\s*/g) ?? [];
}
