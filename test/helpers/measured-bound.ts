/** Bounds on measured times, which say something about the code only on a machine that has time for it. */
import { availableParallelism, loadavg } from "node:os";
import { expect } from "vitest";

// A quiet machine stays below it with a whole scenario at work; above it others take the processors away.
const BUSY_LOAD_PER_CORE = 1.5;

/**
 * Fails when something took longer than `boundMs` milliseconds; on a machine that is overloaded (by its load over the last
 * minute, for each processor) it only says so. Never for what does not depend on time.
 */
export function expectWithin(boundMs: number, what: string, tookMs: number, story = ""): void {
  const load = loadPerCore();
  const measured = `${what} after ${Math.round(tookMs)} ms, load ${load.toFixed(2)} for each processor`;
  console.log(`${measured} (expected less than ${boundMs} ms)`);
  if (load >= BUSY_LOAD_PER_CORE && tookMs >= boundMs) {
    console.warn(`not counted: ${measured}\n${story}`);
    return;
  }
  expect(tookMs, `${measured}\n${story}`).toBeLessThan(boundMs);
}

function loadPerCore(): number {
  const [lastMinute = 0] = loadavg();
  return lastMinute / availableParallelism();
}
