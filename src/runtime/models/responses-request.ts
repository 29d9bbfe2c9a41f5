/**
 * From a model request to a request of the Responses API as it goes over the wire.
 *
 * The provider keeps nothing (`store: false`) and every request carries the whole conversation. What a reasoning model thought
 * before it called tools is the one thing that would be lost by that: where reasoning is asked for, it comes encrypted, is kept
 * with the message and goes back to the same model. Models that do not reason refuse to be asked for it.
 */
import type { ResponseCreateParams, ResponseInputItem } from "openai/resources/responses/responses";
import type { Message } from "../../actors/conversation.ts";
import type { ModelRequest, ModelSettings } from "../../actors/model.ts";
import { asName, asObjectSchema, toWireArguments, toWireId, withExtra } from "./openai-request.ts";
import { isStrictSchema } from "./strict-schema.ts";

export type ResponsesOptions = {
  /** Whose state goes back: that of the same model of the same provider. */
  by: string;
  /** Whether the answer is to come piece by piece. */
  stream: boolean;
};

/** The body of a request. */
export function toResponsesRequest(request: ModelRequest, { by, stream }: ResponsesOptions): ResponseCreateParams {
  const { settings = {}, tools, output, instructions } = request;
  const { temperature, topP, maxTokens } = settings;
  const body: ResponseCreateParams = {
    model: request.model,
    input: request.messages.flatMap((message) => toItems(message, by)),
    stream,
    store: false,
    ...(instructions !== "" && { instructions }),
    ...(tools.length > 0 && {
      tools: tools.map((tool) => ({ type: "function", ...tool, strict: isStrictSchema(tool.parameters) })),
    }),
    ...(temperature !== undefined && { temperature }),
    ...(topP !== undefined && { top_p: topP }),
    ...(maxTokens !== undefined && { max_output_tokens: maxTokens }),
    ...reasoningOf(settings),
  };
  if (output) {
    const schema = asObjectSchema(output.schema);
    const strict = isStrictSchema(schema);
    const name = asName(output.name) || "output";
    body.text = { format: { type: "json_schema", name, schema, ...(strict && { strict }) } };
  }
  return withExtra(body, settings.extraBody);
}

function reasoningOf({ reasoningEffort, reasoningSummary }: ModelSettings): Partial<ResponseCreateParams> {
  if (reasoningEffort === undefined && reasoningSummary === undefined) return {};
  return {
    include: ["reasoning.encrypted_content"],
    reasoning: {
      // Providers have more words for both than the client knows.
      ...(reasoningEffort !== undefined && { effort: reasoningEffort as "low" }),
      ...(reasoningSummary !== undefined && { summary: reasoningSummary as "auto" }),
    },
  };
}

function toItems(message: Message, by: string): ResponseInputItem[] {
  switch (message.role) {
    case "user":
      return [{ role: "user", content: message.content }];
    case "tool":
      return [{ type: "function_call_output", call_id: toWireId(message.toolCallId), output: message.content }];
    case "assistant": {
      const { content, toolCalls = [], providerState } = message;
      const state = providerState?.by === by ? (providerState.items as ResponseInputItem[]) : [];
      const calls = toolCalls.map(
        ({ id, name, arguments: args }): ResponseInputItem => ({
          type: "function_call",
          call_id: toWireId(id),
          name,
          arguments: toWireArguments(args),
        }),
      );
      // An item of its own has no place for who said it; what others said is told by the conversation.
      return [...state, ...(content ? [{ role: "assistant", content } as const] : []), ...calls];
    }
  }
}
