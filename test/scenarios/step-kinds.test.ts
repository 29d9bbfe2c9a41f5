/** Steps that are no agent's, on real daemons that are killed while they wait and while they work. */
import { readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Client, connect } from "../../src/runtime/edges/client.ts";
import type { RunStatus } from "../../src/workflows/run-status.ts";
import { startTestNats, type TestNats } from "../helpers/nats-server.ts";
import { CHILD_CRASHES, SIGNAL_CRASHES } from "../helpers/step-kind-crashes.ts";
import { type ServedDir, serveFiles, troupe } from "../helpers/troupe.ts";
import { until } from "../helpers/until.ts";

const FLAGS = ["--log-format", "json", "--suspect-after", "1s", "--look-around", "1s"];

const FILES = {
  "troupe.yaml": `
providers: { scripted: { module: ./model.ts } }
agents:
  writer: { instructions: Write., model: test, provider: scripted }
tools:
  fetch: { module: ./tools.ts }
  load: { module: ./tools.ts }
workflows:
  etl:
    steps:
      - { id: extract, tool: fetch, input: { rows: "{{ input.rows }}" } }
      - { id: store, tool: load, after: extract, retry: { maxAttempts: 3, delayMs: 50 } }
  parent:
    steps:
      - { id: before, agent: writer, input: "{{ input }}" }
      - { id: sub, workflow: publish, after: before }
      - { id: after, agent: writer, after: sub, input: "{{ steps.sub.output }}" }
  endless:
    steps:
      - { id: again, workflow: endless }
  misled:
    steps:
      - { id: sub, workflow: nowhere, onError: continue }
      - { id: after, agent: writer, after: sub, needs: always, input: "{{ steps.sub.error.code }}" }
  hasty:
    timeoutMs: 4000
    steps:
      - { id: sub, workflow: publish }
  publish:
    steps:
      - { id: draft, agent: writer, input: "{{ input }}" }
      - id: ok
        after: draft
        approval: { title: "Publish {{ steps.draft.output }}?" }
      - { id: out, agent: writer, after: ok, input: "{{ steps.ok.output.choice }} by {{ steps.ok.output.by }}" }
  order:
    steps:
      - { id: note, agent: writer }
      - id: paid
        after: note
        wait: { signal: paid, schema: { type: object, properties: { amount: { type: number } }, required: [amount] } }
      - { id: pause, after: paid, wait: { forMs: 6000 } }
      - { id: thanks, agent: writer, after: pause, input: "{{ steps.paid.output.amount }}" }
`,
  "tools.ts": `
import { appendFileSync } from "node:fs";
import { defineTool } from "troupe";
import { z } from "${import.meta.resolve("zod")}";
export const fetch = defineTool({
  name: "fetch",
  description: "Gives rows.",
  parameters: z.object({ rows: z.number().int() }),
  execute: ({ rows }) => ({ rows: Array.from({ length: rows }, (_, i) => i) }),
});
export const load = defineTool({
  name: "load",
  description: "Stores rows.",
  parameters: z.object({ rows: z.array(z.number()) }),
  async execute({ rows }, { idempotencyKey }) {
    appendFileSync(process.env.TOOL_LOG, idempotencyKey + "\\n");
    if (process.env.TOOL_FAILS && idempotencyKey.endsWith("-1")) throw new Error("the store is full");
    await new Promise((resolve) => setTimeout(resolve, Number(process.env.TOOL_MS ?? 0)));
    return rows.length;
  },
});
`,
  "model.ts": `
import { rulesModel, say } from "troupe/testing";
const asked = ({ request }) => request.messages[0].content;
export default rulesModel([{ agent: "writer", reply: (situation) => say("<" + asked(situation) + ">") }]);
`,
};

let nats: TestNats;
let client: Client;
const daemons: ServedDir[] = [];
const toolLog = join(tmpdir(), `troupe-step-kinds-${process.pid}.log`);

beforeAll(async () => {
  nats = await startTestNats();
  client = await connect({ servers: nats.url });
}, 30_000);
afterAll(async () => {
  await client?.close();
  for (const served of daemons) await served[Symbol.asyncDispose]();
  await nats?.[Symbol.asyncDispose]();
  await rm(toolLog, { force: true });
});

let served: ServedDir;
/** Every test has one daemon to begin with. */
beforeEach(async () => {
  for (const old of daemons.splice(0)) await old[Symbol.asyncDispose]();
  served = await start();
}, 30_000);

async function start(env: { [name: string]: string } = {}): Promise<ServedDir> {
  const served = await serveFiles(FILES, { args: ["--nats", nats.url, ...FLAGS], env: { TOOL_LOG: toolLog, ...env } });
  daemons.push(served);
  return served;
}

/** The keys under which `load` was run for a run, in order. */
async function keys(runId: string): Promise<string[]> {
  const text = await readFile(toolLog, "utf8").catch(() => "");
  return text.split("\n").filter((key) => key.startsWith(`${runId}.`));
}

async function kill(served: ServedDir) {
  served.serve.child.kill("SIGKILL");
  await served.serve.ended;
}

const waits = (runId: string, status: RunStatus, step: string) =>
  until(`${runId} is ${status} at ${step}`, async () => {
    const run = await client.get(runId).catch(() => undefined);
    return run?.status === status && run.current.some((work) => work.step === step);
  });

describe("an approval", () => {
  test("waits over the death of its daemon, is decided once, and the run goes on", { timeout: 90_000 }, async () => {
    await client.start("publish", "tea", { runId: "pub-1" });
    await waits("pub-1", "waiting", "ok");
    await kill(served);
    const second = await start();
    const listed = await troupe(["approvals", "list", "--nats", nats.url, "--json"], { cwd: second.dir });
    expect(JSON.parse(listed.stdout)).toMatchObject({
      approvals: [{ runId: "pub-1", workflow: "publish", step: "ok", title: "Publish <tea>?" }],
    });
    const by = (who: string, choice: string) =>
      client.approve("pub-1", { choice, by: who }).then(
        (answer) => ({ who, ...answer }),
        (error: { code: string; message: string }) => ({ who, code: error.code, message: error.message }),
      );
    const answers = await Promise.all([by("ada", "approve"), by("bob", "reject")]);
    const winner = answers.find((answer) => "taken" in answer);
    const loser = answers.find((answer) => "code" in answer);
    expect(winner).toMatchObject({ taken: true });
    expect(loser).toMatchObject({ code: "already_decided", message: expect.stringContaining(`by ${winner?.who}`) });
    const choice = winner?.who === "ada" ? "approve" : "reject";
    expect(await client.result("pub-1", { timeoutMs: 30_000 })).toBe(`<${choice} by ${winner?.who}>`);
    const resolved = (await client.journal("pub-1")).filter(({ type }) => type === "approval.resolved");
    expect(resolved).toHaveLength(1);
  });

  test("that was decided while no daemon was there is taken by the next one", { timeout: 90_000 }, async () => {
    await client.start("publish", "milk", { runId: "pub-2" });
    await waits("pub-2", "waiting", "ok");
    await kill(served);
    // The stream is there without daemons, and their API is not.
    const { connect: raw } = await import("nats");
    const nc = await raw({ servers: nats.url });
    const payload = { step: "ok", choice: "approve", by: "eve" };
    const signal = { v: 1, kind: "signal", id: "by-hand", name: "approval", payload, at: new Date().toISOString() };
    await nc.jetstream().publish("troupe.signals.pub-2", JSON.stringify(signal));
    await nc.close();
    await start();
    expect(await client.result("pub-2", { timeoutMs: 30_000 })).toBe("<approve by eve>");
  });

  test.each([...SIGNAL_CRASHES, "before-task-sent"])(
    "is decided once when its daemon dies %s",
    { timeout: 90_000 },
    async (place) => {
      const runId = `pub-${place.replaceAll(":", "-")}`;
      await client.start("publish", "tea", { runId });
      await waits(runId, "waiting", "ok");
      await kill(served);
      const doomed = await start({ TROUPE_CRASH_AT: place });
      const deciding = client.approve(runId, { by: "ada" });
      await doomed.serve.ended;
      await start();
      await deciding;
      expect(await client.result(runId, { timeoutMs: 30_000 })).toBe("<approve by ada>");
      const types = (await client.journal(runId)).map(({ type }) => type);
      expect(types.filter((type) => type === "approval.resolved" || type === "signal.refused")).toEqual([
        "approval.resolved",
      ]);
    },
  );
});

describe("a tool step", () => {
  test("runs a tool without a model, and hands values on as they are", { timeout: 60_000 }, async () => {
    expect(await client.run("etl", { rows: 3 }, { runId: "etl-1" })).toBe(3);
    const { steps, usage } = await client.get("etl-1");
    expect(steps).toMatchObject([
      { id: "extract", kind: "tool", agent: "fetch", status: "completed", output: { rows: [0, 1, 2] } },
      { id: "store", kind: "tool", agent: "load", status: "completed", output: 3, attempts: 1 },
    ]);
    expect(usage.modelCalls).toBe(0);
  });

  test("says where its arguments do not fit, and is not tried again", { timeout: 60_000 }, async () => {
    await expect(client.run("etl", { rows: "many" }, { runId: "etl-2" })).rejects.toMatchObject({
      code: "bad_arguments",
      message: expect.stringContaining('step extract: input.rows: expected a number, got "many"'),
    });
  });

  test("that fails is tried again under a key of its own", { timeout: 60_000 }, async () => {
    await kill(served);
    await start({ TOOL_FAILS: "yes" });
    expect(await client.run("etl", { rows: 2 }, { runId: "etl-3" })).toBe(2);
    expect(await keys("etl-3")).toEqual(["etl-3.store-1", "etl-3.store-2"]);
  });

  test("is run again under the same key when its daemon dies at it", { timeout: 90_000 }, async () => {
    await kill(served);
    const slow = await start({ TOOL_MS: "60000" });
    await client.start("etl", { rows: 2 }, { runId: "etl-4" });
    await until("it is at work", async () => (await keys("etl-4")).length === 1);
    await kill(slow);
    await start();
    expect(await client.result("etl-4", { timeoutMs: 30_000 })).toBe(2);
    expect(await keys("etl-4")).toEqual(["etl-4.store-1", "etl-4.store-1"]);
  });

  test("stops with its run", { timeout: 60_000 }, async () => {
    await kill(served);
    await start({ TOOL_MS: "60000" });
    await client.start("etl", { rows: 2 }, { runId: "etl-5" });
    await until("it is at work", async () => (await keys("etl-5")).length === 1);
    await client.cancel("etl-5");
    await expect(client.result("etl-5", { timeoutMs: 20_000 })).rejects.toMatchObject({ code: "cancelled" });
  });
});

describe("a workflow step", () => {
  /** Starts `parent` and waits until its child waits for a person; gives the child's id. */
  async function withChild(runId: string, workflow = "parent"): Promise<string> {
    await client.start(workflow, "tea", { runId });
    const childId = await until("the child is named", async () => {
      const run = await client.get(runId).catch(() => undefined);
      return run?.steps.find(({ id }) => id === "sub")?.runId;
    });
    await waits(childId, "waiting", "ok");
    return childId;
  }

  test("is a run of its own, linked both ways, in the same trace", { timeout: 60_000 }, async () => {
    const childId = await withChild("parent-1");
    expect((await client.get("parent-1")).current).toMatchObject([{ step: "sub", kind: "workflow", runId: childId }]);
    await client.approve(childId, { by: "ada" });
    expect(await client.result("parent-1", { timeoutMs: 30_000 })).toBe("<<approve by ada>>");
    const [parent, child] = [await client.get("parent-1"), await client.get(childId)];
    expect(parent.steps.find(({ id }) => id === "sub")).toMatchObject({
      ...{ kind: "workflow", agent: "publish", runId: childId, status: "completed", output: "<approve by ada>" },
    });
    expect(child.parent).toEqual({ runId: "parent-1", step: "sub", taskId: "sub-1", depth: 1 });
    expect(child).toMatchObject({ input: "<tea>", traceId: parent.traceId });
  });

  test("goes on over the death of the daemon that has both", { timeout: 90_000 }, async () => {
    const childId = await withChild("parent-2");
    await kill(served);
    await start();
    await client.approve(childId, { by: "ada" });
    expect(await client.result("parent-2", { timeoutMs: 30_000 })).toBe("<<approve by ada>>");
  });

  test.each([...CHILD_CRASHES, "before-end-entry", "after-end-entry"])(
    "is one run when its daemon dies %s",
    { timeout: 90_000 },
    async (place) => {
      await kill(served);
      const runId = `parent-${place}`;
      const doomed = await start({ TROUPE_CRASH_AT: place });
      await client.start("parent", "tea", { runId });
      const ended = place.includes("end-entry") ? undefined : doomed.serve.ended;
      if (ended) {
        await ended;
        await start();
      }
      const childId = await until("the child is named", async () => {
        const run = await client.get(runId).catch(() => undefined);
        return run?.steps.find(({ id }) => id === "sub")?.runId;
      });
      await waits(childId, "waiting", "ok");
      await client.approve(childId, { by: "ada" });
      if (!ended) {
        await doomed.serve.ended;
        await start();
      }
      expect(await client.result(runId, { timeoutMs: 30_000 })).toBe("<<approve by ada>>");
      const sent = (await client.journal(runId)).filter(
        ({ type, data }) => type === "task.sent" && data.step === "sub",
      );
      expect(sent).toHaveLength(1);
    },
  );

  test("that another daemon has ends its step when the parent's owner is killed", { timeout: 120_000 }, async () => {
    const second = await start();
    const hostOf = async (runId: string) => (await client.get(runId)).owner?.host;
    const apart = async (n: number): Promise<[parent: string, child: string]> => {
      const child = await withChild(`apart-${n}`);
      return (await hostOf(`apart-${n}`)) === (await hostOf(child)) ? apart(n + 1) : [`apart-${n}`, child];
    };
    const [parent, child] = await apart(1);
    const owner = await hostOf(parent);
    // The log says which of the two it is.
    const dying = second.serve.out.stdout.includes(`"host":"${owner}"`) ? second : served;
    await kill(dying);
    // Decided while nobody may have taken the parent over yet.
    await client.approve(child, { by: "ada" });
    expect(await client.result(parent, { timeoutMs: 60_000 })).toBe("<<approve by ada>>");
    expect((await client.get(parent)).owner?.host).not.toBe(owner);
  });

  test("is cancelled with its parent", { timeout: 60_000 }, async () => {
    const childId = await withChild("parent-3");
    await client.cancel("parent-3", { reason: "enough" });
    await expect(client.result("parent-3", { timeoutMs: 20_000 })).rejects.toMatchObject({ code: "cancelled" });
    await expect(client.result(childId, { timeoutMs: 20_000 })).rejects.toMatchObject({ code: "cancelled" });
  });

  test("has no longer than its parent, and ends with it", { timeout: 60_000 }, async () => {
    const childId = await withChild("hasty-1", "hasty");
    await expect(client.result("hasty-1", { timeoutMs: 20_000 })).rejects.toMatchObject({ code: "timeout" });
    await expect(client.result(childId, { timeoutMs: 20_000 })).rejects.toMatchObject({
      code: expect.stringMatching(/timeout|cancelled/),
    });
  });

  test("is cancelled when its parent ended while nobody could say so", { timeout: 90_000 }, async () => {
    const childId = await withChild("parent-4");
    await kill(served);
    const doomed = await start({ TROUPE_CRASH_AT: "after-end-entry" });
    await client.cancel("parent-4");
    await doomed.serve.ended;
    await start();
    await expect(client.result(childId, { timeoutMs: 30_000 })).rejects.toMatchObject({ code: "cancelled" });
    await expect(client.result("parent-4", { timeoutMs: 30_000 })).rejects.toMatchObject({ code: "cancelled" });
  });

  test("of a workflow there is not fails the step and says so", { timeout: 60_000 }, async () => {
    expect(await client.run("misled", "tea", { runId: "misled-1" })).toBe("<unknown_workflow>");
  });

  test("that starts itself comes to an end", { timeout: 90_000 }, async () => {
    await expect(client.run("endless", "tea", { runId: "endless-1" })).rejects.toMatchObject({
      code: "too_deep",
      message: expect.stringContaining("expected at most 16 runs one below the other"),
    });
  });
});

describe("a wait", () => {
  test("for a signal and for a time goes on over the death of its daemon", { timeout: 90_000 }, async () => {
    await client.start("order", "a chair", { runId: "order-1" });
    await waits("order-1", "waiting", "paid");
    await expect(client.signal("order-1", "paid", { amount: "12" })).rejects.toMatchObject({
      code: "invalid_payload",
      message: expect.stringContaining("amount"),
    });
    await expect(client.signal("order-1", "payed", {})).rejects.toMatchObject({ code: "unknown_signal" });
    expect((await client.get("order-1")).status).toBe("waiting");
    const sent = await troupe(["runs", "signal", "order-1", "paid", '{"amount":12}', "--nats", nats.url], {
      cwd: served.dir,
    });
    expect(sent.stdout).toBe("order-1 took paid\n");
    await waits("order-1", "waiting", "pause");
    await kill(served);
    await start();
    expect(await client.result("order-1", { timeoutMs: 30_000 })).toBe("<12>");
  });

  test("takes the signal that came before it began, once", { timeout: 60_000 }, async () => {
    await client.start("order", "a table", { runId: "order-2", notBefore: new Date(Date.now() + 4_000) });
    await client.signal("order-2", "paid", { amount: 1 });
    await client.signal("order-2", "paid", { amount: 2 });
    expect(await client.result("order-2", { timeoutMs: 40_000 })).toBe("<1>");
  });
});
