import { spawn } from "node:child_process";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Beat, chooseOwner, type Presence, startPresence } from "../../../src/runtime/hosts/presence.ts";
import { type Bus, connectBus } from "../../../src/runtime/nats/connection.ts";
import { nuid } from "../../../src/runtime/nats/nats.ts";
import { type Subjects, subjectsFor } from "../../../src/runtime/subjects.ts";
import { startTestNats, type TestNats } from "../../helpers/nats-server.ts";
import { until } from "../../helpers/until.ts";

const logger = pino({ level: "silent" });
let nats: TestNats;
let bus: Bus;
let subjects: Subjects;
const started: { stop(): void }[] = [];

beforeAll(async () => {
  nats = await startTestNats();
  bus = await connectBus({ servers: nats.url, name: "test", inboxPrefix: "_INBOX_test" });
});
beforeEach(() => {
  subjects = subjectsFor(`t${nuid.next()}`);
});
afterEach(() => {
  for (const { stop } of started.splice(0)) stop();
});
afterAll(async () => {
  await bus?.close();
  await nats?.[Symbol.asyncDispose]();
});

type Daemon = Presence & { gone: string[]; changes: () => number; offer(...workflows: string[]): void };

function daemon(host: string, { incarnation = `${host}1`, suspectAfterMs = 400, beatMs = 50, on = bus } = {}): Daemon {
  let workflows: string[] = [];
  let changes = 0;
  const gone: string[] = [];
  const self = (): Beat => beatOf(host, incarnation, workflows);
  const presence = startPresence({ bus: on, subjects, logger, beatMs, suspectAfterMs, self });
  started.push(presence);
  presence.onGone((beat, reason) => gone.push(`${beat.incarnation} ${reason}`));
  presence.onChange(() => {
    changes += 1;
  });
  const offer = (...offered: string[]) => {
    workflows = offered;
  };
  return Object.assign(presence, { gone, changes: () => changes, offer });
}

function beatOf(host: string, incarnation: string, workflows: string[] = []): Beat {
  return { v: 1, host, incarnation, agents: ["writer"], tools: [], workflows, load: { runs: 0, tasks: 0 } };
}

const names = (presence: Presence) =>
  presence
    .living()
    .map(({ incarnation }) => incarnation)
    .sort();

test("daemons on one NATS learn of each other, and each counts itself", async () => {
  const [a, b, c] = [daemon("a"), daemon("b"), daemon("c")];
  for (const each of [a, b, c]) await until("all three are known", () => names(each).join() === "a1,b1,c1");
  expect(a.isLiving("a1")).toBe(true);
  expect(a.isLiving("c1")).toBe(true);
  expect(a.isLiving("d1")).toBe(false);
});

test("a daemon that leaves is gone at once, here and there", async () => {
  const [a, b] = [daemon("a", { suspectAfterMs: 60_000 }), daemon("b")];
  await until("they know each other", () => names(a).length === 2 && names(b).length === 2);
  await b.leave();
  await until("a knows", () => a.gone.length > 0);
  expect(a.gone).toEqual(["b1 left"]);
  expect(names(a)).toEqual(["a1"]);
  expect(names(b)).toEqual(["a1"]);
  expect(b.isLiving("b1")).toBe(false);
});

test("a daemon that is silent for too long is gone, and one that only was nearly is not", async () => {
  const a = daemon("a", { suspectAfterMs: 400 });
  const say = () => bus.nc.publish(subjects.presence, JSON.stringify(beatOf("b", "b1")));
  say();
  await until("b is known", () => a.isLiving("b1"));
  const saying = setInterval(say, 150);
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  expect(a.gone).toEqual([]);
  clearInterval(saying);
  await until("b is missed", () => a.gone.length > 0);
  expect(a.gone).toEqual(["b1 silent"]);
  expect(a.isLiving("b1")).toBe(false);
});

test("a daemon that is silent is missed when its time is up, however seldom daemons beat", async () => {
  const a = daemon("a", { suspectAfterMs: 600, beatMs: 10_000 });
  const since = performance.now();
  bus.nc.publish(subjects.presence, JSON.stringify(beatOf("b", "b1")));
  await until("b is known", () => a.isLiving("b1"));
  await until("b is missed", () => a.gone.length > 0);
  expect(performance.now() - since).toBeGreaterThan(600);
  expect(performance.now() - since).toBeLessThan(5_000);
});

test("a daemon whose host comes back under a new incarnation has restarted at once", async () => {
  const a = daemon("a", { suspectAfterMs: 60_000 });
  bus.nc.publish(subjects.presence, JSON.stringify(beatOf("b", "b1")));
  await until("b is known", () => a.isLiving("b1"));
  bus.nc.publish(subjects.presence, JSON.stringify(beatOf("b", "b2")));
  await until("the new one is known", () => a.isLiving("b2"));
  expect(a.gone).toEqual(["b1 restarted"]);
  expect(names(a)).toEqual(["a1", "b2"]);
});

test("a daemon that was missed and comes back is known again", async () => {
  const a = daemon("a", { suspectAfterMs: 300 });
  const say = () => bus.nc.publish(subjects.presence, JSON.stringify(beatOf("b", "b1")));
  say();
  await until("b is missed", () => a.gone.length === 1);
  say();
  await until("b is known again", () => a.isLiving("b1"));
});

test("what a daemon newly serves is told once", async () => {
  const a = daemon("a");
  const b = daemon("b");
  await until("b is known", () => a.isLiving("b1"));
  const before = a.changes();
  b.offer("article@1");
  await until("the change is told", () => a.changes() === before + 1);
  expect(a.living().find(({ host }) => host === "b")?.workflows).toEqual(["article@1"]);
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(a.changes()).toBe(before + 1);
});

test("what is no beat is passed over", async () => {
  const a = daemon("a");
  for (const words of ["hello", "null", "[]", "{}", '{"v":2,"host":"x","incarnation":"y"}', ""]) {
    bus.nc.publish(subjects.presence, words);
  }
  bus.nc.publish(subjects.presence, JSON.stringify(beatOf("b", "b1")));
  await until("b is known", () => a.isLiving("b1"));
  expect(names(a)).toEqual(["a1", "b1"]);
});

describe("a daemon that could not hear", () => {
  test("because its process was blocked gives everybody a new time of grace", async () => {
    const a = daemon("a", { suspectAfterMs: 400 });
    const beating = spawnBeats("b", "b1");
    await until("b is known", () => a.isLiving("b1"));
    for (const end = performance.now() + 1_200; performance.now() < end; );
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(a.gone).toEqual([]);
    beating.kill("SIGKILL");
    await until("b is missed once it is really gone", () => a.gone.length === 1);
  });

  test("because NATS was away misses nobody who is there when it is back", async () => {
    await using own = await startTestNats();
    const buses = await Promise.all(
      ["a", "b"].map((name) => connectBus({ servers: own.url, name, inboxPrefix: `_INBOX_${name}` })),
    );
    const [a, b] = buses.map((on, i) => daemon(["a", "b"][i] as string, { on, suspectAfterMs: 900 })) as [
      Daemon,
      Daemon,
    ];
    await until("they know each other", () => names(a).length === 2 && names(b).length === 2);
    await own.kill();
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    expect(names(a)).toEqual(["a1", "b1"]);
    await own.restart();
    await until("both are connected again", () => buses.every((on) => on.connected()));
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    expect([a.gone, b.gone]).toEqual([[], []]);
    for (const on of buses) await on.close();
  });
});

describe("the choice of an owner", () => {
  const beats = (...hosts: string[]) => hosts.map((host) => beatOf(host, `${host}1`));
  const runs = Array.from({ length: 3_000 }, (_, i) => `run-${i}`);
  const ownerOf = (run: string, living: Beat[]) => chooseOwner(run, living)?.host;

  test("is the same whoever makes it and in whatever order they know of each other", () => {
    for (const run of runs.slice(0, 200)) {
      expect(ownerOf(run, beats("a", "b", "c"))).toBe(ownerOf(run, beats("c", "a", "b")));
    }
  });

  test("shares runs out evenly", () => {
    const living = beats("h1", "h2", "h3", "h4");
    const counts = new Map<string, number>();
    for (const run of runs) counts.set(ownerOf(run, living) ?? "", (counts.get(ownerOf(run, living) ?? "") ?? 0) + 1);
    expect([...counts.keys()].sort()).toEqual(["h1", "h2", "h3", "h4"]);
    for (const count of counts.values()) expect(Math.abs(count - 750)).toBeLessThan(150);
  });

  test("moves only the runs of the one that goes", () => {
    const before = beats("a", "b", "c");
    const after = beats("a", "c");
    for (const run of runs) {
      const owner = ownerOf(run, before);
      if (owner !== "b") expect(ownerOf(run, after)).toBe(owner);
    }
  });

  test("is nobody where nobody lives", () => {
    expect(chooseOwner("r", [])).toBeUndefined();
  });
});

/** Beats of a daemon in a process of its own, which goes on while this one is blocked. */
function spawnBeats(host: string, incarnation: string) {
  const code = `
    const { connect } = await import("nats");
    const nc = await connect({ servers: process.env.NATS });
    setInterval(() => nc.publish(process.env.SUBJECT, process.env.BEAT), 50);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", code], {
    env: {
      ...process.env,
      NATS: nats.url,
      SUBJECT: subjects.presence,
      BEAT: JSON.stringify(beatOf(host, incarnation)),
    },
  });
  started.push({ stop: () => void child.kill("SIGKILL") });
  return child;
}
