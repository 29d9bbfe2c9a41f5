import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Client, connect } from "../../src/runtime/edges/client.ts";
import { isAlive } from "../helpers/alive.ts";
import { MCP_SERVER } from "../helpers/mcp-http-server.ts";
import { startTestNats, type TestNats } from "../helpers/nats-server.ts";
import { type ServedDir, serveFiles, troupe } from "../helpers/troupe.ts";
import { until } from "../helpers/until.ts";

/** A busy machine takes long to start processes, and nothing here is about how long. */
const BUSY = { withinMs: 30_000 };
const IN_TIME = { timeout: 120_000 };
const ARGS = ["--log-format", "json", "--suspect-after", "1s", "--beat", "100ms", "--ack-wait", "1s"];

/** `MCP_LEDGER` is one of the server's variables, the same in every daemon's life. */
const filesFor = (ledger: string) => ({
  "troupe.yaml": `
providers: { scripted: { module: ./model.ts } }
mcpServers:
  shelf:
    command: ${JSON.stringify(MCP_SERVER.command)}
    args: ${JSON.stringify(MCP_SERVER.args)}
    env: { MCP_LEDGER: ${JSON.stringify(ledger)} }
    deny: [die]
    tools: { echo: { retry: { maxAttempts: 20, maxDelayMs: 500 } } }
agents:
  clerk: { instructions: Do it., model: m, provider: scripted, mcp: [shelf] }
workflows:
  order: { agents: [clerk] }
`,
  // It calls what it is told, one tool after the other, and says what it has read.
  "model.ts": `
import { callTool, rulesModel, say } from "troupe/testing";
export default rulesModel([
  {
    agent: "clerk",
    reply: ({ request, toolResults }) => {
      const next = JSON.parse(request.messages[0].content)[toolResults.length];
      return next ? callTool("shelf_" + next.tool, next.args) : say(toolResults.map(({ content }) => content).join("; "));
    },
  },
]);
`,
});

let nats: TestNats;
let client: Client;
beforeAll(async () => {
  nats = await startTestNats();
  client = await connect({ servers: nats.url });
});
afterAll(async () => {
  await client?.close();
  await nats?.[Symbol.asyncDispose]();
});

const ledgerOf = (name: string) => join(nats.storeDir, `${name}.ledger`);
const serve = (ledger: string): Promise<ServedDir> =>
  serveFiles(filesFor(ledger), { args: ["--nats", nats.url, ...ARGS] });

async function linesIn(ledger: string): Promise<string[]> {
  return (await readFile(ledger, "utf8").catch(() => "")).split("\n").filter((line) => line !== "");
}

async function pidsIn(ledger: string): Promise<number[]> {
  return (await linesIn(ledger)).flatMap((line) => (line.startsWith("pid ") ? [Number(line.slice(4))] : []));
}

test(
  "an agent calls tools of a server, also one that dies under it, and the server ends with the daemon",
  IN_TIME,
  async () => {
    const ledger = ledgerOf("dies");
    const served = await serve(ledger);
    try {
      const { stdout } = await troupe(["agents", "--nats", nats.url], { cwd: served.dir });
      expect(stdout).toMatch(/clerk .* shelf \(MCP\)/);
      const calls = [
        { tool: "echo", args: { text: "one" } },
        { tool: "hang", args: { what: "book" } },
        { tool: "echo", args: { text: "two" } },
      ];
      const { runId } = await client.start("order", JSON.stringify(calls));
      await until(
        "the call is there",
        async () => (await linesIn(ledger)).some((line) => line.startsWith("book ")),
        BUSY,
      );
      const [first = 0] = await pidsIn(ledger);
      process.kill(first, "SIGKILL");
      expect(await client.result(runId)).toMatch(
        /^one; error: it is not known whether shelf_hang was executed \(.*Connection closed\).*; two$/,
      );
      const [, second = 0] = await pidsIn(ledger);
      expect(isAlive(second)).toBe(true);
      expect((await served.stop()).code).toBe(0);
      expect(isAlive(second)).toBe(false);
      const log = served.serve.out.stdout;
      expect(log).toContain(`"mcpServer":"shelf","msg":"the test server is up"`);
    } finally {
      await served[Symbol.asyncDispose]();
    }
  },
);

test(
  "a daemon that is killed in the middle of a call leaves no server behind, and another one does not repeat the call",
  IN_TIME,
  async () => {
    const ledger = ledgerOf("killed");
    const first = await serve(ledger);
    const served = [first];
    try {
      const calls = [
        { tool: "note", args: { what: "pen" } },
        { tool: "hang", args: { what: "desk" } },
      ];
      const { runId } = await client.start("order", JSON.stringify(calls));
      await until(
        "the call is there",
        async () => (await linesIn(ledger)).some((line) => line.startsWith("desk ")),
        BUSY,
      );
      first.serve.child.kill("SIGKILL");
      await first.serve.ended;
      const [orphan = 0] = await pidsIn(ledger);
      await until("the server is gone", () => !isAlive(orphan), BUSY);
      served.push(await serve(ledger));
      expect(await client.result(runId)).toMatch(/^noted pen; error: it is not known whether shelf_hang was executed/);
      expect((await linesIn(ledger)).filter((line) => /^(pen|desk) /.test(line))).toEqual([
        expect.stringMatching(/^pen /),
        expect.stringMatching(/^desk /),
      ]);
    } finally {
      for (const dir of served) await dir[Symbol.asyncDispose]();
    }
  },
);
