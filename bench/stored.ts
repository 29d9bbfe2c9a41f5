/** What streams hold. */
import type { Bus } from "../src/runtime/nats/connection.ts";

export type Stored = { messages: number; bytes: number };

/** Messages and bytes of some streams together, as the broker counts them. */
export async function storedIn(bus: Bus, streams: readonly string[]): Promise<Stored> {
  const jsm = await bus.jsm();
  const states = await Promise.all(streams.map(async (name) => (await jsm.streams.info(name)).state));
  return {
    messages: states.reduce((sum, { messages }) => sum + messages, 0),
    bytes: states.reduce((sum, { bytes }) => sum + bytes, 0),
  };
}

/** What came to be stored between two looks, for each of `count`. */
export function storedPer(before: Stored, after: Stored, count: number): Stored {
  return { messages: (after.messages - before.messages) / count, bytes: (after.bytes - before.bytes) / count };
}
