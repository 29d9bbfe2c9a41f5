/** How much one journal may hold: of a run events, of a task entries. */
export type JournalLimits = { events: number; bytes: number };

/** A limit a journal has come to. */
export type ReachedLimit = { limit: "events" | "bytes"; most: number; got: number };

/**
 * The limit that is in the way of more, undefined where none is. `events` counts what is about to be written, `bytes` what is
 * there: how long an entry is, is known only when it is made.
 */
export function limitReached(limits: JournalLimits, { events, bytes }: JournalLimits): ReachedLimit | undefined {
  if (events > limits.events) return { limit: "events", most: limits.events, got: events };
  return bytes >= limits.bytes ? { limit: "bytes", most: limits.bytes, got: bytes } : undefined;
}
