import { setTimeout as wait } from "node:timers/promises";
import { expect, test } from "vitest";
import { z } from "zod";
import { ModelError } from "../../src/errors.ts";
import { defineAgent, defineTool, defineWorkflow } from "../../src/index.ts";
import {
  callTool,
  callTools,
  fail,
  handOff,
  rulesModel,
  ScriptedModel,
  say,
  startTestDaemon,
} from "../../src/testing/index.ts";

const lookup = defineTool({
  name: "lookup",
  description: "Looks a word up.",
  parameters: z.object({ word: z.string() }),
  async execute({ word }) {
    // The first call of a turn takes longest, so answers come in the other order.
    await wait(word === "tea" ? 60 : 0);
    return { word, kind: "plant" };
  },
});
const about = { model: "m", instructions: "Do it." };
const clerk = defineAgent({ name: "clerk", ...about, tools: [lookup] });
const critic = defineAgent({ name: "critic", ...about, maxModelAttempts: 1 });
const writer = defineAgent({ name: "writer", ...about });
const desk = defineAgent({ name: "desk", ...about, handoffs: [clerk], tools: [lookup] });
const agents = [clerk, critic, writer, desk];

const steps = defineWorkflow({
  name: "steps",
  steps: [
    { id: "facts", agent: clerk, input: "{{ input }}" },
    { id: "style", agent: critic, input: "{{ input }}", onError: "continue", retry: { maxAttempts: 2, delayMs: 1 } },
    { id: "never", agent: critic, after: ["style"], needs: "always", when: "false" },
    { id: "writer", agent: writer, after: ["facts", "style"], needs: "always" },
  ],
});
const phone = defineWorkflow({ name: "phone", entry: desk, agents: [desk, clerk] });

const STEPS = `steps: tea and coffee

clerk (facts)
  says: Let me see.
  calls lookup {"word":"tea"}
  calls lookup {"word":"coffee"}
  lookup answers: {"word":"tea","kind":"plant"}
  lookup answers: {"word":"coffee","kind":"plant"}
  says: Two plants:
    tea
    coffee

critic (style)
  fails: refused: I will not
  tries again (attempt 2)
  fails: refused: I will not
  the run goes on without it

critic (never)
  is skipped: when: false is false

writer
  says: Tea and coffee are plants.

completed: {"writer":"Tea and coffee are plants."}`;

test("steps with tools, retries, failures and skips are told in the order of the definition, whichever came first", async () => {
  for (const first of ["clerk", "critic"]) {
    const slow = (agent: string) => (agent === first ? 0 : 150);
    const refusal = new ModelError("refused", "I will not", { retryable: true });
    const model = rulesModel([
      { agent: "clerk", afterTool: true, reply: say("Two plants:\ntea\ncoffee", { delayMs: slow("clerk") }) },
      {
        agent: "clerk",
        reply: { text: "Let me see.", calls: ["tea", "coffee"].map((word) => ({ name: "lookup", args: { word } })) },
      },
      { agent: "critic", reply: fail(refusal) },
      { agent: "writer", reply: say("Tea and coffee are plants.") },
    ]);
    await using troupe = await startTestDaemon({ agents, workflows: [steps], model });
    const { runId } = await troupe.client.start("steps", "tea and coffee");
    await troupe.client.result(runId);
    expect(await troupe.client.transcript(runId)).toBe(STEPS);
  }
});

test("branches stand as the definition has them, whichever is faster", async () => {
  const branches = defineWorkflow({
    name: "branches",
    steps: [
      { id: "a1", agent: critic, input: "a" },
      { id: "b1", agent: writer, input: "b" },
      { id: "a2", agent: critic, after: ["a1"], input: "a" },
      { id: "b2", agent: writer, after: ["b1"], input: "b" },
    ],
  });
  const told: string[] = [];
  const began: string[] = [];
  for (const slow of ["critic", "writer"]) {
    const model = rulesModel([{ agent: slow, reply: say("done", { delayMs: 150 }) }, { reply: say("done") }]);
    await using troupe = await startTestDaemon({ agents, workflows: [branches], model });
    const { runId } = await troupe.client.start("branches", "x");
    await troupe.client.result(runId);
    const steps = (await troupe.client.get(runId)).steps.map(({ id }) => id);
    began.push(steps.join(" "));
    told.push(await troupe.client.transcript(runId));
  }
  expect(began).toEqual(["a1 b1 b2 a2", "a1 b1 a2 b2"]);
  expect(told[0]?.match(/\(\w+\)/g)).toEqual(["(a1)", "(b1)", "(a2)", "(b2)"]);
  expect(told[1]).toBe(told[0]);
});

test("handoffs are told with their reasons, and neither ids nor times are in it, however often it is told", async () => {
  const script = () =>
    ScriptedModel.byAgent({
      desk: [callTool("lookup", { word: "tea" }), handOff("clerk", { reason: "about plants" })],
      clerk: [callTools([{ name: "lookup", args: "not json" }]), say({ answer: "A plant." })],
    });
  const told: string[] = [];
  for (const model of [script(), script()]) {
    await using troupe = await startTestDaemon({ agents, workflows: [phone], model });
    const { runId } = await troupe.client.start("phone", "What is tea?");
    await troupe.client.result(runId);
    told.push(await troupe.client.transcript(runId));
  }
  expect(told[0]).toBe(`phone: What is tea?

desk
  calls lookup {"word":"tea"}
  lookup answers: {"word":"tea","kind":"plant"}
  hands over to clerk: about plants

clerk
  calls lookup not json
  says: {"answer":"A plant."}

completed: {"answer":"A plant."}`);
  expect(told[1]).toBe(told[0]);
});

test("a run that fails or is not over is told as far as it came, without its id", async () => {
  const model = rulesModel([
    { agent: "writer", when: /slow/, reply: say("late", { delayMs: 60_000 }) },
    { agent: "writer", reply: say("") },
  ]);
  const alone = defineWorkflow({ name: "alone", agents: [writer] });
  await using troupe = await startTestDaemon({ agents, workflows: [alone], model });
  const failed = await troupe.client.start("alone", "x");
  await expect(troupe.client.result(failed.runId)).rejects.toThrow("nothing");
  expect(await troupe.client.transcript(failed.runId)).toMatch(
    /^alone: x\n\nwriter\n {2}fails: empty_answer: the model answered with nothing\n\nfailed: empty_answer: /,
  );
  const { runId } = await troupe.client.start("alone", "slow");
  for await (const { type } of troupe.client.events(runId)) if (type === "task.sent") break;
  expect(await troupe.client.transcript(runId)).toBe("alone: slow\n\nwriter\n\nnot finished");
  await troupe.client.cancel(runId, { reason: `enough of ${runId}` });
  await expect(troupe.client.result(runId)).rejects.toThrow("cancelled");
  expect(await troupe.client.transcript(runId)).toMatch(/\n\ncancelled: enough of <run>$/);
});

test("a tool's result and an answer beyond the broker's limit are told whole", async () => {
  const recite = defineTool({
    name: "recite",
    description: "Says a lot.",
    parameters: z.object({}),
    execute: () => "x".repeat(1_200_000),
  });
  const reader = defineAgent({ name: "reader", ...about, tools: [recite] });
  const model = new ScriptedModel([callTool("recite"), callTool("recite"), say("short")]);
  const loud = defineWorkflow({ name: "loud", agents: [reader] });
  await using troupe = await startTestDaemon({ agents: [reader], workflows: [loud], model });
  const { runId } = await troupe.client.start("loud", "x");
  await troupe.client.result(runId);
  const told = await troupe.client.transcript(runId);
  expect(told.match(/recite answers: x{1200000}$/gm)).toHaveLength(2);
});
