/** The journals as they stand in the broker, read without the code under test. */
import { connect, type NatsConnection } from "nats";
import type { TaskEntry } from "../../src/actors/task.ts";
import type { RunEvent } from "../../src/workflows/run-events.ts";
import { until } from "./until.ts";

/** A stored message; `at` is when the broker stored it, in milliseconds since the epoch. */
export type Stored<T> = { seq: number; subject: string; at: number; value: T };

export type RawJournals = {
  readonly nc: NatsConnection;
  /** All entries of all runs, in stream order. */
  runs(): Promise<Stored<RunEvent[]>[]>;
  /** All entries of all tasks, in stream order. */
  tasks(): Promise<Stored<TaskEntry>[]>;
  [Symbol.asyncDispose](): Promise<void>;
};

/** Connects to the broker. */
export async function openRawJournals(servers: string, prefix = "TROUPE"): Promise<RawJournals> {
  const nc = await connect({ servers, maxReconnectAttempts: -1, reconnectTimeWait: 100, waitOnFirstConnect: true });
  return {
    nc,
    runs: () => readAll<RunEvent[]>(nc, `${prefix}_RUNS`),
    tasks: () => readAll<TaskEntry>(nc, `${prefix}_TASKS`),
    [Symbol.asyncDispose]: () => nc.close(),
  };
}

/** In a cluster a consumer may be led by a server that lags; the stream's own leader says how far there is to read. */
async function readAll<T>(nc: NatsConnection, stream: string): Promise<Stored<T>[]> {
  const jsm = await nc.jetstreamManager();
  const { state } = await jsm.streams.info(stream);
  return until(`all of ${stream} to be read`, async () => {
    const stored = await readOnce<T>(nc, stream);
    return (stored.at(-1)?.seq ?? 0) >= (state.messages === 0 ? 0 : state.last_seq) && stored;
  });
}

async function readOnce<T>(nc: NatsConnection, stream: string): Promise<Stored<T>[]> {
  const jsm = await nc.jetstreamManager();
  const consumer = await jsm.consumers.add(stream, {
    ack_policy: "none" as never,
    mem_storage: true,
    inactive_threshold: 5e9,
  });
  const handle = await nc.jetstream().consumers.get(stream, consumer.name);
  const stored: Stored<T>[] = [];
  for (let pending = consumer.num_pending; pending > 0; ) {
    for await (const message of await handle.fetch({ max_messages: Math.min(pending, 1_000), expires: 5_000 })) {
      const at = message.info.timestampNanos / 1e6;
      stored.push({ seq: message.seq, subject: message.subject, at, value: message.json<T>() });
      pending = message.info.pending;
    }
  }
  await jsm.consumers.delete(stream, consumer.name);
  return stored;
}

/** Entries by run id. */
export function byRun(entries: readonly Stored<RunEvent[]>[]): Map<string, Stored<RunEvent[]>[]> {
  return Map.groupBy(entries, ({ subject }) => subject.slice(subject.lastIndexOf(".") + 1));
}
