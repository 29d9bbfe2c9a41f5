import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { defineAgent } from "../../../src/actors/define-agent.ts";
import { defineTool } from "../../../src/actors/define-tool.ts";
import { handoff } from "../../../src/actors/handoff.ts";
import { DefinitionError } from "../../../src/errors.ts";
import { FORM, type PutRecord } from "../../../src/runtime/hosts/definition-record.ts";
import { connect as connectNats, type NatsConnection } from "../../../src/runtime/nats/nats.ts";
import { callTool, say } from "../../../src/testing/replies.ts";
import { rulesModel } from "../../../src/testing/rules-model.ts";
import { startTestDaemon, type TestDaemon } from "../../../src/testing/start-test-daemon.ts";
import { defineWorkflow } from "../../../src/workflows/define-workflow.ts";
import { exportDefinition } from "../../../src/workflows/export-definition.ts";
import { standingsIn } from "../../../src/workflows/graph-status.ts";
import { graphOf } from "../../../src/workflows/workflow-graph.ts";
import { until } from "../../helpers/until.ts";

const lookup = defineTool({
  name: "lookup",
  description: "Looks something up.",
  parameters: z.object({ word: z.string() }),
  execute: ({ word }) => `found ${word}`,
});
const librarian = defineAgent({ name: "librarian", instructions: "Help.", model: "any", tools: [lookup] });
const own = defineWorkflow({ name: "own", agents: [librarian] });

/** What the slow agent was asked, as its model is. */
const slowCalls: string[] = [];
const model = rulesModel([
  {
    agent: "slow",
    reply: ({ lastUser, request }) => {
      slowCalls.push(`${request.instructions} ${lastUser}`);
      return say(slowCalls.at(-1) ?? "", { delayMs: 1_000 });
    },
  },
  { agent: "reader", afterTool: false, reply: callTool("lookup", { word: "tea" }) },
  { agent: "reader", afterTool: true, reply: ({ toolResults }) => say(toolResults[0]?.content ?? "") },
  { reply: ({ lastUser, request }) => say(`${request.instructions} ${lastUser}`) },
]);

let troupe: TestDaemon;
let nc: NatsConnection;
beforeAll(async () => {
  troupe = await startTestDaemon({ agents: [librarian], workflows: [own], model });
  nc = await connectNats({ servers: troupe.natsUrl });
});
afterAll(async () => {
  await nc.close();
  await troupe.stop();
});

const plain = (instructions: string) => ({ instructions, model: "any" });

describe("workflows.put", () => {
  test("makes a new version of what differs and none of what is the same", async () => {
    const { client } = troupe;
    const v1 = { agents: { poet: plain("One.") }, workflows: { poem: { agents: ["poet"] } } };
    const v2 = { agents: { poet: plain("Two.") }, workflows: { poem: { agents: ["poet"] } } };
    expect((await client.putWorkflows(v1)).workflows).toMatchObject([{ number: 1, changed: true }]);
    expect(await client.run("poem", "tea")).toBe("One. tea");
    expect((await client.putWorkflows(v1)).workflows).toMatchObject([{ number: 1, changed: false }]);
    expect((await client.putWorkflows(v2, { by: "me" })).workflows).toMatchObject([{ number: 2, changed: true }]);
    expect(await client.run("poem", "tea")).toBe("Two. tea");
    expect(await client.workflowVersions("poem")).toMatchObject([
      { number: 2, current: true, by: "me", from: "store" },
      { number: 1, current: false },
    ]);
    expect(await client.workflows()).toContainEqual(
      expect.objectContaining({ name: "poem", from: "store", number: 2 }),
    );
  });

  test("takes groups, lists and loops, which run as written, are drawn, and come back with the same hash", async () => {
    const { client } = troupe;
    const loop = { id: "polish", after: "draft", repeat: { until: "index == 1", max: 5 }, agent: "polisher" };
    const list = {
      id: "books",
      forEach: "input.books",
      concurrency: 2,
      steps: [{ id: "draft", agent: "drafter", input: "{{ item }}" }, loop],
    };
    const shelf = { concurrency: 3, steps: [list, { id: "all", agent: "binder", after: "books" }] };
    const agents = { drafter: plain("Draft."), polisher: plain("Polish."), binder: plain("Bind.") };
    const [put] = (await client.putWorkflows({ agents, workflows: { shelf } })).workflows;
    expect(put).toMatchObject({ changed: true, agents: ["drafter", "polisher", "binder"] });

    const { runId } = await client.start("shelf", { books: ["a", "b", "c"] });
    expect(await client.result(runId)).toContain("Bind.");
    const { file } = await client.workflowSource("shelf", put?.hash);
    expect(file).toEqual({ agents, workflows: { shelf } });
    const standings = standingsIn(await client.get(runId), graphOf(file.workflows.shelf ?? {}, file.agents));
    expect(Object.fromEntries(standings)).toEqual({
      books: { status: "completed", times: 3 },
      "books/draft": { status: "completed", times: 3 },
      "books/polish": { status: "completed", times: 6 },
      all: { status: "completed" },
    });
    expect((await client.putWorkflows(file)).workflows).toMatchObject([{ hash: put?.hash, changed: false }]);

    const steps = [{ ...list, steps: [{ id: "draft", agent: "nobody", after: "polish" }] }];
    const error = await client.putWorkflows({ agents, workflows: { shelf: { steps } } }).catch((thrown) => thrown);
    expect((error as DefinitionError).problems.map(({ path }) => path).sort()).toEqual([
      "workflows.shelf.steps[0].steps[0].after",
      "workflows.shelf.steps[0].steps[0].agent",
    ]);
  });

  test("is refused with everything that is wrong, and stores nothing", async () => {
    const { client } = troupe;
    const wrong = {
      agents: { a: { instructions: "x" }, b: { ...plain("x"), tools: ["nope"], apiKey: "secret" } },
      workflows: {
        fine: { agents: ["librarian"] },
        bad: { steps: [{ id: "s", agent: "nobody", after: "t", input: "{{ steps.u.output }}" }] },
      },
    };
    const error = await client.putWorkflows(wrong).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(DefinitionError);
    expect((error as DefinitionError).problems.map(({ path }) => path).sort()).toEqual([
      "agents.a.model",
      "agents.b.tools[0]",
      "workflows.bad.steps[0].after",
      "workflows.bad.steps[0].agent",
      "workflows.bad.steps[0].input",
    ]);
    await expect(client.workflow("fine")).rejects.toMatchObject({ code: "unknown_workflow" });
    await expect(client.putWorkflows({ workflows: {} })).rejects.toThrow("workflows: expected at least one workflow");
    const key = { agents: { a: { ...plain("x"), apiKey: "secret" } }, workflows: { w: { agents: ["a"] } } };
    await expect(client.putWorkflows(key)).rejects.toThrow("agents.a.apiKey: expected none");
  });

  test("is refused where somebody was quicker, by the number that was expected and by the broker", async () => {
    const { client } = troupe;
    const put = (text: string, expected?: number) =>
      client.putWorkflows(
        { agents: { one: plain(text) }, workflows: { raced: { agents: ["one"] } } },
        expected === undefined ? {} : { expected: { raced: expected } },
      );
    await put("1", 0);
    await expect(put("2", 0)).rejects.toMatchObject({
      code: "version_conflict",
      facts: { workflow: "raced", number: 1 },
    });
    // The same as there is, is there: a question that was asked twice.
    expect((await put("1", 0)).workflows).toMatchObject([{ number: 1, changed: false }]);
    const results = await Promise.allSettled(["a", "b", "c", "d"].map((text) => put(text)));
    const stored = results.filter(({ status }) => status === "fulfilled");
    const refused = results.filter((result) => result.status === "rejected");
    expect(stored).toHaveLength(1);
    for (const { reason } of refused) expect(reason).toMatchObject({ code: "version_conflict" });
    expect((await client.workflowVersions("raced")).map(({ number }) => number)).toEqual([2, 1]);
  });

  test("goes before the workflow and the agents of a configuration, which are back when it is deleted", async () => {
    const { client } = troupe;
    expect(await client.run("own", "tea")).toBe("Help. tea");
    await client.putWorkflows({
      agents: { librarian: plain("Stored.") },
      workflows: { own: { agents: ["librarian"] } },
    });
    expect(await client.run("own", "tea")).toBe("Stored. tea");
    await client.deleteWorkflow("own");
    expect(await client.run("own", "tea")).toBe("Help. tea");
    await expect(client.deleteWorkflow("nope")).rejects.toMatchObject({ code: "unknown_workflow" });
  });

  test("lets an agent that is replaced end what it has at work, and gives what waits to the new one", async () => {
    const { client } = troupe;
    const put = (words: string) =>
      client.putWorkflows({
        agents: { slow: { ...plain(words), concurrency: 1 } },
        workflows: { slowly: { agents: ["slow"] } },
      });
    await put("One.");
    const begun = await client.start("slowly", "first");
    await until("the first is at work", () => slowCalls.length === 1);
    const waiting = await client.start("slowly", "second");
    await until("the second waits", async () => (await client.get(waiting.runId)).current.length > 0);
    await put("Two.");
    const late = await client.start("slowly", "third");
    expect(slowCalls).toEqual(["One. first"]);
    expect(await client.result(begun.runId)).toBe("One. first");
    expect(await client.result(waiting.runId)).toBe("Two. second");
    expect(await client.result(late.runId)).toBe("Two. third");
    // And back: it may still end something as the agent it was.
    await put("One.");
    expect(await client.run("slowly", "fourth")).toBe("One. fourth");
    expect(slowCalls).toHaveLength(4);
  });

  test("gives agents the tools that this daemon has", async () => {
    const { client } = troupe;
    const agents = { reader: { ...plain("Read."), tools: ["lookup"] } };
    await client.putWorkflows({ agents, workflows: { reading: { agents: ["reader"] } } });
    expect(await client.run("reading", "tea")).toBe("found tea");
  });

  test("takes what was exported from TypeScript, handoffs and schemas too, and comes to the same hash", async () => {
    const { client } = troupe;
    const end = defineAgent({ name: "end", ...plain("End."), output: z.object({ a: z.string().min(2) }) });
    const start = defineAgent({
      name: "start",
      ...plain("Start."),
      handoffs: [handoff(end, { input: z.object({ why: z.string() }), context: "last" })],
    });
    const team = defineWorkflow({
      name: "team",
      entry: start,
      agents: [start, end],
      input: z.object({ q: z.string() }),
    });
    const { workflows } = await client.putWorkflows(exportDefinition(team, [start, end, librarian]));
    expect(workflows).toMatchObject([{ workflow: "team", hash: team.hash, agents: ["start", "end"] }]);
    expect(await client.workflow("team")).toEqual(team);
    const again = await client.workflowSource("team");
    expect(again.file).toEqual(exportDefinition(team, [start, end]));
  });

  test("says which agents it does not keep", async () => {
    const agents = { poet: plain("x"), spare: plain("y") };
    const answer = await troupe.client.putWorkflows({ agents, workflows: { verse: { agents: ["poet"] } } });
    expect(answer.unused).toEqual(["spare"]);
  });
});

test("a workflow that is only in a configuration cannot be deleted, and has one version", async () => {
  await expect(troupe.client.deleteWorkflow("own2")).rejects.toMatchObject({ code: "unknown_workflow" });
  const second = await startTestDaemon({
    agents: [librarian],
    workflows: [defineWorkflow({ name: "own2", agents: [librarian], version: "7" })],
    model,
  });
  try {
    await expect(second.client.deleteWorkflow("own2")).rejects.toMatchObject({ code: "not_stored" });
    expect(await second.client.workflowVersions("own2")).toMatchObject([
      { version: "7", from: "config", current: true },
    ]);
  } finally {
    await second.stop();
  }
});

describe("a stored definition that this daemon does not fully understand", () => {
  const record = (workflow: string, changes: Partial<PutRecord> & { [key: string]: unknown }) => ({
    v: 1,
    type: "put",
    workflow,
    number: 1,
    version: "1",
    hash: "0".repeat(16),
    at: new Date().toISOString(),
    form: FORM,
    source: { agents: ["librarian"] },
    agents: {},
    ...changes,
  });

  test.each([
    ["with another form", "newer", record("newer", { form: FORM + 1 }), /form 2, of which this daemon knows 1/],
    [
      "with a key it does not know",
      "keyed",
      record("keyed", { source: { steps: [{ id: "a", agent: "b", magic: 1 }] } }),
      /magic/,
    ],
    ["that comes to another hash", "hashed", record("hashed", {}), /comes to the definition .* here/],
    ["of a kind that is no record", "odd", { v: 2 }, /its record is of a kind/],
  ])("%s is not run, nor the one before it", async (_what, name, body, trouble) => {
    const { client } = troupe;
    await putAndSpoil(name, body);
    await expect(client.workflow(name)).rejects.toThrow(trouble);
    await expect(client.start(name, "tea")).rejects.toMatchObject({ code: "unknown_workflow" });
    expect(await client.workflowVersions(name)).toMatchObject([
      { current: true, trouble: expect.stringMatching(trouble) },
      { number: 1, current: false },
    ]);
  });

  test("lets its requests wait for a daemon that does", async () => {
    const { client } = troupe;
    await putAndSpoil("waited", record("waited", { form: FORM + 1 }));
    await nc.request("troupe.requests.waited", JSON.stringify({ input: "late", runId: "late" }));
    const { consumers } = await nc.jetstreamManager();
    await until("the request was put back", async () => {
      return (await consumers.info("TROUPE_REQUESTS", "door")).num_redelivered > 0;
    });
    expect((await client.list({ workflow: "waited" })).runs).toHaveLength(1);
    // Put again by somebody who is understood.
    await client.putWorkflows({ workflows: { waited: { agents: ["librarian"] } } });
    await until("the request is a run", async () => (await client.list({ workflow: "waited" })).runs.length === 2);
    expect(await client.result("late")).toBe("Help. late");
  });

  /** A workflow that was understood, and then one that is not. */
  async function putAndSpoil(name: string, body: object) {
    const { client } = troupe;
    await client.putWorkflows({ workflows: { [name]: { agents: ["librarian"] } } });
    expect(await client.run(name, "tea")).toBe("Help. tea");
    await nc.request(`troupe.definitions.${name}`, JSON.stringify("number" in body ? { ...body, number: 2 } : body));
    await until("it is not offered", async () => !(await client.workflows()).some((one) => one.name === name));
  }
});
