/**
 * Whether JetStream stores what is appended. An append it refuses waits and tries again for as long as it takes
 * (`journal.ts`, J5); this is where the daemon hears of it, so that it takes nothing more meanwhile.
 *
 * Invariants
 * F1  JetStream refuses for as long as an append waits that was refused. Stored or given up, it does not wait any more.
 * F2  It is said when refusals begin, and when there was none for a moment: room that comes and goes is not told each time.
 */

export type StoreState = {
  /** An append was refused and will be tried again. */
  refused(append: object, stream: string, why: string): void;
  /** An append that was refused is stored, or given up. */
  settled(append: object): void;
  /** What was appended met a stream that is not there, or not what it was. */
  doubt(): void;
  /** Why nothing is stored, in words; undefined while everything is. */
  refusal(): string | undefined;
  /** Hears when refusals begin, with the reason, and when they are over. */
  onChange(listener: (refusal: string | undefined) => void): void;
  onDoubt(listener: () => void): void;
};

const OVER_AFTER_MS = 1_000;

/** Opens the state of a connection's JetStream: everything is stored until something is refused. */
export function openStoreState(): StoreState {
  const waiting = new Set<object>();
  const changeListeners: ((refusal: string | undefined) => void)[] = [];
  const doubtListeners: (() => void)[] = [];
  let refusal: string | undefined;
  let ending: NodeJS.Timeout | undefined;

  return {
    refused(append, stream, why) {
      waiting.add(append);
      clearTimeout(ending);
      if (refusal !== undefined) return;
      refusal = `${stream}: ${why}`;
      tell();
    },
    settled(append) {
      if (!waiting.delete(append) || waiting.size > 0) return;
      // F2
      clearTimeout(ending);
      ending = setTimeout(() => {
        refusal = undefined;
        tell();
      }, OVER_AFTER_MS);
      ending.unref();
    },
    doubt() {
      for (const listener of doubtListeners) listener();
    },
    refusal: () => refusal,
    onChange: (listener) => void changeListeners.push(listener),
    onDoubt: (listener) => void doubtListeners.push(listener),
  };

  function tell() {
    for (const listener of changeListeners) listener(refusal);
  }
}
