/** Outcomes this host has sent, for when the same task comes again; the oldest are forgotten. */

/** Covers the seconds in which an owner may ask again at full load. */
const MAX_ENTRIES = 4_096;
const MAX_BYTES = 16 * 1024 * 1024;

export type SentOutcomes = {
  remember(key: string, outcome: Uint8Array): void;
  get(key: string): Uint8Array | undefined;
};

/** Opens an empty memory; both bounds hold. */
export function rememberOutcomes({ maxEntries = MAX_ENTRIES, maxBytes = MAX_BYTES } = {}): SentOutcomes {
  const kept = new Map<string, Uint8Array>();
  let bytes = 0;
  return {
    remember(key, outcome) {
      forget(key);
      kept.set(key, outcome);
      bytes += outcome.length;
      for (const oldest of kept.keys()) {
        if (kept.size <= maxEntries && bytes <= maxBytes) break;
        forget(oldest);
      }
    },
    get: (key) => kept.get(key),
  };

  function forget(key: string): void {
    bytes -= kept.get(key)?.length ?? 0;
    kept.delete(key);
  }
}
