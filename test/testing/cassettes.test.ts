import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import type { Model, ModelCallContext, ModelRequest } from "../../src/actors/model.ts";
import { ModelError, UsageError } from "../../src/errors.ts";
import { defineAgent, defineTool, defineWorkflow, openaiModel } from "../../src/index.ts";
import { fail, recordModel, replayModel, ScriptedModel, say, startTestDaemon } from "../../src/testing/index.ts";
import { startOpenAIServer } from "../helpers/openai-server.ts";

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "troupe-cassettes-"));
});
afterAll(() => rm(dir, { recursive: true }));

const lookup = defineTool({
  name: "lookup",
  description: "Looks a word up.",
  parameters: z.object({ word: z.string() }),
  execute: ({ word }) => `${word} is a plant`,
});
const clerk = defineAgent({ name: "clerk", model: "gpt-test", instructions: "Look it up.", tools: [lookup] });
const critic = defineAgent({ name: "critic", model: "gpt-test", instructions: "Judge it." });
const agents = [clerk, critic];
const both = defineWorkflow({
  name: "both",
  steps: [
    { id: "facts", agent: clerk, input: "{{ input }}" },
    { id: "style", agent: critic, input: "Judge: {{ input }}" },
  ],
});

describe("a provider recorded over HTTP", () => {
  test.each(["runs.yaml", "runs.json"])(
    "is replayed from %s when it is gone, tools and parallel agents included",
    async (name) => {
      const file = join(dir, "deep", name);
      const server = await startOpenAIServer({
        apiKey: "sk-test-0123456789abcdef",
        reply({ messages, tools }) {
          if (!tools) return "It reads well.";
          if (messages.at(-1)?.role === "tool") return `So: ${messages.at(-1)?.content}.\nThat is all.`;
          return { toolCalls: [{ name: "lookup", arguments: { word: "tea" } }] };
        },
      });
      const provider = openaiModel({ baseURL: server.url, apiKey: "sk-test-0123456789abcdef" });
      const expected = { facts: "So: tea is a plant.\nThat is all.", style: "It reads well." };
      {
        await using troupe = await startTestDaemon({ agents, workflows: [both], model: recordModel(provider, file) });
        expect(await troupe.client.run("both", "tea")).toEqual(expected);
      }
      await server.close();

      const model = replayModel(file);
      await using troupe = await startTestDaemon({ agents, workflows: [both], model });
      expect(await troupe.client.run("both", "tea")).toEqual(expected);
      model.assertComplete();
      expect(model).toMatchObject({ provider: "openai", calls: { length: 3 } });
      // The same again is the same: a call that is made twice has one answer.
      expect(await troupe.client.run("both", "tea")).toEqual(expected);

      const text = await readFile(file, "utf8");
      expect(text).not.toContain("sk-test");
      if (name.endsWith("yaml"))
        expect(text).toContain("content: |-\n        So: tea is a plant.\n        That is all.");
      expect(await readdir(join(dir, "deep"))).not.toContainEqual(expect.stringContaining(".part"));
    },
  );

  test("a run whose calls have changed fails and says which call is nearest, and where it differs", async () => {
    const file = await recorded([say("About tea.")], [asking("Write about tea, please.")]);
    const writer = defineAgent({ name: "writer", model: "m", instructions: "Write." });
    const model = replayModel(file);
    await using troupe = await startTestDaemon({
      agents: [writer],
      workflows: [defineWorkflow({ name: "write", agents: [writer] })],
      model,
    });
    const failure = await troupe.client.run("write", "Write about coffee, please.").catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: "not_recorded" });
    expect(String(failure)).toContain(
      'request.messages[0].content: recorded "Write about tea, please.", got "Write about coffee, please."',
    );
    expect(() => model.assertComplete()).toThrow(
      /never made: call 1 of 1, by writer\n {2}not recorded: call 1 by writer/,
    );
  });
});

test("an agent that falls back to another model does so in the replay, and asks nobody in vain", async () => {
  const file = { large: join(dir, "large.yaml"), small: join(dir, "small.yaml") };
  const later = new ModelError("rate_limited", "tomorrow", { retryable: true, retryAfterMs: 86_400_000 });
  const large = new ScriptedModel([fail(later)]);
  const small = new ScriptedModel([say("It is a plant."), say("It reads well.")]);
  const careful = defineAgent({
    name: "careful",
    instructions: "Answer.",
    model: [
      { provider: "large", model: "l" },
      { provider: "small", model: "s", seed: 1 },
    ],
  });
  const workflow = defineWorkflow({
    name: "twice",
    steps: [
      { id: "first", agent: careful, input: "{{ input }}" },
      { id: "second", agent: careful, after: "first", input: "Judge: {{ steps.first.output }}" },
    ],
  });
  const run = async (providers: { large: Model; small: Model }) => {
    await using troupe = await startTestDaemon({ agents: [careful], workflows: [workflow], providers });
    const { runId } = await troupe.client.start("twice", "tea");
    expect(await troupe.client.result(runId)).toBe("It reads well.");
    return await troupe.client.transcript(runId);
  };
  const told = await run({ large: recordModel(large, file.large), small: recordModel(small, file.small) });
  expect(told).toContain("answered by: small/s (1)");

  const replayed = { large: replayModel(file.large), small: replayModel(file.small) };
  expect(await run(replayed)).toBe(told);
  for (const model of Object.values(replayed)) model.assertComplete();
  expect(replayed.large.calls).toHaveLength(1);
});

test("the nearest call of the same agent is told, the first three differences, and of long texts the place", async () => {
  const long = "x".repeat(500);
  const file = await recorded(
    [say("1"), say("2"), say("3")],
    [asking("one"), asking(`${long} tea ${long}`), { ...asking("three"), instructions: "Other.", model: "n" }],
  );
  const call = (request: ModelRequest) => replayModel(file).call(request, context("writer"));
  const error = await call(asking(`${long} coffee ${long}`)).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(ModelError);
  expect(error).toMatchObject({ code: "not_recorded", retryable: false });
  const lines = String((error as Error).message).split("\n");
  expect(lines[0]).toBe(`${file}: expected a call that is recorded, got call 1 by writer, turn 1`);
  expect(lines.slice(1, -1)).toEqual([
    "  nearest: call 2 of 3",
    expect.stringMatching(
      /^ {2}request\.messages\[0\]\.content: recorded "…x{19} tea x{56}…", got "…x{19} coffee x{53}…"$/,
    ),
  ]);
  const far = {
    ...asking("four"),
    instructions: "New.",
    model: "o",
    tools: [{ name: "t", description: "", parameters: {} }],
  };
  await expect(call(far)).rejects.toThrow(/and 1 more differences\n {2}record it again/);
});

test("calls are matched by what they ask and by whom, in any order; the same request is answered in its order", async () => {
  const file = await recorded(
    [say("first"), say("other"), say("second")],
    [asking("same"), asking("different"), asking("same")],
  );
  const model = replayModel(file);
  const ask = async (text: string) => (await model.call(asking(text), context("writer"))).content;
  expect([await ask("same"), await ask("different"), await ask("same"), await ask("same")]).toEqual([
    "first",
    "other",
    "second",
    "second",
  ]);
  model.assertComplete();
  await expect(model.call(asking("same"), context("somebody else"))).rejects.toThrow('agent: recorded "writer"');
});

test("`match` says what of a request counts", async () => {
  const file = await recorded([say("noon")], [asking("It is 2026-01-01. What is due?")]);
  const match = (request: ModelRequest) => JSON.parse(JSON.stringify(request).replaceAll(/\d{4}-\d\d-\d\d/g, "<date>"));
  const model = replayModel(file, { match });
  expect(await model.call(asking("It is 2031-12-24. What is due?"), context("writer"))).toMatchObject({
    content: "noon",
  });
  await expect(model.call(asking("It is late."), context("writer"))).rejects.toThrow(
    'recorded "It is <date>. What is due?"',
  );
});

test("errors are recorded and replayed as what they were, and calls that were stopped are left out", async () => {
  const file = join(dir, "errors.yaml");
  const limited = new ModelError("rate_limited", "slow down", { retryable: true });
  const model = recordModel(
    new ScriptedModel([fail(limited), fail(new Error("odd")), say("late", { delayMs: 60_000 })]),
    file,
  );
  await expect(model.call(asking("a"), context("writer"))).rejects.toBe(limited);
  await expect(model.call(asking("b"), context("writer"))).rejects.toThrow("odd");
  const stop = new AbortController();
  const stopped = model.call(asking("c"), { ...context("writer"), signal: stop.signal });
  stop.abort(new Error("stopped"));
  await expect(stopped).rejects.toThrow("stopped");

  const again = replayModel(file);
  const first = again.call(asking("a"), context("writer"));
  await expect(first).rejects.toMatchObject({ name: "ModelError", code: "rate_limited", retryable: true });
  await expect(again.call(asking("b"), context("writer"))).rejects.toMatchObject({
    code: "model_failed",
    retryable: false,
  });
  again.assertComplete();
});

test("secrets of the environment, given ones and what looks like a key are not in the file, and do not keep it from fitting", async () => {
  const file = join(dir, "secrets.yaml");
  const secrets = { account: "acme-4711-internal" };
  process.env.TROUPE_TEST_API_KEY = "value-of-the-environment";
  const texts = (account: string, key: string) =>
    `For ${account} use ${key}, sk-abcdefghijklmnop0123 or Bearer abcdef0123456789abcdef at https://me:hunter2hunter2@host/.`;
  try {
    const answer = `Done with ${secrets.account}.`;
    const model = recordModel(new ScriptedModel([say(answer)]), file, { secrets });
    const request = asking(texts(secrets.account, "value-of-the-environment"));
    expect(await model.call(request, context("writer"))).toMatchObject({ content: answer });
    const text = await readFile(file, "utf8");
    expect(text).not.toMatch(/acme|value-of|sk-abc|abcdef0123|hunter2/);
    expect(text).toContain(
      "For <secret: account> use <secret: TROUPE_TEST_API_KEY>, <secret> or Bearer <secret> at https://me:<secret>@host/.",
    );

    // Another machine has other values.
    process.env.TROUPE_TEST_API_KEY = "another-value-elsewhere";
    const elsewhere = { secrets: { account: "other-0815-internal" } };
    const replayed = replayModel(file, elsewhere).call(
      asking(texts("other-0815-internal", "another-value-elsewhere")),
      context("writer"),
    );
    expect(await replayed).toMatchObject({ content: "Done with <secret: account>." });
  } finally {
    delete process.env.TROUPE_TEST_API_KEY;
  }
});

test.each(["yaml", "json"])("any text survives the file as %s", async (kind) => {
  const text = "a\r\nb \t\n\n  c: - # 'x' \u0000\u001b[1m\u2028 žluť 茶 🍵 \ufeff\n\n";
  const file = join(dir, `any.${kind}`);
  await recordModel(new ScriptedModel([say(text)]), file).call(asking(text), context("writer"));
  expect(await replayModel(file).call(asking(text), context("writer"))).toMatchObject({ content: text });
});

test("text is streamed in pieces, and a recording replaces the one before", async () => {
  const file = await recorded([say("old")], [asking("x")]);
  await recordModel(new ScriptedModel([say("one two three")]), file).call(asking("x"), context("writer"));
  const pieces: string[] = [];
  const streaming = { ...context("writer"), onDelta: (piece: string) => void pieces.push(piece) };
  expect(await replayModel(file).call(asking("x"), streaming)).toMatchObject({ content: "one two three" });
  expect(pieces).toEqual(["one ", "two ", "three"]);
});

test.each([
  ["is missing", undefined, /expected a cassette, which recordModel makes, got none/],
  ["is something else", "agents: {}", /cassette: expected 1, got nothing/],
  ["is cut off", "cassette: 1\nprovider: x\ncalls: [{", /expected a cassette, got /],
  [
    "has a call without an answer",
    "cassette: 1\nprovider: x\ncalls: [{agent: a, request: {messages: []}}]",
    /calls\[0\]: expected `reply` or `error`/,
  ],
])("a file that %s is a mistake with its place", async (what, text, message) => {
  const file = join(dir, `${what.replaceAll(" ", "-")}.yaml`);
  if (text !== undefined) await writeFile(file, text);
  expect(() => replayModel(file)).toThrow(UsageError);
  expect(() => replayModel(file)).toThrow(message);
});

let files = 0;

/** A cassette of the agent `writer`: each request with its answer. */
async function recorded(answers: ReturnType<typeof say>[], requests: ModelRequest[]): Promise<string> {
  files += 1;
  const file = join(dir, `cassette-${files}.yaml`);
  const model = recordModel(new ScriptedModel(answers), file);
  for (const request of requests) await model.call(request, context("writer"));
  return file;
}

function asking(content: string): ModelRequest {
  return { model: "m", instructions: "Write.", messages: [{ role: "user", content }], tools: [] };
}

function context(agent: string): ModelCallContext {
  return { signal: new AbortController().signal, runId: "r", taskId: "t", agent, turn: 1 };
}
