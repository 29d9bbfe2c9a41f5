/** A model behind an OpenAI-compatible endpoint, by chat completions or by the Responses API. */
import OpenAI from "openai";
import type { Model, ModelCallContext, ModelReply, ModelRequest } from "../../actors/model.ts";
import { ModelError } from "../../errors.ts";
import { fetchOverHttp, StreamedResponse } from "./http-fetch.ts";
import { malformedReply, toModelError } from "./openai-errors.ts";
import { ReplyAssembler } from "./openai-reply.ts";
import { isWrapped, toWireRequest, unwrap } from "./openai-request.ts";
import { readReply } from "./openai-stream.ts";
import type { ReplyReader } from "./reply-reader.ts";
import { ResponseAssembler } from "./responses-reply.ts";
import { toResponsesRequest } from "./responses-request.ts";

const OPENAI_URL = "https://api.openai.com/v1";
/** The client insists on a key; endpoints that need none do not look at it. */
const NO_KEY = "none";
/** Reasoning models may think for minutes before the first piece. */
const DEFAULT_TIMEOUT_MS = 300_000;

/** A request on its way, and what will read its answer. */
type Exchange = { response: Promise<Response>; reader: ReplyReader };

export type OpenAIModelOptions = {
  apiKey?: string;
  /** The variable an error names when there is no key. @default "OPENAI_API_KEY" */
  apiKeyEnv?: string;
  /** Whether to fail without a key. @default true without `baseURL`, else false */
  keyRequired?: boolean;
  /** @default "https://api.openai.com/v1" */
  baseURL?: string;
  /** The provider's name in traces and errors. @default "openai" */
  provider?: string;
  /** Which of OpenAI's two ways to ask for an answer the endpoint speaks. @default "chat" */
  api?: "chat" | "responses";
  /** Whether answers are asked for piece by piece. @default true */
  stream?: boolean;
  /** Sent with every call. */
  headers?: { [name: string]: string };
  /** How long the provider may be silent, before its first piece and between two, in milliseconds. @default 300000 */
  timeoutMs?: number;
};

/**
 * A model over the `openai` client, without retries of its own. Calls reject with a `ModelError`, or with the signal's reason
 * once that aborts. The endpoint is told to keep nothing: every call carries the whole conversation.
 */
export function openaiModel(options: OpenAIModelOptions = {}): Model {
  const {
    provider = "openai",
    baseURL = OPENAI_URL,
    timeoutMs = DEFAULT_TIMEOUT_MS,
    api = "chat",
    stream = true,
  } = options;
  const server = new URL(baseURL);
  const isOpenAI = server.hostname.endsWith("openai.com") || server.hostname.endsWith("openai.azure.com");
  const missingKey = !options.apiKey && (options.keyRequired ?? options.baseURL === undefined);
  const client = new OpenAI({
    apiKey: options.apiKey || NO_KEY,
    baseURL,
    adminAPIKey: null,
    // The organisation in the environment belongs to OpenAI, not to whoever else speaks its protocol.
    ...(isOpenAI ? {} : { organization: null, project: null }),
    maxRetries: 0,
    timeout: timeoutMs,
    fetch: fetchOverHttp,
    ...(options.headers ? { defaultHeaders: options.headers } : {}),
  });
  const maxTokensField = isOpenAI ? "max_completion_tokens" : "max_tokens";
  const place = `${server.origin}${server.pathname}`;

  async function call(request: ModelRequest, context: ModelCallContext): Promise<ModelReply> {
    const { signal } = context;
    signal.throwIfAborted();
    const where = `${provider} model ${request.model} at ${place}`;
    if (missingKey) {
      const variable = options.apiKeyEnv ?? "OPENAI_API_KEY";
      throw new ModelError("unauthorized", `${where}: expected an API key, got none; set ${variable}`, {
        retryable: false,
      });
    }
    try {
      const exchange = api === "chat" ? askChat(request, context) : askResponses(request, context);
      const response = await exchange.response;
      const { reader } = exchange;
      if (!(response instanceof StreamedResponse)) throw malformedReply(where, reader.what, await response.text());
      const reply = await readReply(response.message, reader, { where, signal, silenceMs: timeoutMs });
      if (!request.output || reply.content === null || !isWrapped(request.output.schema)) return reply;
      return { ...reply, content: unwrap(reply.content) };
    } catch (error) {
      signal.throwIfAborted();
      throw toModelError(error, where);
    }
  }

  function askChat(request: ModelRequest, context: ModelCallContext): Exchange {
    const body = toWireRequest(request, { agent: context.agent, maxTokensField, stream });
    const { signal } = context;
    return {
      response: client.chat.completions.create(body, { signal }).asResponse(),
      reader: new ReplyAssembler(request.model, context),
    };
  }

  function askResponses(request: ModelRequest, context: ModelCallContext): Exchange {
    const by = `${provider}/${request.model}`;
    const { signal } = context;
    return {
      response: client.responses.create(toResponsesRequest(request, { by, stream }), { signal }).asResponse(),
      reader: new ResponseAssembler(by, request.model, context),
    };
  }

  const port = Number(server.port) || (server.protocol === "https:" ? 443 : 80);
  return { provider, server: { address: server.hostname, port }, call };
}
