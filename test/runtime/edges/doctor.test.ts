import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { defineAgent } from "../../../src/actors/define-agent.ts";
import type { Diagnosis } from "../../../src/runtime/edges/diagnosis.ts";
import { type DoctorOptions, examine } from "../../../src/runtime/edges/doctor.ts";
import { connectBus } from "../../../src/runtime/nats/connection.ts";
import { nuid } from "../../../src/runtime/nats/nats.ts";
import { provision } from "../../../src/runtime/nats/provision.ts";
import { startNatsServer } from "../../../src/runtime/nats/server.ts";
import { subjectsFor } from "../../../src/runtime/subjects.ts";
import { say } from "../../../src/testing/replies.ts";
import { rulesModel } from "../../../src/testing/rules-model.ts";
import { startTestDaemon } from "../../../src/testing/start-test-daemon.ts";
import { defineWorkflow } from "../../../src/workflows/define-workflow.ts";
import { startEdge } from "../../helpers/edge.ts";
import { startTestNats } from "../../helpers/nats-server.ts";
import { eventsOf } from "../../helpers/run-events.ts";
import { sharedBus } from "../../helpers/shared-bus.ts";
import { until } from "../../helpers/until.ts";

const { nats, bus } = await sharedBus();

/** Looks as `troupe doctor` does, only more hurried. */
function look(options: Partial<DoctorOptions> = {}): Promise<Diagnosis> {
  return examine({ bus, data: "nowhere", listenMs: 150, staleAfterMs: 60_000, patienceMs: 300, ...options });
}

/** Streams of their own, without a daemon. */
async function freshPrefix() {
  const subjects = subjectsFor(`t${nuid.next()}`);
  await provision(bus, subjects, { ackWaitMs: 5_000 });
  return subjects;
}

const codes = ({ problems }: Diagnosis) => problems.map(({ code }) => code);
const adviceOn = ({ problems }: Diagnosis, code: string) => problems.find((one) => one.code === code)?.advice;

function writes(workflow = "article") {
  return {
    agents: [
      defineAgent({ name: "writer", instructions: "Write.", model: "m" }),
      defineAgent({ name: "abroad", remote: true }),
    ],
    workflows: [defineWorkflow({ name: workflow, agents: ["writer"] })],
    model: rulesModel([{ agent: "writer", reply: say("An article.") }]),
  };
}

test("beside a daemon that works everything is seen and nothing is wrong", async () => {
  const { prefix } = subjectsFor(`t${nuid.next()}`);
  const options = { prefix, beatMs: 50, hostName: "here" };
  await using troupe = await startTestDaemon({ nats: nats.url, ...writes(), options });
  await troupe.client.run("article", "tea");
  // One look may fall between two pulls of the door, or be too short for a busy machine.
  const seen = await until("a daemon is heard, answers, and asks for requests", async () => {
    const diagnosis = await look({ prefix });
    return diagnosis.daemons?.length && diagnosis.runs && diagnosis.door?.pulls === 1 && diagnosis;
  });
  expect(seen.problems).toEqual([]);
  expect(seen).toMatchObject({
    healthy: true,
    prefix,
    broker: {
      version: nats.version,
      embedded: false,
      roundTripMs: expect.any(Number),
      powerLoss: expect.stringContaining("power loss"),
      clockOffsetMs: expect.any(Number),
    },
    jetstream: { storageBytes: expect.any(Number), apiErrors: expect.any(Number) },
    door: { waiting: 0, inHand: 0, pulls: 1 },
    backlog: [],
    daemons: [{ host: "here", agents: ["writer"], workflows: [expect.stringMatching(/^article@/)] }],
    runs: { pending: 0, running: 0, waiting: 0, cancelling: 0, more: false, parked: [] },
    deadLetters: 0,
  });
  const runs = seen.streams?.find(({ name }) => name.endsWith("_RUNS"));
  expect(runs).toMatchObject({ replicas: 1, messages: expect.any(Number), firstAt: expect.any(String) });
  expect(Date.parse(runs?.lastAt ?? "")).toBeGreaterThanOrEqual(Date.parse(runs?.firstAt ?? ""));
  expect(seen.streams).toHaveLength(12);
});

test("the broker's clock is found within what was measured, by broker and machine that share one", async () => {
  const { prefix } = await freshPrefix();
  const { broker } = await look({ prefix });
  expect(Math.abs(broker?.clockOffsetMs ?? 1_000_000)).toBeLessThanOrEqual((broker?.clockUncertaintyMs ?? 0) + 5);
});

test("the doctor leaves nothing behind", async () => {
  const { prefix, streams } = await freshPrefix();
  const before = await bus.jsm().then((jsm) => jsm.getAccountInfo());
  await look({ prefix });
  const jsm = await bus.jsm();
  const left = await jsm.consumers.list(streams.dead).next();
  expect(left).toEqual([]);
  expect((await jsm.getAccountInfo()).consumers).toBe(before.consumers);
});

describe("without a daemon", () => {
  test("it says that none is there, and what only the broker knows", async () => {
    const { prefix } = await freshPrefix();
    const seen = await look({ prefix });
    expect(codes(seen)).toEqual(["no_daemon"]);
    expect(seen).toMatchObject({ healthy: false, daemons: [], deadLetters: 0, door: { pulls: 0 } });
    expect(seen.runs).toBeUndefined();
  });

  test("it tells a NATS that never had one", async () => {
    const seen = await look({ prefix: "nobodys" });
    expect(codes(seen)).toEqual(["no_streams", "no_daemon"]);
    expect(seen.streams).toEqual([]);
  });

  test("it counts the requests that wait by workflow, the longest wait first, and tells a wait that is too long", async () => {
    const subjects = await freshPrefix();
    for (const workflow of ["late", "article", "article"]) await bus.js.publish(subjects.request(workflow), "tea");
    const fine = await look({ prefix: subjects.prefix });
    expect(codes(fine)).toEqual(["no_daemon"]);
    expect(fine.backlog).toEqual([
      { workflow: "late", requests: 1, oldestAt: expect.any(String), oldestAgeMs: expect.any(Number) },
      { workflow: "article", requests: 2, oldestAt: expect.any(String), oldestAgeMs: expect.any(Number) },
    ]);
    expect(fine.door).toMatchObject({ waiting: 3 });
    const stale = await look({ prefix: subjects.prefix, staleAfterMs: 10 });
    expect(codes(stale)).toEqual(["no_daemon", "stale_backlog", "stale_backlog"]);
    expect(stale.problems.at(-1)).toMatchObject({
      message: expect.stringMatching(/^2 requests wait at the door for the workflow article, the oldest for \d+ s$/),
      advice: expect.stringContaining("start one that does"),
    });
  });
});

test("requests that a daemon has no room for are told apart from those that no daemon can run", async () => {
  const subjects = subjectsFor(`t${nuid.next()}`);
  const options = { prefix: subjects.prefix, beatMs: 50, maxRuns: 1 };
  const never = rulesModel([{ agent: "writer", reply: say("late", { delayMs: 60_000 }) }]);
  await using troupe = await startTestDaemon({ nats: nats.url, ...writes(), model: never, options });
  await troupe.client.start("article", "first");
  await until("its only place is taken", () => troupe.daemon.load().tasks === 1);
  await bus.js.publish(subjects.request("article"), "second");
  // One look may be too short for a busy machine: a daemon that was not heard in it is no daemon to this look.
  const seen = await until("the second waits, beside a daemon that is heard and answers", async () => {
    const diagnosis = await look({ prefix: subjects.prefix, staleAfterMs: 1 });
    return codes(diagnosis).includes("stale_backlog") && diagnosis.daemons?.length && diagnosis.runs && diagnosis;
  });
  expect(adviceOn(seen, "stale_backlog")).toContain("--max-runs");
  expect(seen.runs).toMatchObject({ running: 1 });
});

test("parked runs and dead letters are problems, and what to do is said", async () => {
  await using edge = await startEdge(bus);
  const { prefix } = edge.subjects;
  const run = eventsOf("stuck-1");
  const reason = "no living daemon has its definition";
  await edge.append([...run.open(), run.next({ type: "run.parked", data: { reason } })]);
  await bus.js.publish(edge.subjects.dead("requests", "article"), "{}");
  const seen = await until("the index has the run", async () => {
    const diagnosis = await look({ prefix });
    return diagnosis.runs?.parked.length === 1 && diagnosis;
  });
  // The API is served, but there is no daemon behind it.
  expect(codes(seen)).toEqual(["daemons_unheard", "parked_runs", "dead_letters"]);
  expect(seen.runs?.parked).toEqual([{ runId: "stuck-1", workflow: "article", reason }]);
  expect(adviceOn(seen, "dead_letters")).toContain("troupe dead list");
  expect(adviceOn(seen, "parked_runs")).toContain("troupe runs get");
});

test("a daemon that leaves does not count as one", async () => {
  const subjects = await freshPrefix();
  const beat = { v: 1, host: "h", incarnation: "i", agents: [], workflows: [], load: { runs: 0, tasks: 0 } };
  const looking = look({ prefix: subjects.prefix, listenMs: 400 });
  const beats = setInterval(() => bus.nc.publish(subjects.presence, JSON.stringify(beat)), 20);
  setTimeout(() => {
    clearInterval(beats);
    bus.nc.publish(subjects.presence, JSON.stringify({ ...beat, leaving: true }));
  }, 200);
  expect((await looking).daemons).toEqual([]);
});

test("a missing stream and a stream that is nearly full are told by name", async () => {
  const subjects = await freshPrefix();
  const jsm = await bus.jsm();
  await jsm.streams.delete(subjects.streams.signals);
  await jsm.streams.update(subjects.streams.tasks, { max_bytes: 10_000 });
  for (let i = 0; i < 9; i += 1) await bus.js.publish(subjects.task("r", `t${i}`), "x".repeat(1_000));
  const { problems } = await look({ prefix: subjects.prefix });
  expect(problems.map(({ message }) => message)).toEqual([
    `the stream ${subjects.streams.signals} is missing`,
    expect.stringContaining("no daemon"),
    expect.stringMatching(new RegExp(`^the stream ${subjects.streams.tasks} is at 9\\d % of its limit$`)),
  ]);
});

test("of the embedded server it knows how often it syncs, where its version can be told", async () => {
  const data = await mkdtemp(join(tmpdir(), "troupe-doctor-"));
  const server = await startNatsServer({ storeDir: join(data, "nats"), syncInterval: "7s" });
  const line = await connectBus({ servers: server.url, name: "test", inboxPrefix: "_INBOX_test" });
  const { broker } = await look({ bus: line, data });
  expect(broker).toMatchObject({ embedded: true });
  // Servers before 2.10 have no such setting.
  expect(broker?.powerLoss).toContain(server.version.startsWith("2.9.") ? "every two minutes" : "every 7s");
  expect((await look({ bus: line, data: "elsewhere" })).broker).toMatchObject({ embedded: false });
  await line.close();
  await server.stop();
  await rm(data, { recursive: true });
});

test("a user that may not look is told which permissions it needs, and still sees the rest", async () => {
  const allow = `publish: ["troupe.api.>", "troupe.requests.*", "$JS.API.INFO"], subscribe: ["_INBOX_test.>"]`;
  await using own = await startTestNats({
    configExtra: `no_auth_user: any\nauthorization { users: [{ user: any, password: any, permissions: { ${allow} } }] }`,
  });
  const line = await connectBus({ servers: own.url, name: "test", inboxPrefix: "_INBOX_test" });
  const seen = await look({ bus: line });
  expect(new Set(codes(seen))).toEqual(new Set(["not_permitted"]));
  expect(seen.problems.map(({ message }) => message).join()).toMatch(/the streams.*the daemons/s);
  expect(seen.broker?.version).toBe(own.version);
  expect(seen.jetstream).toBeDefined();
  await line.close();
});

test("an account without JetStream is told as one", async () => {
  await using own = await startTestNats({
    configExtra: "no_auth_user: any\naccounts { plain: { users: [{ user: any, password: any }] } }",
  });
  const line = await connectBus({ servers: own.url, name: "test", inboxPrefix: "_INBOX_test" });
  const seen = await look({ bus: line });
  expect(new Set(codes(seen))).toEqual(new Set(["no_jetstream", "no_daemon"]));
  expect(seen.broker?.version).toBe(own.version);
  await line.close();
});
