/** Steps that are no agent's, on real daemons that are killed while they wait and while they work. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Client, connect } from "../../src/runtime/edges/client.ts";
import type { RunStatus } from "../../src/workflows/run-status.ts";
import { startTestNats, type TestNats } from "../helpers/nats-server.ts";
import { SIGNAL_CRASHES } from "../helpers/step-kind-crashes.ts";
import { type ServedDir, serveFiles, troupe } from "../helpers/troupe.ts";
import { until } from "../helpers/until.ts";

const FLAGS = ["--log-format", "json", "--suspect-after", "1s", "--look-around", "1s"];

const FILES = {
  "troupe.yaml": `
providers: { scripted: { module: ./model.ts } }
agents:
  writer: { instructions: Write., model: test, provider: scripted }
workflows:
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
  "model.ts": `
import { rulesModel, say } from "troupe/testing";
const asked = ({ request }) => request.messages[0].content;
export default rulesModel([{ agent: "writer", reply: (situation) => say("<" + asked(situation) + ">") }]);
`,
};

let nats: TestNats;
let client: Client;
const daemons: ServedDir[] = [];

beforeAll(async () => {
  nats = await startTestNats();
  client = await connect({ servers: nats.url });
}, 30_000);
afterAll(async () => {
  await client?.close();
  for (const served of daemons) await served[Symbol.asyncDispose]();
  await nats?.[Symbol.asyncDispose]();
});

let served: ServedDir;
/** Every test has one daemon to begin with. */
beforeEach(async () => {
  for (const old of daemons.splice(0)) await old[Symbol.asyncDispose]();
  served = await start();
}, 30_000);

async function start(env: { [name: string]: string } = {}): Promise<ServedDir> {
  const served = await serveFiles(FILES, { args: ["--nats", nats.url, ...FLAGS], env });
  daemons.push(served);
  return served;
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
