import { pino } from "pino";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { UnavailableError } from "../../../src/errors.ts";
import { type Door, type DoorOptions, openDoor } from "../../../src/runtime/hosts/door.ts";
import type { IncomingRequest } from "../../../src/runtime/hosts/request.ts";
import { type Bus, connectBus } from "../../../src/runtime/nats/connection.ts";
import { nuid } from "../../../src/runtime/nats/nats.ts";
import { provision } from "../../../src/runtime/nats/provision.ts";
import { type Subjects, subjectsFor } from "../../../src/runtime/subjects.ts";
import { startTestNats, type TestNats } from "../../helpers/nats-server.ts";
import { until } from "../../helpers/until.ts";

const ACK_WAIT_MS = 1_000;
let nats: TestNats;
let bus: Bus;
let subjects: Subjects;
const doors: Door[] = [];

beforeAll(async () => {
  nats = await startTestNats();
  bus = await connectBus({ servers: nats.url, name: "test", inboxPrefix: "_INBOX_test" });
});
beforeEach(async () => {
  subjects = subjectsFor(`t${nuid.next()}`);
  await provision(bus, subjects, { ackWaitMs: ACK_WAIT_MS });
});
afterEach(async () => {
  for (const door of doors.splice(0)) await door.close();
});
afterAll(async () => {
  await bus?.close();
  await nats?.[Symbol.asyncDispose]();
});

type Opened = Door & { accepted: IncomingRequest[]; repeated: IncomingRequest[]; dead: () => number };

function open(options: Partial<DoorOptions> = {}): Opened {
  const accepted: IncomingRequest[] = [];
  const repeated: IncomingRequest[] = [];
  let dead = 0;
  const door = openDoor({
    bus,
    subjects,
    logger: pino({ level: "silent" }),
    room: () => 100,
    whoRuns: () => "here",
    accept: async (incoming) => {
      accepted.push(incoming);
      return "accepted";
    },
    repeated: (incoming) => repeated.push(incoming),
    deadLettered: () => {
      dead += 1;
    },
    ...options,
  });
  doors.push(door);
  return Object.assign(door, { accepted, repeated, dead: () => dead });
}

const request = (body: string, workflow = "article") => bus.js.publish(subjects.request(workflow), body);
const inputs = ({ accepted }: Opened) => accepted.map((incoming) => incoming.request.input);
const waiting = async () => (await (await bus.jsm()).streams.info(subjects.streams.requests)).state.messages;
const emptied = () => until("the door's queue is empty", async () => (await waiting()) === 0);
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

test("requests become runs in their order and are let go of", async () => {
  for (let i = 0; i < 20; i += 1) await request(String(i));
  const door = open();
  await until("all are accepted", () => door.accepted.length === 20);
  expect(inputs(door)).toEqual(Array.from({ length: 20 }, (_, i) => i));
  await emptied();
});

test("a request is let go of only once it is a run", async () => {
  const held = Promise.withResolvers<"accepted">();
  open({ accept: () => held.promise });
  await request("bees");
  await pause(300);
  expect(await waiting()).toBe(1);
  held.resolve("accepted");
  await emptied();
});

test("no more is taken than there is room for; the rest waits in the queue for others", async () => {
  let running = 0;
  let most = 0;
  const finish: (() => void)[] = [];
  const door = open({
    room: () => 3 - running,
    async accept(incoming) {
      door.accepted.push(incoming);
      running += 1;
      most = Math.max(most, running);
      finish.push(() => {
        running -= 1;
      });
      return "accepted";
    },
  });
  for (let i = 0; i < 10; i += 1) await request(String(i));
  await until("three are taken", () => running === 3);
  await pause(200);
  expect(door.accepted).toHaveLength(3);
  const other = open();
  await until("the others went elsewhere", () => other.accepted.length === 7);
  for (const done of finish) done();
  expect(most).toBe(3);
  await emptied();
});

test("a request whose run exists is let go of, and whoever asked again is remembered", async () => {
  const door = open({ accept: async () => "exists" });
  await request('{"input":1,"runId":"r1"}');
  await until("it is remembered", () => door.repeated.length === 1);
  expect(door.repeated[0]?.runId).toBe("r1");
  await emptied();
});

test("a request that another daemon can run is put back for it, and it gets it soon", async () => {
  const here = open({ whoRuns: () => "elsewhere" });
  await request("bees");
  await pause(200);
  const there = open();
  await until("the other daemon has it", () => there.accepted.length === 1, { withinMs: 5_000 });
  expect(here.accepted).toEqual([]);
  await emptied();
});

test("a request that nobody can run is accepted, for it to fail with the reason", async () => {
  const door = open({ whoRuns: () => "nobody" });
  await request("bees", "unheard-of");
  await until("it is accepted", () => door.accepted.length === 1);
  expect(door.accepted[0]?.workflow).toBe("unheard-of");
});

test("a request whose journal could not be reached comes again", async () => {
  let tries = 0;
  open({
    async accept() {
      tries += 1;
      if (tries === 1) throw new UnavailableError("away");
      return "accepted";
    },
  });
  await request("bees");
  await until("it came again", () => tries === 2);
  await emptied();
});

test("a request that can never be a run goes to the dead letters with its reason and does not come again", async () => {
  let tries = 0;
  const door = open({
    async accept() {
      tries += 1;
      throw new TypeError("impossible");
    },
  });
  await request("bees");
  await emptied();
  const letter = await (await bus.jsm()).streams.getMessage(subjects.streams.dead, { seq: 1 });
  expect(letter.subject).toBe(subjects.dead("requests", "article"));
  expect(letter.json()).toMatchObject({
    v: 1,
    data: "bees",
    bytes: 4,
    reason: { code: "internal", message: "impossible" },
  });
  expect([tries, door.dead()]).toEqual([1, 1]);
});

test("a closed door takes nothing new, and closing waits for what was taken", async () => {
  const held = Promise.withResolvers<"accepted">();
  const door = open({ accept: () => held.promise });
  await request("taken");
  await pause(200);
  let closed = false;
  const closing = door.close().then(() => {
    closed = true;
  });
  await request("late");
  await pause(300);
  expect(closed).toBe(false);
  held.resolve("accepted");
  await closing;
  await until("only the late one waits", async () => (await waiting()) === 1);
  const next = open();
  await until("another daemon takes the late one", () => next.accepted.length === 1);
  expect(inputs(next)).toEqual(["late"]);
});

test("requests are taken again soon after the broker was killed and is back", async () => {
  await using own = await startTestNats();
  const line = await connectBus({ servers: own.url, name: "line", inboxPrefix: "_INBOX_line" });
  await provision(line, subjects, { ackWaitMs: ACK_WAIT_MS });
  const door = open({ bus: line });
  await line.js.publish(subjects.request("article"), "before");
  await until("the first is accepted", () => door.accepted.length >= 1);
  await own.kill();
  await own.restart();
  await until("it is connected again", () => line.connected());
  await line.js.publish(subjects.request("article"), "after");
  const backAt = performance.now();
  await until("the second is accepted", () => inputs(door).includes("after"), { withinMs: 20_000 });
  expect(performance.now() - backAt).toBeLessThan(3_000);
  await door.close();
  await line.close();
});
