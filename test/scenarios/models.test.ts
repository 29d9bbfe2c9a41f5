/** Models and providers of agents on real daemons, against servers that speak OpenAI's two APIs. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { connect, defineAgent, defineWorkflow, openaiProvider } from "../../src/index.ts";
import { startTestDaemon } from "../../src/testing/index.ts";
import { startTestNats } from "../helpers/nats-server.ts";
import { type ChatReply, startOpenAIServer } from "../helpers/openai-server.ts";
import { serveFiles, startTroupe, troupe } from "../helpers/troupe.ts";
import { until } from "../helpers/until.ts";

// A whole daemon, perhaps two, on a machine that may be busy.
const TEST_MS = 60_000;
const overloaded: ChatReply = { status: 503, error: { message: "overloaded" } };

function agentOn(model: Parameters<typeof defineAgent>[0]["model"], more: object = {}) {
  const agent = defineAgent({
    name: "writer",
    instructions: "Write.",
    provider: "local",
    ...(model && { model }),
    ...more,
  });
  return { agents: [agent], workflows: [defineWorkflow({ name: "write", agents: [agent] })] };
}

test.each([
  { api: "chat", stream: true },
  { api: "chat", stream: false },
  { api: "responses", stream: true },
  { api: "responses", stream: false },
] as const)(
  "the backup model answers by $api with stream $stream, and the run's record says so with its cost",
  { timeout: TEST_MS },
  async (how) => {
    await using primary = await startOpenAIServer({ reply: { status: 400 } });
    const usage = { prompt_tokens: 1_000, completion_tokens: 500, cached: 400, reasoning: 100 };
    await using backup = await startOpenAIServer({ reply: { text: "about tea", usage } });
    await using troupe = await startTestDaemon({
      ...agentOn(["first", { model: "second", provider: "backup", temperature: 0.5 }]),
      providers: {
        local: openaiProvider({ baseURL: primary.url }),
        backup: openaiProvider({ baseURL: backup.url, ...how }),
      },
      prices: { second: { input: 2, cached: 0.5, output: 10 } },
    });
    const { runId } = await troupe.client.start("write", "tea");
    expect(await troupe.client.result(runId)).toBe("about tea");
    const run = await troupe.client.get(runId);
    const models = [{ provider: "backup", model: "second", modelCalls: 1 }];
    expect(run.usage).toEqual({
      inputTokens: 1_000,
      outputTokens: 500,
      totalTokens: 1_500,
      cachedTokens: 400,
      reasoningTokens: 100,
      // 600 tokens at 2, 400 at 0.5 and 500 at 10 a million.
      cost: 0.0064,
      modelCalls: 1,
      models,
    });
    expect(run.steps[0]?.models).toEqual(models);
    expect(backup.calls.map(({ api, body }) => [api, body.model, body.temperature, body.stream])).toEqual([
      [how.api, "second", 0.5, how.stream],
    ]);
    expect(primary.calls).toHaveLength(1);
    expect([...primary.violations, ...backup.violations]).toEqual([]);
  },
);

const TOOLS = `
import { appendFileSync } from "node:fs";
import { defineTool } from "@@TROUPE@@";
import { z } from "@@ZOD@@";
export const note = defineTool({
  name: "note",
  description: "Takes a note.",
  parameters: z.object({ text: z.string() }),
  execute({ text }) {
    appendFileSync("notes.txt", text + "\\n");
    return "noted";
  },
});
`;

test("a daemon killed in the middle of a fallback repeats no recorded call, and the run ends with the backup's words", {
  timeout: TEST_MS,
}, async () => {
  await using nats = await startTestNats();
  let isHeld = true;
  const held = Promise.withResolvers<void>();
  await using primary = await startOpenAIServer({ reply: { status: 400 } });
  await using backup = await startOpenAIServer({
    async reply({ input = [] }) {
      const isSecondTurn = input.some(({ type }) => type === "function_call_output");
      if (!isSecondTurn) return { toolCalls: [{ id: "n1", name: "note", arguments: { text: "once" } }] };
      // Until the daemon is killed nobody answers.
      if (isHeld) await held.promise;
      return "all is noted";
    },
  });
  const door = new URL("../../src/index.ts", import.meta.url).href;
  const config = [
    "providers:",
    `  local: { baseURL: "${primary.url}" }`,
    `  backup: { baseURL: "${backup.url}", api: responses }`,
    "prices: { second: { input: 1, output: 1 } }",
    "tools: { note: { module: ./tools.ts } }",
    "agents:",
    "  writer:",
    "    instructions: Write.",
    "    model: [{ model: first, provider: local }, { model: second, provider: backup }]",
    "    tools: [note]",
    "workflows: { write: { agents: [writer] } }",
    `daemon: { nats: ["${nats.url}"] }`,
  ].join("\n");
  await using served = await serveFiles({
    "tools.ts": TOOLS.replace("@@TROUPE@@", door).replace("@@ZOD@@", import.meta.resolve("zod")),
    "troupe.yaml": config,
  });
  await using client = await connect({ servers: nats.url });
  const { runId } = await client.start("write", "tea");
  await until("the second turn is with the backup", () => backup.calls.length === 2, { withinMs: 20_000 });
  served.serve.child.kill("SIGKILL");
  await served.serve.ended;
  isHeld = false;
  held.resolve();

  const again = startTroupe(["serve", "--http-port", "0"], { cwd: served.dir });
  try {
    expect(await client.result(runId, { timeoutMs: 40_000 })).toBe("all is noted");
    const turns = (calls: typeof backup.calls) => calls.map(({ body }) => body.input?.length ?? body.messages.length);
    // The first turn's reply and the tool's result are on record: only the call in flight is made again.
    expect(turns(backup.calls)).toEqual([1, 3, 3]);
    expect(turns(primary.calls)).toEqual([2, 4, 4]);
    expect(await readFile(join(served.dir, "notes.txt"), "utf8")).toBe("once\n");
    const { usage } = await client.get(runId);
    expect(usage).toMatchObject({ modelCalls: 2, models: [{ provider: "backup", model: "second", modelCalls: 2 }] });
    expect(usage.cost).toBeGreaterThan(0);
    expect(backup.violations).toEqual([]);
  } finally {
    again.child.kill("SIGTERM");
    await again.ended;
  }
});

test("while its provider is down an agent is tripped and shown so, nothing fails, and all runs end once it is back", {
  timeout: TEST_MS,
}, async () => {
  let isDown = true;
  await using server = await startOpenAIServer({ reply: () => (isDown ? overloaded : "written") });
  await using running = await startTestDaemon({
    ...agentOn("m", { concurrency: 2, maxModelAttempts: 9 }),
    providers: { local: openaiProvider({ baseURL: server.url, breaker: { failures: 2, cooldownMs: 300 } }) },
  });
  const { client, daemon } = running;
  const tripped = () => client.agents().then(([agent]) => (agent?.tripped ?? []).length > 0);
  const started = await Promise.all(Array.from({ length: 5 }, (_, i) => client.start("write", `tea ${i}`)));
  await until("the agent is tripped", tripped, { withinMs: 20_000 });

  const page = async (path: string) => (await fetch(`${daemon.httpUrl}${path}`)).text();
  await until("readiness has a warning", async () =>
    /provider local is down: .*overloaded/.test(await page("/readyz")),
  );
  expect(JSON.parse(await page("/readyz"))).toMatchObject({ ready: true });
  await until("metrics show it", async () => /troupe_provider_down\{provider="local"\} 1/.test(await page("/metrics")));

  const ask = (command: string) => troupe([command, "--nats", running.natsUrl], { cwd: import.meta.dirname });
  expect((await ask("agents")).stdout).toMatch(/writer +m +\S+ \(tripped\)/);
  expect((await ask("doctor")).stdout).toMatch(/the provider local is down for \S+, and writer wait for a provider/);

  // Probes fail for a while: each keeps it open for twice as long.
  const callsThen = server.calls.length;
  await until("it was probed", () => server.calls.length >= callsThen + 1, { withinMs: 20_000 });
  for (const { runId } of started) expect((await client.get(runId)).status).toBe("running");
  expect(server.calls.length).toBeLessThan(12);

  isDown = false;
  const results = await Promise.all(started.map(({ runId }) => client.result(runId, { timeoutMs: 30_000 })));
  expect(results).toEqual(Array.from({ length: 5 }, () => "written"));
  await until("the agent is not tripped any more", async () => !(await tripped()));
  expect(await page("/readyz")).not.toContain("warnings");
  expect(await page("/metrics")).toMatch(/troupe_model_wait_count\{.*why="down"/);
});

test("waiting for a provider is bounded by the task's own time, and the error says what it waited for", {
  timeout: TEST_MS,
}, async () => {
  await using server = await startOpenAIServer({ reply: overloaded });
  await using troupe = await startTestDaemon({
    ...agentOn("m", { timeoutMs: 4_000 }),
    providers: { local: openaiProvider({ baseURL: server.url, breaker: { failures: 1, cooldownMs: 60_000 } }) },
  });
  await expect(troupe.client.run("write", "tea")).rejects.toMatchObject({
    code: "timeout",
    message: expect.stringMatching(/did not finish within 4000 ms; it was waiting for a provider: .*overloaded/),
  });
  expect(server.calls).toHaveLength(1);
});

test("a daemon that drains gives back at once what waits for a provider, and another one does it", {
  timeout: TEST_MS,
}, async () => {
  await using nats = await startTestNats();
  await using broken = await startOpenAIServer({ reply: overloaded });
  await using working = await startOpenAIServer({ reply: "written" });
  const on = (baseURL: string) => ({
    ...agentOn("m"),
    nats: nats.url,
    providers: { local: openaiProvider({ baseURL, breaker: { failures: 1, cooldownMs: 60_000 } }) },
    options: { drainTimeoutMs: 50_000 },
  });
  const one = await startTestDaemon(on(broken.url));
  const { runId } = await one.client.start("write", "tea");
  await until("the agent is tripped", async () => (await one.client.agents())[0]?.tripped?.length === 1, {
    withinMs: 20_000,
  });
  await using two = await startTestDaemon(on(working.url));
  const since = performance.now();
  await one.stop();
  expect(performance.now() - since).toBeLessThan(30_000);
  expect(await two.client.result(runId, { timeoutMs: 20_000 })).toBe("written");
});

test("what a tripped agent refuses is done by a daemon whose provider is there", { timeout: TEST_MS }, async () => {
  await using nats = await startTestNats();
  await using broken = await startOpenAIServer({ reply: overloaded });
  await using working = await startOpenAIServer({ reply: "written" });
  const on = (baseURL: string) => ({
    ...agentOn("m"),
    nats: nats.url,
    providers: { local: openaiProvider({ baseURL, breaker: { failures: 1, cooldownMs: 60_000 } }) },
  });
  await using one = await startTestDaemon(on(broken.url));
  const { runId: stuck } = await one.client.start("write", "first");
  await until("the agent is tripped", async () => (await one.client.agents())[0]?.tripped?.length === 1, {
    withinMs: 20_000,
  });
  await using two = await startTestDaemon(on(working.url));
  const results = await Promise.all(Array.from({ length: 8 }, (_, i) => two.client.run("write", `tea ${i}`)));
  expect(results).toEqual(Array.from({ length: 8 }, () => "written"));
  expect(broken.calls).toHaveLength(1);
  // The task at work stays where it is, until its time is up or its provider is back.
  expect((await one.client.get(stuck)).status).toBe("running");
});

test("a provider's limits hold for all agents of a daemon", { timeout: TEST_MS }, async () => {
  let underWay = 0;
  let most = 0;
  await using server = await startOpenAIServer({
    async reply() {
      underWay += 1;
      most = Math.max(most, underWay);
      await new Promise((resolve) => setTimeout(resolve, 30));
      underWay -= 1;
      return "written";
    },
  });
  const agents = ["writer", "editor"].map((name) =>
    defineAgent({ name, instructions: "Write.", model: "m", provider: "local" }),
  );
  await using troupe = await startTestDaemon({
    agents,
    workflows: agents.map((agent) => defineWorkflow({ name: `by-${agent.name}`, agents: [agent] })),
    providers: { local: openaiProvider({ baseURL: server.url, maxConcurrency: 2 }) },
  });
  const runs = Array.from({ length: 6 }, () => agents.map(({ name }) => troupe.client.run(`by-${name}`, "tea"))).flat();
  expect(await Promise.all(runs)).toEqual(Array.from({ length: 12 }, () => "written"));
  expect(most).toBe(2);
  const metrics = await (await fetch(`${troupe.daemon.httpUrl}/metrics`)).text();
  expect(metrics).toMatch(/troupe_model_wait_count\{provider="local",why="limits"\} 10/);
});

test("the live feed tells of a fallback and of reasoning, and of no other model once words went out", {
  timeout: TEST_MS,
}, async () => {
  const watched = Promise.withResolvers<void>();
  await using primary = await startOpenAIServer({
    async reply(_, n) {
      if (n > 1) return { text: "Once upon a time", cutAfter: 3 };
      await watched.promise;
      return { status: 400 };
    },
  });
  await using backup = await startOpenAIServer({ reply: { text: "about tea", reasoning: { summary: "Hm." } } });
  await using troupe = await startTestDaemon({
    ...agentOn([
      { model: "first", maxAttempts: 1 },
      { model: "second", provider: "backup" },
    ]),
    providers: {
      local: openaiProvider({ baseURL: primary.url }),
      backup: openaiProvider({ baseURL: backup.url, api: "responses" }),
    },
  });
  const told: { type: string; data: unknown }[] = [];
  const { runId } = await troupe.client.start("write", "tea");
  for await (const { type, data } of troupe.client.events(runId)) {
    told.push({ type, data });
    watched.resolve();
  }
  const about = (type: string) => told.filter((event) => event.type === type).map(({ data }) => data);
  expect(about("model.fallback")).toEqual([
    expect.objectContaining({
      turn: 1,
      from: { provider: "local", model: "first" },
      to: { provider: "backup", model: "second" },
      error: "bad_request",
    }),
  ]);
  expect(about("model.reasoning")).toEqual([expect.objectContaining({ turn: 1, text: "Hm." })]);
  await expect(troupe.client.run("write", "tea")).rejects.toMatchObject({ code: "stream_cut" });
  expect(backup.calls).toHaveLength(1);
});
