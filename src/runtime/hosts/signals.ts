/**
 * Signals for runs: kept in a stream by whoever sends them, followed here, and given to the run's owner.
 *
 * Invariants
 * N1  A signal takes effect only through a journal entry of the run's owner; the stream only carries it.
 * N2  A signal may come before its run does, or while nobody owns it: those are kept, bounded, until the run is here.
 */
import type { Logger } from "pino";
import type { Bus } from "../nats/connection.ts";
import { followStream } from "../nats/follow.ts";
import type { Subjects } from "../subjects.ts";

/** The wire form of a signal. */
export type Signal = {
  v: 1;
  kind: "cancel" | "signal";
  id: string;
  name?: string;
  payload?: unknown;
  reason?: string;
  by?: string;
  /** Of a cancel: nothing is waited for nor undone. */
  force?: true;
  at: string;
};

export type SignalsOptions = {
  bus: Bus;
  subjects: Subjects;
  logger: Logger;
  /** Gives a signal to the run's owner, if that is this daemon. */
  deliver: (runId: string, seq: number, signal: Signal) => boolean;
};

export type Signals = {
  /** What was sent before this daemon started has been read. */
  ready(): Promise<void>;
  /** The cancel that was sent to a run before it began, if one was. */
  cancelOf(runId: string): { seq: number; reason?: string; by?: string } | undefined;
  /** Gives a run that has just come here what was sent to it before. */
  release(runId: string): void;
  stop(): Promise<void>;
};

// Runs with a signal that are not here: other daemons' runs, finished ones, and requests still at the door.
const MAX_KEPT = 10_000;

/** Starts following signals from the beginning of what the broker keeps. */
export function followSignals({ bus, subjects, logger, deliver }: SignalsOptions): Signals {
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
      const found = kept.get(runId)?.find(({ signal }) => signal.kind === "cancel");
      if (!found) return undefined;
      const { reason, by } = found.signal;
      return { seq: found.seq, ...(reason !== undefined && { reason }), ...(by !== undefined && { by }) };
    },
    release(runId) {
      for (const { seq, signal } of kept.get(runId) ?? []) deliver(runId, seq, signal);
    },
    stop: () => follower.stop(),
  };

  function hear(runId: string, seq: number, data: Uint8Array) {
    const signal = readSignal(data);
    if (!signal) {
      logger.warn({ runId, seq }, "not a signal");
      return;
    }
    deliver(runId, seq, signal);
    // N2: kept even where it was delivered, because the owner may change before it is on record.
    kept.set(runId, [...(kept.get(runId) ?? []), { seq, signal }]);
    if (kept.size > MAX_KEPT) kept.delete(kept.keys().next().value as string);
  }
}

/** Anybody may write to the stream, so nothing is taken for granted. */
function readSignal(data: Uint8Array): Signal | undefined {
  try {
    const signal = JSON.parse(Buffer.from(data).toString("utf8")) as Partial<Signal> | null;
    const { kind, reason, by, force } = signal ?? {};
    const isWords = [reason, by].every((words) => words === undefined || typeof words === "string");
    const isKnown = (kind === "cancel" || kind === "signal") && (force === undefined || force === true);
    return isKnown && isWords ? (signal as Signal) : undefined;
  } catch {
    return undefined;
  }
}
