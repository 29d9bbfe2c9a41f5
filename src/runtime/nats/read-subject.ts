/**
 * Reads what a stream has of one subject, oldest first: with a consumer that lives for the read, over one shared inbox. The
 * client's own consumers ask the broker twice as often and cost several times as much, which a daemon that takes a thousand
 * runs over at once cannot spare.
 *
 * Invariants
 * S1  A read is whole, or as long as was asked for, or throws: it ends where the consumer says nothing is pending, not where
 *     the stream paused.
 * S2  What a consumer delivers is believed only while its delivery numbers have no gap.
 * S3  Every read settles: with its messages, with the broker's refusal, when too little comes in time, or when the connection
 *     is back, because what was asked before it was lost is not answered.
 */
import { UnavailableError } from "../../errors.ts";
import { TransientMap } from "../transient-map.ts";
import type { Bus } from "./connection.ts";
import { deliveryOf } from "./delivery.ts";
import { AckPolicy, DeliverPolicy, type Msg, nanos, nuid } from "./nats.ts";

/** A stored message. */
type StoredMessage = { seq: number; data: Uint8Array };

type ReadOptions = {
  /** The sequence to begin at. */
  from: number;
  /** How much is enough. */
  bytes: number;
};

/** Reads a subject's messages. @throws UnavailableError when they cannot be read now; PermissionError. */
export type ReadSubject = (subject: string, options: ReadOptions) => Promise<StoredMessage[]>;

/** One batch on its way. */
type Batch = {
  wanted: number;
  readonly messages: StoredMessage[];
  /** Of the messages before it (S2). */
  delivered: number;
  pending: number;
  readonly over: () => void;
  readonly fail: (error: Error) => void;
};

type Created = { num_pending?: number; error?: { description?: string } };

const TIMEOUT_MS = 5_000;
// After the broker has given up on a batch.
const BATCH_TIMEOUT_MS = TIMEOUT_MS + 1_000;
const INACTIVE_MS = 10_000;
const READ_BATCH = 500;
// Of a read that is to end early: so many messages too many may come.
const SHORT_READ_BATCH = 50;

/** Opens the reading of one stream; it ends with the connection. */
export function openSubjectReader(bus: Bus, stream: string): ReadSubject {
  const { nc } = bus;
  /** By consumer. */
  const batches = new TransientMap<string, Batch>();
  let inbox: string | undefined;

  return async function read(subject, { from, bytes }) {
    const name = `read-${nuid.next()}`;
    let pending = await create(name, subject, from);
    const messages: StoredMessage[] = [];
    try {
      for (let length = 0, delivered = 0; pending > 0 && length < bytes; ) {
        const wanted = Math.min(pending, Number.isFinite(bytes) ? SHORT_READ_BATCH : READ_BATCH);
        const batch = await next(name, subject, { wanted, delivered });
        messages.push(...batch.messages);
        for (const { data } of batch.messages) length += data.length;
        ({ delivered, pending } = batch);
      }
    } finally {
      remove(name);
    }
    return messages;
  };

  /** Its inactivity threshold removes a consumer where this cannot. */
  function remove(name: string) {
    try {
      if (bus.connected()) nc.publish(`$JS.API.CONSUMER.DELETE.${stream}.${name}`);
    } catch {
      // The connection is closing.
    }
  }

  /** Makes a consumer and says how much it has. */
  async function create(name: string, subject: string, from: number): Promise<number> {
    const config = {
      name,
      filter_subject: subject,
      ack_policy: AckPolicy.None,
      ...(from > 1
        ? { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: from }
        : { deliver_policy: DeliverPolicy.All }),
      replay_policy: "instant",
      mem_storage: true,
      num_replicas: 1,
      inactive_threshold: nanos(INACTIVE_MS),
    };
    const request = JSON.stringify({ stream_name: stream, config });
    const reply = await bus.request(`$JS.API.CONSUMER.CREATE.${stream}.${name}.${subject}`, request, {
      timeoutMs: TIMEOUT_MS,
    });
    const { num_pending, error } = reply.json<Created>();
    if (error || num_pending === undefined) throw refused(subject, error?.description);
    return num_pending;
  }

  async function next(
    name: string,
    subject: string,
    { wanted, delivered }: Pick<Batch, "wanted" | "delivered">,
  ): Promise<Batch> {
    inbox ??= listen();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const batch: Batch = { wanted, delivered, messages: [], pending: wanted, over: resolve, fail: reject };
    batches.set(name, batch);
    const giveUp = () => reject(refused(subject, `${batch.wanted} messages did not arrive`));
    const timer = setTimeout(giveUp, BATCH_TIMEOUT_MS);
    const stopListening = bus.onRestored(() => reject(refused(subject, "the connection was lost")));
    try {
      const ask = JSON.stringify({ batch: wanted, expires: nanos(TIMEOUT_MS) });
      nc.publish(`$JS.API.CONSUMER.MSG.NEXT.${stream}.${name}`, ask, { reply: `${inbox}.${name}` });
      await promise;
      return batch;
    } finally {
      clearTimeout(timer);
      stopListening();
      batches.delete(name);
    }
  }

  function listen(): string {
    const subject = bus.inbox();
    nc.subscribe(`${subject}.*`, { callback: (error, message) => error ?? hear(message) });
    return subject;
  }

  function hear(message: Msg) {
    const from = deliveryOf(message);
    if (!from) {
      // What the broker says itself: that there is nothing to wait for.
      const { description = "" } = message.headers ?? {};
      batches.get(message.subject.slice(message.subject.lastIndexOf(".") + 1))?.fail(refused(stream, description));
      return;
    }
    const batch = batches.get(from.consumer);
    if (!batch) return;
    // S2
    if (from.delivery !== batch.delivered + 1) return batch.fail(refused(message.subject, "a message did not arrive"));
    batch.delivered = from.delivery;
    batch.pending = from.pending;
    batch.wanted -= 1;
    batch.messages.push({ seq: from.seq, data: message.data });
    // S1
    if (batch.wanted === 0) batch.over();
  }
}

function refused(where: string, why = "no answer"): UnavailableError {
  return new UnavailableError(`${where}: ${why}`);
}
