import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connect } from "../../src/runtime/edges/client.ts";
import { startTestNats, type TestNats } from "../helpers/nats-server.ts";
import { serveFiles } from "../helpers/troupe.ts";
import { until } from "../helpers/until.ts";

const TOOLS = fileURLToPath(new URL("../helpers/ledger-tools.ts", import.meta.url));
const KINDS = ["blindly", "by_ledger", "or_stop"];

const FILES = {
  "troupe.yaml": `
providers: { scripted: { module: ./model.ts } }
tools:
${KINDS.map((kind) => `  pay_${kind}: { module: ${JSON.stringify(TOOLS)} }`).join("\n")}
agents:
${KINDS.map((kind) => `  ${kind}: { instructions: Pay., model: m, provider: scripted, tools: [pay_${kind}] }`).join("\n")}
workflows:
${KINDS.map((kind) => `  ${kind}: { agents: [${kind}] }`).join("\n")}
`,
  "model.ts": `
import { callTool, rulesModel, say } from "troupe/testing";
const answer = ({ request }) => say(request.messages.findLast(({ role }) => role === "tool").content);
export default rulesModel([
${KINDS.map((kind) => `  { agent: "${kind}", afterTool: false, reply: callTool("pay_${kind}", { what: "rent" }) },`).join("\n")}
${KINDS.map((kind) => `  { agent: "${kind}", reply: (situation) => answer(situation) },`).join("\n")}
]);
`,
};
const ARGS = ["--log-format", "json", "--suspect-after", "1s", "--beat", "100ms", "--ack-wait", "1s"];

let nats: TestNats;
beforeAll(async () => {
  nats = await startTestNats();
});
afterAll(() => nats?.[Symbol.asyncDispose]());

type Over = { [kind: string]: { result: string; payments: number } };

/** One run of each kind, whose first daemon dies at `death`; another one goes on with them. */
async function runOver(kinds: readonly string[], death: string): Promise<Over> {
  const dies = death === "SIGKILL" ? { HANG: "1" } : { TROUPE_CRASH_AT: death };
  const prefix = `once-${death}`;
  const ledger = join(nats.storeDir, `${prefix}.ledger`);
  const args = ["--nats", nats.url, "--prefix", prefix, ...ARGS];
  const client = await connect({ servers: nats.url, prefix });
  const served = [await serveFiles(FILES, { args, env: { LEDGER: ledger, ...dies } })];
  try {
    for (const kind of kinds) await client.start(kind, "the rent", { runId: kind });
    if (death === "SIGKILL") {
      await until("all tools are at work", async () => (await paymentsIn(ledger)).length === kinds.length, {
        withinMs: 30_000,
      });
      served[0]?.serve.child.kill("SIGKILL");
    }
    await served[0]?.serve.ended;
    served.push(await serveFiles(FILES, { args, env: { LEDGER: ledger } }));
    const over: Over = {};
    for (const kind of kinds) {
      const result = await client.result(kind).then(String, ({ code, message }) => `${code}: ${message}`);
      const payments = (await paymentsIn(ledger)).filter((line) => line.startsWith(`${kind}.`)).length;
      over[kind] = { result, payments };
    }
    return over;
  } finally {
    await client.close();
    for (const dir of served) await dir[Symbol.asyncDispose]();
  }
}

async function paymentsIn(ledger: string): Promise<string[]> {
  const text = await readFile(ledger, "utf8").catch(() => "");
  return text.split("\n").filter((line) => line !== "");
}

// One after the other: each starts two daemons.
describe("a daemon that dies", { timeout: 120_000 }, () => {
  test("in the middle of tools that are to be executed once leaves none to be executed again by itself", async () => {
    expect(await runOver(KINDS, "SIGKILL")).toEqual({
      blindly: {
        result: expect.stringMatching(/^error: it is not known whether pay_blindly was executed/),
        payments: 1,
      },
      by_ledger: { result: "paid rent, says the ledger", payments: 1 },
      or_stop: { result: expect.stringMatching(/^outcome_unknown: .*pay_or_stop/), payments: 1 },
    });
  });

  test.each([
    ["before-calling-entry", "paid rent"],
    ["after-calling-entry", "paid rent"],
    ["before-tool-entry", "paid rent, says the ledger"],
  ])("at %s leads to one payment where the ledger can be asked", async (death, result) => {
    expect(await runOver(["by_ledger"], death)).toEqual({ by_ledger: { result, payments: 1 } });
  });
});
