/** Trying runs again, over the API of a daemon and from the command line. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { defineAgent } from "../../../src/actors/define-agent.ts";
import type { Model } from "../../../src/actors/model.ts";
import { ModelError } from "../../../src/errors.ts";
import { startTestDaemon, type TestDaemon } from "../../../src/testing/start-test-daemon.ts";
import { defineWorkflow } from "../../../src/workflows/define-workflow.ts";
import { troupe as cli } from "../../helpers/troupe.ts";

const agents = ["first", "second", "third"].map((name) => defineAgent({ name, instructions: name, model: "m" }));
const chain = defineWorkflow({ name: "chain", agents: ["first", "second", "third"] });
const large = "x".repeat(700_000);

/** Which agents were asked in which run, and which fail now. */
const asked: string[] = [];
const failing = new Set<string>();
const model: Model = {
  provider: "scripted",
  async call(_request, { runId, agent }) {
    asked.push(`${runId} ${agent}`);
    if (failing.has(agent)) throw new ModelError("declined", "not now", { retryable: false });
    return { ...ANSWER, content: agent === "third" ? "done" : `${agent} ${large}` };
  },
};
const ANSWER = {
  toolCalls: [],
  finishReason: "stop" as const,
  usage: { inputTokens: 1, outputTokens: 1 },
  model: "m",
};

let daemon: TestDaemon;
beforeAll(async () => {
  daemon = await startTestDaemon({ agents, workflows: [chain], model });
});
afterAll(() => daemon.stop());

async function failOnce(runId: string): Promise<void> {
  failing.add("third");
  const options = { runId, sessionId: "s1", metadata: { a: 1 } };
  await expect(daemon.client.run("chain", "tea", options)).rejects.toMatchObject({ code: "declined" });
  failing.clear();
}

test("a failed run is tried again in what it has not done, however large what it has done is", async () => {
  const { client } = daemon;
  await failOnce("f1");
  const { runId } = await client.retry("f1", { newRunId: "f2" });
  expect(runId).toBe("f2");
  expect(await client.result("f2")).toBe("done");
  expect(asked.filter((words) => words.startsWith("f2"))).toEqual(["f2 third"]);
  const run = await client.get("f2");
  expect(run).toMatchObject({ input: "tea", sessionId: "s1", metadata: { a: 1 }, retryOf: { runId: "f1" } });
  expect(run.steps.map(({ id, reused = false }) => [id, reused])).toEqual([
    ["first", true],
    ["second", true],
    ["third", false],
  ]);
  expect(run.steps[1]?.output).toBe(`second ${large}`);
  expect(run.traceId).not.toBe((await client.get("f1")).traceId);
});

test("asked for twice it is one run", async () => {
  const { client } = daemon;
  await failOnce("t1");
  await Promise.all([client.retry("t1", { newRunId: "t2" }), client.retry("t1", { newRunId: "t2" })]);
  expect(await client.result("t2")).toBe("done");
  await client.retry("t1", { newRunId: "t2" });
  expect(asked.filter((words) => words.startsWith("t2"))).toEqual(["t2 third"]);
});

test("a run is tried again from a step on, also when it has completed", async () => {
  const { client } = daemon;
  await client.run("chain", "tea", { runId: "c1" });
  await client.retry("c1", { newRunId: "c2", from: "second" });
  expect(await client.result("c2")).toBe("done");
  expect(asked.filter((words) => words.startsWith("c2"))).toEqual(["c2 second", "c2 third"]);
});

test("what cannot be tried again is told before anything is begun", async () => {
  const { client } = daemon;
  await client.run("chain", "tea", { runId: "w1" });
  await expect(client.retry("w1")).rejects.toMatchObject({
    code: "cannot_retry",
    message: expect.stringMatching(/completed/),
  });
  await expect(client.retry("w1", { from: "fourth" })).rejects.toMatchObject({
    code: "cannot_retry",
    message: expect.stringMatching(/expected the id of a step \(first, second, third\), got "fourth"/),
  });
  await expect(client.retry("w1", { newRunId: "w1", from: "third" })).rejects.toMatchObject({ code: "cannot_retry" });
  await expect(client.retry("nobody")).rejects.toMatchObject({ code: "unknown_run" });
});

test("who asks at the door for what cannot be tried again gets a failed run that says why", async () => {
  const { client } = daemon;
  await client.run("chain", "tea", { runId: "d1" });
  const { hash } = await client.workflow("chain");
  const requests = [
    ["d2", { runId: "d1", hash }, /completed/],
    ["d3", { runId: "gone", hash }, /no run "gone"/],
    ["d4", { runId: 7 }, /retryOf.runId: expected \{runId, hash, from\?\}/],
  ] as const;
  const { connect } = await import("nats");
  const nc = await connect({ servers: daemon.natsUrl });
  for (const [runId, retryOf] of requests) {
    await nc.jetstream().publish("troupe.requests.chain", JSON.stringify({ input: null, runId, retryOf }));
  }
  await nc.close();
  for (const [runId, , message] of requests) {
    await expect(client.result(runId)).rejects.toMatchObject({ message: expect.stringMatching(message) });
  }
});

test("the command line tells the new run's id, and shows what it took over", async () => {
  await failOnce("cli1");
  const env = { NATS_URL: daemon.natsUrl };
  const cwd = process.cwd();
  expect(await cli(["runs", "retry", "cli1", "--run-id", "cli2"], { cwd, env })).toMatchObject({
    code: 0,
    stdout: "cli2\n",
  });
  await daemon.client.result("cli2");
  const { stdout } = await cli(["runs", "get", "cli2"], { cwd, env });
  expect(stdout).toMatch(/retry of +cli1/);
  expect(stdout).toMatch(/second +second +completed, reused/);
  expect(await cli(["runs", "retry", "nobody"], { cwd, env })).toMatchObject({ code: 1 });
});
