import { describe, expect, test } from "vitest";
import { RunFailedError, UnavailableError } from "../../../src/errors.ts";
import { connect } from "../../../src/runtime/edges/client.ts";
import { connectBus } from "../../../src/runtime/nats/connection.ts";
import type { RunEvent } from "../../../src/workflows/run-events.ts";
import { startEdge } from "../../helpers/edge.ts";
import { startTestNats } from "../../helpers/nats-server.ts";
import { eventsOf, finishedRun, USAGE } from "../../helpers/run-events.ts";
import { sharedBus } from "../../helpers/shared-bus.ts";
import { until } from "../../helpers/until.ts";

const { nats, bus } = await sharedBus();

describe("run", () => {
  test("gives the output as soon as the live feed tells the end", async () => {
    await using edge = await startEdge(bus);
    const running = edge.client.run<{ words: number }>("article", "bees", { runId: "r1", sessionId: "s" });
    await until("the request is there", async () => (await edge.requests()).length === 1);
    // Nothing of it is in a journal: only the live feed can have told.
    edge.tell(finishedRun(eventsOf("r1"), { words: 3 }).flat());
    expect((await running).words).toBe(3);
    expect((await edge.requests())[0]?.body).toEqual({ input: "bees", runId: "r1", sessionId: "s" });
  });

  test("gives the output also when the live feed is lost", async () => {
    await using edge = await startEdge(bus);
    const running = edge.client.run("article", "bees", { runId: "r1" });
    await until("the request is there", async () => (await edge.requests()).length === 1);
    for (const entry of finishedRun(eventsOf("r1"), "text")) await edge.append(entry);
    expect(await running).toBe("text");
  });

  test("throws what the run failed with", async () => {
    await using edge = await startEdge(bus);
    const make = eventsOf("r1");
    const error = { code: "model_refused", message: "no" };
    await edge.append([...make.open(), make.next({ type: "run.failed", data: { error } })]);
    const failure = await edge.client.run("article", "bees", { runId: "r1" }).catch((thrown: unknown) => thrown);
    expect(failure).toBeInstanceOf(RunFailedError);
    expect(failure).toMatchObject({
      runId: "r1",
      status: "failed",
      code: "model_refused",
      message: "run r1 failed: no",
    });
  });

  test("throws at once for a workflow nobody has, and for an input beyond the cap", async () => {
    await using edge = await startEdge(bus);
    await expect(edge.client.run("nope", 1)).rejects.toMatchObject({ name: "NotFoundError", code: "unknown_workflow" });
    const client = await connect({ connection: bus.nc, prefix: edge.subjects.prefix, maxPayloadBytes: 2_000_000 });
    await expect(client.start("article", "x".repeat(2_000_000))).rejects.toMatchObject({
      name: "PayloadTooLargeError",
      message: "runs.start /input: expected at most 2000000 bytes (maxPayloadBytes), got 2000002",
    });
    expect(await edge.requests()).toEqual([]);
  });
});

describe("result", () => {
  test("throws when the time is up, and the run goes on", async () => {
    await using edge = await startEdge(bus);
    await edge.append(eventsOf("r1").open());
    const waiting = edge.client.result("r1", { timeoutMs: 50 });
    await expect(waiting).rejects.toMatchObject({
      code: "not_finished",
      message: "run r1 is not finished after 50 ms",
    });
  });

  test("stops waiting with the caller's signal", async () => {
    await using edge = await startEdge(bus);
    await edge.append(eventsOf("r1").open());
    const stop = new AbortController();
    const waiting = edge.client.result("r1", { signal: stop.signal });
    stop.abort(new Error("enough"));
    await expect(waiting).rejects.toThrow("enough");
  });

  test("says so when there is no such run", async () => {
    await using edge = await startEdge(bus);
    await expect(edge.client.result("never")).rejects.toMatchObject({ name: "NotFoundError", code: "unknown_run" });
  });

  test("survives the daemon that would have answered", async () => {
    await using edge = await startEdge(bus, { serve: false });
    const first = await edge.startApi();
    const make = eventsOf("r1");
    const [opening, ending] = finishedRun(make, "text") as [RunEvent[], RunEvent[]];
    await edge.append(opening);
    const waiting = edge.client.result("r1");
    await bus.nc.flush();
    await first.stop();
    await edge.append(ending);
    await edge.startApi();
    expect(await waiting).toBe("text");
  });
});

describe("events", () => {
  test("come from the journal and then live, in order, each once, to the end", async () => {
    await using edge = await startEdge(bus);
    const make = eventsOf("r1");
    const [opening, ending] = finishedRun(make) as [RunEvent[], RunEvent[]];
    await edge.append(opening);
    const seen: RunEvent[] = [];
    const reading = collect(edge.client.events("r1", { live: false }), seen);
    await until("the journal is read", () => seen.length === opening.length);
    // Late news of what the journal told already, then what is new; nothing of it is in the journal.
    edge.tell([...opening, ...ending]);
    await reading;
    expect(seen).toEqual([...opening, ...ending]);
  });

  test("that the live feed lost are read from the journal as soon as a later one shows the gap", async () => {
    await using edge = await startEdge(bus);
    const make = eventsOf("r1");
    const [opening, ending] = finishedRun(make) as [RunEvent[], RunEvent[]];
    await edge.append(opening);
    const seen: RunEvent[] = [];
    const reading = collect(edge.client.events("r1", { live: false }), seen);
    await until("the journal is read", () => seen.length === opening.length);
    await edge.append(ending);
    edge.tell(ending.slice(-1));
    await reading;
    expect(seen).toEqual([...opening, ...ending]);
  });

  test("come without any live feed too", async () => {
    await using edge = await startEdge(bus);
    const entries = finishedRun(eventsOf("r1"));
    const seen: RunEvent[] = [];
    await edge.client.start("article", 1, { runId: "r1" });
    // The run is at the door yet: it is waited for.
    const reading = collect(edge.client.events("r1", { live: false }), seen);
    for (const entry of entries) await edge.append(entry);
    await reading;
    expect(seen).toEqual(entries.flat());
  });

  test("that are only live are passed on while their task is at work, or left out", async () => {
    await using edge = await startEdge(bus);
    const make = eventsOf("r1");
    const [opening, ending] = finishedRun(make) as [RunEvent[], RunEvent[]];
    await edge.append(opening);
    const seen: { type: string; n?: number }[] = [];
    const plain: RunEvent[] = [];
    const reading = Promise.all([
      collect(edge.client.events("r1"), seen),
      collect(edge.client.events("r1", { live: false }), plain),
    ]);
    await until("the journal is read", () => seen.length === opening.length && plain.length === opening.length);
    const delta = { v: 1, type: "model.delta", runId: "r1", data: { taskId: "write-1", text: "Be" } };
    const late = { ...delta, data: { taskId: "write-1", text: "too late" } };
    const publish = (event: object) =>
      bus.nc.publish(edge.subjects.event("article", "r1", "model.delta"), JSON.stringify(event));
    publish(delta);
    edge.tell(ending.slice(0, 1));
    publish(late);
    edge.tell(ending.slice(1));
    await reading;
    expect(seen).toEqual([...opening, delta, ...ending]);
    expect(plain).toEqual([...opening, ...ending]);
  });

  test("begin where asked, and end at once when that is after the end", async () => {
    await using edge = await startEdge(bus);
    const entries = finishedRun(eventsOf("r1"));
    for (const entry of entries) await edge.append(entry);
    const tail: RunEvent[] = [];
    await collect(edge.client.events("r1", { from: 6, live: false }), tail);
    expect(tail).toEqual(entries.flat().slice(5));
    const none: RunEvent[] = [];
    await collect(edge.client.events("r1", { from: 8, live: false }), none);
    expect(none).toEqual([]);
  });

  test("of a run that never was are an error, and a caller's signal ends those of one that goes on", async () => {
    await using edge = await startEdge(bus);
    await expect(collect(edge.client.events("never"), [])).rejects.toMatchObject({ code: "unknown_run" });
    await edge.append(eventsOf("r1").open());
    const stop = new AbortController();
    const seen: unknown[] = [];
    const reading = collect(edge.client.events("r1", { signal: stop.signal }), seen);
    await until("the journal is read", () => seen.length === 2);
    stop.abort(new Error("enough"));
    await expect(reading).rejects.toThrow("enough");
  });
});

describe("the other questions", () => {
  test("give what the API gives", async () => {
    await using edge = await startEdge(bus);
    const make = eventsOf("r1");
    for (const entry of finishedRun(make)) await edge.append(entry);
    await edge.append(eventsOf("r2").open());
    await until("both are known", () => edge.index.known("r1") && edge.index.known("r2"));
    const { client } = edge;
    expect(await client.get("r1")).toMatchObject({ runId: "r1", status: "completed" });
    expect((await client.list({ status: "completed" })).runs).toMatchObject([{ runId: "r1" }]);
    expect((await client.workflows()).map(({ name }) => name)).toEqual(["article"]);
    expect(await client.workflow("article")).toMatchObject({ kind: "deterministic" });
    expect(await client.agents()).toEqual([{ name: "writer", hosts: ["here"] }]);
    await client.cancel("r2", { reason: "enough" });
    await expect(client.signal("r2", "go", 1)).rejects.toMatchObject({ code: "unknown_signal" });
    await expect(client.approve("r2")).rejects.toMatchObject({ code: "not_waiting" });
    expect(await client.approvals()).toEqual([]);
    await expect(client.cancel("r1")).rejects.toMatchObject({ code: "run_finished" });
    await expect(client.list({ limit: 0 })).rejects.toMatchObject({ name: "UsageError", code: "invalid_request" });
  });

  test("read a run larger than one answer", async () => {
    await using edge = await startEdge(bus);
    const make = eventsOf("big");
    const outcome = { type: "completed", output: "x".repeat(400_000), usage: USAGE } as const;
    await edge.append(make.open({}, { steps: 4 }));
    for (let i = 0; i < 4; i += 1) {
      await edge.append([
        make.next({ type: "task.sent", data: { taskId: `t${i}`, agent: "a", step: `s${i}`, attempt: 1, delivery: 1 } }),
        make.next({ type: "task.settled", data: { taskId: `t${i}`, agent: "a", outcome } }),
      ]);
    }
    expect((await edge.client.journal("big")).map(({ n }) => n)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    const { steps, usage } = await edge.client.get("big");
    expect(steps.map(({ output }) => String(output).length)).toEqual([400_000, 400_000, 400_000, 400_000]);
    expect(usage.modelCalls).toBe(4);
  });
});

describe("when the broker is killed and comes back", () => {
  test("events and results that were waited for still come", { timeout: 30_000 }, async () => {
    await using server = await startTestNats();
    const own = await connectBus({ servers: server.url, name: "test", inboxPrefix: "_INBOX_test" });
    try {
      await using edge = await startEdge(own);
      const [opening, ending] = finishedRun(eventsOf("r1"), "text") as [RunEvent[], RunEvent[]];
      await edge.append(opening);
      const seen: RunEvent[] = [];
      const waiting = Promise.all([edge.client.result("r1"), collect(edge.client.events("r1", { live: false }), seen)]);
      await until("the journal is read", () => seen.length === opening.length);
      await server.kill();
      await until("the connection is lost", () => !own.connected());
      await server.restart();
      await until("the connection is back", () => own.connected());
      await edge.append(ending);
      expect((await waiting)[0]).toBe("text");
      expect(seen).toEqual([...opening, ...ending]);
    } finally {
      await own.close();
    }
  });
});

describe("without a daemon", () => {
  test("a question is asked until one is there", async () => {
    await using edge = await startEdge(bus, { serve: false });
    const asking = edge.client.start("article", 1, { runId: "r1" });
    await bus.nc.flush();
    await edge.startApi();
    expect(await asking).toEqual({ runId: "r1" });
  });

  test("a question ends with a clear error when none comes", async () => {
    await using edge = await startEdge(bus, { serve: false, timeoutMs: 300 });
    const failure = await edge.client.list().catch((thrown: unknown) => thrown);
    expect(failure).toBeInstanceOf(UnavailableError);
    expect(failure).toMatchObject({ message: `${edge.subjects.api}.runs.list: no daemon is there to answer` });
  });
});

describe("connect", () => {
  test("fails at once, saying where, when no broker is there", async () => {
    await expect(connect({ servers: "nats://127.0.0.1:1" })).rejects.toMatchObject({
      code: "unavailable",
      message: expect.stringContaining("cannot connect to NATS at nats://127.0.0.1:1"),
    });
  });

  test("makes a connection of its own, which close ends", async () => {
    await using edge = await startEdge(bus);
    await using client = await connect({ servers: nats.url, prefix: edge.subjects.prefix });
    expect(await client.agents()).toHaveLength(1);
    await client.close();
    await expect(client.agents()).rejects.toThrow();
  });
});

async function collect<T>(events: AsyncIterable<T>, into: T[]): Promise<void> {
  for await (const event of events) into.push(event);
}
