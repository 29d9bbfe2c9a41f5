/** Waits for the traces of runs that are over to be whole. */
import { setTimeout as sleep } from "node:timers/promises";
import type { PlainSpan } from "../src/tracing/plain-span.ts";
import type { Figures } from "./figures.ts";
import { openTraceLedger } from "./trace-ledger.ts";

export type TraceWatch = {
  take(spans: readonly PlainSpan[]): void;
  /** The run is over: its trace has to become whole. */
  runEnded(runId: string): void;
  /** Called every second. */
  tick(): void;
  /** Waits for the rest, and says what is wrong with it. */
  finish(): Promise<void>;
};

/** Spans of a killed daemon are made again by another one; what is not whole after so long never will be. */
const WHOLE_WITHIN_MS = 90_000;
const LAST_WAIT_MS = 45_000;
const CLOSE_EVERY = 5;

/** Starts watching. */
export function watchTraces(figures: Figures, onProblem: (problem: string) => void): TraceWatch {
  const ledger = openTraceLedger(onProblem);
  /** Since when each run is over. */
  const waiting = new Map<string, number>();
  let ticks = 0;
  return {
    take(spans) {
      ledger.take(spans);
      figures.spans = ledger.count;
    },
    runEnded: (runId) => void waiting.set(runId, Date.now()),
    tick() {
      ticks += 1;
      if (ticks % CLOSE_EVERY === 0) close(WHOLE_WITHIN_MS);
    },
    async finish() {
      for (const giveUpAt = Date.now() + LAST_WAIT_MS; waiting.size > 0 && Date.now() < giveUpAt; await sleep(500)) {
        close(WHOLE_WITHIN_MS);
      }
      close(0);
      for (const stray of ledger.strays()) onProblem(stray);
    },
  };

  function close(withinMs: number): void {
    const now = Date.now();
    for (const [runId, since] of waiting) {
      const problems = ledger.close(runId);
      if (problems.length === 0) waiting.delete(runId);
      else if (now - since >= withinMs) {
        waiting.delete(runId);
        for (const problem of problems) onProblem(problem);
      }
    }
  }
}
