import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type Client, connect } from "../../src/runtime/edges/client.ts";
import type { DeadLetterPage } from "../../src/runtime/edges/dead-api.ts";
import type { DeadLetterRecord } from "../../src/runtime/edges/dead-letter-record.ts";
import { storeDeadLetter } from "../../src/runtime/hosts/dead-letters.ts";
import { type Bus, connectBus } from "../../src/runtime/nats/connection.ts";
import { findRunningNatsServer } from "../../src/runtime/nats/server.ts";
import { subjectsFor } from "../../src/runtime/subjects.ts";
import { type ServedDir, serveFiles, troupe } from "../helpers/troupe.ts";
import { until } from "../helpers/until.ts";
import { CLI_FILES } from "./cli-files.ts";

const subjects = subjectsFor();
let served: ServedDir;
let bus: Bus;
let client: Client;

beforeAll(async () => {
  served = await serveFiles(CLI_FILES);
  const servers = (await findRunningNatsServer(join(served.dir, ".troupe", "nats"))) as string;
  bus = await connectBus({ servers, name: "test", inboxPrefix: "_INBOX_test" });
  client = await connect({ connection: bus.nc });
});
beforeEach(async () => {
  for (const { seq } of (await client.deadLetters()).letters) await client.drop(seq);
});
afterAll(async () => {
  await bus?.close();
  await served?.[Symbol.asyncDispose]();
});

const cli = (...args: string[]) => troupe(["dead", ...args], { cwd: served.dir });

/** A request the door had to give up; gives its id. */
async function buryRequest(text: string, runId: string): Promise<string> {
  await storeDeadLetter(bus, subjects, {
    kind: "requests",
    name: "single",
    subject: subjects.request("single"),
    workflow: "single",
    runId,
    reason: { code: "internal", message: "it was\nimpossible" },
    data: Buffer.from(text),
  });
  return newest();
}

/** A message that no worker can read; gives its id. */
async function buryTask(): Promise<string> {
  bus.nc.publish(subjects.mailbox("echo"), "hel\u001b[31mlo");
  await until("it is a dead letter", async () => (await client.deadLetters()).total > 0);
  return newest();
}

const newest = async () => String((await client.deadLetters({ limit: 1 })).letters[0]?.seq);

test("dead list says so when there is none, and is a table otherwise", async () => {
  expect(await cli("list")).toEqual({ code: 0, stdout: "No dead letters.\n", stderr: "" });
  const request = await buryRequest("tea", "order-1");
  const rows = (await cli("list")).stdout
    .trimEnd()
    .split("\n")
    .map((line) => line.split(/ {2,}/));
  expect(rows).toEqual([
    ["ID", "SENT TO", "RUN", "SINCE", "SIZE", "REASON"],
    [request, "troupe.requests.single", "order-1", expect.any(String), "3 bytes", "internal: it was impossible"],
  ]);
  const page = JSON.parse((await cli("list", "--json")).stdout) as DeadLetterPage;
  expect(page).toMatchObject({ total: 1, letters: [{ seq: Number(request), runId: "order-1" }] });
});

test("dead list goes on from a cursor", async () => {
  const first = await buryRequest("tea", "order-2");
  await buryRequest("tea", "order-3");
  const page = await cli("list", "--limit", "1");
  const cursor = /There are more, 2 in all: --cursor (\S+)/.exec(page.stdout)?.[1] ?? "";
  expect((await cli("list", "--limit", "1", "--cursor", cursor)).stdout.split("\n")[1]).toMatch(
    new RegExp(`^${first} `),
  );
});

test("dead show has the reason, the origin and the message, and drives no terminal", async () => {
  const id = await buryTask();
  const { code, stdout } = await cli("show", id);
  expect(code).toBe(0);
  expect(stdout).toMatch(/reason +bad_task: task: expected JSON/);
  expect(stdout).toMatch(/agent +echo/);
  expect(stdout).toMatch(/The message:\nhello\n$/);
  const letter = JSON.parse((await cli("show", id, "--json")).stdout) as DeadLetterRecord;
  expect(letter).toMatchObject({ kind: "tasks", data: "hel\u001b[31mlo", whole: true });
});

test("dead redrive makes a request the run it was for", async () => {
  const id = await buryRequest("tea", "order-4");
  expect(await cli("redrive", id)).toEqual({ code: 0, stdout: `sent again: ${id}  run order-4\n`, stderr: "" });
  expect(await client.result("order-4")).toBe("echo of tea");
  expect((await cli("list")).stdout).toBe("No dead letters.\n");
});

test("dead redrive --all does what it can, and fails for what stays", async () => {
  const task = await buryTask();
  const request = await buryRequest("tea", "order-5");
  const { code, stdout, stderr } = await cli("redrive", "--all");
  expect({ code, stdout }).toEqual({ code: 1, stdout: `sent again: ${request}  run order-5\n` });
  expect(stderr).toBe(
    `troupe: dead letter ${task} cannot be sent again: the worker still refuses it: task: expected JSON, got "hel\\u001b[31mlo"\n`,
  );
  const outcomes = JSON.parse((await cli("redrive", task, "--json")).stdout) as object[];
  expect(outcomes).toEqual([{ seq: Number(task), error: expect.stringContaining("still refuses") }]);
});

test("dead drop removes what is named, or all", async () => {
  const ids = [await buryRequest("a", "a"), await buryRequest("b", "b"), await buryRequest("c", "c")] as const;
  expect((await cli("drop", ids[1])).stdout).toBe(`dropped: ${ids[1]}\n`);
  expect((await cli("drop", "--all", "--json")).stdout).toBe(
    `${JSON.stringify([{ seq: Number(ids[0]) }, { seq: Number(ids[2]) }], null, 2)}\n`,
  );
  expect((await client.deadLetters()).total).toBe(0);
});

test("what is no id, is not there, or names nothing is one clear line", async () => {
  expect(await cli("show", "first")).toMatchObject({
    code: 2,
    stderr: 'troupe: id: expected a number as `troupe dead list` shows it, got "first"\n',
  });
  expect(await cli("show", "4711")).toMatchObject({ code: 1, stderr: "troupe: no dead letter 4711\n" });
  for (const args of [["drop"], ["drop", "--all", "1"]]) {
    expect(await cli(...args)).toMatchObject({ code: 2, stderr: expect.stringContaining("or --all") });
  }
});
