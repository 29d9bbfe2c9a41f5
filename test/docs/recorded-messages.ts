/** Real messages of every kind: a daemon is put through what it can do, and everything on its NATS is written down. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pino from "pino";
import { z } from "zod";
import { defineAgent } from "../../src/actors/define-agent.ts";
import { defineTool } from "../../src/actors/define-tool.ts";
import type { Model } from "../../src/actors/model.ts";
import type { Task } from "../../src/actors/task.ts";
import { ModelError } from "../../src/errors.ts";
import type { TroupeConfig } from "../../src/runtime/config/define-config.ts";
import { type Client, connect } from "../../src/runtime/edges/client.ts";
import type { Daemon } from "../../src/runtime/edges/daemon.ts";
import { objectsOver } from "../../src/runtime/edges/objects-over.ts";
import { serve } from "../../src/runtime/edges/serve.ts";
import { connect as connectNats, type Msg, type NatsConnection } from "../../src/runtime/nats/nats.ts";
import { LARGE as LARGE_FIELDS, openPayloads } from "../../src/runtime/nats/payloads.ts";
import { subjectsFor } from "../../src/runtime/subjects.ts";
import { callTool, fail, handOff, type ScriptedReply, say } from "../../src/testing/replies.ts";
import { rulesModel } from "../../src/testing/rules-model.ts";
import { defineWorkflow } from "../../src/workflows/define-workflow.ts";
import { startTestNats } from "../helpers/nats-server.ts";
import { until } from "../helpers/until.ts";

/** A message and the channel of docs/asyncapi.yaml it belongs to: by its subject, or by name where it went to a reply. */
export type RecordedMessage = { on: { subject: string } | { channel: string }; body: unknown };

const DENIED_RUN = "denied";
const PERMISSIONS = `
no_auth_user: anybody
authorization { users: [{ user: anybody, password: any, permissions: { publish: { deny: "troupe.runs.${DENIED_RUN}" } } }] }
`;
// Beyond what the broker takes in one message.
const LARGE = "x".repeat(1_100_000);
const AGENT = { instructions: "Do it.", model: "none", provider: "scripted" };
const OWNER_INBOX = "_INBOX_troupe_daemon.owner.";

/** Runs the whole tour. */
export async function recordMessages(): Promise<RecordedMessage[]> {
  await using nats = await startTestNats({ configExtra: PERMISSIONS });
  const data = await mkdtemp(join(tmpdir(), "troupe-docs-"));
  const nc = await connectNats({ servers: nats.url });
  const recorder = openRecorder(nc);
  const daemons: Daemon[] = [];
  const start = async (name: string) => {
    const config = fleet({ nats: [nats.url], data: join(data, name), httpPort: 0, beatMs: 100 });
    daemons.push(await serve(config, { logger: pino({ level: "silent" }), env: {}, telemetry: false }));
  };
  await start("first");
  const client = await connect({ servers: nats.url });
  try {
    // Before anybody writes down what is in mailboxes: it is no task.
    nc.publish("troupe.agents.researcher", JSON.stringify({ v: 1, runId: "order-7", taskId: "facts-1" }));
    await runEveryKind(client, nc, recorder);
    await runStepsOfAllKinds(client, nc, recorder);
    await askTheApi(client, nc, recorder);
    await askAboutTheDead(client, nc, recorder);
    await start("second");
    await changeOwner(client, daemons[0] as Daemon);
    await until("the exported marks are out", () => recorder.has("troupe.exported."));
  } finally {
    await client.close();
    for (const daemon of daemons) await daemon.drain();
    await nc.close();
    await rm(data, { recursive: true });
  }
  return recorder.messages;
}

type Recorder = ReturnType<typeof openRecorder>;

function openRecorder(nc: NatsConnection) {
  const messages: RecordedMessage[] = [];
  const subjects = [
    "requests",
    "runs",
    "tasks",
    "tools",
    "signals",
    "events",
    "exported",
    "definitions",
    "dead",
    "schedules",
    "logs",
    "api",
  ].map((kind) => `troupe.${kind}.>`);
  for (const subject of [...subjects, "troupe.presence", "troupe.owners"]) {
    nc.subscribe(subject, { callback: (_error, message) => note({ subject: message.subject }, message) });
  }
  nc.subscribe("_INBOX_troupe_daemon.>", { callback: (_error, message) => noteReply(message) });
  nc.subscribe("results", { callback: (_error, message) => note({ channel: "results" }, message) });
  return {
    messages,
    note,
    has: (prefix: string) => messages.some(({ on }) => "subject" in on && on.subject.startsWith(prefix)),
    /** Not before a run has waited: whoever listens to a mailbox counts as serving it. */
    listenToMailboxes() {
      nc.subscribe("troupe.agents.*", { callback: (_error, message) => note({ subject: message.subject }, message) });
    },
  };

  function note(on: RecordedMessage["on"], message: Msg) {
    // The ways of a message inside JetStream: acknowledgements, and empty answers that say nobody listens.
    if (message.data.length > 0) messages.push({ on, body: parse(message) });
  }

  function noteReply(message: Msg) {
    if (message.subject.startsWith(OWNER_INBOX)) return note({ channel: "taskAnswers" }, message);
    const { type } = Object(parse(message)) as { type?: string };
    if (type === "recorded" || type === "superseded") note({ channel: "receipts" }, message);
    if (type === "known" || type === "cancel") note({ channel: "taskControl" }, message);
  }
}

function parse(message: Msg): unknown {
  try {
    return message.json();
  } catch {
    return message.string();
  }
}

async function runEveryKind(client: Client, nc: NatsConnection, recorder: Recorder) {
  const abroad = await client.start(
    "abroad",
    { text: "hello" },
    { sessionId: "s", userId: "u", metadata: { of: "me" } },
  );
  await until("the run waits for a worker", async () => (await client.get(abroad.runId)).status === "waiting");
  await client.get(abroad.runId);
  recorder.listenToMailboxes();
  serveForeign(nc, recorder);
  await client.result(abroad.runId);

  await client.run("article", { topic: "tea" }, { replyTo: "results", timeoutMs: 60_000 });
  await client.run("retried", "x");
  await client.run("broken", "x").catch(() => {});
  const branched = await client.start("branched", "x");
  await client.result(branched.runId);
  await client.get(branched.runId);
  await client.run("support", "Was I charged twice?");
  await client.run("abroad", { much: LARGE }, { replyTo: "results" });
  await client.run("verbose", LARGE);
  const thoughtful = await client.start("thoughtful", "x");
  await client.result(thoughtful.runId);
  await client.get(thoughtful.runId);
  await client.run("stranded", "x").catch(() => {});
  for (const body of ["bare text", '{"bare":"json"}', '{"input":1,"replyto":"misspelt"}']) {
    nc.publish("troupe.requests.article", body);
  }
  nc.publish("troupe.requests.nothing", JSON.stringify({ input: 1, replyTo: "results" }));
  const undone = await client.start("undone", "x");
  await client.result(undone.runId).catch(() => {});
  await client.get(undone.runId);
  await client.retry(undone.runId, { newRunId: "again" });
  await client.result("again").catch(() => {});
  await client.get("again");
  const stuck = await client.start("stuck", "x");
  await until("it is undone", async () => (await client.get(stuck.runId)).status === "failing");
  await client.get(stuck.runId);
  await client.cancel(stuck.runId, { force: true });
  await client.result(stuck.runId).catch(() => {});
  await client.get(stuck.runId);
  const slow = await client.start("slow", 1);
  await until("the slow task is at work", async () => (await client.get(slow.runId)).current.length > 0);
  await client.cancel(slow.runId, { reason: "changed my mind", by: "me" });
  await client.result(slow.runId).catch(() => {});
}

/** A run that runs a tool, asks another run, a person and for a signal, and one that is refused. */
async function runStepsOfAllKinds(client: Client, nc: NatsConnection, recorder: Recorder) {
  const { runId } = await client.start("kinds", { number: "INV-1" });
  const ask = async (endpoint: string, body: object) => {
    const answer = await nc.request(`troupe.api.${endpoint}`, JSON.stringify(body), { timeout: 5_000 });
    recorder.note({ channel: "apiAnswers" }, answer);
  };
  const waitsAt = (step: string) =>
    until(`it waits at ${step}`, async () => (await client.get(runId)).current.some((work) => work.step === step));
  await waitsAt("ok");
  await ask("runs.get", { runId });
  await ask("approvals.list", { limit: 10 });
  await ask("runs.signal", { runId, name: "approval", payload: { choice: "perhaps" } });
  await ask("runs.signal", { runId, name: "approval", payload: { choice: "approve", by: "ada", comment: "fine" } });
  await waitsAt("paid");
  // Past the API, which would not let it through.
  const stray = { v: 1, kind: "signal", id: "stray", name: "lost", at: new Date().toISOString() };
  await nc.jetstream().publish(`troupe.signals.${runId}`, JSON.stringify(stray));
  await client.signal(runId, "paid", { amount: 3 });
  await client.result(runId);
  await ask("runs.get", { runId });
}

async function askTheApi(client: Client, nc: NatsConnection, recorder: Recorder) {
  const { runId } = await client.start("slow", 1, { notBefore: new Date(Date.now() + 3_600_000) });
  const done = (await client.list({ workflow: "article", status: "completed" })).runs[0]?.runId;
  const thoughtful = (await client.list({ workflow: "thoughtful" })).runs[0]?.runId;
  const large = (await client.list({ workflow: "verbose" })).runs[0]?.runId;
  const talked = (await client.list({ workflow: "support" })).runs[0]?.runId;
  await until("a schedule has fired", async () => (await client.schedules()).some(({ last }) => last));
  const questions: [endpoint: string, body: object][] = [
    ["runs.get", { runId: done }],
    ["runs.get", { runId: large }],
    ["runs.get", { runId: thoughtful }],
    ["runs.result", { runId: large }],
    ["runs.journal", { runId: large }],
    ["runs.get", { runId: "nobody-knows-it" }],
    ["runs.list", { limit: 2 }],
    ["runs.result", { runId: done }],
    ["runs.result", { runId, waitMs: 10 }],
    ["runs.signal", { runId, name: "approved", payload: { by: "me" } }],
    ["runs.cancel", { runId: done }],
    ["runs.retry", { runId: done }],
    ["runs.retry", { runId: done, from: "writer", newRunId: "from-there" }],
    ["runs.get", { runId: "again" }],
    ["runs.resume", { runId: done }],
    ["runs.fail", { runId: done, reason: "enough" }],
    ["runs.journal", { runId: done, from: 1 }],
    ["tasks.journal", { runId: large, taskId: "verbose-1" }],
    ["runs.start", { workflow: "article", input: { topic: "again" }, runId: done }],
    ["runs.logs", { runId: talked }],
    ["runs.metrics", { runId: talked }],
    ["schedules.list", {}],
    ["schedules.put", { name: "later", workflow: "article", at: "2999-01-31T09:00:00Z", input: { topic: "tea" } }],
    ["schedules.delete", { name: "later" }],
    ["workflows.list", {}],
    ["workflows.get", { workflow: "support" }],
    ["workflows.get", { workflow: "article" }],
    ["workflows.get", { workflow: "undone" }],
    ["agents.list", {}],
    ["workflows.put", { workflows: { put: { agents: ["writer"] } }, by: "me" }],
    [
      "workflows.put",
      { agents: { spare: AGENT, poet: AGENT }, workflows: { put: { agents: ["poet"] } }, expected: { put: 1 } },
    ],
    ["workflows.put", { workflows: { put: { agents: ["writer"] } }, expected: { put: 1 } }],
    ["workflows.put", { workflows: { put: { agents: ["nobody"] } } }],
    ["workflows.put", { workflows: { routed: { entry: "triage", agents: ["triage", "billing"] } } }],
    ["workflows.get", { workflow: "put", version: "#1" }],
    ["workflows.versions", { workflow: "put" }],
    ["workflows.versions", { workflow: "article" }],
    ["workflows.source", { workflow: "put" }],
    ["workflows.source", { workflow: "article" }],
    ["runs.start", { workflow: "put", input: "x", version: "#1" }],
    ["workflows.delete", { workflow: "put", by: "me" }],
    ["workflows.delete", { workflow: "article" }],
  ];
  for (const [endpoint, body] of questions) {
    const answer = await nc.request(`troupe.api.${endpoint}`, JSON.stringify(body), { timeout: 5_000 });
    recorder.note({ channel: "apiAnswers" }, answer);
  }
}

/** What nobody can handle: a request whose journal NATS denies, and what was no task in a mailbox. */
async function askAboutTheDead(client: Client, nc: NatsConnection, recorder: Recorder) {
  nc.publish("troupe.requests.retried", JSON.stringify({ input: "x", runId: DENIED_RUN }));
  await until("both are dead letters", async () => (await client.deadLetters()).total === 2);
  const { letters } = await client.deadLetters();
  const [request, task] = (["requests", "tasks"] as const).map((kind) => letters.find((one) => one.kind === kind)?.seq);
  const questions: [endpoint: string, body: object][] = [
    ["dead.list", { limit: 1 }],
    ["dead.show", { seq: request }],
    ["dead.show", { seq: task }],
    ["dead.show", { seq: 4_711 }],
    ["dead.redrive", { seq: request }],
    ["dead.drop", { seq: task }],
  ];
  for (const [endpoint, body] of questions) {
    const answer = await nc.request(`troupe.api.${endpoint}`, JSON.stringify(body), { timeout: 5_000 });
    recorder.note({ channel: "apiAnswers" }, answer);
  }
}

/** The owner leaves while a task is at work somewhere else. */
async function changeOwner(client: Client, owner: Daemon) {
  const runs = await Promise.all(Array.from({ length: 4 }, (_, n) => client.start("abroad", { held: n })));
  for (const { runId } of runs) {
    await until("the task is at work", async () => (await client.get(runId)).current.length > 0);
  }
  await owner.drain();
  for (const { runId } of runs) await client.result(runId);
}

/** A worker that is not of Troupe, as docs/protocol.md describes it. */
function serveForeign(nc: NatsConnection, recorder: Recorder) {
  const replies = new Map<string, string>();
  const payloads = openPayloads(objectsOver(nc), subjectsFor());
  nc.subscribe("_INBOX_foreign", { callback: (_error, message) => recorder.note({ channel: "taskControl" }, message) });
  nc.subscribe("troupe.owners", {
    callback(_error, message) {
      const { runId, tasks, reply } = message.json<{ runId: string; tasks: string[]; reply: string }>();
      for (const taskId of tasks) {
        if (!replies.has(`${runId} ${taskId}`)) continue;
        replies.set(`${runId} ${taskId}`, `${reply}.${taskId}`);
        accept(`${reply}.${taskId}`, taskId);
      }
    },
  });
  nc.subscribe("troupe.agents.foreign", {
    queue: "workers",
    callback(_error, message) {
      const task = message.json<Task>();
      const key = `${task.runId} ${task.taskId}`;
      const isKnown = replies.has(key);
      replies.set(key, message.reply ?? "");
      accept(message.reply ?? "", task.taskId);
      if (!isKnown) void work(task, key);
    },
  });

  function accept(reply: string, taskId: string) {
    for (const type of ["accepted", "working"]) {
      nc.publish(reply, JSON.stringify({ type, taskId, worker: "foreign/1" }), { reply: "_INBOX_foreign" });
    }
  }

  async function work(task: Task, key: string) {
    const { taskId, attempt } = task;
    const { input } = await payloads.resolve(task);
    // A held task outlives its owner.
    if (Object(input).held !== undefined) await new Promise((resolve) => setTimeout(resolve, 1_000));
    const whole = { v: 1, taskId, attempt, type: "completed", output: input };
    const bytes = Buffer.byteLength(JSON.stringify(whole));
    const about = { what: "it", fields: LARGE_FIELDS.outcome, bytes, room: 1_000_000 };
    const [outcome] = await payloads.detach([whole], about);
    for (;;) {
      const receipt = await nc
        .request(replies.get(key) ?? "", JSON.stringify(outcome), { timeout: 1_000 })
        .catch(() => undefined);
      if (receipt) return recorder.note({ channel: "receipts" }, receipt);
    }
  }
}

function fleet(daemon: NonNullable<TroupeConfig["daemon"]>): TroupeConfig {
  const replies: ScriptedReply[] = [
    fail(new ModelError("rate_limited", "slow down", { retryable: true })),
    say("fine"),
  ];
  const model = rulesModel([
    { agent: "researcher", reply: say("Three facts.") },
    { agent: "writer", reply: say("An article.") },
    { agent: "flaky", reply: () => replies.shift() ?? say("fine") },
    { agent: "broken", reply: fail(new ModelError("unauthorized", "no key", { retryable: false })) },
    { agent: "slow", reply: say("late", { delayMs: 60_000 }) },
    { agent: "verbose", afterTool: false, reply: callTool("recite") },
    { agent: "verbose", reply: say(LARGE) },
    { agent: "triage", reply: handOff("billing", { reason: "about money" }) },
    { agent: "billing", afterTool: false, reply: callTool("lookup", { number: "INV-1" }) },
    { agent: "billing", reply: say("It was charged once.") },
  ]);
  const thinker: Model = {
    provider: "thinker",
    async call({ model: asked, messages }, { onReasoning }) {
      if (asked === "first") throw new ModelError("bad_request", "not that one", { retryable: false });
      onReasoning?.("Hm.");
      const usage = { inputTokens: 9, outputTokens: 5, cachedTokens: 4, reasoningTokens: 3 };
      if (messages.at(-1)?.role === "tool") {
        return { content: "done", toolCalls: [], finishReason: "stop", usage, model: asked };
      }
      const toolCalls = [{ id: "c1", name: "lookup", arguments: '{"number":"INV-1"}' }];
      const providerState = { by: `thinker/${asked}`, items: [{ sealed: "…" }] };
      return { content: null, toolCalls, finishReason: "tool_calls", usage, model: asked, providerState };
    },
  };
  const away: Model = {
    provider: "away",
    call: () => Promise.reject(new ModelError("provider_unavailable", "nobody is there", { retryable: true })),
  };
  const about = { provider: "scripted", model: "none", instructions: "Do it." };
  const lookup = defineTool({
    name: "lookup",
    description: "Looks an invoice up.",
    parameters: z.object({ number: z.string() }),
    effect: "once",
    execute(_arguments, { logger, progress }) {
      logger.info({ charges: 1 }, "looked up");
      progress({ percent: 50, message: "half of the books" });
      return { charges: 1 };
    },
  });
  const recite = defineTool({
    name: "recite",
    description: "Gives much.",
    parameters: z.object({}),
    execute: () => LARGE,
  });
  const twice = { maxAttempts: 2, delayMs: 20, on: ["unauthorized"] };
  const billing = defineAgent({ name: "billing", description: "Money.", ...about, tools: [lookup] });
  const triage = defineAgent({ name: "triage", ...about, handoffs: [billing] });
  return {
    agents: [
      ...["researcher", "writer", "broken", "slow"].map((name) => defineAgent({ name, ...about })),
      defineAgent({ name: "flaky", ...about, maxModelAttempts: 1 }),
      defineAgent({ name: "foreign", remote: true }),
      defineAgent({ name: "verbose", ...about, tools: [recite] }),
      defineAgent({
        name: "thoughtful",
        instructions: "Think.",
        provider: "thinker",
        model: ["first", "second"],
        tools: [lookup],
      }),
      defineAgent({ name: "stranded", ...about, provider: "away", timeoutMs: 1_000 }),
      triage,
      billing,
    ],
    workflows: [
      defineWorkflow({ name: "verbose", agents: ["verbose"] }),
      defineWorkflow({
        name: "article",
        description: "Writes.",
        input: z.object({ topic: z.string() }),
        agents: ["researcher", "writer"],
      }),
      defineWorkflow({
        name: "retried",
        steps: [{ id: "only", agent: "flaky", retry: { maxAttempts: 2, delayMs: 20 } }],
      }),
      defineWorkflow({ name: "broken", agents: ["broken"] }),
      defineWorkflow({
        name: "branched",
        steps: [
          { id: "first", agent: "broken", onError: "continue" },
          { id: "second", agent: "writer", after: "first" },
        ],
      }),
      defineWorkflow({ name: "often", agents: ["writer"], schedule: { everyMs: 1_000, overlap: "skip" } }),
      defineWorkflow({
        name: "undone",
        output: z.string(),
        steps: [
          { id: "quote", agent: "researcher" },
          { id: "book", agent: "writer", after: "quote", compensate: { agent: "broken", retry: twice } },
          { id: "hotel", agent: "writer", after: "book", compensate: { agent: "writer" } },
          { id: "pay", agent: "broken", after: "hotel" },
        ],
        onFailure: [{ id: "tell", agent: "writer", input: "{{ error.code }}" }],
      }),
      defineWorkflow({
        name: "stuck",
        steps: [
          { id: "book", agent: "writer", compensate: { agent: "slow" } },
          { id: "pay", agent: "broken", after: "book" },
        ],
      }),
      defineWorkflow({ name: "thoughtful", agents: ["thoughtful"] }),
      defineWorkflow({ name: "stranded", agents: ["stranded"] }),
      defineWorkflow({
        name: "kinds",
        steps: [
          { id: "find", tool: "lookup", input: { number: "{{ input.number }}" } },
          { id: "write", workflow: "article", input: { topic: "tea" }, after: "find" },
          {
            id: "ok",
            after: "write",
            approval: { title: "Well?", prompt: "{{ steps.write.output }}", assignees: ["ada"], timeoutMs: 60_000 },
          },
          { id: "paid", after: "ok", wait: { signal: "paid", timeoutMs: 60_000 } },
          { id: "moment", after: "paid", wait: { forMs: 20 } },
          { id: "never", approval: { title: "?" }, when: "false" },
        ],
      }),
      defineWorkflow({ name: "slow", agents: ["slow"] }),
      defineWorkflow({ name: "abroad", agents: ["foreign"] }),
      defineWorkflow({ name: "support", entry: triage, agents: [triage, billing] }),
    ],
    providers: { scripted: model, thinker, away: { model: away, breaker: { failures: 1, cooldownMs: 60_000 } } },
    prices: { second: { input: 1, output: 2 } },
    daemon,
  };
}
