/** Waiting for the end of a run: the live feed tells it first, and the API is asked every few seconds in case it was missed. */
import { NotFoundError, UnavailableError } from "../../errors.ts";
import type { RunEvent } from "../../workflows/run-events.ts";
import { type RunResult, resultOf } from "../../workflows/run-record.ts";
import type { Msg, NatsConnection } from "../nats/nats.ts";
import { ConflictError } from "./api-errors.ts";

export type RunEnd = {
  /** Resolves when the run is over; rejects with the signal's reason, or with `NotFoundError`. */
  wait(signal?: AbortSignal): Promise<RunResult>;
  stop(): void;
};

export type RunEndOptions = {
  nc: NatsConnection;
  /** Where the run's `run.*` events are told live. */
  subject: string;
  /** Asks for the result. */
  ask(signal: AbortSignal): Promise<RunResult>;
  /** Whether a run the API does not know may still come. */
  mayCome(): boolean;
  /** How long until the API is first asked, in milliseconds. */
  firstAskMs: number;
};

// The live feed is the quick way; this is for what it loses.
const ASK_MS = 3_000;

/** Listens for the end of a run from now on. */
export function awaitRunEnd({ nc, subject, ask, mayCome, firstAskMs }: RunEndOptions): RunEnd {
  let told: RunResult | undefined;
  /** Aborts when the live feed told the end: nothing has to be asked any more. */
  const known = new AbortController();
  let wake = () => {};
  const subscription = nc.subscribe(subject, { callback: (error, message) => error ?? hear(message) });

  return {
    async wait(signal) {
      const onAbort = () => wake();
      signal?.addEventListener("abort", onAbort);
      try {
        for (let ms = firstAskMs; ; ms = ASK_MS) {
          if (!told) await newsOr(ms, signal);
          signal?.throwIfAborted();
          const result = told ?? (await askOnce(signal));
          if (result) return result;
        }
      } finally {
        signal?.removeEventListener("abort", onAbort);
      }
    },
    stop: () => subscription.unsubscribe(),
  };

  async function askOnce(signal: AbortSignal | undefined): Promise<RunResult | undefined> {
    try {
      return await ask(signal ? AbortSignal.any([signal, known.signal]) : known.signal);
    } catch (error) {
      if (told) return told;
      const goOn =
        (error instanceof ConflictError && error.code === "not_finished") ||
        error instanceof UnavailableError ||
        (error instanceof NotFoundError && mayCome());
      if (!goOn) throw error;
      return undefined;
    }
  }

  function hear(message: Msg) {
    try {
      told ??= resultOf(message.json<RunEvent>());
    } catch {
      // Not of Troupe; the API will be asked.
    }
    if (!told) return;
    known.abort();
    wake();
  }

  function newsOr(ms: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const timer = setTimeout(() => wake(), ms);
      wake = () => {
        clearTimeout(timer);
        wake = () => {};
        resolve();
      };
    });
  }
}
