import { expect, test } from "vitest";
import { type Client, connect } from "../../src/runtime/edges/client.ts";
import type { NumberedAsk } from "../helpers/numbered-model-server.ts";
import { openStage } from "../helpers/stage.ts";
import { until } from "../helpers/until.ts";

const AGENTS = {
  slow: { instructions: "Think.", model: "any" },
  writer: { instructions: "Write.", model: "any" },
};

/** A workflow whose output says which version made it. */
function article(version: string) {
  const steps = [
    { id: "think", agent: "slow" },
    { id: "write", agent: "writer", after: "think", input: `by version ${version}: {{ input }}` },
  ];
  return { agents: AGENTS, workflows: { article: { version, steps } } };
}

/** Answers with what it was asked; `slow` takes its time. */
const MODEL = {
  reply: ({ texts }: NumberedAsk) => ({ content: texts.at(-1) ?? "", toolCalls: [] }),
  delayMs: ({ agent }: NumberedAsk) => (agent === "slow" ? 2_500 : 10),
};

test("a daemon without any configuration runs what was put, with the agents that came with it", async () => {
  await using stage = await openStage({ bare: true, model: MODEL });
  await using client = await connect({ servers: stage.nats.url });
  expect(await client.workflows()).toEqual([]);
  await expect(client.start("article", "tea")).rejects.toMatchObject({ code: "unknown_workflow" });

  const put = await client.putWorkflows(article("1"));
  expect(put.workflows).toMatchObject([{ workflow: "article", number: 1, changed: true, agents: ["slow", "writer"] }]);
  expect(put.workflows[0]).not.toHaveProperty("without");
  expect(await client.run("article", "tea")).toBe("by version 1: tea");

  // It is there for a daemon that starts later, before that says it is ready.
  await stage.daemon.kill();
  await stage.daemon.start();
  expect((await client.agents()).map(({ name }) => name)).toEqual(["slow", "writer"]);
  expect(await client.run("article", "milk")).toBe("by version 1: milk");
}, 60_000);

test("runs go on by the version they began with when another is put and their owner is killed, new ones begin with that", async () => {
  await using stage = await openStage({ daemons: 2, bare: true, model: MODEL });
  await using client = await connect({ servers: stage.nats.url });
  const [first] = (await client.putWorkflows(article("1"))).workflows;
  const before = await started(client, "old", 12);
  await until("every run is at its first step", () => stage.model.open().length === before.length);
  const owners = new Set<string | undefined>();
  for (const runId of before) owners.add((await client.get(runId)).owner?.host);
  expect(owners.size).toBe(2);

  const [second] = (await client.putWorkflows(article("2"))).workflows;
  expect(second).toMatchObject({ number: 2, changed: true });
  expect(second?.hash).not.toBe(first?.hash);
  const [killed] = stage.daemons;
  await killed?.kill();
  const after = await started(client, "new", 4);

  for (const runId of before) {
    expect(await client.result(runId)).toBe(`by version 1: ${runId}`);
    expect(await client.get(runId)).toMatchObject({ version: "1", hash: first?.hash });
  }
  for (const runId of after) expect(await client.result(runId)).toBe(`by version 2: ${runId}`);

  await killed?.start();
  expect(await client.run("article", "tea", { version: "1" })).toBe("by version 1: tea");
  expect(await client.run("article", "tea", { version: "#1" })).toBe("by version 1: tea");
  await expect(client.start("article", "tea", { version: "3" })).rejects.toMatchObject({ code: "unknown_version" });
}, 90_000);

test("runs of a workflow that is deleted go on, also on another daemon, and none begins", async () => {
  await using stage = await openStage({ daemons: 2, bare: true, model: MODEL });
  await using client = await connect({ servers: stage.nats.url });
  await client.putWorkflows(article("1"));
  const before = await started(client, "old", 8);
  await until("every run is at its first step", () => stage.model.open().length === before.length);

  await client.deleteWorkflow("article");
  await client.deleteWorkflow("article");
  await until("no daemon offers it", async () => (await client.workflows()).length === 0);
  await expect(client.start("article", "tea")).rejects.toMatchObject({ code: "unknown_workflow" });
  await expect(client.start("article", "tea", { version: "1" })).rejects.toMatchObject({ code: "unknown_workflow" });
  await stage.daemons[1]?.kill();
  for (const runId of before) expect(await client.result(runId)).toBe(`by version 1: ${runId}`);

  // The way past the API leads to a run that says so.
  stage.journals.nc.publish("troupe.requests.article", JSON.stringify({ input: "tea", runId: "late" }));
  await expect(client.result("late", { timeoutMs: 20_000 })).rejects.toMatchObject({ code: "unknown_workflow" });
}, 90_000);

async function started(client: Client, name: string, count: number): Promise<string[]> {
  const runIds = Array.from({ length: count }, (_, i) => `${name}-${i}`);
  await Promise.all(runIds.map((runId) => client.start("article", runId, { runId })));
  return runIds;
}
