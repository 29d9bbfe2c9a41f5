/**
 * Follows a whole stream in order, from a sequence on and for ever, over broker restarts and recreations of the stream.
 *
 * Invariants
 * W1  Entries are given in stream order, each once per start. What a consumer delivers is believed only while its delivery
 *     numbers have no gap; on a gap the consumer is made again from the last entry given.
 * W2  Each consumer has its own inbox, so nothing of a replaced consumer can mix in.
 * W3  A silent consumer (no entry, no heartbeat) is made again: it lives in the broker's memory and dies with it. A
 *     reconnect makes it again at once, because the broker may be another process.
 * W4  At every start the reader is shown the stream as it is and says where to go on; it may find that what it holds is of
 *     another stream, and begin anew.
 * W5  Entries are given in batches outside the socket's callback, so that what the same read of the socket brought for
 *     others (the acknowledgement of an append) is handled first. Flow control is answered after the batch before it.
 *
 * A push consumer with plain options, which works on nats-server 2.9 and newer. Needs permission to publish on
 * `$JS.FC.<stream>.>` beside the consumer API.
 */
import type { Logger } from "pino";
import type { Bus } from "./connection.ts";
import { deliveryOf } from "./delivery.ts";
import { AckPolicy, DeliverPolicy, Events, type Msg, nanos, nuid, type StreamInfo } from "./nats.ts";

export type FollowedEntry = {
  seq: number;
  subject: string;
  data: Uint8Array;
  /** When the broker stored it, in nanoseconds; with `seq` it identifies the entry. */
  storedAt: string;
};

export type StreamFacts = {
  /** Differs when the stream was deleted and made again. */
  created: string;
  firstSeq: number;
  lastSeq: number;
};

export type FollowOptions = {
  bus: Bus;
  stream: string;
  logger: Logger;
  /** Says where to start; called again after every interruption. */
  from(stream: StreamFacts): number;
  entries(batch: FollowedEntry[]): void;
  /** Everything that was stored when the consumer started has been given. */
  caughtUp(): void;
  /** Entries may be late from now on, until the next `caughtUp`. */
  interrupted?(): void;
};

export type Follower = {
  /** Starts over: `from` is asked again. */
  restart(): void;
  stop(): Promise<void>;
};

type Item = FollowedEntry & { pending: number };
/** One consumer's life. */
type Attempt = {
  inbox: string;
  name: string;
  delivered: number;
  heardAt: number;
  queue: (Item | { flowControl: Msg })[];
  lastAtStart: number;
  caughtUp: boolean;
  close(): void;
};

const HEARTBEAT_MS = 1_000;
// Two heartbeats missed, and some time for a busy event loop.
const SILENCE_MS = 3_000;
const RETRY_MIN_MS = 100;
const RETRY_MAX_MS = 2_000;
// Long enough to be cheap per entry, short enough to let other work in between while a large stream is read.
const BATCH = 256;
const INACTIVE_MS = 10_000;

/** Starts following `stream`; connects by itself when the broker or the stream is not there yet. */
export function followStream(options: FollowOptions): Follower {
  const { bus, stream, logger } = options;
  let attempt: Attempt | undefined;
  let stopped = false;
  let generation = 0;
  let draining = false;
  const status = bus.nc.status();
  void watchConnection();
  const watchdog = setInterval(checkSilence, HEARTBEAT_MS);
  void run();

  return {
    restart: () => void run(),
    async stop() {
      stopped = true;
      clearInterval(watchdog);
      const name = attempt?.name;
      drop();
      if (name && bus.connected()) await (await bus.jsm()).consumers.delete(stream, name).catch(() => {});
    },
  };

  /** Replaces the consumer, trying until it works or something newer replaces this. */
  async function run() {
    generation += 1;
    const mine = generation;
    drop();
    options.interrupted?.();
    for (let wait = RETRY_MIN_MS; !stopped && mine === generation; wait = Math.min(wait * 2, RETRY_MAX_MS)) {
      try {
        await open(mine);
        return;
      } catch (error) {
        logger.debug({ err: error, stream }, "cannot follow the stream yet");
        await new Promise((resolve) => setTimeout(resolve, wait));
      }
    }
  }

  async function open(mine: number) {
    const jsm = await bus.jsm();
    const info = await jsm.streams.info(stream);
    if (stopped || mine !== generation) return;
    const startSeq = Math.max(1, options.from(factsOf(info)));
    const next = subscribe(info.state.last_seq);
    try {
      const consumer = await jsm.consumers.add(stream, {
        name: next.name,
        deliver_subject: next.inbox,
        deliver_policy: DeliverPolicy.StartSequence,
        opt_start_seq: startSeq,
        ack_policy: AckPolicy.None,
        max_deliver: 1,
        mem_storage: true,
        num_replicas: 1,
        flow_control: true,
        idle_heartbeat: nanos(HEARTBEAT_MS),
        inactive_threshold: nanos(INACTIVE_MS),
      });
      if (stopped || mine !== generation) {
        next.close();
        return;
      }
      attempt = next;
      next.heardAt = performance.now();
      if (consumer.num_pending === 0 || startSeq > next.lastAtStart) noteCaughtUp(next);
      scheduleDrain();
    } catch (error) {
      next.close();
      throw error;
    }
  }

  function subscribe(lastAtStart: number): Attempt {
    // W2
    const inbox = bus.inbox();
    const subscription = bus.nc.subscribe(inbox, { callback: (error, message) => error ?? hear(next, message) });
    const next: Attempt = {
      inbox,
      name: `follow-${nuid.next()}`,
      delivered: 0,
      heardAt: performance.now(),
      queue: [],
      lastAtStart,
      caughtUp: false,
      close: () => subscription.unsubscribe(),
    };
    return next;
  }

  function drop() {
    const old = attempt;
    attempt = undefined;
    if (!old) return;
    old.queue.length = 0;
    old.close();
  }

  function hear(from: Attempt, message: Msg) {
    from.heardAt = performance.now();
    // What the broker says itself is empty; entries never are, and reading the headers of each is dear.
    if (message.data.length === 0 && message.headers?.code === 100) {
      hearControl(from, message);
      return;
    }
    const item = parse(message);
    if (!item) return;
    // W1
    if (item.delivery !== from.delivered + 1) {
      if (from === attempt) void run();
      return;
    }
    from.delivered = item.delivery;
    from.queue.push(item);
    if (from === attempt) scheduleDrain();
  }

  function hearControl(from: Attempt, message: Msg) {
    // With a reply subject it asks for flow control, without one it is a heartbeat.
    if (message.reply) {
      from.queue.push({ flowControl: message });
      if (from === attempt) scheduleDrain();
      return;
    }
    const stalled = message.headers?.get("Nats-Consumer-Stalled");
    if (stalled) bus.nc.publish(stalled);
    const delivered = Number(message.headers?.get("Nats-Last-Consumer"));
    // W1: the heartbeat knows of entries that never came.
    if (from === attempt && delivered > from.delivered) void run();
  }

  function scheduleDrain() {
    if (draining) return;
    draining = true;
    // W5
    setImmediate(drain);
  }

  function drain() {
    draining = false;
    const current = attempt;
    if (!current) return;
    const batch: Item[] = [];
    const taken = current.queue.splice(0, BATCH);
    for (const item of taken) if (!("flowControl" in item)) batch.push(item);
    try {
      if (batch.length > 0) options.entries(batch);
    } catch (error) {
      // A reader that fails on an entry must not take the process down, nor meet the same entry again at every start.
      logger.error({ err: error, stream }, "entries of the stream could not be handled");
    }
    for (const item of taken) if ("flowControl" in item) item.flowControl.respond();
    // The reader may have asked to start over.
    if (current !== attempt) return;
    const last = batch.at(-1);
    if (last && (last.pending === 0 || last.seq >= current.lastAtStart)) noteCaughtUp(current);
    if (current.queue.length > 0) scheduleDrain();
  }

  function noteCaughtUp(current: Attempt) {
    if (current.caughtUp) return;
    current.caughtUp = true;
    options.caughtUp();
  }

  // W3
  function checkSilence() {
    if (attempt && bus.connected() && performance.now() - attempt.heardAt > SILENCE_MS) {
      logger.debug({ stream }, "the consumer fell silent; making it again");
      void run();
    }
  }

  // W3
  async function watchConnection() {
    for await (const { type } of status) {
      if (stopped) return;
      if (type === Events.Reconnect) void run();
    }
  }
}

function factsOf({ created, state }: StreamInfo): StreamFacts {
  return { created, firstSeq: state.first_seq, lastSeq: state.last_seq };
}

function parse(message: Msg): (Item & { delivery: number }) | undefined {
  const delivered = deliveryOf(message);
  if (!delivered) return undefined;
  const { seq, delivery, storedAt, pending } = delivered;
  return { seq, delivery, storedAt, pending, subject: message.subject, data: message.data };
}
