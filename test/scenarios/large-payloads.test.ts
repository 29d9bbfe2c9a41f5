import { createHash } from "node:crypto";
import { connect as connectNats, type NatsConnection } from "nats";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Client, connect } from "../../src/runtime/edges/client.ts";
import type { RunRecord } from "../../src/workflows/run-record.ts";
import type { RunStatus } from "../../src/workflows/run-status.ts";
import { startTestNats, type TestNats } from "../helpers/nats-server.ts";
import { type ServedDir, serveFiles, troupe } from "../helpers/troupe.ts";
import { until } from "../helpers/until.ts";

const MIB = 1024 * 1024;
const CAP = 8 * MIB;
/** Five mebibytes on the wire, half as many letters. */
const LARGE = `a line of text\n${"é".repeat(2.5 * MIB)}`;
const FLAGS = ["--max-payload-bytes", String(CAP), "--log-format", "json", "--suspect-after", "1s"];

const FILES = {
  "troupe.yaml": `
providers: { scripted: { module: ./model.ts } }
agents:
  first: { instructions: Say it again., model: test, provider: scripted }
  second: { instructions: Say it again., model: test, provider: scripted }
  greeter: { instructions: Hand it over., model: test, provider: scripted, handoffs: [second] }
  chatty: { instructions: Say much., model: test, provider: scripted }
workflows:
  chain:
    steps:
      - { id: one, agent: first, input: "{{ input }}" }
      - { id: two, agent: second, after: [one], input: "{{ steps.one.output }}" }
  relay: { entry: greeter, agents: [greeter, second] }
  chat: { agents: [chatty] }
`,
  "model.ts": `
import { handOff, rulesModel, say } from "troupe/testing";
const asked = ({ request }) => request.messages[0].content;
export default rulesModel([
  { agent: "first", reply: (situation) => say(asked(situation) + "1") },
  { agent: "second", reply: (situation) => say(asked(situation) + "2", { delayMs: Number(process.env.DELAY_MS ?? 0) }) },
  { agent: "greeter", reply: handOff("second", { reason: "as always" }) },
  { agent: "chatty", reply: say("x".repeat(${CAP})) },
]);
`,
};

let nats: TestNats;
let served: ServedDir;
let client: Client;
let outsider: NatsConnection;

beforeAll(async () => {
  nats = await startTestNats();
  served = await start();
  client = await connect({ servers: nats.url });
  outsider = await connectNats({ servers: nats.url });
}, 30_000);
afterAll(async () => {
  await client?.close();
  await outsider?.close();
  await served?.[Symbol.asyncDispose]();
  await nats?.[Symbol.asyncDispose]();
});

const start = (env: { [name: string]: string } = {}) =>
  serveFiles(FILES, { args: ["--nats", nats.url, ...FLAGS], env });

async function objectsOf(runId: string): Promise<string[]> {
  const store = await outsider.jetstream().views.os("troupe_payloads");
  return (await store.list()).map(({ name }) => name).filter((name) => name.startsWith(`${runId}/`));
}

/** Compared like this, a difference is not printed in full. */
function expectSame(got: unknown, wanted: string) {
  expect([typeof got, String(got).length]).toEqual(["string", wanted.length]);
  expect(got === wanted).toBe(true);
}

test("five mebibytes go through two agents and a handoff, and come back whole", { timeout: 60_000 }, async () => {
  expect(outsider.info?.max_payload).toBe(MIB);
  expectSame(await client.run("chain", LARGE, { runId: "chain-1" }), `${LARGE}12`);
  expectSame(await client.run("relay", LARGE, { runId: "relay-1" }), `${LARGE}2`);

  const run = await client.get("chain-1");
  expectSame(run.input, LARGE);
  expectSame(run.output, `${LARGE}12`);
  expect(run.steps.map(({ status }) => status)).toEqual(["completed", "completed"]);
  expectSame(run.steps[0]?.output, `${LARGE}1`);
  expectSame(await client.result("chain-1"), `${LARGE}12`);

  const told: unknown[] = [];
  for await (const { type, data } of client.events("relay-1", { live: false })) {
    if (type === "run.accepted") told.push(data.input);
    if (type === "run.completed") told.push(data.output);
  }
  expectSame(told[0], LARGE);
  expectSame(told[1], `${LARGE}2`);
  expect((await client.list()).runs).toHaveLength(2);
});

test("the command line takes them from stdin and prints them", { timeout: 60_000 }, async () => {
  const at = { cwd: served.dir, input: LARGE };
  const ran = await troupe(["run", "chain", "--nats", nats.url, "--run-id", "cli-1"], at);
  expect({ code: ran.code, stderr: ran.stderr }).toEqual({ code: 0, stderr: "" });
  expectSame(ran.stdout, `${LARGE}12\n`);
  const got = await troupe(["runs", "get", "cli-1", "--json", "--nats", nats.url], at);
  expectSame((JSON.parse(got.stdout) as RunRecord).steps[1]?.output, `${LARGE}12`);
});

test("a program in any language uploads its input and reads the result with its own object store", {
  timeout: 60_000,
}, async () => {
  const js = outsider.jetstream();
  const [uploads, payloads] = await Promise.all([js.views.os("troupe_uploads"), js.views.os("troupe_payloads")]);
  const data = Buffer.from(JSON.stringify(LARGE));
  await uploads.putBlob({ name: "mine" }, data);
  const sha256 = createHash("sha256").update(data).digest("hex");
  const refs = [{ at: "/input", ref: "obj:troupe_uploads/mine", bytes: data.length, sha256 }];
  const results: { output?: string; refs?: { at: string; ref: string; bytes: number }[] }[] = [];
  outsider.subscribe("results.large", { callback: (_, message) => results.push(message.json()) });
  await js.publish(
    "troupe.requests.chain",
    JSON.stringify({ input: null, refs, runId: "out-1", replyTo: "results.large" }),
  );
  const result = await until("the result", () => results[0], { withinMs: 20_000 });
  expect(result).toMatchObject({ runId: "out-1", status: "completed", refs: [{ at: "/output" }] });
  expect(result).not.toHaveProperty("output");
  const name = result.refs?.[0]?.ref.slice("obj:troupe_payloads/".length) ?? "";
  const output = Buffer.from((await payloads.getBlob(name)) ?? []);
  expect(output.length).toBe(result.refs?.[0]?.bytes);
  expectSame(JSON.parse(output.toString("utf8")), `${LARGE}12`);
  await until("the upload is gone", async () => (await uploads.info("mine")) === null);
});

test("a run goes on with them after its daemon was killed", { timeout: 90_000 }, async () => {
  await served.stop();
  const slow = await start({ DELAY_MS: "60000" });
  for (const workflow of ["chain", "relay"]) await client.start(workflow, LARGE, { runId: `${workflow}-killed` });
  await until("the last agent of both is at work", async () => {
    const runs = await Promise.all(["chain-killed", "relay-killed"].map((runId) => client.get(runId)));
    return runs.every(({ current, steps }) => current[0]?.agent === "second" && steps.length === 2);
  });
  slow.serve.child.kill("SIGKILL");
  await slow.serve.ended;
  served = await start();
  expectSame(await client.result("chain-killed", { timeoutMs: 30_000 }), `${LARGE}12`);
  expectSame(await client.result("relay-killed", { timeoutMs: 30_000 }), `${LARGE}2`);
  await slow[Symbol.asyncDispose]();
});

test.each([
  "before-accepted-entry",
  "after-accepted-entry",
  "before-settled-entry",
  "before-outcome",
  "before-handoff-entry",
])("a daemon that dies at %s loses nothing of them", { timeout: 90_000 }, async (place) => {
  await served.stop();
  const workflow = place === "before-handoff-entry" ? "relay" : "chain";
  const dying = await start({ TROUPE_CRASH_AT: place });
  const runId = `dies-${place}`;
  await client.start(workflow, LARGE, { runId });
  await dying.serve.ended;
  served = await start();
  const wanted = workflow === "chain" ? [LARGE, `${LARGE}1`, `${LARGE}12`] : [LARGE, `${LARGE}2`];
  expectSame(await client.result(runId, { timeoutMs: 30_000 }), wanted.at(-1) ?? "");
  const hashes = wanted.map((value) => createHash("sha256").update(JSON.stringify(value)).digest("hex"));
  const stored = (await objectsOf(runId)).map((name) => name.split("/")[1]);
  expect(hashes.filter((hash) => !stored.includes(hash))).toEqual([]);
  expect(new Set(stored).size).toBe(stored.length);
  await dying[Symbol.asyncDispose]();
});

test("a run at rest whose input is lost is cancelled all the same", { timeout: 60_000 }, async () => {
  const statusIs = (wanted: RunStatus) => async () =>
    (await client.list({ workflow: "chain", status: wanted })).runs.some(({ runId }) => runId === "lost-1");
  const notBefore = new Date(Date.now() + 3_600_000).toISOString();
  await client.start("chain", LARGE, { runId: "lost-1", notBefore });
  await until("it waits", statusIs("pending"));
  const store = await outsider.jetstream().views.os("troupe_payloads");
  for (const name of await objectsOf("lost-1")) await store.delete(name);
  await client.cancel("lost-1", { reason: "changed my mind" });
  await until("its end", statusIs("cancelled"));
});

test("what is beyond the cap is refused at the door, fails its step, and is not sent by a client that knows", {
  timeout: 60_000,
}, async () => {
  // The client of this test has the default cap, which is larger than the daemon's.
  await expect(client.run("chain", "x".repeat(CAP), { runId: "capped" })).rejects.toMatchObject({
    code: "payload_too_large",
    message: `run capped failed: /input: expected at most ${CAP} bytes (maxPayloadBytes), got ${CAP + 2}`,
  });
  await expect(client.run("chat", "go", { runId: "chatty" })).rejects.toMatchObject({ code: "payload_too_large" });
  expect((await client.get("chatty")).steps[0]).toMatchObject({
    status: "failed",
    attempts: 1,
    error: {
      message: `the outcome of task chatty-1 /output: expected at most ${CAP} bytes (maxPayloadBytes), got ${CAP + 2}`,
    },
  });
  const { code, stderr } = await troupe(["run", "chain", "--nats", nats.url], {
    cwd: served.dir,
    input: "x".repeat(CAP),
    env: { TROUPE_MAX_PAYLOAD_BYTES: String(CAP) },
  });
  expect(code).toBe(2);
  expect(stderr).toContain(`runs.start /input: expected at most ${CAP} bytes (maxPayloadBytes), got ${CAP + 2}`);
});
