import { execFileSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FencedError, PayloadTooLargeError, PermissionError, UnavailableError } from "../../../src/errors.ts";
import { type Bus, connectBus } from "../../../src/runtime/nats/connection.ts";
import { type Entry, type Journals, openJournals } from "../../../src/runtime/nats/journal.ts";
import { nuid, StorageType } from "../../../src/runtime/nats/nats.ts";
import { compareVersions } from "../../helpers/broker-versions.ts";
import { startCable } from "../../helpers/cable.ts";
import { startTestNats, type TestNats } from "../../helpers/nats-server.ts";
import { sharedBus } from "../../helpers/shared-bus.ts";
import { until } from "../../helpers/until.ts";

type Note = { id: string; text?: string };

const { nats, bus } = await sharedBus();

async function addStream(on: Bus, stream: string): Promise<void> {
  await (await on.jsm()).streams.add({ name: stream, subjects: [`${stream}.*`], storage: StorageType.File });
}

/** Journals in a stream of their own, and how to write to one of its subjects. */
async function newJournals(on = bus) {
  const stream = `S${nuid.next()}`;
  await addStream(on, stream);
  return { stream, subject: `${stream}.run`, journals: openJournals<Note>(on, stream) };
}

function bytes(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

function append(journals: Journals<Note>, subject: string, expected: number, note: Note, signal?: AbortSignal) {
  return journals.append(subject, bytes(note), { expected, id: note.id, ...(signal && { signal }) });
}

/** Stops a process without ending it; the signal may take a moment to get there. */
async function freeze(pid: number): Promise<void> {
  process.kill(pid, "SIGSTOP");
  const state = () => execFileSync("ps", ["-o", "state=", "-p", String(pid)], { encoding: "utf8" }).trim();
  await until("the process stands still", () => state().startsWith("T"));
}

const texts = (entries: readonly Entry<Note>[]) => entries.map(({ value }) => value.id);

/** A bus whose requests carry a message id, as appends of another program might. */
function withMessageId(on: Bus, id: string): Bus {
  return {
    ...on,
    request: (subject, data, options = {}) => {
      const [name, value] = options.header ?? ["X", "0"];
      return on.request(subject, data, { ...options, header: [`Nats-Msg-Id: ${id}\r\n${name}`, value] });
    },
  };
}

function askWithMessageId(subject: string, id: string, expected: number) {
  const header = ["Nats-Expected-Last-Subject-Sequence", String(expected)] as const;
  return withMessageId(bus, id).request(subject, bytes({ id: "raw" }), { header });
}

describe("an append", () => {
  test("stores one entry after the one it expects and gives its place", async () => {
    const { subject, journals } = await newJournals();
    const first = await append(journals, subject, 0, { id: "a" });
    const second = await append(journals, subject, first, { id: "b", text: "ü" });
    expect(await journals.read(subject)).toEqual([
      { seq: first, value: { id: "a" }, bytes: 10 },
      { seq: second, value: { id: "b", text: "ü" }, bytes: 22 },
    ]);
    expect(await journals.last(subject)).toEqual({ seq: second, value: { id: "b", text: "ü" }, bytes: 22 });
    expect(await journals.read(subject, { from: second })).toHaveLength(1);
    expect(await journals.read(subject, { from: second + 1 })).toEqual([]);
  });

  test("that wants an empty subject has one winner of twenty, and the others are fenced", async () => {
    const { subject, journals } = await newJournals();
    const buses = await Promise.all(
      [1, 2, 3].map((n) => connectBus({ servers: nats.url, name: `racer${n}`, inboxPrefix: `_INBOX_racer${n}` })),
    );
    const stream = subject.slice(0, subject.indexOf("."));
    const writers = buses.map((own) => openJournals<Note>(own, stream));
    const races = await Promise.allSettled(
      Array.from({ length: 20 }, (_, i) => {
        const writer = writers[i % writers.length] as Journals<Note>;
        return append(writer, subject, 0, { id: `racer ${i}` });
      }),
    );
    const winners = races.flatMap((race, i) => (race.status === "fulfilled" ? [`racer ${i}`] : []));
    expect(winners).toHaveLength(1);
    expect(texts(await journals.read(subject))).toEqual(winners);
    for (const race of races) if (race.status === "rejected") expect(race.reason).toBeInstanceOf(FencedError);
    for (const own of buses) await own.close();
  });

  test("of a writer that was superseded stores nothing, now and later", async () => {
    const { subject, journals } = await newJournals();
    const mine = await append(journals, subject, 0, { id: "a" });
    await append(journals, subject, mine, { id: "theirs" });
    await expect(append(journals, subject, mine, { id: "b" })).rejects.toThrow(
      `${subject}: another writer owns this journal now`,
    );
    await expect(append(journals, subject, 0, { id: "c" })).rejects.toBeInstanceOf(FencedError);
    expect(texts(await journals.read(subject))).toEqual(["a", "theirs"]);
  });

  test("of an entry that is stored already finds it, in either form an entry may have", async () => {
    const { subject, journals } = await newJournals();
    const first = await append(journals, subject, 0, { id: "a" });
    expect(await append(journals, subject, 0, { id: "a" })).toBe(first);
    const list = bytes([{ id: "b" }, { id: "c" }]);
    const second = await journals.append(subject, list, { expected: first, id: "b" });
    expect(await journals.append(subject, list, { expected: first, id: "b" })).toBe(second);
    expect(await journals.read(subject)).toHaveLength(2);
  });

  test("of a zombie that uses an old message id again stores nothing, also where the broker acknowledges it", async () => {
    const { subject, stream, journals } = await newJournals();
    // Journals use no message ids; this is what would come of it.
    const zombie = openJournals<Note>(withMessageId(bus, "step-1"), stream);
    const first = await append(zombie, subject, 0, { id: "a", text: "before it was stopped" });
    await append(journals, subject, first, { id: "b", text: "its heir's" });
    const ack = JSON.parse((await askWithMessageId(subject, "step-1", first)).string());
    // Brokers before 2.12 look for duplicates first, and the zombie takes that for success.
    if (compareVersions(nats.version, "2.12.0") < 0) expect(ack).toMatchObject({ seq: first, duplicate: true });
    else expect(ack).toMatchObject({ error: { err_code: 10_071 } });
    await expect(append(zombie, subject, first, { id: "c", text: "the zombie's" })).rejects.toThrow(FencedError);
    expect(texts(await journals.read(subject))).toEqual(["a", "b"]);
  });

  test("after something was put there that is no entry is fenced, not tried for ever", async () => {
    const { subject, journals } = await newJournals();
    const first = await append(journals, subject, 0, { id: "a" });
    for (const foreign of ["not JSON", "null", "[]", '"a"', ""]) {
      bus.nc.publish(subject, foreign);
      await bus.nc.flush();
      await expect(append(journals, subject, first, { id: "b" })).rejects.toBeInstanceOf(FencedError);
    }
  });

  test("leaves the other subjects of its stream alone", async () => {
    const { stream, subject, journals } = await newJournals();
    const first = await append(journals, subject, 0, { id: "a" });
    await append(journals, `${stream}.other`, 0, { id: "x" });
    await append(journals, subject, first, { id: "b" });
    expect(texts(await journals.read(subject))).toEqual(["a", "b"]);
    expect(texts(await journals.read(`${stream}.other`))).toEqual(["x"]);
  });

  test("larger than the broker takes says where, how much and the limit, and stores nothing", async () => {
    const { subject, journals } = await newJournals();
    const limit = bus.nc.info?.max_payload ?? 0;
    const note = { id: "a", text: "x".repeat(limit) };
    const failure = await append(journals, subject, 0, note).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(PayloadTooLargeError);
    expect(String(failure)).toContain(
      `${subject}: expected at most ${limit} bytes (the broker's max_payload), got ${bytes(note).length}`,
    );
    expect(await journals.last(subject)).toBeUndefined();
  });

  test("as large as the broker takes is stored, and found again when its answer is lost", async () => {
    const { subject, journals } = await newJournals();
    const limit = bus.nc.info?.max_payload ?? 0;
    const note = { id: "a", text: "x".repeat(limit - 200) };
    const seq = await append(journals, subject, 0, note);
    // With the same expectation it is refused, and the entry is read back.
    expect(await append(journals, subject, 0, note)).toBe(seq);
    expect(await journals.read(subject)).toEqual([{ seq, value: note, bytes: expect.any(Number) }]);
  });

  test("to a stream that is not there yet waits for it", async () => {
    const stream = `S${nuid.next()}`;
    const journals = openJournals<Note>(bus, stream);
    const started = append(journals, `${stream}.run`, 0, { id: "a" });
    await sleep(200);
    await addStream(bus, stream);
    expect(await started).toBe(1);
  });

  test("to a stream that is away does not take its absence for another writer", async () => {
    const stream = `S${nuid.next()}`;
    const journals = openJournals<Note>(bus, stream);
    const stop = new AbortController();
    const started = append(journals, `${stream}.run`, 7, { id: "a" }, stop.signal).catch((error: unknown) => error);
    await sleep(200);
    stop.abort();
    expect(await started).toBeInstanceOf(UnavailableError);
  });
});

describe("while the broker is in trouble", () => {
  let own: TestNats;
  let line: Bus;
  beforeAll(async () => {
    own = await startTestNats();
    line = await connectBus({ servers: own.url, name: "line", inboxPrefix: "_INBOX_line" });
  });
  afterAll(async () => {
    await line?.close();
    await own?.[Symbol.asyncDispose]();
  });

  test("an append that timed out but was stored is found: one entry, and its place", async () => {
    const { subject, journals } = await newJournals(line);
    const first = await append(journals, subject, 0, { id: "a" });
    await freeze(own.pid);
    let settled = false;
    const paused = append(journals, subject, first, { id: "b" }).finally(() => {
      settled = true;
    });
    try {
      // Longer than one request waits, so that the first answer is given up.
      await sleep(5_600);
      expect(settled).toBe(false);
    } finally {
      process.kill(own.pid, "SIGCONT");
    }
    const second = await paused;
    const entries = await journals.read(subject);
    expect(texts(entries)).toEqual(["a", "b"]);
    expect(entries[1]?.seq).toBe(second);
  });

  test("nothing that was acknowledged is lost and nothing is stored twice when it is killed again and again", async () => {
    const stream = `S${nuid.next()}`;
    await addStream(line, stream);
    const journals = openJournals<Note>(line, stream);
    const acknowledged = new Map<string, string[]>();
    let stop = false;
    const writer = async (name: string) => {
      const subject = `${stream}.${name}`;
      const ids: string[] = [];
      acknowledged.set(subject, ids);
      for (let seq = 0; !stop; ) {
        const id = nuid.next();
        seq = await append(journals, subject, seq, { id });
        ids.push(id);
      }
    };
    const writers = Array.from({ length: 8 }, (_, i) => writer(`w${i}`));
    const counted = () => [...acknowledged.values()].reduce((sum, ids) => sum + ids.length, 0);
    for (let kill = 0; kill < 3; kill += 1) {
      const before = counted();
      await until("appends go on", () => counted() > before + 200);
      await own.kill();
      await own.restart();
    }
    const before = counted();
    await until("appends go on after the last kill", () => counted() > before + 50);
    stop = true;
    await Promise.all(writers);
    for (const [subject, ids] of acknowledged) expect(texts(await journals.read(subject))).toEqual(ids);
  });

  test("an append is fenced when another writer came in between", async () => {
    const { stream, subject, journals } = await newJournals(line);
    const first = await append(journals, subject, 0, { id: "a" });
    await own.kill();
    const away = append(journals, subject, first, { id: "zombie" }).catch((error: unknown) => error);
    await own.restart();
    const other = await connectBus({ servers: own.url, name: "other", inboxPrefix: "_INBOX_other" });
    const theirs = append(openJournals<Note>(other, stream), subject, first, { id: "heir" }).catch(
      (error: unknown) => error,
    );
    const results = await Promise.all([away, theirs]);
    expect(results.filter((result) => result instanceof FencedError)).toHaveLength(1);
    expect(results.filter((result) => typeof result === "number")).toHaveLength(1);
    expect(await journals.read(subject)).toHaveLength(2);
    await other.close();
  });

  test("an append waits for as long as it takes, and ends when the daemon stops", async () => {
    const { subject, journals } = await newJournals(line);
    await own.kill();
    const stop = new AbortController();
    const waiting = append(journals, subject, 0, { id: "a" }, stop.signal).catch((error: unknown) => error);
    await sleep(300);
    stop.abort();
    const error = await waiting;
    expect(error).toBeInstanceOf(UnavailableError);
    expect(String(error)).toContain(subject);
    await own.restart();
  });
});

describe("a read", () => {
  test("is whole and in order for thousands of entries, others' entries between them", async () => {
    const { stream, subject, journals } = await newJournals();
    for (let i = 0; i < 2_000; i += 1) {
      bus.nc.publish(subject, bytes({ id: String(i) }));
      bus.nc.publish(`${stream}.other`, bytes({ id: "x" }));
    }
    await bus.nc.flush();
    expect(texts(await journals.read(subject))).toEqual(Array.from({ length: 2_000 }, (_, i) => String(i)));
  });

  test("of several megabytes is whole", async () => {
    const { subject, journals } = await newJournals();
    const text = "x".repeat(900_000);
    let last = 0;
    for (let i = 0; i < 8; i += 1) last = await append(journals, subject, last, { id: String(i), text });
    expect(texts(await journals.read(subject))).toEqual(["0", "1", "2", "3", "4", "5", "6", "7"]);
  });

  test("of nothing is empty, and the newest of nothing is not there", async () => {
    const { stream, journals } = await newJournals();
    expect(await journals.read(`${stream}.nothing`)).toEqual([]);
    expect(await journals.last(`${stream}.nothing`)).toBeUndefined();
  });

  test("leaves no consumer behind, and many can go on at once", async () => {
    const { stream, subject, journals } = await newJournals();
    let last = 0;
    for (const id of ["a", "b", "c"]) last = await append(journals, subject, last, { id });
    const all = await Promise.all(Array.from({ length: 40 }, () => journals.read(subject)));
    for (const entries of all) expect(texts(entries)).toEqual(["a", "b", "c"]);
    const jsm = await bus.jsm();
    await until("the consumers are gone", async () => (await jsm.streams.info(stream)).state.consumer_count === 0);
  });

  test("while entries come has no gap", async () => {
    const { subject, journals } = await newJournals();
    let last = 0;
    let stop = false;
    let written = 0;
    const writing = (async () => {
      while (!stop) {
        last = await append(journals, subject, last, { id: String(written) });
        written += 1;
      }
    })();
    for (let i = 0; i < 10; i += 1) {
      const before = written;
      const ids = texts(await journals.read(subject));
      expect(ids).toEqual(ids.map((_, n) => String(n)));
      expect(ids.length).toBeGreaterThanOrEqual(before);
    }
    stop = true;
    await writing;
  });
});

test("a purge empties one subject only, which then counts as empty", async () => {
  const { stream, subject, journals } = await newJournals();
  await append(journals, subject, 0, { id: "a" });
  await append(journals, `${stream}.other`, 0, { id: "x" });
  await journals.purge(subject);
  expect(await journals.read(subject)).toEqual([]);
  expect(texts(await journals.read(`${stream}.other`))).toEqual(["x"]);
  expect(await append(journals, subject, 0, { id: "b" })).toBeGreaterThan(2);
});

test("an append that NATS does not permit fails at once and names the subject", async () => {
  await using server = await startTestNats({
    configExtra: `authorization {
      users = [
        { user: admin, password: admin }
        { user: reader, password: reader, permissions: { publish: ["$JS.API.>"], subscribe: ["_INBOX_reader.>"] } }
        { user: blind, password: blind, permissions: { publish: ["JOURNAL.*"], subscribe: ["_INBOX_blind.>"] } }
      ]
    }`,
  });
  const as = (user: string) =>
    connectBus({ servers: server.url, name: user, inboxPrefix: `_INBOX_${user}`, user, password: user });
  const [admin, reader, blind] = await Promise.all([as("admin"), as("reader"), as("blind")]);
  await addStream(admin, "JOURNAL");

  const denied = await append(openJournals<Note>(reader, "JOURNAL"), "JOURNAL.run", 0, { id: "a" }).catch(
    (error: unknown) => error,
  );
  expect(denied).toBeInstanceOf(PermissionError);
  expect(denied).toMatchObject({ subject: "JOURNAL.run", code: "permission_denied" });

  // It may write, but not read back what became of a write that was not accepted.
  const writer = openJournals<Note>(blind, "JOURNAL");
  expect(await append(writer, "JOURNAL.run", 0, { id: "b" })).toBe(1);
  await expect(append(writer, "JOURNAL.run", 0, { id: "c" })).rejects.toMatchObject({
    subject: "$JS.API.STREAM.MSG.GET.JOURNAL",
  });
  for (const open of [admin, reader, blind]) await open.close();
});

test("an append whose connection was cut between the write and its answer is found over the next connection", async () => {
  await using cable = await startCable(nats.port);
  const cut = await connectBus({ servers: cable.url, name: "cut", inboxPrefix: "_INBOX_cut" });
  const { stream, subject } = await newJournals();
  const journals = openJournals<Note>(cut, stream);
  const first = await append(journals, subject, 0, { id: "a" });
  cable.muteAnswers();
  const lost = append(journals, subject, first, { id: "b" });
  await until("the entry is stored", async () => {
    const last = await openJournals<Note>(bus, stream).last(subject);
    return last?.value.id === "b";
  });
  cable.cut();
  expect(await lost).toBe(first + 1);
  expect(texts(await journals.read(subject))).toEqual(["a", "b"]);
  await cut.close();
});
