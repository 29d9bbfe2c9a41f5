/** Outcomes come from workers in any language; what is not one becomes a failure that says what is wrong with it. */
import type { ModelName } from "./model.ts";
import type { OutcomeMessage } from "./task.ts";

/** The outcome itself where it is well-formed, else a failed one with code `bad_outcome`. */
export function checkOutcome(message: OutcomeMessage): OutcomeMessage {
  const problem = problemOf(message);
  if (problem === undefined) return message;
  const { taskId, attempt = 1, worker } = message;
  return {
    v: 1,
    taskId: String(taskId),
    attempt,
    ...(typeof worker === "string" && { worker }),
    type: "failed",
    error: { code: "bad_outcome", message: `outcome.${problem}`, retryable: false },
  };
}

function problemOf(message: OutcomeMessage): string | undefined {
  if (typeof message.taskId !== "string") return `taskId: expected a string, got ${shown(message.taskId)}`;
  const { usage } = message;
  if (usage !== undefined && !isUsage(usage)) {
    return `usage: expected {inputTokens, outputTokens, modelCalls} as numbers, got ${shown(usage)}`;
  }
  if (usage?.models !== undefined && !areModels(usage.models)) {
    return `usage.models: expected a list of {provider, model, modelCalls}, got ${shown(usage.models)}`;
  }
  switch (message.type) {
    case "completed":
      return message.output === undefined ? "output: expected any JSON value, got none" : undefined;
    case "failed": {
      const { error } = message;
      const isError = typeof error?.code === "string" && typeof error.message === "string";
      return isError ? undefined : `error: expected {code, message} as strings, got ${shown(error)}`;
    }
    case "handoff":
      return problemOfHandoff(message);
    default:
      return message satisfies never;
  }
}

function problemOfHandoff({ to, next, transcript }: OutcomeMessage & { type: "handoff" }): string | undefined {
  if (typeof to !== "string") return `to: expected an agent's name, got ${shown(to)}`;
  if (transcript !== undefined && !Array.isArray(transcript))
    return `transcript: expected messages, got ${shown(transcript)}`;
  if (next !== undefined && !/^[A-Za-z0-9_-]{1,128}$/.test(String(next.taskId))) {
    return `next.taskId: expected 1 to 128 letters, digits, "-" or "_", got ${shown(next.taskId)}`;
  }
  return undefined;
}

function isUsage(usage: object): boolean {
  const given = usage as { [key: string]: unknown };
  const { inputTokens, outputTokens, modelCalls } = given;
  const { toolCalls = 0, cachedTokens = 0, reasoningTokens = 0, cost = 0 } = given;
  const figures = [inputTokens, outputTokens, modelCalls, toolCalls, cachedTokens, reasoningTokens, cost];
  return figures.every(Number.isFinite);
}

function areModels(models: unknown): boolean {
  if (!Array.isArray(models)) return false;
  return models.every(
    (use: Partial<ModelName & { modelCalls: number }> | null) =>
      typeof use?.provider === "string" && typeof use.model === "string" && Number.isFinite(use.modelCalls),
  );
}

function shown(value: unknown): string {
  return (JSON.stringify(value) ?? "nothing").slice(0, 80);
}
