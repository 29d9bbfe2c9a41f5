import { pino } from "pino";
import { afterEach, expect, test } from "vitest";
import { UnavailableError } from "../../../src/errors.ts";
import { putSchedule } from "../../../src/runtime/hosts/change-schedule.ts";
import { type Beat, chooseOwner } from "../../../src/runtime/hosts/presence.ts";
import { openScheduleStore, type ScheduleStore } from "../../../src/runtime/hosts/schedule-store.ts";
import { type Scheduler, startScheduler } from "../../../src/runtime/hosts/scheduler.ts";
import { nuid } from "../../../src/runtime/nats/nats.ts";
import { provision } from "../../../src/runtime/nats/provision.ts";
import { type Subjects, subjectsFor } from "../../../src/runtime/subjects.ts";
import { noMetrics, type ScheduleDue } from "../../../src/tracing/metrics.ts";
import type { Schedule } from "../../../src/workflows/schedule.ts";
import { scheduleSchema } from "../../../src/workflows/schedule-schema.ts";
import { settableClock } from "../../helpers/settable-clock.ts";
import { sharedBus } from "../../helpers/shared-bus.ts";
import { until } from "../../helpers/until.ts";

const { bus } = await sharedBus();
const logger = pino({ level: "silent" });
const NOON = Date.parse("2026-06-01T12:00:00.000Z");
const MINUTE_MS = 60_000;
const ends: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

/** Daemons as far as schedules know them, on one clock, with the runs they asked for. */
async function openTroupe(startMs = NOON + 500) {
  const subjects = subjectsFor(`t${nuid.next()}`);
  await provision(bus, subjects, { ackWaitMs: 5_000 });
  const clock = settableClock();
  clock.set(startMs);
  const asked: string[] = [];
  const unfinished = new Set<string>();
  const due: ScheduleDue[] = [];
  const living = new Map<string, () => Beat>();
  const state = { refuse: false };
  /** Daemons that stand still. */
  const still = new Set<string>();
  const reader = await openStore(subjects, clock.now);
  ends.push(() => reader.stop());

  async function daemon(host: string, { schedules }: { schedules?: string[] } = {}) {
    const store = await openStore(subjects, clock.now);
    let scheduler: Scheduler | undefined;
    living.set(host, () => {
      const watch = scheduler?.watchingSince();
      const said = { ...(watch !== undefined && { watch }), ...(schedules && { schedules }) };
      return {
        v: 1,
        host,
        incarnation: host,
        agents: [],
        tools: [],
        workflows: [],
        load: { runs: 0, tasks: 0 },
        ...said,
      };
    });
    scheduler = startScheduler({
      store,
      clock,
      logger,
      metrics: { ...noMetrics, scheduleDue: (what) => void due.push(what) },
      incarnation: host,
      living: () => [...living.values()].map((beat) => beat()),
      mayFire: () => !still.has(host),
      async request(_schedule, runId) {
        if (state.refuse) throw new UnavailableError("not now");
        asked.push(runId);
      },
      isUnfinished: async (runId) => unfinished.has(runId),
    });
    const stop = async () => {
      living.delete(host);
      await scheduler?.stop();
      await store.stop();
    };
    ends.push(stop);
    return { store, stop };
  }

  return {
    stream: subjects.streams.schedules,
    subjectOf: subjects.schedule,
    clock,
    asked,
    unfinished,
    due,
    state,
    still,
    living: () => [...living.values()].map((beat) => beat()),
    daemon,
    async put(written: object): Promise<Schedule> {
      const schedule = scheduleSchema.parse({ workflow: "report", ...written });
      await reader.change(schedule.name, (kept) => putSchedule(kept, schedule, clock.now()));
      return schedule;
    },
    /** Whatever is due by then has led to what it leads to. */
    async settled(name: string, through: string) {
      await until(`${name} to be decided about up to ${through}`, async () => {
        const kept = await reader.read(name);
        return kept !== undefined && Date.parse(kept.through) >= Date.parse(through);
      });
    },
  };
}

async function openStore(subjects: Subjects, now: () => number): Promise<ScheduleStore> {
  const store = openScheduleStore({ bus, subjects, logger, now });
  await store.ready();
  return store;
}

const minutely = { name: "tick", cron: "* * * * *", timezone: "Europe/Berlin" };
const minute = (n: number) => `tick-20260601T12${String(n).padStart(2, "0")}00Z`;

test("a schedule starts a run when it is due, with an id made of its name and the instant", async () => {
  const troupe = await openTroupe();
  await troupe.daemon("a");
  await troupe.put(minutely);
  troupe.clock.set(NOON + MINUTE_MS - 300);
  await troupe.settled("tick", "2026-06-01T12:01:00Z");
  expect(troupe.asked).toEqual([minute(1)]);
  expect(troupe.due).toEqual([{ workflow: "report", outcome: "fired", lateSeconds: expect.any(Number) }]);
  expect(troupe.due[0]?.lateSeconds).toBeLessThan(5);
});

test("of many daemons one asks for the run", async () => {
  const troupe = await openTroupe();
  for (const host of ["a", "b", "c", "d"]) await troupe.daemon(host);
  for (let i = 0; i < 20; i += 1) await troupe.put({ ...minutely, name: `tick${i}` });
  troupe.clock.set(NOON + MINUTE_MS);
  for (let i = 0; i < 20; i += 1) await troupe.settled(`tick${i}`, "2026-06-01T12:01:00Z");
  expect(troupe.asked).toHaveLength(20);
  expect(new Set(troupe.asked).size).toBe(20);
});

test("what the chosen daemon did not come to before it died is late and not missed", async () => {
  const troupe = await openTroupe(NOON + MINUTE_MS - 1_000);
  const daemons = { a: await troupe.daemon("a"), b: await troupe.daemon("b") };
  const chosen = chooseOwner("schedule.tick", troupe.living())?.host as "a" | "b";
  troupe.still.add(chosen);
  await troupe.put({ ...minutely, missed: "skip" });
  await until("the instant is over", () => troupe.clock.now() > NOON + MINUTE_MS + 800);
  expect(troupe.asked).toEqual([]);
  await daemons[chosen].stop();
  await troupe.settled("tick", "2026-06-01T12:01:00Z");
  expect(troupe.asked).toEqual([minute(1)]);
});

test.each([
  ["once", [minute(4)]],
  ["skip", []],
  ["all", [minute(1), minute(2), minute(3), minute(4)]],
] as const)("what was due while no daemon was there is made up for as declared: %s", async (missed, runs) => {
  const troupe = await openTroupe();
  const first = await troupe.daemon("a");
  await troupe.put({ ...minutely, missed });
  await first.stop();
  troupe.clock.set(NOON + 4 * MINUTE_MS + 100);
  const next = await troupe.daemon("a");
  await troupe.settled("tick", "2026-06-01T12:04:00Z");
  expect(troupe.asked).toEqual(runs);
  const kept = await next.store.read("tick");
  if (missed === "skip") expect(kept?.skipped).toEqual({ dueAt: "2026-06-01T12:04:00.000Z", reason: "missed" });
  else expect(kept?.last).toMatchObject({ dueAt: "2026-06-01T12:04:00.000Z", runId: minute(4) });
});

test("a clock that is set back fires nothing again, and one that is set ahead has missed what lies between", async () => {
  const troupe = await openTroupe();
  await troupe.daemon("a");
  await troupe.put(minutely);
  troupe.clock.set(NOON + MINUTE_MS - 300);
  await troupe.settled("tick", "2026-06-01T12:01:00Z");
  troupe.clock.set(NOON + MINUTE_MS - 300);
  await until("the instant has come again", () => troupe.clock.now() > NOON + MINUTE_MS + 600);
  expect(troupe.asked).toEqual([minute(1)]);
  troupe.clock.set(NOON + 5 * MINUTE_MS + 100);
  await troupe.settled("tick", "2026-06-01T12:05:00Z");
  expect(troupe.asked).toEqual([minute(1), minute(5)]);
});

test("what cannot be asked for now is asked for when it can, in the same run", async () => {
  const troupe = await openTroupe();
  await troupe.daemon("a");
  await troupe.put({ name: "once", at: "2026-06-01T12:01:00Z" });
  troupe.state.refuse = true;
  troupe.clock.set(NOON + MINUTE_MS - 200);
  await until("it was tried", () => troupe.clock.now() > NOON + MINUTE_MS + 600);
  expect(troupe.asked).toEqual([]);
  troupe.state.refuse = false;
  await troupe.settled("once", "2026-06-01T12:01:00Z");
  expect(troupe.asked).toEqual(["once-20260601T120100Z"]);
});

test("where runs must not overlap, an instant at which the one before goes on is skipped", async () => {
  const troupe = await openTroupe();
  const { store } = await troupe.daemon("a");
  await troupe.put({ ...minutely, overlap: "skip" });
  troupe.clock.set(NOON + MINUTE_MS - 300);
  await troupe.settled("tick", "2026-06-01T12:01:00Z");
  troupe.unfinished.add(minute(1));
  troupe.clock.set(NOON + 2 * MINUTE_MS - 300);
  await troupe.settled("tick", "2026-06-01T12:02:00Z");
  expect((await store.read("tick"))?.skipped).toEqual({ dueAt: "2026-06-01T12:02:00.000Z", reason: "overlap" });
  troupe.unfinished.clear();
  troupe.clock.set(NOON + 3 * MINUTE_MS - 300);
  await troupe.settled("tick", "2026-06-01T12:03:00Z");
  expect(troupe.asked).toEqual([minute(1), minute(3)]);
});

test("a paused schedule fires nothing, and what was due meanwhile is not made up for", async () => {
  const troupe = await openTroupe();
  await troupe.daemon("a");
  await troupe.put({ ...minutely, missed: "all", paused: true });
  troupe.clock.set(NOON + 3 * MINUTE_MS + 100);
  await troupe.put({ ...minutely, missed: "all" });
  troupe.clock.set(NOON + 4 * MINUTE_MS - 300);
  await troupe.settled("tick", "2026-06-01T12:04:00Z");
  expect(troupe.asked).toEqual([minute(4)]);
});

test("a schedule that is paused while much of it is made up for fires nothing from then on", async () => {
  const troupe = await openTroupe();
  await troupe.put({ ...minutely, missed: "all" });
  troupe.clock.set(NOON + 500 * MINUTE_MS + 500);
  await troupe.daemon("a");
  await until("it fires", () => troupe.asked.length > 5);
  await troupe.put({ ...minutely, missed: "all", paused: true });
  const asked = troupe.asked.length;
  await until("nothing is under way", async () => {
    const before = troupe.asked.length;
    await new Promise((resolve) => setTimeout(resolve, 100));
    return troupe.asked.length === before;
  });
  // One may have been asked for by then.
  expect(troupe.asked.length).toBeLessThanOrEqual(asked + 1);
});

test("a declared schedule fires where a daemon that declares it lives, and nowhere else", async () => {
  const troupe = await openTroupe();
  const { store } = await troupe.daemon("a");
  const declaring = await troupe.daemon("b", { schedules: ["tick"] });
  await troupe.put(minutely);
  await store.change("tick", (kept) => kept && { ...kept, declared: true });
  troupe.clock.set(NOON + MINUTE_MS - 300);
  await troupe.settled("tick", "2026-06-01T12:01:00Z");
  await declaring.stop();
  troupe.clock.set(NOON + 2 * MINUTE_MS - 300);
  await until("the instant has come", () => troupe.clock.now() > NOON + 2 * MINUTE_MS + 600);
  expect(troupe.asked).toEqual([minute(1)]);
});

test("a change that meets another one is made again on what the other one left", async () => {
  const troupe = await openTroupe();
  const one = await troupe.daemon("a");
  const other = await troupe.daemon("b");
  await troupe.put(minutely);
  await Promise.all(
    [one, other].flatMap(({ store }) =>
      Array.from({ length: 5 }, () =>
        store.change(
          "tick",
          (kept) => kept && { ...kept, schedule: { ...kept.schedule, workflow: `${kept.schedule.workflow}x` } },
        ),
      ),
    ),
  );
  expect((await one.store.read("tick"))?.schedule.workflow).toBe("reportxxxxxxxxxx");
});

test("a schedule that is deleted is gone for all daemons, and for good after a while", async () => {
  const troupe = await openTroupe();
  const one = await troupe.daemon("a");
  const other = await troupe.daemon("b");
  await troupe.put(minutely);
  await until("the other one knows it", () => other.store.all().length === 1);
  await one.store.change("tick", () => undefined);
  await until("the other one knows that it is gone", () => other.store.all().length === 0);
  expect(await other.store.read("tick")).toBeUndefined();
  const sweep = (goneMs: number) => other.store.sweep({ goneMs, doneMs: 0 }, () => true);
  await sweep(troupe.clock.now() - MINUTE_MS);
  expect(await messages()).toBe(1);
  await sweep(troupe.clock.now() + MINUTE_MS);
  expect(await messages()).toBe(0);

  async function messages(): Promise<number> {
    const jsm = await bus.jsm();
    return (await jsm.streams.info(troupe.stream)).state.messages;
  }
});

test("what was due once is deleted when that is long over, and not before it has fired", async () => {
  const troupe = await openTroupe();
  const { store } = await troupe.daemon("a");
  await troupe.put({ name: "fired", at: "2026-06-01T12:01:00Z" });
  await troupe.put({ name: "ahead", at: "2026-06-01T12:05:00Z" });
  troupe.clock.set(NOON + MINUTE_MS);
  await troupe.settled("fired", "2026-06-01T12:01:00Z");
  const names = () => store.all().map(({ schedule }) => schedule.name);
  await store.sweep({ goneMs: 0, doneMs: NOON }, () => true);
  expect(names().sort()).toEqual(["ahead", "fired"]);
  await store.sweep({ goneMs: 0, doneMs: NOON + 10 * MINUTE_MS }, () => true);
  expect(names()).toEqual(["ahead"]);
  expect(await store.read("fired")).toBeUndefined();
});

test("what somebody else wrote in the place of a schedule is none, and can be put again", async () => {
  const troupe = await openTroupe();
  const { store } = await troupe.daemon("a");
  await bus.js.publish(
    troupe.subjectOf("tick"),
    JSON.stringify({ v: 1, schedule: { name: "tick", everyMs: 0 }, through: "now" }),
  );
  expect(await store.read("tick")).toBeUndefined();
  await troupe.put(minutely);
  expect((await store.read("tick"))?.schedule.workflow).toBe("report");
});

test("nor is what stood there before followed any more", async () => {
  const troupe = await openTroupe();
  const { store } = await troupe.daemon("a");
  await troupe.put(minutely);
  await until("it is followed", () => store.all().length === 1);
  await bus.js.publish(troupe.subjectOf("tick"), "no schedule");
  await until("it is not followed any more", () => store.all().length === 0);
});
