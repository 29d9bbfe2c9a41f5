/** Waiting for something to happen in a run, on the entries the index sees. */
import type { RunEvent } from "../../workflows/run-events.ts";
import type { RunIndex } from "../hosts/run-index.ts";

/** One wait. It listens from its creation on, so make it before looking at what is already there. */
type Waiter<T> = {
  /** What was found, or undefined when nothing was within `ms` milliseconds. */
  within(ms: number): Promise<T | undefined>;
  stop(): void;
};

export type RunWatch = {
  /** Waits for the first entry of a run in which `find` finds something. */
  first<T>(runId: string, find: (events: readonly RunEvent[]) => T | undefined): Waiter<T>;
  /** Ends all waits, empty-handed, and allows no more. */
  close(): void;
};

/** Watches runs through the index. */
export function watchRuns(index: Pick<RunIndex, "onEntry">): RunWatch {
  const waiters = new Map<string, Set<(events: readonly RunEvent[]) => void>>();
  const closing = new Set<() => void>();
  let closed = false;
  const unlisten = index.onEntry((runId, events) => {
    for (const look of waiters.get(runId) ?? []) look(events);
  });

  return {
    first<T>(runId: string, find: (events: readonly RunEvent[]) => T | undefined): Waiter<T> {
      let found: T | undefined;
      let wake = () => {};
      const looks = waiters.get(runId) ?? new Set();
      waiters.set(runId, looks.add(look));

      return {
        within: (ms) =>
          new Promise((resolve) => {
            if (found !== undefined || ms <= 0 || closed) return resolve(found);
            const timer = setTimeout(() => wake(), ms);
            wake = () => {
              clearTimeout(timer);
              closing.delete(wake);
              resolve(found);
            };
            closing.add(wake);
          }),
        stop() {
          looks.delete(look);
          if (looks.size === 0 && waiters.get(runId) === looks) waiters.delete(runId);
          wake();
        },
      };

      function look(events: readonly RunEvent[]) {
        found ??= find(events);
        if (found !== undefined) wake();
      }
    },
    close() {
      closed = true;
      unlisten();
      for (const wake of [...closing]) wake();
    },
  };
}
