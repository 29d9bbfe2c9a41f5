import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pino from "pino";
import { expect, it } from "vitest";
import { defineAgent } from "../../src/actors/define-agent.ts";
import type { Task } from "../../src/actors/task.ts";
import { connect } from "../../src/runtime/edges/client.ts";
import { serve } from "../../src/runtime/edges/serve.ts";
import { connect as connectNats, createInbox } from "../../src/runtime/nats/nats.ts";
import { say } from "../../src/testing/replies.ts";
import { rulesModel } from "../../src/testing/rules-model.ts";
import { defineWorkflow } from "../../src/workflows/define-workflow.ts";
import { startTestNats } from "../helpers/nats-server.ts";
import { until } from "../helpers/until.ts";

const DOCUMENT = new URL("../../docs/protocol.md", import.meta.url);

it("a daemon, a client and a worker need no more than the allow-lists of docs/protocol.md", async () => {
  const configExtra = await documentedConfig();
  await using nats = await startTestNats({ configExtra });
  const denied: string[] = [];
  const logger = pino({ level: "warn" }, { write: (line: string) => void (/denied/i.test(line) && denied.push(line)) });
  const data = await mkdtemp(join(tmpdir(), "troupe-docs-"));
  const daemon = await serve(fleet({ nats: nats.url, data }), { logger, telemetry: false, env: {} });
  const client = await connect({ servers: nats.url, user: "client", password: "change-me-2" });
  const worker = await connectNats({ servers: nats.url, user: "worker", pass: "change-me-3", inboxPrefix: "_INBOX_worker" });
  void (async () => {
    for await (const { type, data: what } of worker.status()) if (type === "error") denied.push(`worker: ${String(what)}`);
  })();
  const control = createInbox("_INBOX_worker");
  worker.subscribe(control, { callback: () => {} });
  worker.subscribe("troupe.owners", { callback: () => {} });
  worker.subscribe("troupe.agents.shout", {
    queue: "workers",
    callback: (_error, message) => {
      const { taskId, attempt, input } = message.json<Task>();
      worker.publish(message.reply ?? "", JSON.stringify({ type: "accepted", taskId, worker: "test/1" }), { reply: control });
      const outcome = { v: 1, taskId, attempt, type: "completed", output: String(input).toUpperCase() };
      void worker.request(message.reply ?? "", JSON.stringify(outcome), { timeout: 5_000 });
    },
  });

  try {
    const results: unknown[] = [];
    client_results(results);
    const { runId } = await client.start("loud", "hello", { replyTo: "results.loud" });
    await expect(client.result(runId)).resolves.toMatch(/HELLO/);
    expect(await eventTypes(runId)).toContain("run.completed");
    expect((await client.list()).runs).toHaveLength(1);
    const slow = await client.start("slow", "x");
    await until("the slow task is sent", async () => (await client.get(slow.runId)).current.length > 0);
    await client.cancel(slow.runId);
    await expect(client.result(slow.runId)).rejects.toThrow("cancelled");
    expect(denied).toEqual([]);
  } finally {
    await client.close();
    await worker.close();
    await daemon.drain();
    await rm(data, { recursive: true });
  }
  // Draining used permissions as well.
  expect(denied).toEqual([]);
});
