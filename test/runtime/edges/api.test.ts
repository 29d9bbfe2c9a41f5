import { describe, expect, test } from "vitest";
import type { TaskEntry } from "../../../src/actors/task.ts";
import { headers } from "../../../src/runtime/nats/nats.ts";
import { openPayloads } from "../../../src/runtime/nats/payloads.ts";
import type { RunEvent } from "../../../src/workflows/run-events.ts";
import { ARTICLE, type Edge, startEdge } from "../../helpers/edge.ts";
import { eventsOf, finishedRun, USAGE } from "../../helpers/run-events.ts";
import { sharedBus } from "../../helpers/shared-bus.ts";
import { until } from "../../helpers/until.ts";

const { bus } = await sharedBus();

/** Asks as any NATS client would. */
async function ask(edge: Edge, endpoint: string, body: unknown, traceparent?: string) {
  const hdrs = headers();
  if (traceparent) hdrs.set("traceparent", traceparent);
  const data = typeof body === "string" ? body : JSON.stringify(body);
  const reply = await bus.nc.request(`${edge.subjects.api}.${endpoint}`, data, { headers: hdrs, timeout: 20_000 });
  const number = reply.headers?.get("Nats-Service-Error-Code");
  return {
    ...(number && { number: Number(number), headline: reply.headers?.get("Nats-Service-Error") }),
    body: reply.json<{ [field: string]: unknown; error?: { code: string; message: string } }>(),
  };
}

test("the service is found by its name, with its version and every endpoint", async () => {
  await using edge = await startEdge(bus);
  const info = (await bus.nc.request(`$SRV.INFO.${edge.subjects.prefix}`)).json<{
    version: string;
    endpoints: { subject: string }[];
  }>();
  expect(info.version).toBe("0.1.0");
  const names = [
    "start",
    "get",
    "list",
    "result",
    "cancel",
    "retry",
    "resume",
    "fail",
    "signal",
    "journal",
    "logs",
    "metrics",
  ].map((name) => `runs.${name}`);
  const workflows = ["list", "get", "source", "versions", "put", "delete"].map((name) => `workflows.${name}`);
  const schedules = ["list", "put", "delete"].map((name) => `schedules.${name}`);
  const dead = ["list", "show", "redrive", "drop"].map((name) => `dead.${name}`);
  expect(info.endpoints.map(({ subject }) => subject).sort()).toEqual(
    [...names, ...dead, ...schedules, ...workflows, "approvals.list", "tasks.journal", "agents.list"]
      .map((name) => `${edge.subjects.api}.${name}`)
      .sort(),
  );
});

describe("runs.start", () => {
  test("puts the request at the door with its run id and the caller's trace, before it answers", async () => {
    await using edge = await startEdge(bus);
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const request = { workflow: "article", input: { topic: "bees" }, sessionId: "s", timeoutMs: 500, replyTo: "a.b" };
    const { body } = await ask(edge, "runs.start", request, traceparent);
    const { workflow: _, ...rest } = request;
    expect(await edge.requests()).toEqual([{ body: { ...rest, runId: body.runId }, traceparent }]);
    expect(body.runId).toMatch(/^[A-Za-z0-9]{22}$/);
  });

  test("keeps the id it is given, and does not ask the door for a run that exists", async () => {
    await using edge = await startEdge(bus);
    expect((await ask(edge, "runs.start", { workflow: "article", input: 1, runId: "mine" })).body).toEqual({
      runId: "mine",
    });
    await edge.append(eventsOf("mine").open());
    await until("the index knows the run", () => edge.index.known("mine"));
    const again = await ask(edge, "runs.start", { workflow: "article", input: 1, runId: "mine" });
    expect(again.body).toEqual({ runId: "mine", existing: true });
    expect(await edge.requests()).toHaveLength(1);
  });

  test("refuses a workflow that no living daemon has", async () => {
    await using edge = await startEdge(bus);
    const answer = await ask(edge, "runs.start", { workflow: "nope", input: 1 });
    expect(answer).toEqual({
      number: 404,
      headline: 'no living daemon has a workflow "nope"',
      body: { error: { code: "unknown_workflow", message: 'no living daemon has a workflow "nope"' } },
    });
    expect(await edge.requests()).toEqual([]);
  });

  test.each([
    ["no JSON", "{nope", /runs.start: expected JSON, got \{nope/],
    ["no input", { workflow: "article" }, /input: expected any JSON value, got none/],
    ["a misspelt field", { workflow: "article", input: 1, sesionId: "s" }, /sesionId/],
    ["a run id that is no token", { workflow: "article", input: 1, runId: "a.b" }, /runId: expected 1 to 128/],
    ["a bad instant", { workflow: "article", input: 1, notBefore: "soon" }, /notBefore: expected an ISO 8601 instant/],
  ])("refuses %s with a sentence on what is off", async (_what, body, message) => {
    await using edge = await startEdge(bus);
    const answer = await ask(edge, "runs.start", body);
    expect(answer).toMatchObject({ number: 400, body: { error: { code: "invalid_request" } } });
    expect(answer.body.error?.message).toMatch(message);
  });

  test("uploads what just fits here and would not at the door", async () => {
    await using edge = await startEdge(bus);
    const limit = bus.nc.info?.max_payload ?? 0;
    const input = "x".repeat(limit - 100);
    const answer = await ask(edge, "runs.start", { workflow: "article", input });
    const [request] = await edge.requests();
    const { runId } = answer.body;
    expect(request?.body).toMatchObject({ runId, input: null, refs: [{ at: "/input", bytes: input.length + 2 }] });
    expect(await openPayloads(bus.objects, edge.subjects).resolve(request?.body as object)).toEqual({ runId, input });
  });
});

describe("runs.get", () => {
  test("reads the run from its journal", async () => {
    await using edge = await startEdge(bus);
    for (const entry of finishedRun(eventsOf("r1"), "text")) await edge.append(entry);
    expect((await ask(edge, "runs.get", { runId: "r1" })).body).toMatchObject({
      runId: "r1",
      status: "completed",
      output: "text",
      steps: [{ id: "write", status: "completed", output: "text" }],
      usage: { modelCalls: 1 },
    });
  });

  test("waits a moment for a run that is on its way into its journal", async () => {
    await using edge = await startEdge(bus);
    const answering = ask(edge, "runs.get", { runId: "soon" });
    await bus.nc.flush();
    await edge.append(eventsOf("soon").open());
    expect((await answering).body).toMatchObject({ runId: "soon", status: "running" });
  });

  test("says so when there is no such run", async () => {
    await using edge = await startEdge(bus);
    expect(await ask(edge, "runs.get", { runId: "never" })).toMatchObject({
      number: 404,
      body: { error: { code: "unknown_run", message: 'no run "never"' } },
    });
  });
});

describe("runs.result", () => {
  test("tells at once how a finished run ended", async () => {
    await using edge = await startEdge(bus);
    for (const entry of finishedRun(eventsOf("r1"), { words: 3 })) await edge.append(entry);
    const { body } = await ask(edge, "runs.result", { runId: "r1" });
    expect(body).toEqual({ runId: "r1", status: "completed", output: { words: 3 } });
  });

  test("waits for the end, and tells an error as it tells an output", async () => {
    await using edge = await startEdge(bus);
    const make = eventsOf("r2");
    await edge.append(make.open());
    const answering = ask(edge, "runs.result", { runId: "r2", waitMs: 15_000 });
    await bus.nc.flush();
    await edge.append([make.next({ type: "run.failed", data: { error: { code: "timeout", message: "too slow" } } })]);
    expect((await answering).body).toEqual({
      runId: "r2",
      status: "failed",
      error: { code: "timeout", message: "too slow" },
    });
  });

  test("answers 408 with the status when the time is up", async () => {
    await using edge = await startEdge(bus);
    await edge.append(eventsOf("r3").open());
    await until("the index knows the run", () => edge.index.known("r3"));
    expect(await ask(edge, "runs.result", { runId: "r3", waitMs: 50 })).toMatchObject({
      number: 408,
      body: { error: { code: "not_finished" }, runId: "r3", status: "running" },
    });
    expect((await ask(edge, "runs.result", { runId: "r3", waitMs: 30_001 })).number).toBe(400);
    expect((await ask(edge, "runs.result", { runId: "never" })).body.error?.code).toBe("unknown_run");
  });

  test("is answered with `unavailable` when the daemon stops meanwhile", async () => {
    await using edge = await startEdge(bus, { serve: false });
    const api = await edge.startApi();
    await edge.append(eventsOf("r4").open());
    const answering = ask(edge, "runs.result", { runId: "r4", waitMs: 15_000 });
    await bus.nc.flush();
    await bus.nc.flush();
    await api.stop();
    expect(await answering).toMatchObject({ number: 503, body: { error: { code: "unavailable" } } });
  });
});

describe("runs.cancel and runs.signal", () => {
  test("store a signal for the run's owner", async () => {
    await using edge = await startEdge(bus);
    await edge.append(eventsOf("r1").open());
    expect((await ask(edge, "runs.cancel", { runId: "r1", reason: "enough" })).body).toEqual({ runId: "r1" });
    // Of another definition than the one that is known here, so only its owner can say what fits.
    const [accepted, claimed] = eventsOf("r2").open();
    if (accepted?.type === "run.accepted") accepted.data.hash = "another";
    await edge.append([accepted, claimed] as RunEvent[]);
    const sent = await ask(edge, "runs.signal", { runId: "r2", name: "go", payload: { a: 1 }, id: "mine" });
    expect(sent.body).toEqual({ runId: "r2", seq: 2, taken: false });
    const again = await ask(edge, "runs.signal", { runId: "r2", name: "go", payload: { a: 1 }, id: "mine" });
    expect(again.body).toEqual({ runId: "r2", seq: 2, taken: false });
    const jsm = await bus.jsm();
    const stored = [1, 2].map(async (seq) =>
      (await jsm.streams.getMessage(edge.subjects.streams.signals, { seq })).json(),
    );
    expect(await Promise.all(stored)).toEqual([
      { v: 1, kind: "cancel", id: expect.any(String), at: expect.any(String), reason: "enough" },
      { v: 1, kind: "signal", id: "mine", at: expect.any(String), name: "go", payload: { a: 1 } },
    ]);
  });

  test("a signal that is asked again is answered as the first time, also when its run is over by then", async () => {
    await using edge = await startEdge(bus);
    const make = eventsOf("r1");
    const signal = (seq: number, id: string) =>
      make.next({ type: "signal.received", data: { seq, kind: "signal", id, name: "approval" } });
    await edge.append([
      ...make.open(),
      make.next({ type: "step.started", data: { step: "ok", kind: "approval" } }),
      make.next({ type: "approval.requested", data: { step: "ok", title: "?", choices: ["approve", "reject"] } }),
      signal(1, "first"),
      make.next({ type: "approval.resolved", data: { step: "ok", choice: "reject", by: "ada", seq: 1 } }),
      make.next({ type: "step.completed", data: { step: "ok", output: { choice: "reject", by: "ada" } } }),
      signal(2, "second"),
      make.next({
        type: "signal.refused",
        data: { seq: 2, code: "not_waiting", message: "step ok waits for nothing" },
      }),
      make.next({ type: "run.completed", data: { output: 1 } }),
    ]);
    const again = (id: string) => ask(edge, "runs.signal", { runId: "r1", name: "approval", payload: {}, id });
    expect((await again("first")).body).toEqual({ runId: "r1", seq: 1, taken: true });
    expect(await again("second")).toMatchObject({
      number: 409,
      body: { error: { code: "already_decided", message: expect.stringContaining("reject by ada") } },
    });
    expect(await again("third")).toMatchObject({ number: 409, body: { error: { code: "run_finished" } } });
  });

  test("refuse a run that is over and one that never was", async () => {
    await using edge = await startEdge(bus);
    for (const entry of finishedRun(eventsOf("over"))) await edge.append(entry);
    for (const endpoint of ["runs.cancel", "runs.signal"]) {
      expect(
        await ask(edge, endpoint, { runId: "over", ...(endpoint === "runs.signal" && { name: "go" }) }),
      ).toMatchObject({
        number: 409,
        body: { error: { code: "run_finished", message: "run over is completed already" }, status: "completed" },
      });
    }
    expect(await ask(edge, "runs.cancel", { runId: "never" })).toMatchObject({
      number: 404,
      body: { error: { code: "unknown_run" } },
    });
  });

  test("take a run whose request still waits at the door", async () => {
    await using edge = await startEdge(bus);
    for (let i = 0; i < 5; i += 1) await ask(edge, "runs.start", { workflow: "article", input: i });
    const { body } = await ask(edge, "runs.start", { workflow: "article", input: "last" });
    expect((await ask(edge, "runs.cancel", { runId: body.runId })).body).toEqual({ runId: body.runId });
  });
});

describe("a run whose values do not fit into one answer", () => {
  test("is told without them, with where they are", async () => {
    await using edge = await startEdge(bus);
    const make = eventsOf("wide");
    const output = "x".repeat((bus.nc.info?.max_payload ?? 0) * 0.4);
    await edge.append(make.open());
    for (const [i, step] of ["facts", "write", "check"].entries()) {
      const task = { taskId: `${step}-1`, agent: "a" };
      await edge.append([
        make.next({ type: "step.started", data: { step, agent: "a" } }),
        make.next({ type: "task.sent", data: { ...task, step, attempt: 1, delivery: 1 } }),
        make.next({
          type: "task.settled",
          data: { ...task, outcome: { type: "completed", output: `${i}${output}`, usage: USAGE } },
        }),
        make.next({ type: "step.completed", data: { step, taskId: `${step}-1` } }),
      ]);
    }
    const { body } = await ask(edge, "runs.get", { runId: "wide" });
    expect(body.refs).toHaveLength(1);
    const whole = await openPayloads(bus.objects, edge.subjects).resolve(body);
    expect((whole.steps as { output: string }[]).map((step) => step.output === undefined)).not.toContain(true);
    expect(await edge.client.get("wide")).toEqual(whole);
    expect((whole.steps as { output: string }[]).map((step) => step.output)).toEqual([0, 1, 2].map((i) => i + output));
  });
});

describe("runs.journal", () => {
  test("pages so that every answer fits the broker's limit", async () => {
    await using edge = await startEdge(bus);
    const make = eventsOf("big");
    const limit = bus.nc.info?.max_payload ?? 0;
    const events: RunEvent[] = make.open();
    await edge.append(events);
    for (let i = 0; i < 5; i += 1) {
      const outcome = { type: "completed", output: "x".repeat(limit * 0.4), usage: USAGE } as const;
      const event = make.next({ type: "task.settled", data: { taskId: `t${i}`, agent: "a", outcome } });
      await edge.append([event]);
      events.push(event);
    }
    const seen: unknown[] = [];
    let pages = 0;
    for (let from: unknown = 1; from !== undefined; pages += 1) {
      const { body } = await ask(edge, "runs.journal", { runId: "big", from });
      expect(body.ended).toBe(false);
      seen.push(...(body.events as unknown[]));
      from = body.next;
    }
    expect(seen).toEqual(events);
    expect(pages).toBe(3);
    expect((await ask(edge, "runs.journal", { runId: "big", from: 7 })).body.events).toEqual(events.slice(6));
  });

  test("carries an event that is as large as the journal takes", async () => {
    await using edge = await startEdge(bus);
    const make = eventsOf("huge");
    const limit = bus.nc.info?.max_payload ?? 0;
    await edge.append(make.open());
    const bare = make.next({ type: "run.completed", data: { output: "" } });
    const room = limit - 128 - Buffer.byteLength(JSON.stringify([bare]));
    const event = { ...bare, data: { output: "x".repeat(room) } } as RunEvent;
    await edge.append([event]);
    const { body } = await ask(edge, "runs.journal", { runId: "huge", from: 3 });
    expect(body).toEqual({ events: [event], ended: true });
  });
});

test("tasks.journal pages so that every answer fits the broker's limit, and has nothing of a task that is not there", async () => {
  await using edge = await startEdge(bus);
  const limit = bus.nc.info?.max_payload ?? 0;
  const entries: TaskEntry[] = [];
  for (let turn = 1; turn <= 5; turn += 1) {
    const entry = { v: 1, id: `e${turn}`, at: "2026-01-31T09:00:00.000Z", type: "tool", turn, callId: "c" } as const;
    entries.push({ ...entry, content: "x".repeat(limit * 0.4), failed: false });
    await bus.js.publish(edge.subjects.task("big", "t1"), JSON.stringify(entries.at(-1)));
  }
  const seen: unknown[] = [];
  let pages = 0;
  for (let from: unknown = 1; from !== undefined; pages += 1) {
    const { body } = await ask(edge, "tasks.journal", { runId: "big", taskId: "t1", from });
    seen.push(...(body.entries as unknown[]));
    from = body.next;
  }
  expect(seen).toEqual(entries);
  expect(pages).toBe(3);
  expect((await ask(edge, "tasks.journal", { runId: "big", taskId: "t2" })).body).toEqual({ entries: [] });
  expect((await ask(edge, "tasks.journal", { runId: "big" })).body.error?.code).toBe("invalid_request");
});

test("runs.list passes the filters on and pages", async () => {
  await using edge = await startEdge(bus);
  for (const id of ["a", "b", "c"]) for (const entry of finishedRun(eventsOf(id))) await edge.append(entry);
  await until("three are counted", () => edge.index.counts()[0]?.count === 3);
  const first = await ask(edge, "runs.list", { status: "completed", limit: 2 });
  expect((first.body.runs as { runId: string }[]).map(({ runId }) => runId)).toEqual(["c", "b"]);
  const second = await ask(edge, "runs.list", { status: "completed", limit: 2, cursor: first.body.cursor });
  expect(second.body).toMatchObject({ runs: [{ runId: "a" }] });
  expect(second.body).not.toHaveProperty("cursor");
  expect((await ask(edge, "runs.list", "")).body.runs).toHaveLength(3);
  expect((await ask(edge, "runs.list", { status: "done" })).body.error?.message).toMatch(/runs.list: status/);
});

test("workflows and agents are listed, and a workflow is shown whole", async () => {
  await using edge = await startEdge(bus);
  expect((await ask(edge, "workflows.list", {})).body.workflows).toEqual([
    {
      name: "article",
      kind: "deterministic",
      version: "1",
      hash: ARTICLE.hash,
      description: "Writes",
      agents: ["researcher", "writer"],
      from: "config",
    },
  ]);
  expect((await ask(edge, "workflows.get", { workflow: "article" })).body).toEqual(ARTICLE);
  expect((await ask(edge, "workflows.get", { workflow: "nope" })).body.error?.code).toBe("unknown_workflow");
  expect((await ask(edge, "agents.list", {})).body).toEqual({ agents: [{ name: "writer", hosts: ["here"] }] });
});
