import { expect, test } from "vitest";
import { connect } from "../../src/runtime/edges/client.ts";
import type { LogLine } from "../../src/runtime/hosts/run-logs.ts";
import type { RunRecord } from "../../src/workflows/run-record.ts";
import { startTestNats } from "../helpers/nats-server.ts";
import { serveFiles } from "../helpers/troupe.ts";
import { until } from "../helpers/until.ts";

const ZOD = new URL("../../node_modules/zod/index.js", import.meta.url).href;

const FILES = {
  "troupe.yaml": `
providers: { scripted: { module: ./model.ts } }
tools: { dig: { module: ./tools.ts } }
agents:
  digger: { instructions: Dig., model: test, provider: scripted, tools: [dig] }
  teller: { instructions: Tell., model: test, provider: scripted }
workflows:
  find: { agents: [teller, digger, teller] }
`,
  "model.ts": `
import { callTool, rulesModel, say } from "troupe/testing";
export default rulesModel([
  { agent: "digger", afterTool: false, reply: callTool("dig") },
  { agent: "digger", reply: say("gold") },
  { agent: "teller", reply: say("told") },
]);
`,
  "tools.ts": `
import { setTimeout as sleep } from "node:timers/promises";
import { defineTool } from "troupe";
import { z } from "${ZOD}";
export const dig = defineTool({
  name: "dig",
  description: "Digs for a while.",
  parameters: z.object({}),
  async execute(_args, { logger }) {
    for (let depth = 1; depth <= 5; depth += 1) {
      logger.info({ depth, pid: process.pid }, "dug");
      await sleep(400);
    }
    return "gold";
  },
});
`,
};

test("who watches a run and follows its log misses nothing when the daemon at work on it is killed", {
  timeout: 90_000,
}, async () => {
  await using nats = await startTestNats();
  const args = ["--nats", nats.url];
  await using _first = await serveFiles(FILES, { args });
  await using _second = await serveFiles(FILES, { args });
  const client = await connect({ servers: nats.url });
  const { runId } = await client.start("find", "x");
  const lines: LogLine[] = [];
  const followed = (async () => {
    for await (const line of client.logs(runId, { follow: true })) lines.push(line);
  })();
  const records: RunRecord[] = [];
  const watched = (async () => {
    for await (const run of client.watch(runId)) records.push(run);
  })();
  const dug = await until("some of it is logged", () => (lines.length >= 2 ? lines : undefined), {
    withinMs: 30_000,
  });
  const victim = dug[0]?.fields?.pid as number;
  process.kill(victim, "SIGKILL");
  const readable = await client.get(runId);
  expect(readable.steps[0]).toMatchObject({ id: "teller", status: "completed", output: "told" });
  await client.result(runId);
  await Promise.all([followed, watched]);

  const pids = [...new Set(lines.map(({ fields }) => fields?.pid))];
  expect(pids).toHaveLength(2);
  expect(pids[0]).toBe(victim);
  // What the killed one had logged and was a moment old is there; the tool ran again, whole, on the other one.
  const depths = (pid: unknown) => lines.filter(({ fields }) => fields?.pid === pid).map(({ fields }) => fields?.depth);
  expect(depths(pids[0]).slice(0, 2)).toEqual([1, 2]);
  expect(depths(pids[1])).toEqual([1, 2, 3, 4, 5]);
  const counts = records.map(({ events }) => events);
  expect(counts).toEqual(counts.toSorted((a, b) => a - b));
  expect(records.at(-1)).toEqual(await client.get(runId));
  const metrics = await client.metrics(runId);
  expect(metrics).toMatchObject({ status: "completed", attempts: 3, retries: 0, lost: 1, toolCalls: 1 });
  expect(metrics.steps.map(({ id, lost }) => [id, lost])).toEqual([
    ["teller", 0],
    ["digger", 1],
    ["teller-2", 0],
  ]);
  await client.close();
});
