/** The one interface between an agent and whatever speaks for it. */
import type { Message, ToolCall } from "./conversation.ts";

/** A JSON Schema (draft 2020-12) as plain data. */
export type JsonSchema = { [key: string]: unknown };

/** A tool as the model is told about it. */
export type ToolSpec = { name: string; description: string; parameters: JsonSchema };

/** Knobs passed to the provider as they are; absent means the provider's default. */
export type ModelSettings = { temperature?: number; maxTokens?: number };

export type ModelRequest = {
  /** The model's name as the provider knows it. */
  model: string;
  /** The system message. */
  instructions: string;
  messages: readonly Message[];
  tools: readonly ToolSpec[];
  /** Asks for structured output in this shape. */
  output?: { name: string; schema: JsonSchema };
  settings?: ModelSettings;
};

/** Tokens of one or several calls. */
export type Usage = { inputTokens: number; outputTokens: number };

export type ModelReply = {
  content: string | null;
  toolCalls: ToolCall[];
  finishReason: "stop" | "tool_calls" | "length" | "content_filter";
  usage: Usage;
  /** The model that really answered. */
  model: string;
  /** The provider's id of the reply. */
  id?: string;
};

/** What a call may use besides the request. */
export type ModelCallContext = {
  /** Aborts when the task is cancelled, times out or its daemon stops. */
  signal: AbortSignal;
  runId: string;
  taskId: string;
  agent: string;
  /** The number of the turn in its task, from 1. */
  turn: number;
  /** Takes pieces of the answer's text as they arrive. */
  onDelta?: (text: string) => void;
};

/**
 * A model provider. Implement it to bring your own: `providers: { mine: { module: ./my-model.ts } }`.
 *
 * `call` rejects with a `ModelError` to say whether trying again may help; any other error is taken as not retryable.
 */
export interface Model {
  /** The provider's name in traces (`gen_ai.provider.name`). */
  readonly provider: string;
  /** Where its calls go, for traces (`server.address`, `server.port`). */
  readonly server?: { address: string; port: number };
  call(request: ModelRequest, context: ModelCallContext): Promise<ModelReply>;
}
