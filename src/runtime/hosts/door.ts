/**
 * The door: takes requests from the work queue, as many as there is room for, and lets go of each once it is a run.
 *
 * Invariants
 * G1  A request is acknowledged only after its run is in the journal. An acknowledgement that gets lost costs a redelivery,
 *     which finds the run and is dropped.
 * G2  Nothing is taken that there is no room for: a request waits in the queue, not in a daemon.
 * G3  A request that only another living daemon can run is put back for it; one that nobody can run becomes a failed run.
 */
import type { Logger } from "pino";
import { toErrorRecord, UnavailableError } from "../../errors.ts";
import type { Bus } from "../nats/connection.ts";
import type { ConsumerMessages, JsMsg } from "../nats/nats.ts";
import type { Subjects } from "../subjects.ts";
import { crashPoints } from "./crash-points.ts";
import { storeDeadLetter } from "./dead-letters.ts";
import type { IncomingRequest } from "./request.ts";
import { readRequest } from "./request.ts";

export type DoorOptions = {
  bus: Bus;
  subjects: Subjects;
  logger: Logger;
  /** How many more runs this daemon may own now. */
  room: () => number;
  /**
   * Whether this daemon, another living one, nobody for the moment, or nobody at all can drive a workflow; `version` is the one
   * that is wanted, where it has to be that one.
   */
  whoRuns: (workflow: string, version: string | undefined) => "here" | "elsewhere" | "nobody now" | "nobody";
  accept: (incoming: IncomingRequest) => Promise<"accepted" | "exists">;
  /** Something went to the dead letters. */
  deadLettered: () => void;
  /** The request is a run already; whoever asked again still waits for the result. */
  repeated: (incoming: IncomingRequest) => void;
};

export type Door = {
  /** Requests that waited behind the last one taken. */
  depth(): number;
  /** Takes nothing of what it has asked for and not got yet; it asks again when there is room. */
  interrupt(): void;
  /** Takes nothing new; resolves when what was taken is a run or put back. */
  close(): Promise<void>;
};

// One pull asks for at most this many; more would only be held by the broker's bookkeeping.
const MAX_PULL = 256;
const PULL_EXPIRES_MS = 10_000;
const NO_ROOM_MS = 20;
const RETRY_MIN_MS = 100;
const RETRY_MAX_MS = 2_000;
// Long enough for another daemon's pull to get it, short enough not to be felt.
const ELSEWHERE_MS = 50;
// What NATS denies is mended by a person.
const BURY_AGAIN_MS = 30_000;
const MAX_UNBURIED = 10_000;

/** Opens the door; it waits by itself for a broker that is not there. */
export function openDoor(options: DoorOptions): Door {
  const { bus, subjects, logger, room, whoRuns, accept, repeated, deadLettered } = options;
  const inHand = new Set<Promise<void>>();
  /** Requests that cannot be made a run nor a dead letter, by their sequence. */
  const unburied = new Set<number>();
  let pull: ConsumerMessages | undefined;
  let open = true;
  let depth = 0;
  const loop = take();

  return {
    depth: () => depth,
    interrupt: () => pull?.stop(),
    async close() {
      open = false;
      pull?.stop();
      await loop;
      await Promise.all(inHand);
    },
  };

  async function take() {
    for (let wait = RETRY_MIN_MS; open; ) {
      // G2
      const free = Math.min(room() - inHand.size, MAX_PULL);
      if (free <= 0) {
        await sleep(NO_ROOM_MS);
        continue;
      }
      try {
        const consumer = await bus.js.consumers.get(subjects.streams.requests, subjects.doorConsumer);
        wait = RETRY_MIN_MS;
        while (open && room() - inHand.size > 0) {
          pull = await consumer.fetch({
            max_messages: Math.min(room() - inHand.size, MAX_PULL),
            expires: PULL_EXPIRES_MS,
          });
          depth = 0;
          for await (const message of pull) {
            depth = message.info.pending;
            const handled = handle(message);
            inHand.add(handled);
            void handled.finally(() => inHand.delete(handled));
          }
        }
      } catch (error) {
        if (!open) return;
        logger.debug({ err: error }, "the door cannot be reached yet");
        await sleep(wait);
        wait = Math.min(wait * 2, RETRY_MAX_MS);
      }
    }
  }

  async function handle(message: JsMsg): Promise<void> {
    if (!open) return message.nak();
    const incoming = readRequest(message);
    // G3
    const { retryOf, version } = incoming.request;
    const who = whoRuns(incoming.workflow, retryOf?.hash ?? version);
    if (who === "elsewhere") return message.nak(ELSEWHERE_MS);
    if (who === "nobody now") return message.nak(RETRY_MAX_MS);
    try {
      const result = await accept(incoming);
      // G1
      crashPoints.at("before-request-ack");
      message.ack();
      crashPoints.onceSent("after-request-ack");
      if (result === "exists") repeated(incoming);
    } catch (error) {
      if (error instanceof UnavailableError) return;
      await bury(message, incoming, error);
    }
  }

  /** A request that cannot even become a failed run goes to the dead letters, with the reason; else it would come for ever. */
  async function bury(message: JsMsg, incoming: IncomingRequest, error: unknown): Promise<void> {
    const { runId, workflow, traceparent } = incoming;
    const { subject, data } = message;
    const reason = toErrorRecord(error);
    // One that comes again and again is not told each time.
    const level = unburied.has(message.seq) ? "debug" : "error";
    logger[level]({ runId, workflow, err: error }, "the request could not be made a run; it goes to the dead letters");
    const origin = { subject, runId, workflow, ...(traceparent !== undefined && { traceparent }) };
    try {
      await storeDeadLetter(bus, subjects, { kind: "requests", name: workflow, data, reason, ...origin });
      deadLettered();
      message.term();
      unburied.delete(message.seq);
    } catch (failure) {
      logger[level]({ runId, err: failure }, "the dead letter could not be stored; the request will come again");
      unburied.add(message.seq);
      if (unburied.size > MAX_UNBURIED) unburied.delete(unburied.values().next().value as number);
      message.nak(BURY_AGAIN_MS);
    }
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
