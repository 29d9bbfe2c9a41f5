import { expect, test } from "vitest";
import type { Message } from "../../src/actors/conversation.ts";
import { callTool, handOff, type Rule, rulesModel, say } from "../../src/testing/index.ts";

const RULES: Rule[] = [
  { agent: "triage", when: /invoice|refund/i, reply: handOff("billing") },
  { agent: "triage", reply: say("How can I help?") },
  { agent: "billing", afterTool: "lookup", reply: ({ toolResults }) => say(`Found: ${toolResults[0]?.content}`) },
  { agent: "billing", afterTool: false, reply: ({ lastUser }) => callTool("lookup", { text: lastUser }) },
  { when: (lastUser, { agent }) => agent === "writer" && lastUser.length > 20, reply: say("A long story.") },
];

function ask(agent: string, messages: Message[], options = {}) {
  const context = { signal: new AbortController().signal, runId: "r", taskId: "t", agent, turn: 1 };
  return rulesModel(RULES, options).call({ model: "m", instructions: "", messages, tools: [] }, context);
}

const user = (content: string): Message => ({ role: "user", content });

test("the first rule that fits answers", async () => {
  expect((await ask("triage", [user("My INVOICE is wrong")])).toolCalls[0]?.name).toBe("transfer_to_billing");
  expect((await ask("triage", [user("Hello")])).content).toBe("How can I help?");
  expect((await ask("writer", [user("something quite long indeed")])).content).toBe("A long story.");
});

test("a rule can wait for a tool's result, and the answer to a handoff is none", async () => {
  const question = user("refund please");
  const handed: Message[] = [
    question,
    { role: "assistant", content: null, toolCalls: [{ id: "h", name: "transfer_to_billing", arguments: "{}" }] },
    { role: "tool", toolCallId: "h", content: "handed off" },
  ];
  const called = await ask("billing", handed);
  expect(called.toolCalls).toEqual([{ id: "call_billing_3_1", name: "lookup", arguments: '{"text":"refund please"}' }]);
  const answered: Message[] = [
    ...handed,
    { role: "assistant", content: null, toolCalls: called.toolCalls },
    { role: "tool", toolCallId: "call_billing_3_1", content: "paid twice" },
  ];
  expect((await ask("billing", answered)).content).toBe("Found: paid twice");
});

test("the model says that it is scripted", async () => {
  expect(rulesModel(RULES).provider).toBe("scripted");
  expect((await ask("triage", [user("Hello")])).model).toBe("scripted-model");
  expect((await ask("triage", [user("Hello")], { label: "demo (scripted)" })).model).toBe("demo (scripted)");
});

test("a call that no rule fits fails for good and says what came", async () => {
  await expect(ask("writer", [user("short")])).rejects.toMatchObject({
    code: "no_rule",
    retryable: false,
    message: 'rulesModel: expected a rule for agent writer and the message "short", got none that fits',
  });
});
