/**
 * The floor: what JetStream alone would do if storing messages were all there is to a run. As many messages as a run stores,
 * of the same size, one after the other for each "run", as many runs in flight, through the same client library.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Bus } from "../src/runtime/nats/connection.ts";
import { RetentionPolicy, StorageType } from "../src/runtime/nats/nats.ts";
import { storedIn } from "./stored.ts";

export type FloorOptions = {
  /** What one run stores; messages need not be whole. */
  perRun: { messages: number; bytes: number };
  inFlight: number;
  seconds: number;
};

const STREAM = "BENCH_FLOOR";
const TIMEOUT_MS = 10_000;
/** What a file store keeps beside the subject and the payload of each message: lengths, sequence, time, checksum. */
const RECORD_BYTES = 30;
const SUBJECT = "bench.floor";
/** The length of the subject of an average run. */
const SUBJECT_BYTES = SUBJECT.length + 6;

/** Measures the floor in runs per second. */
export async function measureFloor(bus: Bus, { perRun, inFlight, seconds }: FloorOptions): Promise<number> {
  const jsm = await bus.jsm();
  await jsm.streams.add({
    name: STREAM,
    subjects: [`${SUBJECT}.*`],
    retention: RetentionPolicy.Limits,
    storage: StorageType.File,
  });
  const payloadBytes = Math.round(perRun.bytes / perRun.messages) - RECORD_BYTES - SUBJECT_BYTES;
  const payload = new Uint8Array(Math.max(1, payloadBytes)).fill(120);
  let runs = 0;
  let goOn = true;
  const append = async () => {
    while (goOn) {
      runs += 1;
      const subject = `${SUBJECT}.${runs}`;
      for (let i = 0; goOn && i < Math.round(perRun.messages); i += 1) {
        const { error } = (await bus.nc.request(subject, payload, { timeout: TIMEOUT_MS })).json<{ error?: unknown }>();
        if (error) throw new Error(`${subject}: expected it to be stored, got ${JSON.stringify(error)}`);
      }
    }
  };
  const appending = Promise.all(Array.from({ length: inFlight }, append));
  await sleep(seconds * 200);
  const [before, from] = [await storedIn(bus, [STREAM]), performance.now()];
  await Promise.race([sleep(seconds * 1_000), appending]);
  const [after, to] = [await storedIn(bus, [STREAM]), performance.now()];
  goOn = false;
  await appending;
  await jsm.streams.delete(STREAM);
  return (after.messages - before.messages) / perRun.messages / ((to - from) / 1_000);
}
