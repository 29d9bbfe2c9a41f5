/**
 * Follows a stream of journals as it stands in the broker, over restarts of the broker, without the code under test.
 *
 * Invariants
 * F1  Every entry is given once and in order. A sequence number that is missing or comes back is a problem, not a surprise.
 * F2  A consumer is never trusted to be there: nothing new for a while means that the stream itself is asked.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { AckPolicy, DeliverPolicy, type NatsConnection } from "nats";
import type { Stored } from "../test/helpers/raw-journals.ts";

export type FollowOptions<T> = {
  stream: string;
  /** Makes a stored value whole, whose large parts are elsewhere. */
  whole(value: T): Promise<T>;
  take(entry: Stored<T>): void;
  onProblem(problem: string): void;
};

export type JournalFollower = {
  /** Up to where entries were given. */
  readonly position: number;
  stop(): Promise<void>;
};

const BATCH = 500;
const FETCH_MS = 1_000;
const AGAIN_MS = 200;
const FORGET_CONSUMER_NS = 30e9;

/** Starts following from the stream's beginning. */
export function followJournals<T>(nc: NatsConnection, options: FollowOptions<T>): JournalFollower {
  const { stream, whole, take, onProblem } = options;
  let next = 1;
  let stopped = false;
  const loop = follow();
  return {
    get position() {
      return next - 1;
    },
    async stop() {
      stopped = true;
      await loop;
    },
  };

  async function follow(): Promise<void> {
    while (!stopped) {
      try {
        await consume();
      } catch {
        // The broker is away, or was away and has forgotten the consumer.
        await sleep(AGAIN_MS);
      }
    }
  }

  async function consume(): Promise<void> {
    const manager = await nc.jetstreamManager();
    const { name } = await manager.consumers.add(stream, {
      ack_policy: AckPolicy.None,
      mem_storage: true,
      inactive_threshold: FORGET_CONSUMER_NS,
      deliver_policy: DeliverPolicy.StartSequence,
      opt_start_seq: next,
    });
    const consumer = await nc.jetstream().consumers.get(stream, name);
    let isFresh = true;
    while (!stopped) {
      let got = 0;
      for await (const message of await consumer.fetch({ max_messages: BATCH, expires: FETCH_MS })) {
        got += 1;
        if (message.seq < next) continue;
        // F1: what was on its way when the connection broke does not come again, except from a new consumer.
        if (message.seq > next && !isFresh) throw new Error("an entry was lost on the way");
        if (message.seq > next) onProblem(`${stream}: expected entry ${next}, got ${message.seq}`);
        isFresh = false;
        const { seq, subject } = message;
        const value = await whole(message.json<T>());
        take({ seq, subject, at: message.info.timestampNanos / 1e6, value });
        next = Math.max(next, seq + 1);
      }
      if (got === 0) await lookAgain(manager);
    }
    await manager.consumers.delete(stream, name).catch(() => {});
  }

  // F2
  async function lookAgain(manager: Awaited<ReturnType<NatsConnection["jetstreamManager"]>>): Promise<void> {
    const { state } = await manager.streams.info(stream);
    if (state.last_seq < next - 1) {
      onProblem(`${stream}: the broker had entry ${next - 1} and now ends at ${state.last_seq}`);
      next = state.last_seq + 1;
      throw new Error("the stream went back");
    }
    if (state.last_seq >= next) throw new Error("the consumer is gone");
  }
}
