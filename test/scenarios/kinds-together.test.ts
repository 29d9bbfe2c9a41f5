/** Steps of all kinds in groups and lists, undone and called off, on real daemons that are killed meanwhile. */
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type Client, connect } from "../../src/runtime/edges/client.ts";
import { startTestNats, type TestNats } from "../helpers/nats-server.ts";
import { type ServedDir, serveFiles } from "../helpers/troupe.ts";
import { until } from "../helpers/until.ts";

const FLAGS = ["--log-format", "json", "--suspect-after", "1s", "--look-around", "1s"];

const FILES = {
  "troupe.yaml": `
providers: { scripted: { module: ./model.ts } }
agents:
  writer: { instructions: Write., model: test, provider: scripted }
tools:
  book: { module: ./tools.ts }
  cancel: { module: ./tools.ts }
workflows:
  child:
    steps:
      - { id: ok, approval: { title: Well? } }
  vetoed:
    steps:
      - id: group
        onError: continue
        steps:
          - { id: sub, workflow: child }
          - { id: veto, approval: { title: Veto?, onReject: fail } }
      - { id: end, after: group, needs: always, approval: { title: "{{ steps.group.status }}?" } }
  trips:
    steps:
      - { id: book, forEach: input, tool: book, input: { place: "{{ item }}" }, compensate: { tool: cancel } }
      - { id: sure, after: book, forEach: input, approval: { title: "{{ item }}?", onReject: fail } }
    onFailure:
      - { id: why, approval: { title: "{{ error.code }}?" } }
      - { id: write, after: why, agent: writer, input: "{{ steps.why.output.choice }}" }
`,
  "tools.ts": `
import { defineTool } from "troupe";
import { z } from "${import.meta.resolve("zod")}";
const place = z.string();
export const book = defineTool({
  name: "book",
  description: "Books a place.",
  parameters: z.object({ place }),
  execute: ({ place }) => ({ booked: place }),
});
export const cancel = defineTool({
  name: "cancel",
  description: "Gives it back.",
  parameters: z.object({ booked: place }),
  execute: ({ booked }) => "no " + booked,
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
beforeEach(async () => {
  for (const old of daemons.splice(0)) await old[Symbol.asyncDispose]();
  served = await start();
}, 30_000);

async function start(env: { [name: string]: string } = {}): Promise<ServedDir> {
  const served = await serveFiles(FILES, { args: ["--nats", nats.url, ...FLAGS], env });
  daemons.push(served);
  return served;
}

async function kill({ serve }: ServedDir) {
  serve.child.kill("SIGKILL");
  await serve.ended;
}

const waitsAt = (runId: string, ...steps: string[]) =>
  until(`${runId} waits at ${steps.join(" and ")}`, async () => {
    const current = (await client.get(runId).catch(() => undefined))?.current ?? [];
    return steps.every((step) => current.some((work) => work.step === step));
  });

async function vetoed(runId: string): Promise<string> {
  await client.start("vetoed", "tea", { runId });
  await waitsAt(runId, "group/sub", "group/veto");
  const child = (await client.get(runId)).steps.find(({ id }) => id === "group/sub")?.runId ?? "";
  await waitsAt(child, "ok");
  return child;
}

async function goesOnWithout(runId: string, child: string) {
  await expect(client.result(child, { timeoutMs: 30_000 })).rejects.toMatchObject({ code: "cancelled" });
  await waitsAt(runId, "end");
  const { status, current, steps } = await client.get(runId);
  expect({ status, current }).toMatchObject({ status: "waiting", current: [{ step: "end", title: "failed?" }] });
  expect(steps.find(({ id }) => id === "group/sub")).toMatchObject({ status: "cancelled", kind: "workflow" });
  await client.approve(runId, { step: "end" });
  expect(await client.result(runId, { timeoutMs: 30_000 })).toMatchObject({ choice: "approve" });
}

test("a child run in a group that is called off is cancelled, and its parent goes on", {
  timeout: 60_000,
}, async () => {
  const child = await vetoed("v-1");
  await client.approve("v-1", { step: "group/veto", choice: "reject" });
  await goesOnWithout("v-1", child);
});

test("it is cancelled also where nobody was left to say so", { timeout: 90_000 }, async () => {
  const child = await vetoed("v-2");
  await kill(served);
  const doomed = await start({ TROUPE_CRASH_AT: "after-signal-entry" });
  const vote = client.approve("v-2", { step: "group/veto", choice: "reject" }).catch(() => undefined);
  await doomed.serve.ended;
  await vote;
  await start();
  await goesOnWithout("v-2", child);
});

test("a list of approvals is decided over the death of its daemon, and what tools did is undone by tools", {
  timeout: 90_000,
}, async () => {
  await client.start("trips", ["rome", "oslo"], { runId: "t-1" });
  await waitsAt("t-1", "sure/0", "sure/1");
  await client.approve("t-1", { step: "sure/1", by: "ada" });
  await kill(served);
  served = await start();
  await waitsAt("t-1", "sure/0");
  await client.approve("t-1", { step: "sure/0", choice: "reject", by: "ada" });
  await waitsAt("t-1", "onFailure/why");
  await kill(served);
  await start();
  await client.approve("t-1", { step: "onFailure/why", choice: "reject" });
  await expect(client.result("t-1", { timeoutMs: 30_000 })).rejects.toMatchObject({ code: "rejected" });
  const { compensations, steps } = await client.get("t-1");
  // Which was booked first is a matter of chance.
  expect(compensations.map(({ step, kind, status, output }) => [step, kind, status, output]).sort()).toEqual([
    ["book/0", "tool", "completed", "no rome"],
    ["book/1", "tool", "completed", "no oslo"],
  ]);
  expect(steps.find(({ id }) => id === "onFailure/write")).toMatchObject({ output: "<reject>" });
});

test("a run that is tried again asks nobody twice", { timeout: 60_000 }, async () => {
  await client.start("trips", ["rome", "oslo"], { runId: "t-2" });
  await waitsAt("t-2", "sure/0", "sure/1");
  await client.cancel("t-2");
  await expect(client.result("t-2", { timeoutMs: 30_000 })).rejects.toMatchObject({ code: "cancelled" });
  // What was undone runs again.
  const { runId } = await client.retry("t-2", { newRunId: "t-3" });
  await waitsAt(runId, "sure/0", "sure/1");
  for (const step of ["sure/0", "sure/1"]) await client.approve(runId, { step, by: "ada" });
  const output = await client.result(runId, { timeoutMs: 30_000 });
  expect(output).toMatchObject([{ by: "ada" }, { by: "ada" }]);
  await client.retry(runId, { newRunId: "t-4", from: "sure" });
  await waitsAt("t-4", "sure/0");
  expect((await client.get("t-4")).steps[0]).toMatchObject({ id: "book", reused: true });
  await client.cancel("t-4");
});
