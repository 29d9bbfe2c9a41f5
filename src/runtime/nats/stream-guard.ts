/**
 * Watches that the streams are still those this daemon started with. A stream that somebody deleted, or a broker that was
 * started on another folder, looks like a troupe in which nothing ever happened; to go on there as if fresh would run again
 * what had been run, and hide what is lost.
 *
 * Invariants
 * V1  Streams are made when a daemon starts, never while it runs. Only the door's consumer, which holds nothing, is made again.
 * V2  Streams are lost while one of them is missing or another one than at the start. When all are the old ones again, as with
 *     a broker that is back on its folder, they are not.
 * V3  What the broker does not say is no verdict.
 */
import type { Subjects } from "../subjects.ts";
import type { Bus } from "./connection.ts";
import { NatsError } from "./nats.ts";
import { provisionDoor } from "./provision.ts";

export type StreamGuardOptions = {
  bus: Bus;
  subjects: Subjects;
  ackWaitMs: number;
  /** How often it looks, in milliseconds; also after a reconnect and after an append that met something odd. */
  everyMs: number;
  /** What is lost, in words, or that nothing is any more. */
  changed(loss: string | undefined): void;
  /** The door's consumer was made again. */
  doorMade(): void;
};

export type StreamGuard = {
  stop(): void;
};

const STREAM_NOT_FOUND = 10_059;
// Appends that wait doubt again and again.
const LOOK_PAUSE_MS = 500;

/** Starts watching; resolves once it knows the streams as they are, which have to be there. */
export async function guardStreams(options: StreamGuardOptions): Promise<StreamGuard> {
  const { bus, subjects } = options;
  const names = Object.values(subjects.streams);
  const known = new Map<string, string>();
  let loss: string | undefined;
  let stopped = false;
  let looking = false;
  let pause: NodeJS.Timeout | undefined;
  await look();
  const timer = setInterval(() => void look(), options.everyMs);
  const stopListening = bus.onRestored(() => void look());
  bus.store.onDoubt(lookSoon);

  return {
    stop() {
      stopped = true;
      clearInterval(timer);
      clearTimeout(pause);
      stopListening();
    },
  };

  function lookSoon() {
    if (stopped) return;
    pause ??= setTimeout(() => {
      pause = undefined;
      void look();
    }, LOOK_PAUSE_MS);
  }

  async function look() {
    if (looking || stopped || !bus.connected()) return;
    looking = true;
    try {
      const found = new Map<string, string | undefined>();
      for (const name of names) found.set(name, await createdOf(name));
      judge(found);
      if (loss === undefined) await keepDoor();
    } catch {
      // V3
    } finally {
      looking = false;
    }
  }

  // V2
  function judge(found: ReadonlyMap<string, string | undefined>) {
    for (const [name, created] of found) if (created !== undefined && !known.has(name)) known.set(name, created);
    const missing = names.filter((name) => found.get(name) === undefined);
    const remade = names.filter((name) => found.get(name) !== undefined && found.get(name) !== known.get(name));
    const before = loss;
    loss = lossOf(missing, remade, names.length);
    if (loss !== before && !stopped) options.changed(loss);
  }

  async function createdOf(name: string): Promise<string | undefined> {
    try {
      return (await (await bus.jsm()).streams.info(name)).created;
    } catch (error) {
      if (error instanceof NatsError && error.api_error?.err_code === STREAM_NOT_FOUND) return undefined;
      throw error;
    }
  }

  // V1
  async function keepDoor() {
    if (await provisionDoor(await bus.jsm(), subjects, options.ackWaitMs)) options.doorMade();
  }
}

function lossOf(missing: readonly string[], remade: readonly string[], all: number): string | undefined {
  if (missing.length === all) return "the broker has none of the streams: its store is empty, or another one";
  if (remade.length === all) return "all streams were made again: what was in them is not there any more";
  const parts = [
    ...missing.map((name) => `the stream ${name} was deleted`),
    ...remade.map((name) => `the stream ${name} was deleted and made again`),
  ];
  return parts.length > 0 ? parts.join("; ") : undefined;
}
