import { pino } from "pino";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { followSignals, type Signal, type Signals } from "../../../src/runtime/hosts/signals.ts";
import { type Bus, connectBus } from "../../../src/runtime/nats/connection.ts";
import { nuid } from "../../../src/runtime/nats/nats.ts";
import { provision } from "../../../src/runtime/nats/provision.ts";
import { type Subjects, subjectsFor } from "../../../src/runtime/subjects.ts";
import type { RunEvent } from "../../../src/workflows/run-events.ts";
import { startTestNats, type TestNats } from "../../helpers/nats-server.ts";
import { until } from "../../helpers/until.ts";

let nats: TestNats;
let bus: Bus;
let subjects: Subjects;
const following: Signals[] = [];

beforeAll(async () => {
  nats = await startTestNats();
  bus = await connectBus({ servers: nats.url, name: "test", inboxPrefix: "_INBOX_test" });
});
beforeEach(async () => {
  subjects = subjectsFor(`t${nuid.next()}`);
  await provision(bus, subjects, { ackWaitMs: 1_000 });
});
afterEach(async () => {
  for (const signals of following.splice(0)) await signals.stop();
});
afterAll(async () => {
  await bus?.close();
  await nats?.[Symbol.asyncDispose]();
});

const over = new Set<string>();

function follow(): Signals & { delivered: string[] } {
  const delivered: string[] = [];
  const signals = followSignals({
    bus,
    subjects,
    logger: pino({ level: "silent" }),
    deliver: (runId, seq, signal) => {
      const words = signal.kind === "cancel" ? signal.reason : `${signal.name} ${JSON.stringify(signal.payload)}`;
      return delivered.push(`${runId} ${seq} ${signal.kind} ${words}`) > 0;
    },
    isOver: (runId) => over.has(runId),
  });
  following.push(signals);
  return Object.assign(signals, { delivered });
}

const send = (runId: string, signal: Partial<Signal> | string) =>
  bus.js.publish(
    subjects.signal(runId),
    typeof signal === "string"
      ? signal
      : JSON.stringify({ v: 1, id: nuid.next(), at: new Date().toISOString(), ...signal }),
  );
const cancel = (runId: string, reason: string) => send(runId, { kind: "cancel", reason });

test("signals reach the host as they come, with their place in the stream", async () => {
  const signals = follow();
  await signals.ready();
  await cancel("r1", "enough");
  await cancel("r2", "too");
  await until("both are delivered", () => signals.delivered.length === 2);
  expect(signals.delivered).toEqual(["r1 1 cancel enough", "r2 2 cancel too"]);
});

test("a signal that came before its run did is kept for it", async () => {
  const signals = follow();
  await signals.ready();
  await cancel("r1", "never mind");
  await until("it is kept", () => signals.cancelOf("r1"));
  expect(signals.cancelOf("r1")).toEqual({ seq: 1, reason: "never mind" });
  expect(signals.cancelOf("r2")).toBeUndefined();
  signals.release("r1");
  expect(signals.delivered).toEqual(["r1 1 cancel never mind", "r1 1 cancel never mind"]);
  signals.release("r2");
  expect(signals.delivered).toHaveLength(2);
});

test("signals sent while no daemon was there are known before the follower says that it is ready", async () => {
  for (let i = 0; i < 300; i += 1) await cancel(`r${i}`, "early");
  const signals = follow();
  await signals.ready();
  for (let i = 0; i < 300; i += 1) expect(signals.cancelOf(`r${i}`)).toMatchObject({ reason: "early" });
});

test("what is no signal is passed over, and those after it are heard", async () => {
  const signals = follow();
  for (const words of ["hello", "null", "[]", "{}", '{"kind":"what"}', '{"kind":"cancel","reason":7}', ""]) {
    await send("r1", words);
  }
  await cancel("r1", "enough");
  await until("the signal is delivered", () => signals.delivered.length > 0);
  expect(signals.delivered).toEqual(["r1 8 cancel enough"]);
});

const named = (runId: string, name: string, payload: unknown) => send(runId, { kind: "signal", name, payload });
const received = (runId: string, seq: number) =>
  ({ type: "signal.received", runId, data: { seq, kind: "signal", id: "i", name: "go" } }) as RunEvent;

test("a run is given its named signals in their order, those that are not on record again with every new one", async () => {
  const signals = follow();
  await named("r1", "go", 1);
  await named("r1", "go", 2);
  await until("both are heard", () => signals.delivered.length === 3);
  expect(signals.delivered).toEqual(["r1 1 signal go 1", "r1 1 signal go 1", "r1 2 signal go 2"]);
  signals.seen("r1", [received("r1", 1)]);
  signals.release("r1");
  expect(signals.delivered.slice(3)).toEqual(["r1 2 signal go 2"]);
  signals.seen("r1", [received("r1", 2)]);
  signals.release("r1");
  expect(signals.delivered).toHaveLength(4);
});

test("signals of a run that is over are not kept", async () => {
  const signals = follow();
  await named("r1", "go", 1);
  await until("it is heard", () => signals.delivered.length === 1);
  signals.seen("r1", [{ type: "run.completed", runId: "r1", data: { output: 1 } } as RunEvent]);
  over.add("r2");
  await named("r2", "go", 1);
  await named("r3", "go", 1);
  await until("the last is heard", () => signals.delivered.length === 2);
  for (const runId of ["r1", "r2"]) signals.release(runId);
  expect(signals.delivered).toEqual(["r1 1 signal go 1", "r3 3 signal go 1"]);
});

test("each signal is delivered once over an outage of the broker", async () => {
  await using own = await startTestNats();
  const line = await connectBus({ servers: own.url, name: "line", inboxPrefix: "_INBOX_line" });
  await provision(line, subjects, { ackWaitMs: 1_000 });
  const delivered: string[] = [];
  const signals = followSignals({
    bus: line,
    subjects,
    logger: pino({ level: "silent" }),
    deliver: (runId) => delivered.push(runId) > 0,
    isOver: () => false,
  });
  const say = (runId: string) =>
    line.js.publish(subjects.signal(runId), JSON.stringify({ v: 1, id: runId, kind: "cancel", at: "now" }));
  await signals.ready();
  await say("r1");
  await until("the first is delivered", () => delivered.length === 1);
  await own.kill();
  await own.restart();
  await until("it is connected again", () => line.connected());
  await say("r2");
  await until("the second is delivered", () => delivered.length >= 2);
  expect(delivered).toEqual(["r1", "r2"]);
  await signals.stop();
  await line.close();
});
