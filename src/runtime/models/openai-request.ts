/** From a model request to a chat completion request as it goes over the wire. */
import { hash } from "node:crypto";
import type {
  ChatCompletionCreateParams,
  ChatCompletionMessageFunctionToolCall,
  ChatCompletionMessageParam,
} from "openai/resources/chat/completions";
import type { Message, ToolCall } from "../../actors/conversation.ts";
import type { JsonSchema, ModelRequest } from "../../actors/model.ts";
import { isStrictSchema } from "./strict-schema.ts";

/** The longest tool call id OpenAI takes. */
const MAX_ID_LENGTH = 40;

export type WireOptions = {
  /** The agent that is about to speak; what others said carries their name. */
  agent: string;
  /**
   * What the endpoint calls the limit of the answer: OpenAI's newer models refuse `max_tokens`, many compatible servers know
   * nothing else.
   */
  maxTokensField: "max_tokens" | "max_completion_tokens";
  /** Whether the answer is to come piece by piece. */
  stream: boolean;
};

/** The body of a chat completion request. */
export function toWireRequest(request: ModelRequest, options: WireOptions): ChatCompletionCreateParams {
  const { settings, tools, output } = request;
  const body: ChatCompletionCreateParams = {
    model: request.model,
    messages: toWireMessages(request, options.agent),
    ...(options.stream ? { stream: true, stream_options: { include_usage: true } } : { stream: false }),
  };
  if (tools.length > 0) body.tools = tools.map((tool) => ({ type: "function", function: { ...tool } }));
  if (output) {
    const schema = asObjectSchema(output.schema);
    const strict = isStrictSchema(schema);
    body.response_format = {
      type: "json_schema",
      json_schema: { name: asName(output.name) || "output", schema, ...(strict ? { strict } : {}) },
    };
  }
  if (settings?.temperature !== undefined) body.temperature = settings.temperature;
  if (settings?.maxTokens !== undefined) body[options.maxTokensField] = settings.maxTokens;
  if (settings?.topP !== undefined) body.top_p = settings.topP;
  if (settings?.seed !== undefined) body.seed = settings.seed;
  // Providers have more words for it than the client knows.
  if (settings?.reasoningEffort !== undefined) body.reasoning_effort = settings.reasoningEffort as "low";
  return withExtra(body, settings?.extraBody);
}

/** The body with fields of the provider's own; objects that both have are merged. */
export function withExtra<Body extends object>(body: Body, extra: JsonSchema | undefined): Body {
  if (!extra) return body;
  const merged: { [key: string]: unknown } = Object.fromEntries(Object.entries(body));
  for (const [key, value] of Object.entries(extra)) {
    const known = merged[key];
    merged[key] = isPlain(known) && isPlain(value) ? { ...known, ...value } : value;
  }
  return merged as Body;
}

function isPlain(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Whether answers in this shape travel as `{"value": …}`, because providers only take objects at the root. */
export function isWrapped(schema: JsonSchema): boolean {
  return schema.type !== "object" && !("properties" in schema);
}

/** Takes the answer out of `{"value": …}`; text that is not such an object stays as it is. */
export function unwrap(content: string): string {
  try {
    const parsed: unknown = JSON.parse(content);
    if (typeof parsed === "object" && parsed !== null && "value" in parsed) return JSON.stringify(parsed.value);
  } catch {
    // Not JSON: whoever validates the answer says so better than we could.
  }
  return content;
}

const wrappers = new WeakMap<JsonSchema, JsonSchema>();

/** A schema providers take at the root. */
export function asObjectSchema(schema: JsonSchema): JsonSchema {
  if (!isWrapped(schema)) return schema;
  let wrapper = wrappers.get(schema);
  if (!wrapper) {
    // References inside point at the root, so definitions move there.
    const { $defs, definitions, $schema: _, ...value } = schema;
    wrapper = {
      type: "object",
      properties: { value },
      required: ["value"],
      additionalProperties: false,
      ...($defs === undefined ? {} : { $defs }),
      ...(definitions === undefined ? {} : { definitions }),
    };
    wrappers.set(schema, wrapper);
  }
  return wrapper;
}

function toWireMessages(request: ModelRequest, agent: string): ChatCompletionMessageParam[] {
  const messages = request.messages.map((message) => toWireMessage(message, agent));
  return request.instructions === "" ? messages : [{ role: "system", content: request.instructions }, ...messages];
}

function toWireMessage(message: Message, agent: string): ChatCompletionMessageParam {
  switch (message.role) {
    case "user":
      return { role: "user", content: message.content };
    case "tool":
      return { role: "tool", tool_call_id: toWireId(message.toolCallId), content: message.content };
    case "assistant": {
      const calls = message.toolCalls ?? [];
      // Several servers do not know `name`, so it is only sent where it says something.
      const name = message.name !== undefined && message.name !== agent ? asName(message.name) : "";
      return {
        role: "assistant",
        content: calls.length > 0 ? message.content : (message.content ?? ""),
        ...(calls.length > 0 ? { tool_calls: calls.map(toWireCall) } : {}),
        ...(name ? { name } : {}),
      };
    }
  }
}

function toWireCall(call: ToolCall): ChatCompletionMessageFunctionToolCall {
  return {
    id: toWireId(call.id),
    type: "function",
    function: { name: call.name, arguments: toWireArguments(call.arguments) },
  };
}

/** A conversation may come from another provider, whose ids this one would refuse; the same id always gives the same. */
export function toWireId(id: string): string {
  return id.length > 0 && id.length <= MAX_ID_LENGTH ? id : `call_${hash("sha256", id).slice(0, 24)}`;
}

/** Servers that render the conversation through a template parse the arguments and fail for good on malformed ones. */
export function toWireArguments(text: string): string {
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed === "object" && parsed !== null && !Array.isArray(parsed)) return text;
  } catch {
    // Malformed: sent so that it is still readable for the model.
  }
  return JSON.stringify({ malformed_arguments: text });
}

/** A legal name of a function or a schema. */
export function asName(text: string): string {
  return text.replace(/[^a-zA-Z0-9_-]+/g, "_").slice(0, 64);
}
