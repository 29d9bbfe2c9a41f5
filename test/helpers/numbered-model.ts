/** The model of a daemon under test: asks the server of `numbered-model-server.ts`, once per call and without retries. */
import { request } from "node:http";
import type { Model, ModelCallContext, ModelReply, ModelRequest } from "../../src/actors/model.ts";
import { ModelError } from "../../src/errors.ts";
import type { NumberedAsk, NumberedReply } from "./numbered-model-server.ts";

/** A model that asks the server at `url`. */
export function numberedModel(url: string): Model {
  return {
    provider: "numbered",
    async call(asked: ModelRequest, { signal, runId, taskId, agent, turn }: ModelCallContext): Promise<ModelReply> {
      const ask: NumberedAsk = {
        pid: process.pid,
        madeAt: Date.now(),
        runId,
        taskId,
        agent,
        turn,
        texts: asked.messages.map(({ content }) => content ?? ""),
        callIds: asked.messages.flatMap((message) =>
          message.role === "assistant" ? (message.toolCalls ?? []).map(({ id }) => id) : [],
        ),
        tools: asked.tools.map(({ name }) => name),
      };
      const { content, toolCalls } = JSON.parse(await post(url, JSON.stringify(ask), signal)) as NumberedReply;
      return {
        content,
        toolCalls,
        finishReason: toolCalls.length > 0 ? "tool_calls" : "stop",
        usage: { inputTokens: 1, outputTokens: 1 },
        model: asked.model,
      };
    },
  };
}

function post(url: string, body: string, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error) => reject(new ModelError("connection", error.message, { retryable: true }));
    const asking = request(url, { method: "POST", signal }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        text += chunk;
      });
      response.on("end", () => resolve(text));
      response.on("error", fail);
    });
    asking.on("error", fail);
    asking.end(body);
  });
}
