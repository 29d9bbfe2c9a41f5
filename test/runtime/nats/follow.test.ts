import { pino } from "pino";
import { expect, test } from "vitest";
import { followStream, type StreamFacts } from "../../../src/runtime/nats/follow.ts";
import { nuid, StorageType } from "../../../src/runtime/nats/nats.ts";
import { sharedBus } from "../../helpers/shared-bus.ts";
import { until } from "../../helpers/until.ts";

const logger = pino({ level: "silent" });
const { bus } = await sharedBus();

async function newStream(): Promise<string> {
  const stream = `S${nuid.next()}`;
  await (await bus.jsm()).streams.add({ name: stream, subjects: [`${stream}.*`], storage: StorageType.File });
  return stream;
}

test("every entry of a large stream is given once and in order, with other work done in between", async () => {
  const stream = await newStream();
  const body = new Uint8Array(2_048);
  for (let i = 0; i < 10_000; i += 1) bus.nc.publish(`${stream}.a`, body);
  // From 2.10 on the broker answers the flush before it has stored what came before.
  await until("all are stored", async () => (await (await bus.jsm()).streams.info(stream)).state.messages === 10_000);
  const seqs: number[] = [];
  let batches = 0;
  let caughtUpAt = 0;
  let turns = 0;
  const ticking = setInterval(() => {
    turns += 1;
  });
  const follower = followStream({
    bus,
    stream,
    logger,
    from: () => 1,
    entries(batch) {
      batches += 1;
      for (const { seq } of batch) seqs.push(seq);
    },
    caughtUp: () => {
      caughtUpAt = seqs.length;
    },
  });
  await until("all are given", () => seqs.length === 10_000);
  clearInterval(ticking);
  await follower.stop();
  expect(seqs).toEqual(Array.from({ length: 10_000 }, (_, i) => i + 1));
  expect(caughtUpAt).toBe(10_000);
  expect(batches).toBeGreaterThan(10);
  expect(turns).toBeGreaterThan(1);
});

test("a reader that starts over is asked where, sees the stream as it is, and misses nothing", async () => {
  const stream = await newStream();
  for (let i = 0; i < 10; i += 1) bus.nc.publish(`${stream}.a`, String(i));
  await bus.nc.flush();
  const shown: StreamFacts[] = [];
  const seqs: number[] = [];
  const follower = followStream({
    bus,
    stream,
    logger,
    from(facts) {
      shown.push(facts);
      return (seqs.at(-1) ?? 0) + 1;
    },
    entries: (batch) => seqs.push(...batch.map(({ seq }) => seq)),
    caughtUp() {},
  });
  await until("ten are given", () => seqs.length === 10);
  follower.restart();
  follower.restart();
  for (let i = 0; i < 10; i += 1) bus.nc.publish(`${stream}.a`, String(i));
  await until("twenty are given", () => seqs.length === 20);
  await follower.stop();
  expect(seqs).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
  expect(shown[0]).toMatchObject({ firstSeq: 1, lastSeq: 10, created: expect.any(String) });
});

test("a stopped reader is given nothing more and leaves no consumer behind", async () => {
  const stream = await newStream();
  let given = 0;
  let caughtUp = false;
  const entries = () => {
    given += 1;
  };
  const follower = followStream({
    bus,
    stream,
    logger,
    from: () => 1,
    entries,
    caughtUp: () => {
      caughtUp = true;
    },
  });
  await until("it is caught up with nothing", () => caughtUp);
  const jsm = await bus.jsm();
  expect((await jsm.streams.info(stream)).state.consumer_count).toBe(1);
  await follower.stop();
  expect((await jsm.streams.info(stream)).state.consumer_count).toBe(0);
  bus.nc.publish(`${stream}.a`, "late");
  await bus.nc.flush();
  expect(given).toBe(0);
});
