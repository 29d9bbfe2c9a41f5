import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pino from "pino";
import { expect, it } from "vitest";
import { defineAgent } from "../../src/actors/define-agent.ts";
import type { Task } from "../../src/actors/task.ts";
import type { TroupeConfig } from "../../src/runtime/config/define-config.ts";
import { connect } from "../../src/runtime/edges/client.ts";
import { examine } from "../../src/runtime/edges/doctor.ts";
import { serve } from "../../src/runtime/edges/serve.ts";
import { connectBus } from "../../src/runtime/nats/connection.ts";
import { connect as connectNats, createInbox, type NatsConnection } from "../../src/runtime/nats/nats.ts";
import { say } from "../../src/testing/replies.ts";
import { rulesModel } from "../../src/testing/rules-model.ts";
import { defineWorkflow } from "../../src/workflows/define-workflow.ts";
import { documentedPermissions } from "../helpers/documented-permissions.ts";
import { startTestNats } from "../helpers/nats-server.ts";
import { troupe } from "../helpers/troupe.ts";
import { until } from "../helpers/until.ts";

it("a daemon, a client, a worker and the doctor need no more than the allow-lists of docs/protocol.md", async () => {
  await using nats = await startTestNats({ configExtra: await documentedPermissions() });
  const denied: string[] = [];
  const note = (line: string) => void (/denied|permissions violation/i.test(line) && denied.push(line));
  const data = await mkdtemp(join(tmpdir(), "troupe-docs-"));
  const logger = pino({ level: "warn" }, { write: note });
  const daemon = await serve(fleet({ nats: nats.url, data }), { logger, telemetry: false, env: {} });
  const user = { user: "client", password: "change-me-2" };
  const client = await connect({ servers: nats.url, ...user });
  const anyClient = await connectNats({
    servers: nats.url,
    user: user.user,
    pass: user.password,
    inboxPrefix: "_INBOX_client",
  });
  const worker = await connectNats({
    servers: nats.url,
    user: "worker",
    pass: "change-me-3",
    inboxPrefix: "_INBOX_worker",
  });
  const operator = await connectBus({
    servers: nats.url,
    name: "doctor",
    inboxPrefix: "_INBOX_client",
    user: "operator",
    password: "change-me-4",
  });
  const look = (listenMs: number) =>
    examine({ bus: operator, data, listenMs, staleAfterMs: 60_000, patienceMs: 1_500 });
  for (const connection of [anyClient, worker, operator.nc]) void watch(connection, note);
  serveShout(worker);
  const results: unknown[] = [];
  anyClient.subscribe("results.loud", { callback: (_error, message) => results.push(message.json()) });

  try {
    const request = JSON.stringify({ input: "hello", runId: "loud-1", replyTo: "results.loud" });
    const stored = await anyClient.request("troupe.requests.loud", request, { timeout: 5_000 });
    expect(stored.json()).toMatchObject({ stream: "TROUPE_REQUESTS" });
    await until("the result came to replyTo", () => results.length > 0);
    const put = await client.putWorkflows({ workflows: { put: { agents: ["polite"] } } });
    expect(put.workflows).toMatchObject([{ number: 1, changed: true }]);
    expect(results[0]).toMatchObject({
      runId: "loud-1",
      status: "completed",
      output: expect.stringContaining("HELLO"),
    });
    const types: string[] = [];
    for await (const { type } of client.events("loud-1")) types.push(type);
    expect(types.at(-1)).toBe("run.completed");
    expect((await client.list()).runs).toHaveLength(1);

    const large = "x".repeat(1_500_000);
    expect((await client.run("polite", large, { runId: "large-1" })) === large).toBe(true);
    expect((await client.get("large-1")).input === large).toBe(true);

    // The worker may say what it says to an owner, so whoever checks it is a daemon.
    const owner = ["--nats", nats.url, "--user", "daemon", "--password", "change-me-1"];
    const only = ["--only", "outcome,control,no-handoff,owners-none", "--accept-within", "3s"];
    const args = ["conformance", ...owner, "--subject", "troupe.agents.shout", ...only];
    expect(await troupe(args, { cwd: data })).toMatchObject({ code: 0, stderr: "" });

    const seen = await look(1_200);
    expect(seen).toMatchObject({ problems: [], daemons: [{}], runs: {}, door: {}, jetstream: {} });
    expect(seen.broker?.clockOffsetMs).toBeDefined();

    const slow = await client.start("slow", "x");
    await until("the slow task is at work", async () => (await client.get(slow.runId)).current.length > 0);
    await client.cancel(slow.runId);
    await expect(client.result(slow.runId)).rejects.toThrow("cancelled");

    await daemon.drain();
    await anyClient.request("troupe.requests.slow", "waits", { timeout: 5_000 });
    expect((await look(100)).backlog).toMatchObject([
      { workflow: "slow", requests: 1, oldestAgeMs: expect.any(Number) },
    ]);
  } finally {
    await daemon.drain();
    await operator.close();
    await client.close();
    await anyClient.close();
    await worker.close();
    await rm(data, { recursive: true });
  }
  // Draining needs permissions as well.
  expect(denied).toEqual([]);
});

function fleet({ nats, data }: { nats: string; data: string }): TroupeConfig {
  const model = rulesModel([
    { agent: "polite", when: /^x+$/, reply: ({ lastUser }) => say(lastUser) },
    { agent: "polite", reply: say("good day") },
    { agent: "slow", reply: say("late", { delayMs: 60_000 }) },
  ]);
  const about = { provider: "scripted", model: "none", instructions: "" };
  return {
    agents: [
      defineAgent({ name: "polite", ...about, instructions: "Be polite." }),
      defineAgent({ name: "slow", ...about, instructions: "Take your time." }),
      defineAgent({ name: "shout", remote: true }),
    ],
    workflows: [
      defineWorkflow({ name: "loud", agents: ["polite", "shout"] }),
      defineWorkflow({ name: "slow", agents: ["slow"] }),
      defineWorkflow({ name: "polite", agents: ["polite"] }),
    ],
    providers: { scripted: model },
    daemon: { nats: [nats], user: "daemon", password: "change-me-1", data, httpPort: 0 },
  };
}

/** A worker as the document describes it, in its shortest form. */
function serveShout(nc: NatsConnection): void {
  const control = createInbox("_INBOX_worker");
  nc.subscribe(control, { callback: () => {} });
  nc.subscribe("troupe.owners", { callback: () => {} });
  nc.subscribe("troupe.agents.shout", {
    queue: "workers",
    callback(_error, message) {
      const { taskId, attempt, delivery, input } = message.json<Task>();
      const reply = message.reply ?? "";
      nc.publish(reply, JSON.stringify({ type: "accepted", taskId, delivery, worker: "test/1" }), { reply: control });
      const outcome = { v: 1, taskId, attempt, type: "completed", output: String(input).toUpperCase() };
      void nc.request(reply, JSON.stringify(outcome), { timeout: 5_000 });
    },
  });
}

async function watch(nc: NatsConnection, note: (line: string) => void): Promise<void> {
  for await (const { type, permissionContext } of nc.status()) {
    if (type === "error") note(`denied: ${JSON.stringify(permissionContext)}`);
  }
}
