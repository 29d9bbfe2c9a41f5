import { mkdtemp, open, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openRunIndex, type RunIndex } from "../../../src/runtime/hosts/run-index.ts";
import { type Bus, connectBus } from "../../../src/runtime/nats/connection.ts";
import { openJournals } from "../../../src/runtime/nats/journal.ts";
import { nuid } from "../../../src/runtime/nats/nats.ts";
import { provision } from "../../../src/runtime/nats/provision.ts";
import { type Subjects, subjectsFor } from "../../../src/runtime/subjects.ts";
import type { RunEvent, RunRequest } from "../../../src/workflows/run-events.ts";
import { startTestNats, type TestNats } from "../../helpers/nats-server.ts";
import { type EventMaker, eventsOf, finishedRun, OWNER } from "../../helpers/run-events.ts";
import { until } from "../../helpers/until.ts";

const logger = pino({ level: "silent" });
let nats: TestNats;
let bus: Bus;
let folder: string;

beforeAll(async () => {
  nats = await startTestNats();
  bus = await connectBus({ servers: nats.url, name: "test", inboxPrefix: "_INBOX_test" });
  folder = await mkdtemp(join(tmpdir(), "troupe-index-"));
});

afterAll(async () => {
  await bus?.close();
  await nats?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

describe("runs that wait for somebody, and runs of others", () => {
  test("are found while they are open", async () => {
    await using troupe = await newTroupe();
    const make = eventsOf("r1");
    const parent = { runId: "r0", step: "sub", taskId: "sub-1", depth: 1 };
    const seq = await troupe.append(
      "r1",
      [
        ...make.open({ parent }),
        make.next({ type: "step.started", data: { step: "ok", kind: "approval" } }),
        make.next({ type: "approval.requested", data: { step: "ok", title: "Well?", choices: ["approve"] } }),
      ],
      0,
    );
    const above = eventsOf("r0");
    const sent = { taskId: "sub-1", agent: "article", kind: "workflow", childId: "r1", step: "sub" } as const;
    const last = await troupe.append(
      "r0",
      [...above.open(), above.next({ type: "task.sent", data: { ...sent, attempt: 1, delivery: 1 } })],
      0,
    );
    await troupe.applied(last);
    const { index } = troupe;
    expect(index.awaitingApproval()).toMatchObject([
      { runId: "r1", workflow: "article", current: [{ title: "Well?" }] },
    ]);
    expect(index.awaitingApproval("another")).toEqual([]);
    expect(index.parentOf("r1")).toEqual({ runId: "r0", taskId: "sub-1" });
    expect(index.parentOf("r0")).toBeUndefined();
    expect([index.openChildrenOf("r0"), index.openChildrenOf("r1")]).toEqual([["r1"], []]);
    // It waits for no time: it rests without a due date. The other waits for a task.
    const rests = index.unfinished().map(({ runId, rests, wakeMs }) => [runId, rests, wakeMs]);
    expect(rests.sort()).toEqual([
      ["r0", false, undefined],
      ["r1", true, undefined],
    ]);
    await troupe.applied(await troupe.append("r1", [make.next({ type: "run.cancelled", data: {} })], seq));
    expect([index.awaitingApproval(), index.openChildrenOf("r0")]).toEqual([[], []]);
  });
});

describe("a run", () => {
  test("is listed with its status as its journal grows", async () => {
    await using troupe = await newTroupe();
    const make = eventsOf("r1");
    const [opening, ending] = finishedRun(make, "text", { sessionId: "s1", userId: "u1" }) as [RunEvent[], RunEvent[]];
    const first = await troupe.append("r1", opening, 0);
    await troupe.applied(first);
    expect(troupe.index.get("r1")).toEqual({
      runId: "r1",
      workflow: "article",
      version: "1",
      kind: "deterministic",
      status: "running",
      sessionId: "s1",
      userId: "u1",
      createdAt: "2026-01-01T00:00:00.000Z",
      startedAt: "2026-01-01T00:00:02.000Z",
    });
    expect(troupe.index.unfinished()).toEqual([
      {
        runId: "r1",
        workflow: "article",
        hash: "abc",
        kind: "deterministic",
        status: "running",
        ownerHost: OWNER.host,
        ownerIncarnation: OWNER.incarnation,
        epoch: 1,
        wakeMs: undefined,
        lastMs: Date.parse("2026-01-01T00:00:03.000Z"),
        rests: false,
        parked: undefined,
        lastSeq: first,
      },
    ]);
    await troupe.applied(await troupe.append("r1", ending, first));
    expect(troupe.index.list().runs).toMatchObject([
      { runId: "r1", status: "completed", endedAt: "2026-01-01T00:00:06.000Z" },
    ]);
    expect(troupe.index.unfinished()).toEqual([]);
    expect(troupe.index.counts()).toEqual([{ workflow: "article", status: "completed", count: 1 }]);
  });

  test("that waits goes on where the index left it, also when the index was closed in between", async () => {
    await using troupe = await newTroupe(join(folder, "resumed.db"));
    const make = eventsOf("r2");
    const dueAt = "2026-05-01T00:00:00.000Z";
    const first = await troupe.append(
      "r2",
      [
        ...make.open(),
        ...sent(make, "facts"),
        make.next({ type: "timer.set", data: { id: "x", dueAt } }),
        make.next({ type: "task.waiting", data: { taskId: "facts-1", agent: "facts", reason: "no worker" } }),
      ],
      0,
    );
    await troupe.applied(first);
    await troupe.index.close();

    const index = troupe.reopen();
    expect(index.unfinishedOwnedBy(OWNER.incarnation)).toMatchObject([
      { runId: "r2", status: "waiting", wakeMs: Date.parse(dueAt), rests: false },
    ]);
    expect(index.unfinishedOwnedBy("another")).toEqual([]);
    expect(index.get("r2")?.waitingFor).toBe("facts (facts-1): no worker");
    const again = make.next({
      type: "task.sent",
      data: { taskId: "facts-1", agent: "facts", step: "facts", attempt: 1, delivery: 2 },
    });
    await troupe.applied(await troupe.append("r2", [again], first));
    expect(index.get("r2")).toMatchObject({ status: "running" });
    expect(index.unfinished()).toMatchObject([{ wakeMs: Date.parse(dueAt) }]);
  });

  test("that waits for nothing but its time is known with it, also when the index was closed in between", async () => {
    await using troupe = await newTroupe(join(folder, "resting.db"));
    const make = eventsOf("r3");
    const dueAt = "2026-05-01T00:00:00.000Z";
    const timer = make.next({ type: "timer.set", data: { id: "start", dueAt } });
    const first = await troupe.append("r3", [...make.open({ notBefore: dueAt }), timer], 0);
    await troupe.applied(first);
    await troupe.index.close();

    const index = troupe.reopen();
    expect(index.unfinished()).toMatchObject([
      { runId: "r3", status: "pending", rests: true, wakeMs: Date.parse(dueAt), lastSeq: first },
    ]);
    expect(index.quietUnder(OWNER.host, first - 1)).toEqual(["r3"]);
    expect(index.quietUnder(OWNER.host, first)).toEqual([]);
    expect(index.quietUnder("another", 0)).toEqual([]);
    const fired = make.next({ type: "timer.fired", data: { id: "start" } });
    await troupe.applied(await troupe.append("r3", [fired, ...sent(make, "facts")], first));
    expect(index.unfinished()).toMatchObject([{ status: "running", rests: false, wakeMs: undefined }]);
    expect(index.quietUnder(OWNER.host, 0)).toEqual([]);
  });

  test("that ended and has somebody to tell is found by when it ended and under whom", async () => {
    await using troupe = await newTroupe();
    await troupe.finish("told", { replyTo: "answers.1" });
    const seq = await troupe.finish("untold");
    await troupe.applied(seq);
    expect(troupe.index.endedSince("2026-01-01T00:00:00Z", OWNER.incarnation)).toMatchObject([
      { runId: "told", replyTo: "answers.1", status: "completed", workflow: "article" },
    ]);
    expect(troupe.index.endedSince("2026-01-01T00:01:00Z", OWNER.incarnation)).toEqual([]);
    expect(troupe.index.endedSince("2026-01-01T00:00:00Z", "another")).toEqual([]);
  });

  test("that is old is found for retention, and forgotten without its id becoming free", async () => {
    await using troupe = await newTroupe();
    await troupe.finish("old-1");
    await troupe.finish("old-2");
    await troupe.append("unfinished", eventsOf("unfinished").open(), 0);
    await troupe.applied(await troupe.finish("young", {}, Date.UTC(2026, 6, 1)));
    expect(troupe.index.olderThan("2026-06-01T00:00:00Z", 10).map(({ runId }) => runId)).toEqual(["old-1", "old-2"]);
    expect(troupe.index.olderThan("2026-06-01T00:00:00Z", 1)).toHaveLength(1);
    troupe.index.forget("old-1");
    expect(troupe.index.get("old-1")).toBeUndefined();
    expect(troupe.index.known("old-1")).toBe(true);
    expect(troupe.index.known("never")).toBe(false);
    expect(troupe.index.list().runs).toHaveLength(3);
  });
});

describe("a list", () => {
  test("pages through every run once, newest first, also among equal times", async () => {
    await using troupe = await newTroupe();
    let seq = 0;
    for (let i = 0; i < 7; i += 1) seq = await troupe.finish(`r${i}`, {}, Date.UTC(2026, 0, 1 + Math.floor(i / 3)));
    await troupe.applied(seq);
    const seen: string[] = [];
    let cursor: string | undefined;
    do {
      const page = troupe.index.list({ limit: 2, ...(cursor && { cursor }) });
      expect(page.runs.length).toBeLessThanOrEqual(2);
      seen.push(...page.runs.map(({ runId }) => runId));
      cursor = page.cursor;
    } while (cursor);
    expect(seen).toEqual(["r6", "r5", "r4", "r3", "r2", "r1", "r0"]);
  });

  test("filters by workflow, status, session, user and time, alone and together", async () => {
    await using troupe = await newTroupe();
    await troupe.finish("a", { sessionId: "s1", userId: "u1" });
    await troupe.finish("b", { sessionId: "s1" }, Date.UTC(2026, 1, 1));
    const seq = await troupe.append(
      "c",
      eventsOf("c", Date.UTC(2026, 2, 1)).open({ sessionId: "s1" }, { workflow: "other" }),
      0,
    );
    await troupe.applied(seq);
    const ids = (query: Parameters<RunIndex["list"]>[0]) => troupe.index.list(query).runs.map(({ runId }) => runId);
    expect(ids({ workflow: "article" })).toEqual(["b", "a"]);
    expect(ids({ status: "running" })).toEqual(["c"]);
    expect(ids({ sessionId: "s1" })).toEqual(["c", "b", "a"]);
    expect(ids({ sessionId: "s1", status: "completed", until: "2026-01-15T00:00:00Z" })).toEqual(["a"]);
    expect(ids({ userId: "u1", workflow: "article" })).toEqual(["a"]);
    expect(ids({ userId: "u1", workflow: "other" })).toEqual([]);
    expect(ids({ since: "2026-02-01T00:00:00Z" })).toEqual(["c", "b"]);
    expect(ids({ until: "2026-02-01T00:00:00Z" })).toEqual(["a"]);
    expect(ids({ workflow: "article", status: "running" })).toEqual([]);
  });

  test("says which part of a question is off", async () => {
    await using troupe = await newTroupe();
    expect(() => troupe.index.list({ cursor: "nonsense" })).toThrow(/cursor: expected one from an earlier page/);
    expect(() => troupe.index.list({ limit: 0 })).toThrow(/limit: expected a whole number from 1 to 500, got 0/);
    expect(() => troupe.index.list({ since: "yesterday" })).toThrow(/since: expected an ISO 8601 instant/);
  });
});

describe("listeners", () => {
  test("hear every entry once, in the order of the stream, own ones as they were handed over", async () => {
    await using troupe = await newTroupe();
    const heard: { runId: string; seq: number; events: readonly RunEvent[] }[] = [];
    const stop = troupe.index.onEntry((runId, events, seq) => heard.push({ runId, events, seq }));
    const handed = eventsOf("own").open();
    const own = await troupe.append("own", handed, 0);
    troupe.index.ownEntry(own, "own", handed);
    const others = eventsOf("others").open();
    const last = await troupe.append("others", others, 0);
    await troupe.applied(last);
    expect(heard.map(({ runId, seq }) => [runId, seq])).toEqual([
      ["own", own],
      ["others", last],
    ]);
    expect(heard[0]?.events).toBe(handed);
    expect(heard[1]?.events).toEqual(others);
    stop();
    await troupe.applied(await troupe.finish("after"));
    expect(heard).toHaveLength(2);
  });

  test("of which one throws do not keep the index from going on", async () => {
    await using troupe = await newTroupe();
    troupe.index.onEntry(() => {
      throw new Error("broken listener");
    });
    await troupe.applied(await troupe.finish("r1"));
    expect(troupe.index.get("r1")?.status).toBe("completed");
  });
});

test("an entry that is no JSON is skipped, and what comes after it is indexed", async () => {
  await using troupe = await newTroupe();
  await bus.js.publish(troupe.subjects.run("broken"), "{nonsense");
  await troupe.applied(await troupe.finish("r1"));
  expect(troupe.index.list().runs.map(({ runId }) => runId)).toEqual(["r1"]);
});

describe("the index catches up", () => {
  test("with what was there before it, and with what came while it was closed", async () => {
    await using troupe = await newTroupe(join(folder, "catchup.db"));
    for (let i = 0; i < 20; i += 1) await troupe.finish(`before-${i}`);
    await troupe.index.whenCaughtUp();
    await troupe.index.close();
    for (let i = 0; i < 20; i += 1) await troupe.finish(`while-${i}`);
    const index = troupe.reopen();
    expect(index.position()).toBeGreaterThan(0);
    await index.whenCaughtUp();
    expect(index.counts()).toEqual([{ workflow: "article", status: "completed", count: 40 }]);
  });

  test("with an empty stream at once", async () => {
    await using troupe = await newTroupe();
    await troupe.index.whenCaughtUp();
    expect(troupe.index.position()).toBe(0);
  });

  test("when the stream is made after it was opened", async () => {
    const subjects = subjectsFor(`t${nuid.next()}`);
    await using index = openRunIndex({ file: ":memory:", bus, subjects, logger });
    expect(index.caughtUp()).toBe(false);
    await provision(bus, subjects, { ackWaitMs: 5_000 });
    await index.whenCaughtUp();
  });

  test("after more entries than one batch holds", async () => {
    await using troupe = await newTroupe();
    for (let i = 0; i < 1_500; i += 1)
      bus.nc.publish(troupe.subjects.run(`r${i}`), JSON.stringify(finishedRun(eventsOf(`r${i}`)).flat()));
    await bus.nc.flush();
    await until("all are counted", () => troupe.index.counts()[0]?.count === 1_500);
  });
});

describe("the index is built again", () => {
  test("when its file is damaged or is no database", async () => {
    for (const damage of ["garbage", "truncated"]) {
      const file = join(folder, `${damage}.db`);
      await using troupe = await newTroupe(file);
      for (let i = 0; i < 300; i += 1)
        bus.nc.publish(troupe.subjects.run(`r${i}`), JSON.stringify(finishedRun(eventsOf(`r${i}`)).flat()));
      await until("all are counted", () => troupe.index.counts()[0]?.count === 300);
      await troupe.index.close();
      if (damage === "garbage") await writeFile(file, "this is no database, whatever its name says");
      else await truncate(file, 16_384);
      const index = troupe.reopen();
      await until(`rebuilt from ${damage}`, () => index.caughtUp() && index.counts()[0]?.count === 300);
      expect(index.known("r7")).toBe(true);
    }
  });

  test("when the damage shows only in the middle of its work, and nobody who asks is thrown at", async () => {
    const file = join(folder, "rotten.db");
    await using troupe = await newTroupe(file);
    for (let i = 0; i < 300; i += 1) {
      bus.nc.publish(troupe.subjects.run(`r${i}`), JSON.stringify(finishedRun(eventsOf(`r${i}`)).flat()));
    }
    await until("all are counted", () => troupe.index.counts()[0]?.count === 300);
    await troupe.index.close();
    const index = troupe.reopen();
    await index.whenCaughtUp();
    const { size } = await stat(file);
    const handle = await open(file, "r+");
    await handle.write(Buffer.alloc(size - 8_192, "rot"), 0, size - 8_192, 8_192);
    await handle.close();
    expect(index.list().runs).toEqual([]);
    await until("it is built again", () => index.caughtUp() && index.counts()[0]?.count === 300);
  });

  test("when the stream was deleted and made again", async () => {
    await using troupe = await newTroupe();
    await troupe.finish("gone-1");
    await troupe.applied(await troupe.finish("gone-2"));
    await (await bus.jsm()).streams.delete(troupe.subjects.streams.runs);
    await provision(bus, troupe.subjects, { ackWaitMs: 5_000 });
    await troupe.finish("new");
    await until("only the new run is there", () => {
      const { runs } = troupe.index.list();
      return runs.length === 1 && runs[0]?.runId === "new";
    });
    expect(troupe.index.known("gone-1")).toBe(false);
  });

  test("when the stream lost its end and got another one, as after a power failure", async () => {
    await using troupe = await newTroupe(join(folder, "lost-end.db"));
    await troupe.finish("kept");
    const lost = await troupe.finish("lost");
    await troupe.applied(lost);
    await troupe.index.close();
    // The broker's store goes back in time: here, a stream of the same creation is stood in for by one with other entries.
    const jsm = await bus.jsm();
    const { created } = await jsm.streams.info(troupe.subjects.streams.runs);
    await jsm.streams.delete(troupe.subjects.streams.runs);
    await provision(bus, troupe.subjects, { ackWaitMs: 5_000 });
    await troupe.finish("kept");
    await troupe.finish("other");
    const fresh = (await jsm.streams.info(troupe.subjects.streams.runs)).created;
    const { DatabaseSync } = await import("node:sqlite");
    const database = new DatabaseSync(troupe.file);
    expect(database.prepare("UPDATE position SET created = ? WHERE created = ?").run(fresh, created).changes).toBe(1);
    database.close();

    const index = troupe.reopen();
    await until("the other end is there", () => index.get("other") !== undefined);
    expect(index.get("lost")).toBeUndefined();
  });
});

describe("the index goes on", () => {
  test("after the broker was killed and came back, with what was written meanwhile and after", {
    timeout: 30_000,
  }, async () => {
    await using server = await startTestNats();
    const own = await connectBus({ servers: server.url, name: "test", inboxPrefix: "_INBOX_test" });
    try {
      await using troupe = await newTroupe(":memory:", own);
      await troupe.applied(await troupe.finish("before"));
      await server.kill();
      await until("the connection is lost", () => !own.connected());
      await server.restart();
      await until("the connection is back", () => own.connected());
      const seq = await troupe.finish("after");
      await troupe.applied(seq);
      expect(troupe.index.list().runs).toHaveLength(2);
      await until("it is caught up", () => troupe.index.caughtUp());
    } finally {
      await own.close();
    }
  });

  test("after its consumer was deleted", { timeout: 30_000 }, async () => {
    await using troupe = await newTroupe();
    await troupe.applied(await troupe.finish("before"));
    const jsm = await bus.jsm();
    for await (const consumer of jsm.consumers.list(troupe.subjects.streams.runs)) {
      await jsm.consumers.delete(troupe.subjects.streams.runs, consumer.name);
    }
    const seq = await troupe.finish("after");
    await troupe.applied(seq);
    expect(troupe.index.get("after")?.status).toBe("completed");
  });
});

type Troupe = {
  subjects: Subjects;
  file: string;
  index: RunIndex;
  reopen(): RunIndex;
  append(runId: string, events: RunEvent[], expected: number): Promise<number>;
  /** Writes a whole run; gives the sequence of its last entry. */
  finish(runId: string, request?: Partial<RunRequest>, startAt?: number): Promise<number>;
  applied(seq: number): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
};

/** Streams of their own and an index on them. */
async function newTroupe(file = ":memory:", on: Bus = bus): Promise<Troupe> {
  const subjects = subjectsFor(`t${nuid.next()}`);
  await provision(on, subjects, { ackWaitMs: 5_000 });
  const journals = openJournals<RunEvent[]>(on, subjects.streams.runs);
  const openIndex = () => openRunIndex({ file, bus: on, subjects, logger });
  const troupe: Troupe = {
    subjects,
    file,
    index: openIndex(),
    reopen() {
      troupe.index = openIndex();
      return troupe.index;
    },
    append: (runId, events, expected) =>
      journals.append(subjects.run(runId), Buffer.from(JSON.stringify(events)), { expected, id: events[0]?.id ?? "" }),
    async finish(runId, request = {}, startAt) {
      let seq = 0;
      for (const entry of finishedRun(eventsOf(runId, startAt), "text", request))
        seq = await troupe.append(runId, entry, seq);
      return seq;
    },
    applied: async (seq) => {
      await until(`entry ${seq} is applied`, () => troupe.index.position() >= seq);
    },
    [Symbol.asyncDispose]: () => troupe.index.close(),
  };
  return troupe;
}

function sent(make: EventMaker, step: string): RunEvent[] {
  return [
    make.next({ type: "step.started", data: { step, agent: step } }),
    make.next({ type: "task.sent", data: { taskId: `${step}-1`, agent: step, step, attempt: 1, delivery: 1 } }),
  ];
}
