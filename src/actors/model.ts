/** The one interface between an agent and whatever speaks for it. */
import type { Message, ProviderState, ToolCall } from "./conversation.ts";

/** A JSON Schema (draft 2020-12) as plain data. */
export type JsonSchema = { [key: string]: unknown };

/** A tool as the model is told about it. */
export type ToolSpec = { name: string; description: string; parameters: JsonSchema };

/** Knobs passed to the provider as they are; absent means the provider's default. */
export type ModelSettings = {
  temperature?: number;
  /** The most tokens of one answer, those of reasoning included. */
  maxTokens?: number;
  /** How much a reasoning model thinks, in the provider's words: `low`, `medium`, `high`, … */
  reasoningEffort?: string;
  /** Asks for summaries of the reasoning (`auto`, `concise`, `detailed`); the Responses API alone gives them. */
  reasoningSummary?: string;
  /** Asks for the same answer to the same question; chat completions alone take one. */
  seed?: number;
  topP?: number;
  /** More fields of the request, in the provider's own names; objects are merged with what is there. */
  extraBody?: JsonSchema;
};

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

/** What one or several calls took. Optional figures are left out where they are nothing or not known. */
export type Usage = {
  inputTokens: number;
  outputTokens: number;
  /** Those of `inputTokens` that the provider had in its cache. */
  cachedTokens?: number;
  /** Those of `outputTokens` that went into reasoning. */
  reasoningTokens?: number;
  /** In the currency of the configuration's `prices`; of calls whose model has a price. */
  cost?: number;
};

/** One of the models of an agent, by the names its definition has for it. */
export type ModelName = { provider: string; model: string };

export type ModelReply = {
  content: string | null;
  toolCalls: ToolCall[];
  finishReason: "stop" | "tool_calls" | "length" | "content_filter";
  usage: Usage;
  /** The model that really answered. */
  model: string;
  /** The provider's id of the reply. */
  id?: string;
  /** Which of the agent's models answered, where it has several. */
  answeredBy?: ModelName;
  /** What its provider wants back with the tool calls of this reply; see {@link ProviderState}. */
  providerState?: ProviderState;
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
  /** Takes pieces of what the provider tells of the model's reasoning, as they arrive. */
  onReasoning?: (text: string) => void;
};

/**
 * A model provider. Implement it to bring your own: `providers: { mine: { module: ./my-model.ts } }`.
 *
 * `call` rejects with a `ModelError` to say whether trying again may help; any other error is taken as not retryable. The codes
 * `provider_unavailable`, `provider_timeout` and `connection_failed` say that the provider is down: after some of them in a row its
 * agents wait until it is back.
 */
export interface Model {
  /** The provider's name in traces (`gen_ai.provider.name`). */
  readonly provider: string;
  /** Where its calls go, for traces (`server.address`, `server.port`). */
  readonly server?: { address: string; port: number };
  call(request: ModelRequest, context: ModelCallContext): Promise<ModelReply>;
}
