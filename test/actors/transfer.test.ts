import { expect, test } from "vitest";
import type { Agent, HandoffContextInput } from "../../src/actors/agent.ts";
import { checkConversation, type Message } from "../../src/actors/conversation.ts";
import { type AgentOptions, defineAgent } from "../../src/actors/define-agent.ts";
import { handoff } from "../../src/actors/handoff.ts";
import type { HandoffOption, Outcome, Task } from "../../src/actors/task.ts";
import { contextFor, nextTask } from "../../src/actors/transfer.ts";
import { call, driveTask, echo, say, taskFor } from "../helpers/task-driver.ts";

const toBilling: HandoffOption = { to: "billing", description: "Knows invoices." };
const toTech: HandoffOption = { to: "tech" };

function triageWith(options: Partial<AgentOptions> = {}): Agent {
  return defineAgent({ name: "triage", instructions: "Sort.", model: "m", tools: [echo], ...options });
}

const triage = triageWith();
const asked = (more: Partial<Task> = {}) => taskFor("triage", { handoffs: [toBilling, toTech], ...more });
const transfer = (to: string, args: object = {}) => ({ name: `transfer_to_${to}`, args });

function handedOver(outcome: Outcome): Extract<Outcome, { type: "handoff" }> {
  if (outcome.type !== "handoff") throw new Error(`expected a handoff, got ${JSON.stringify(outcome)}`);
  return outcome;
}

test("the model sees a tool for each handoff, shaped by its edge", async () => {
  const input = { type: "object", properties: { invoice: { type: "string" } }, required: ["invoice"] };
  const task = asked({
    handoffs: [
      { ...toBilling, input },
      { to: "tech", context: "summary" },
    ],
  });
  const { requests } = await driveTask(triage, task, [say("ok")]);
  expect(requests[0]?.tools.map((tool) => tool.name)).toEqual(["echo", "transfer_to_billing", "transfer_to_tech"]);
  expect(requests[0]?.tools[1]).toMatchObject({
    description: expect.stringContaining("Knows invoices."),
    parameters: { type: "object", properties: { reason: {}, input }, required: ["input"], additionalProperties: false },
  });
  expect(requests[0]?.tools[2]?.parameters).toMatchObject({ required: ["summary"] });
});

test("the first handoff of a turn wins, and every other call is told so", async () => {
  const { outcome, executed } = await driveTask(triage, asked(), [
    call({ name: "echo", args: { text: "a" } }, transfer("billing", { reason: "an invoice" }), transfer("tech")),
  ]);
  expect(executed).toEqual([]);
  const { to, reason, transcript, usage } = handedOver(outcome);
  expect({ to, reason, usage }).toEqual({
    to: "billing",
    reason: "an invoice",
    usage: { inputTokens: 10, outputTokens: 5, modelCalls: 1 },
  });
  expect(transcript?.slice(1).map((message) => message.content)).toEqual([
    "not executed: control passed to billing",
    "control passed to billing",
    "not executed: control passed to billing",
  ]);
  expect(checkConversation([{ role: "user", content: "hello" }, ...(transcript ?? [])])).toBeUndefined();
});

test("a handoff called wrongly is explained, and the next one goes through", async () => {
  const input = { type: "object", properties: { invoice: { type: "string" } }, required: ["invoice"] };
  const { outcome, requests } = await driveTask(triage, asked({ handoffs: [{ ...toBilling, input }] }), [
    call(transfer("billing", { input: {} })),
    call(transfer("billing", { input: { invoice: "R-7" } })),
  ]);
  expect(requests[1]?.messages.at(-1)).toMatchObject({ role: "tool", content: expect.stringContaining("invoice") });
  expect(handedOver(outcome).input).toEqual({ invoice: "R-7" });
});

test("a handoff that was not offered is an answer, not a crash", async () => {
  const { outcome, requests } = await driveTask(triage, asked(), [call(transfer("ceo")), say("I will do it.")]);
  expect(requests[1]?.messages.at(-1)).toMatchObject({ content: expect.stringContaining("billing, tech") });
  expect(outcome).toMatchObject({ type: "completed", output: "I will do it." });
});

const hops = [
  { from: "triage", to: "billing" },
  { from: "billing", to: "triage" },
];

test("at maxHandoffs the model is told, sees no handoffs any more, and may answer", async () => {
  const { outcome, requests } = await driveTask(triage, asked({ hops, limits: { maxHandoffs: 2 } }), [
    call(transfer("billing")),
    say("Then here is the answer."),
  ]);
  expect(requests[1]?.messages.at(-1)).toMatchObject({
    content: expect.stringContaining("the limit of 2 handoffs is reached: answer the user yourself"),
  });
  expect(requests[1]?.tools.map((tool) => tool.name)).toEqual(["echo"]);
  expect(outcome.type).toBe("completed");
});

test("a model that goes on handing over after it was told fails the task", async () => {
  const { outcome } = await driveTask(triage, asked({ hops, limits: { maxHandoffs: 2 } }), [
    call(transfer("billing")),
    call(transfer("tech")),
    call(transfer("billing")),
  ]);
  expect(outcome).toMatchObject({ type: "failed", error: { code: "handoff_limit" } });
});

test("maxVisits holds for each agent, and the one a run begins with has had it once", async () => {
  const back = taskFor("billing", {
    handoffs: [{ to: "triage" }, toTech],
    hops: hops.slice(0, 1),
    limits: { maxVisits: 1 },
  });
  const billing = triageWith({ name: "billing" });
  const refused = await driveTask(billing, back, [call(transfer("triage")), call(transfer("tech"))]);
  expect(refused.requests[1]?.messages.at(-1)).toMatchObject({ content: expect.stringContaining("triage has had") });
  expect(refused.requests[1]?.tools.map((tool) => tool.name)).toEqual(["echo", "transfer_to_tech"]);
  expect(handedOver(refused.outcome).to).toBe("tech");

  const { outcome } = await driveTask(billing, { ...back, limits: { maxVisits: 2 } }, [call(transfer("triage"))]);
  expect(handedOver(outcome).to).toBe("triage");
});

test("agents that only pass the run to each other stop at the limit", async () => {
  let task = asked({ handoffs: [{ to: "billing" }], limits: { maxHandoffs: 4 } });
  for (let hop = 1; hop <= 4; hop += 1) {
    const other = task.agent === "triage" ? "billing" : "triage";
    const { outcome } = await driveTask(triageWith({ name: task.agent }), task, [call(transfer(other))]);
    const next = { ...handedOver(outcome), next: { taskId: `h${hop}`, forwarded: false } };
    task = nextTask(task, next, task.handoffs[0] as HandoffOption, [{ to: task.agent }]);
    expect(checkConversation(task.messages ?? [])).toBeUndefined();
  }
  const other = task.agent === "triage" ? "billing" : "triage";
  const again = call(transfer(other));
  const { outcome } = await driveTask(triageWith({ name: task.agent }), task, [again, again]);
  expect(task.hops).toHaveLength(4);
  expect(outcome).toMatchObject({ type: "failed", error: { code: "handoff_limit" } });
});

test("the next task continues the run: conversation, hops, limits, deadline", async () => {
  const task = asked({
    limits: { maxHandoffs: 5 },
    deadline: "2026-01-01T00:00:00.000Z",
    sessionId: "s",
    timeoutMs: 5,
  });
  const { outcome } = await driveTask(triage, task, [call(transfer("billing"))]);
  const next = nextTask(task, { ...handedOver(outcome), next: { taskId: "h1-x", forwarded: true } }, toBilling, [
    toTech,
  ]);
  expect(next).toEqual({
    v: 1,
    taskId: "h1-x",
    runId: "run1",
    workflow: "flow",
    agent: "billing",
    attempt: 1,
    delivery: 1,
    input: "hello",
    messages: [{ role: "user", content: "hello" }, ...(handedOver(outcome).transcript ?? [])],
    sessionId: "s",
    handoffs: [toTech],
    hops: [{ from: "triage", to: "billing" }],
    limits: { maxHandoffs: 5 },
    forwarded: true,
    deadline: "2026-01-01T00:00:00.000Z",
  });
});

test("what the next agent sees is what the edge says", async () => {
  const reason = "an invoice";
  const { outcome } = await driveTask(triage, asked({ handoffs: [{ to: "billing", context: "summary" }] }), [
    call({ name: "echo", args: { text: "a" } }),
    call(transfer("billing", { reason, summary: "They want their money back." })),
  ]);
  const handed = { ...handedOver(outcome), next: { taskId: "h1", forwarded: false } };
  const seen = (context: NonNullable<HandoffOption["context"]>) =>
    nextTask(asked(), handed, { to: "billing", context }, []).messages?.map((message) => message.content);

  expect(seen("full")).toHaveLength(5);
  expect(seen("summary")).toEqual([
    "Original request:\nhello\n\nSo far:\nThey want their money back.\n\ntriage hands over to you: an invoice",
  ]);
  expect(seen("last")).toEqual(["Original request:\nhello\n\ntriage hands over to you: an invoice"]);
  expect(seen("none")).toEqual(["triage hands over to you: an invoice"]);
});

test("`last` shows the last words anybody said, and `none` leaks neither them nor the request", () => {
  const messages: Message[] = [
    { role: "user", content: "secret" },
    { role: "assistant", content: "first" },
    { role: "assistant", content: "second" },
  ];
  const view = { request: "secret", messages, from: "triage", input: { invoice: "R-7" } };
  expect(contextFor({ context: "last" }, view)[0]?.content).toContain("So far:\nsecond");
  expect(contextFor({ context: "none" }, view)).toEqual([{ role: "user", content: '{"invoice":"R-7"}' }]);
  const next = nextTask(
    asked({ input: "secret" }),
    { to: "billing", input: { invoice: "R-7" }, next: { taskId: "h1", forwarded: false } },
    { to: "billing", context: "none" },
    [],
  );
  expect(JSON.stringify(next)).not.toContain("secret");
});

test("a handoff without a transcript, as a foreign worker sends it, still tells why", () => {
  const handed = { to: "billing", reason: "an invoice", next: { taskId: "h1", forwarded: false } };
  const { messages } = nextTask(asked(), handed, toBilling, []);
  expect(checkConversation(messages ?? [])).toBeUndefined();
  expect(messages?.map((message) => message.content)).toEqual(["hello", "triage hands over to you: an invoice"]);
});

test("a function on the edge makes the next agent's whole view", async () => {
  const given: HandoffContextInput[] = [];
  const edge = handoff("billing", {
    context: (input) => {
      given.push(input);
      return [{ role: "user", content: `from ${input.from}: ${input.messages.length} messages` }];
    },
  });
  const { outcome } = await driveTask(triageWith({ handoffs: [edge] }), asked({ handoffs: [toBilling] }), [
    call(transfer("billing", { reason: "r" })),
  ]);
  expect(handedOver(outcome).messages).toEqual([{ role: "user", content: "from triage: 3 messages" }]);
  expect(given[0]).toMatchObject({ from: "triage", to: "billing", reason: "r" });
  const next = nextTask(asked(), { ...handedOver(outcome), next: { taskId: "h", forwarded: false } }, toBilling, []);
  expect(next.messages).toEqual(handedOver(outcome).messages);
});

test.each([
  ["throws", () => Promise.reject, "boom"],
  ["gives an illegal conversation", null, "expected"],
])("a context function that %s fails the task clearly", async (_, throws, words) => {
  const context = (): Message[] => {
    if (throws) throw new Error("boom");
    return [{ role: "tool", toolCallId: "x", content: "" }];
  };
  const agent = triageWith({ handoffs: [handoff("billing", { context })] });
  const { outcome } = await driveTask(agent, asked(), [call(transfer("billing"))]);
  expect(outcome).toMatchObject({
    type: "failed",
    error: { code: "handoff_context_failed", message: expect.stringContaining(words) },
  });
});
