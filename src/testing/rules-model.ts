/** A model for demos: no provider, no key, the same answers every time, and plainly labelled as scripted. */
import type { Message } from "../actors/conversation.ts";
import type { Model, ModelRequest } from "../actors/model.ts";
import { ModelError } from "../errors.ts";
import { sleep } from "../runtime/models/sleep.ts";
import { type ScriptedReply, speak } from "./replies.ts";

/** What a rule may look at. */
export type Situation = {
  agent: string;
  /** What the user said last. */
  lastUser: string;
  /** Results of tools since then, oldest first, without those of handoffs. */
  toolResults: { name: string; content: string }[];
  request: ModelRequest;
};

/** One rule; what it leaves out it does not ask for. */
export type Rule = {
  /** The agent that speaks. */
  agent?: string;
  /** Looked for in what the user said last. */
  when?: RegExp | ((lastUser: string, situation: Situation) => boolean);
  /** Whether tools answered since: the name of one that did, true for any, false for none. */
  afterTool?: string | boolean;
  reply: ScriptedReply | ((situation: Situation) => ScriptedReply);
};

export type RulesModelOptions = {
  /** Told as the model that answered. @default "scripted-model" */
  label?: string;
  /** How long a reply takes, in milliseconds, spread over its pieces. @default 0 */
  delayMs?: number;
};

/** A model that answers by rules: the first that fits wins. A call that none fits fails with the code `no_rule`. */
export function rulesModel(rules: readonly Rule[], options: RulesModelOptions = {}): Model {
  const { label = "scripted-model", delayMs = 0 } = options;
  return {
    provider: "scripted",
    async call(request, context) {
      const situation = toSituation(context.agent, request);
      const rule = rules.find((candidate) => fits(candidate, situation));
      if (!rule) {
        const what = `agent ${context.agent} and the message ${JSON.stringify(situation.lastUser.slice(0, 80))}`;
        throw new ModelError("no_rule", `rulesModel: expected a rule for ${what}, got none that fits`, {
          retryable: false,
        });
      }
      const reply = typeof rule.reply === "function" ? rule.reply(situation) : rule.reply;
      // The length of a conversation only grows, so ids made from it are unique in it and the same after a restart.
      const id = `${context.agent}_${request.messages.length}`;
      return speak(reply, request, context, { model: label, id, delayMs, sleep });
    },
  };
}

function fits({ agent, when, afterTool }: Rule, situation: Situation): boolean {
  if (agent !== undefined && agent !== situation.agent) return false;
  if (
    when instanceof RegExp ? situation.lastUser.search(when) === -1 : when?.(situation.lastUser, situation) === false
  ) {
    return false;
  }
  if (typeof afterTool === "string") return situation.toolResults.some(({ name }) => name === afterTool);
  return afterTool === undefined || afterTool === situation.toolResults.length > 0;
}

function toSituation(agent: string, request: ModelRequest): Situation {
  const { messages } = request;
  const at = messages.findLastIndex(({ role }) => role === "user");
  return { agent, lastUser: messages[at]?.content ?? "", toolResults: toolResultsOf(messages.slice(at + 1)), request };
}

function toolResultsOf(messages: readonly Message[]): Situation["toolResults"] {
  const names = new Map<string, string>();
  const results: Situation["toolResults"] = [];
  for (const message of messages) {
    if (message.role === "assistant") for (const call of message.toolCalls ?? []) names.set(call.id, call.name);
    if (message.role !== "tool") continue;
    const name = names.get(message.toolCallId) ?? "";
    // The answer to a handoff stands in the conversation of the next agent, which has called nothing yet.
    if (!name.startsWith("transfer_to_")) results.push({ name, content: message.content });
  }
  return results;
}
