import { expect, test } from "vitest";
import { z } from "zod";
import {
  connect,
  DefinitionError,
  defineAgent,
  defineTool,
  defineWorkflow,
  RunFailedError,
  UnavailableError,
} from "../../src/index.ts";
import { callTool, handOff, ScriptedModel, say, startTestDaemon } from "../../src/testing/index.ts";
import { startTestNats } from "../helpers/nats-server.ts";

const add = defineTool({
  name: "add",
  description: "Adds two numbers.",
  parameters: z.object({ a: z.number(), b: z.number() }),
  execute: ({ a, b }) => a + b,
});
const counter = defineAgent({ name: "counter", instructions: "Count.", model: "m", tools: [add] });
const front = defineAgent({ name: "front", instructions: "Hand over.", model: "m", handoffs: [counter] });
const sum = defineWorkflow({ name: "sum", agents: [counter] });
const desk = defineWorkflow({ name: "desk", entry: front, agents: [front, counter] });

test("agents with tools and handoffs run on a scripted model, on real NATS", async () => {
  const model = ScriptedModel.byAgent({
    front: [handOff("counter", { reason: "numbers" })],
    counter: [callTool("add", { a: 1, b: 2 }), say("three")],
  });
  await using troupe = await startTestDaemon({ agents: [front, counter], workflows: [sum, desk], model });
  expect(await troupe.client.run("desk", "1 + 2")).toBe("three");
  expect(model.calls.at(-1)?.request.messages.at(-1)).toMatchObject({ role: "tool", content: "3" });
  model.assertComplete();
});

test("a run that fails says why", async () => {
  const troupe = await startTestDaemon({ agents: [counter], workflows: [sum], model: new ScriptedModel([]) });
  const failure = await troupe.client.run("sum", "x").catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(RunFailedError);
  expect(failure).toMatchObject({ code: "script_ended" });
  await troupe.stop();
});

test("it can use a NATS that is there, and leaves that running", async () => {
  await using server = await startTestNats();
  const model = new ScriptedModel([say("one"), say("two")]);
  const test = { agents: [counter], workflows: [sum], model, nats: server.url };
  const first = await startTestDaemon(test);
  expect(first.natsUrl).toBe(server.url);
  expect(await first.client.run("sum", "x", { runId: "kept" })).toBe("one");
  await first.stop();
  await using second = await startTestDaemon(test);
  expect(await second.client.result("kept")).toBe("one");
});

test("providers give agents models of their own, and options reach the daemon", async () => {
  const other = defineAgent({ name: "other", instructions: "Other.", model: "m", provider: "mine" });
  const flow = defineWorkflow({ name: "flow", agents: [other] });
  const providers = { mine: new ScriptedModel([say("mine")]) };
  const options = { prefix: "elsewhere" };
  await using troupe = await startTestDaemon({ agents: [other], workflows: [flow], providers, options });
  await using client = await connect({ servers: troupe.natsUrl, prefix: "elsewhere" });
  expect(await client.run("flow", "x")).toBe("mine");
});

test("nothing is left when it cannot start", async () => {
  const before = process.listenerCount("exit");
  const broken = { agents: [counter], workflows: [sum], options: { beatMs: "never" } };
  await expect(startTestDaemon(broken)).rejects.toThrow(DefinitionError);
  expect(process.listenerCount("exit")).toBe(before);
});

test("its processes and sockets are gone once it has stopped", async () => {
  const troupe = await startTestDaemon({ agents: [counter], workflows: [sum], model: new ScriptedModel([]) });
  const { httpUrl } = troupe.daemon;
  expect((await fetch(`${httpUrl}/readyz`)).status).toBe(200);
  await troupe.stop();
  await expect(fetch(`${httpUrl}/readyz`)).rejects.toThrow();
  await expect(connect({ servers: troupe.natsUrl })).rejects.toThrow(UnavailableError);
});
