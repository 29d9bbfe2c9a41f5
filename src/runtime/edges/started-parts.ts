/**
 * What a daemon has started so far: stopped part by part where the order matters, and for the rest, as when a start fails
 * half-way, in the reverse of how it started.
 *
 * Invariants
 * U1  A part stops once, whoever asks first.
 * U2  A part that fails to stop, or takes too long, does not keep the others running.
 */
import type { Logger } from "pino";
import { withinTime } from "../within-time.ts";

export type StartedParts = {
  /** Takes note of a part and how to stop it, which may take `withinMs` milliseconds. @default as long as it takes */
  add<Part extends object>(part: Part, stop: (part: Part) => unknown, withinMs?: number): Part;
  /** Stops some parts, all at the same time. Never rejects. */
  stop(...parts: readonly object[]): Promise<void>;
  /** Stops everything that is left, one after the other. Never rejects. */
  stopAll(): Promise<void>;
};

/** Starts with nothing. */
export function keepStartedParts(logger: Logger): StartedParts {
  const running = new Map<object, () => Promise<void>>();
  const stopping = new Map<object, Promise<void>>();

  return {
    add(part, stop, withinMs) {
      running.set(part, () => attempt(async () => stop(part), withinMs));
      return part;
    },
    stop: async (...parts) => void (await Promise.all(parts.map(stopPart))),
    async stopAll() {
      for (const part of [...running.keys()].reverse()) await stopPart(part);
      await Promise.all(stopping.values());
    },
  };

  // U1
  function stopPart(part: object): Promise<void> {
    const stop = running.get(part);
    running.delete(part);
    if (stop) stopping.set(part, stop());
    return stopping.get(part) ?? Promise.resolve();
  }

  // U2
  async function attempt(stop: () => Promise<unknown>, withinMs: number | undefined) {
    try {
      await (withinMs === undefined ? stop() : withinTime(stop(), withinMs));
    } catch (error) {
      logger.debug({ err: error }, "a part of the daemon did not stop cleanly");
    }
  }
}
