/**
 * SIGTERM, SIGINT and, on a terminal that closes, SIGHUP: the first asks to stop, a second ends at once.
 *
 * One wish may arrive several times, from the terminal and from every process between here and it; what comes within a
 * moment of the first is the same wish.
 */
import { constants } from "node:os";

/** A person who asks twice takes longer. */
const SAME_WISH_MS = 300;

export type StopSignals = {
  /** Resolves with the first signal. */
  readonly asked: Promise<NodeJS.Signals>;
};

/** Listens for as long as the process lives; a second wish ends it with 128 + the signal's number. */
export function listenForStop(): StopSignals {
  // Without a terminal SIGHUP may be ignored on purpose (nohup).
  const signals: NodeJS.Signals[] = ["SIGTERM", "SIGINT", ...(process.stdout.isTTY ? ["SIGHUP" as const] : [])];
  const asked = new Promise<NodeJS.Signals>((resolve) => {
    let firstAt: number | undefined;
    const hear = (signal: NodeJS.Signals) => {
      firstAt ??= performance.now();
      if (performance.now() - firstAt > SAME_WISH_MS) process.exit(128 + constants.signals[signal]);
      resolve(signal);
    };
    for (const signal of signals) process.on(signal, hear);
  });
  return { asked };
}
