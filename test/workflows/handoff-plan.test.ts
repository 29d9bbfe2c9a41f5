import { describe, expect, test } from "vitest";
import { z } from "zod";
import type { Message } from "../../src/actors/conversation.ts";
import { type AgentOptions, defineAgent } from "../../src/actors/define-agent.ts";
import { handoff } from "../../src/actors/handoff.ts";
import { defineWorkflow } from "../../src/workflows/define-workflow.ts";
import { superviseRun } from "../helpers/supervised-run.ts";

const agent = (name: string, handoffs: AgentOptions["handoffs"] = []) =>
  defineAgent({ name, instructions: "Help.", model: "m", handoffs });

/** `triage` hands to both, `billing` back to it, `tech` to nobody; `outside` is not in the workflow. */
function support(limits: { maxHandoffs?: number; maxVisits?: number } = {}) {
  const billing = agent("billing", ["triage", "outside"]);
  const tech = agent("tech");
  const triage = agent("triage", [handoff(billing, { context: "full" }), tech]);
  return defineWorkflow({ name: "support", entry: triage, agents: [triage, billing, tech], ...limits });
}

/** Two agents that hand to each other. */
function pingPong(limits: { maxHandoffs?: number; maxVisits?: number }) {
  const agents = [agent("ping", ["pong"]), agent("pong", ["ping"])];
  return defineWorkflow({ name: "rally", entry: "ping", agents, ...limits });
}

test("the entry agent is asked first, with whom it may hand to and the limits of the whole run", () => {
  const run = superviseRun(support({ maxHandoffs: 3, maxVisits: 2 }), { sessionId: "s1", timeoutMs: 60_000 });
  expect(run.task("h0")).toEqual({
    v: 1,
    taskId: "h0",
    runId: "r1",
    workflow: "support",
    definition: expect.stringMatching(/^[0-9a-f]{16}$/),
    agent: "triage",
    attempt: 1,
    delivery: 1,
    input: "bees",
    sessionId: "s1",
    handoffs: [
      { to: "billing", context: "full" },
      { to: "tech", context: "full" },
    ],
    hops: [],
    limits: { maxHandoffs: 3, maxVisits: 2 },
    deadline: "2026-01-01T00:01:00.000Z",
  });
});

test("an answer of whoever has the run completes it", () => {
  const run = superviseRun(support());
  run.handsOff("h0", { to: "tech" });
  expect(run.open()).toEqual(["h1"]);
  run.completes("h1", "turn it off and on");
  expect(run.told()).toEqual(["task.sent h0", "task.sent h1", "run.completed"]);
  expect(run.end()?.data).toEqual({ output: "turn it off and on" });
});

test("a failure of whoever has the run fails it", () => {
  const run = superviseRun(support());
  run.handsOff("h0", { to: "tech" });
  run.fails("h1", { code: "model_refused", message: "no", retryable: true });
  expect(run.end()?.data).toEqual({ error: { code: "model_refused", message: "no", retryable: true } });
});

test("the next task names who it may hand to in turn and the hops so far", () => {
  const run = superviseRun(support());
  run.handsOff("h0", { to: "billing", reason: "about money" });
  expect(run.task("h1")).toMatchObject({
    agent: "billing",
    attempt: 1,
    delivery: 1,
    handoffs: [{ to: "triage", context: "full" }],
    hops: [{ from: "triage", to: "billing" }],
  });
  run.handsOff("h1", { to: "triage" });
  expect(run.task("h2").hops).toEqual([
    { from: "triage", to: "billing" },
    { from: "billing", to: "triage" },
  ]);
});

test("a task the handing agent has sent already is taken note of, not sent", () => {
  const run = superviseRun(support());
  run.handsOff("h0", { to: "tech", next: { taskId: "h1-abc", forwarded: true } });
  expect(run.effects).toEqual([
    { type: "stop", child: "h0" },
    { type: "askAgent", open: expect.objectContaining({ forwarded: true }) },
  ]);
  expect(run.task("h1-abc").forwarded).toBe(true);
});

test("a second outcome of a task that handed off changes nothing", () => {
  const run = superviseRun(support());
  run.handsOff("h0", { to: "tech", next: { taskId: "h1-abc", forwarded: true } });
  run.completes("h0");
  expect(run.decisions).toEqual([]);
  expect(run.open()).toEqual(["h1-abc"]);
});

describe("a handoff fails the run with a clear error", () => {
  test("when it goes to an agent without an edge to it", () => {
    const run = superviseRun(support());
    run.handsOff("h0", { to: "tech" });
    const [task] = run.open();
    expect(task).toBe("h1");
    run.fact({
      type: "agent.handoff",
      data: { taskId: "h1", from: "tech", to: "billing", transcript: [], next: { taskId: "h2", forwarded: false } },
    });
    expect(run.end()?.data).toEqual({
      error: { code: "handoff_not_allowed", message: 'tech may hand off to: none; it handed off to "billing"' },
    });
  });

  test("when it goes to an agent outside the workflow, or to nobody's name", () => {
    for (const to of ["outside", "nobody", "constructor", "__proto__"]) {
      const run = superviseRun(support());
      run.handsOff("h0", { to });
      expect(run.end()?.data).toEqual({
        error: {
          code: "handoff_not_allowed",
          message: `triage may hand off to: billing, tech; it handed off to "${to}"`,
        },
      });
    }
  });

  test("when there were as many handoffs as are allowed", () => {
    const run = superviseRun(pingPong({ maxHandoffs: 2, maxVisits: 9 }));
    run.handsOff("h0", { to: "pong" });
    run.handsOff("h1", { to: "ping" });
    run.handsOff("h2", { to: "pong" });
    expect(run.end()?.data).toEqual({
      error: { code: "handoff_limit", message: "ping handed off to pong after the limit of 2 handoffs" },
    });
  });

  test("when one agent had the run as often as is allowed, the entry agent's first time included", () => {
    const run = superviseRun(pingPong({ maxHandoffs: 99, maxVisits: 2 }));
    run.handsOff("h0", { to: "pong" });
    run.handsOff("h1", { to: "ping" });
    run.handsOff("h2", { to: "pong" });
    expect(run.end()).toBeUndefined();
    run.handsOff("h3", { to: "ping" });
    expect(run.end()?.data).toEqual({
      error: { code: "handoff_limit", message: "pong handed off to ping, which has had the run 2 times (the limit)" },
    });
  });

  test("when none is allowed at all", () => {
    const run = superviseRun(support({ maxHandoffs: 0 }));
    run.handsOff("h0", { to: "tech" });
    expect(run.end()).toMatchObject({ data: { error: { code: "handoff_limit" } } });
  });
});

describe("what the next agent sees", () => {
  const transcript: Message[] = [
    { role: "assistant", content: "I will ask billing." },
    {
      role: "assistant",
      content: null,
      toolCalls: [{ id: "c1", name: "transfer_to_billing", arguments: '{"reason":"money","summary":"owes 3"}' }],
    },
    { role: "tool", toolCallId: "c1", content: "handed over" },
  ];
  const seenOn = (context: "full" | "summary" | "last" | "none", input?: unknown) => {
    const billing = agent("billing");
    const triage = agent("triage", [handoff(billing, { context, ...(input !== undefined && { input: z.any() }) })]);
    const run = superviseRun(defineWorkflow({ name: "support", entry: triage, agents: [triage, billing] }), {
      input: "My bill is wrong.",
    });
    run.handsOff("h0", { to: "billing", reason: "money", transcript, ...(input !== undefined && { input }) });
    return run.task("h1");
  };

  test("is the whole conversation on a full edge", () => {
    const task = seenOn("full");
    expect(task.messages).toEqual([{ role: "user", content: "My bill is wrong." }, ...transcript]);
    expect(task.input).toBe("My bill is wrong.");
  });

  test("is the request and the handing model's summary on a summary edge", () => {
    expect(seenOn("summary").messages).toEqual([
      {
        role: "user",
        content: "Original request:\nMy bill is wrong.\n\nSo far:\nowes 3\n\ntriage hands over to you: money",
      },
    ]);
  });

  test("is the request and the last words on a last edge", () => {
    expect(seenOn("last").messages?.[0]?.content).toBe(
      "Original request:\nMy bill is wrong.\n\nSo far:\nI will ask billing.\n\ntriage hands over to you: money",
    );
  });

  test("is nothing but the payload and the reason on a none edge, also for those after it", () => {
    const task = seenOn("none", { amount: 3 });
    expect(task.messages).toEqual([{ role: "user", content: 'triage hands over to you: money\n\n{"amount":3}' }]);
    expect(JSON.stringify(task)).not.toContain("My bill");
    expect(task.input).toEqual({ amount: 3 });
  });

  test("is what a function on the edge made of it, where there is one", () => {
    const run = superviseRun(support());
    const messages: Message[] = [{ role: "user", content: "Only this." }];
    run.handsOff("h0", { to: "billing", transcript, messages });
    expect(run.task("h1").messages).toEqual(messages);
  });

  test("is the request and a note where a worker gave no transcript", () => {
    const run = superviseRun(support());
    run.handsOff("h0", { to: "billing" });
    expect(run.task("h1").messages).toEqual([
      { role: "user", content: "bees" },
      { role: "user", content: "triage hands over to you." },
    ]);
  });
});
