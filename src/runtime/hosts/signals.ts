/**
 * Signals for runs: kept in a stream by whoever sends them, followed here, and given to the run's owner.
 *
 * Invariants
 * N1  A signal takes effect only through a journal entry of the run's owner; the stream only carries it.
 * N2  A signal may come before its run does, or while nobody owns it: it is kept, bounded, until it is on record or its run
 *     is over.
 * N3  A run is given its signals in the order in which they were sent, those of before again with every new one: it takes
 *     none that is not after the last it took.
 */
import type { Logger } from "pino";
import { isTerminal, type RunEvent } from "../../workflows/run-events.ts";
import type { Bus } from "../nats/connection.ts";
import { followStream } from "../nats/follow.ts";
import type { Subjects } from "../subjects.ts";

/** The wire form of a signal. */
export type Signal = { v: 1; at: string } & (CancelSignal | ({ kind: "signal" } & NamedSignal));

export type CancelSignal = {
  kind: "cancel";
  id: string;
  reason?: string;
  by?: string;
  /** Nothing is waited for nor undone. */
  force?: true;
};

/** What a step may wait for; `id` is its sender's, so that it can be sent again. */
export type NamedSignal = { id: string; name: string; payload?: unknown };

export type SignalsOptions = {
  bus: Bus;
  subjects: Subjects;
  logger: Logger;
  /** Gives a signal to the run's owner, if that is this daemon. */
  deliver: (runId: string, seq: number, signal: Signal) => boolean;
  /** Whether a run is known to be over. */
  isOver: (runId: string) => boolean;
};

export type Signals = {
  /** What was sent before this daemon started has been read. */
  ready(): Promise<void>;
  /** The cancel that was sent to a run before it began, if one was. */
  cancelOf(runId: string): { seq: number; reason?: string; by?: string } | undefined;
  /** Gives a run that has just come here what was sent to it before. */
  release(runId: string): void;
  /** An entry of a run was seen: signals that are on record need not be kept. */
  seen(runId: string, events: readonly RunEvent[]): void;
  stop(): Promise<void>;
};

// Runs with a signal that is not on record: of owners that are gone, and requests still at the door.
const MAX_KEPT = 100_000;

/** Starts following signals from the beginning of what the broker keeps. */
export function followSignals({ bus, subjects, logger, deliver, isOver }: SignalsOptions): Signals {
  const kept = new Map<string, { seq: number; signal: Signal }[]>();
  let next = 1;
  let caughtUp: () => void = () => {};
  const ready = new Promise<void>((resolve) => {
    caughtUp = resolve;
  });
  const follower = followStream({
    bus,
    stream: subjects.streams.signals,
    logger,
    from: ({ lastSeq }) => {
      // The stream was made again and counts from 1.
      if (lastSeq < next - 1) next = 1;
      return next;
    },
    entries(batch) {
      for (const { seq, subject, data } of batch) {
        next = seq + 1;
        hear(subject.slice(subject.lastIndexOf(".") + 1), seq, data);
      }
    },
    caughtUp: () => caughtUp(),
  });

  return {
    ready: () => ready,
    cancelOf(runId) {
      for (const { seq, signal } of kept.get(runId) ?? []) {
        if (signal.kind !== "cancel") continue;
        const { reason, by } = signal;
        return { seq, ...(reason !== undefined && { reason }), ...(by !== undefined && { by }) };
      }
      return undefined;
    },
    release,
    // N2
    seen(runId, events) {
      const before = kept.get(runId);
      if (!before) return;
      if (events.some(({ type }) => isTerminal(type))) return void kept.delete(runId);
      const taken = events.reduce(
        (last, { type, data }) => (type === "signal.received" && data.kind === "signal" ? data.seq : last),
        0,
      );
      if (taken === 0) return;
      const left = before.filter(({ seq, signal }) => signal.kind === "cancel" || seq > taken);
      if (left.length > 0) kept.set(runId, left);
      else kept.delete(runId);
    },
    stop: () => follower.stop(),
  };

  function hear(runId: string, seq: number, data: Uint8Array) {
    const signal = readSignal(data);
    if (!signal) {
      logger.warn({ runId, seq }, "not a signal");
      return;
    }
    if (isOver(runId)) return;
    // N2: kept even where it is delivered, because the owner may change before it is on record.
    kept.set(runId, [...(kept.get(runId) ?? []), { seq, signal }]);
    release(runId);
    if (kept.size > MAX_KEPT) kept.delete(kept.keys().next().value as string);
  }

  // N3
  function release(runId: string) {
    for (const { seq, signal } of kept.get(runId) ?? []) deliver(runId, seq, signal);
  }
}

/** Anybody may write to the stream, so nothing is taken for granted. */
function readSignal(data: Uint8Array): Signal | undefined {
  try {
    const signal = JSON.parse(Buffer.from(data).toString("utf8")) as { [key: string]: unknown } | null;
    const { kind, reason, by, force, id, name } = signal ?? {};
    const isWords = [reason, by].every((words) => words === undefined || typeof words === "string");
    const isNamed = kind === "signal" && typeof name === "string" && typeof id === "string";
    const isCancel = kind === "cancel" && isWords && (force === undefined || force === true);
    return isCancel || isNamed ? (signal as Signal) : undefined;
  } catch {
    return undefined;
  }
}
