import { afterAll, beforeAll, expect, test } from "vitest";
import { openJournalPages } from "../../../src/runtime/edges/journal-pages.ts";
import { nuid } from "../../../src/runtime/nats/nats.ts";
import type { RunEvent } from "../../../src/workflows/run-events.ts";
import { eventsOf } from "../../helpers/run-events.ts";
import { type RunBench, startRunBench } from "../../helpers/run-host-bench.ts";

let bench: RunBench;
beforeAll(async () => {
  bench = await startRunBench();
});
afterAll(() => bench[Symbol.asyncDispose]());

/** A journal of `count` entries of two events and about a kilobyte each, and one with its end where asked for. */
async function store(count: number, { ended = false } = {}) {
  const make = eventsOf(nuid.next());
  const subject = bench.subjects.run(make.runId);
  const entries = [make.open()];
  for (let i = 0; i < count; i += 1) {
    entries.push([
      make.next({ type: "run.parked", data: { reason: "x".repeat(700) } }),
      make.next({ type: "timer.set", data: { id: `t${i}`, dueAt: "2026-01-01T00:00:00.000Z" } }),
    ]);
  }
  if (ended) entries.push([make.next({ type: "run.cancelled", data: {} })]);
  let seq = 0;
  for (const events of entries) {
    const options = { expected: seq, id: events[0]?.id ?? "" };
    seq = await bench.journals.append(subject, Buffer.from(JSON.stringify(events)), options);
  }
  return { subject, events: entries.flat() };
}

/** Pages, and how many events were read for them. */
function counted() {
  const read: number[] = [];
  const readPage = openJournalPages({
    last: bench.journals.last,
    async read(...asked) {
      const entries = await bench.journals.read(...asked);
      read.push(entries.reduce((sum, { value }) => sum + value.length, 0));
      return entries;
    },
  });
  return { readPage, read };
}

const ROOM = 20_000;

test("pages from the first to the last hold every event once, and few are read more than once", async () => {
  const { subject, events } = await store(400, { ended: true });
  const { readPage, read } = counted();
  const got: RunEvent[] = [];
  let pages = 0;
  for (let from: number | undefined = 1; from !== undefined; pages += 1) {
    const page: Awaited<ReturnType<typeof readPage>> = await readPage(subject, from, ROOM);
    expect(page?.ended).toBe(true);
    expect(Buffer.byteLength(JSON.stringify(page?.events))).toBeLessThanOrEqual(ROOM + 2);
    got.push(...(page?.events ?? []));
    from = page?.next;
  }
  expect(got).toEqual(events);
  expect(pages).toBeGreaterThan(15);
  // A read comes in batches of entries and ends with the one that is enough; from the beginning each time it would be ten times
  // as many.
  expect(read.reduce((sum, count) => sum + count, 0)).toBeLessThan(4 * events.length);
});

test("a page that no other one led to is read from the beginning, and is the same", async () => {
  const { subject, events } = await store(60);
  const page = await counted().readPage(subject, 78, 1_000_000);
  expect(page).toEqual({ events: events.slice(77), ended: false });
  const early = counted();
  await early.readPage(subject, 1, ROOM);
  expect(await early.readPage(subject, 2, 1_000_000)).toEqual({ events: events.slice(1), ended: false });
});

test("an event too large for a page with others has one of its own", async () => {
  const { subject, events } = await store(3);
  const { readPage } = counted();
  expect(await readPage(subject, 3, 10)).toEqual({ events: events.slice(2, 3), next: 4, ended: false });
});

test("whoever has everything is told so without a read of the journal", async () => {
  const { subject, events } = await store(5);
  const { readPage, read } = counted();
  expect(await readPage(subject, events.length + 1, ROOM)).toEqual({ events: [], ended: false });
  const over = await store(5, { ended: true });
  expect(await readPage(over.subject, over.events.length + 1, ROOM)).toEqual({ events: [], ended: true });
  expect(read).toEqual([]);
});

test("where there is no journal there is no page", async () => {
  expect(await counted().readPage(bench.subjects.run("nobody"), 1, ROOM)).toBeUndefined();
});
