/** What a soak prints: a line of state now and then, and the figures at the end. */
import { type Figures, outcomesOf, spreadOf } from "./figures.ts";
import type { Ledger } from "./ledger.ts";
import type { SoakResult } from "./soak.ts";

/** One line of state. */
export function lineOf(
  figures: Figures,
  { seconds, ledger, problems }: { seconds: number; ledger: Ledger; problems: number },
): string {
  const memory = Math.round(process.memoryUsage().rss / 2 ** 20);
  return [
    `${String(seconds).padStart(5)} s`,
    `${ledger.goingOn()} runs going on`,
    listed(outcomesOf(figures)) || "none over",
    listed(figures.storm) || "calm",
    `fenced ${figures.fenced}`,
    `repeated ${figures.repeated}`,
    `problems ${problems}`,
    `${memory} MiB`,
  ].join(" · ");
}

/** The figures in words. */
export function renderResult({ figures, problems, requests, seconds }: SoakResult, seed: number): string {
  const { runs, storm, calls, faults, recorded, tools, repeated, crossed, inFlight, recoveries } = figures;
  const recovery = spreadOf(recoveries.map(({ ms }) => ms));
  const starts = spreadOf(figures.startsMs);
  const slowest = recoveries.toSorted((a, b) => b.ms - a.ms).slice(0, 3);
  const width = Math.max(...Object.keys(runs).map(({ length }) => length), 0);
  const kinds = Object.entries(runs).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return [
    `seed ${seed}, ${seconds} s, ${requests} requests and ${figures.duplicates} duplicates of them`,
    ...kinds.map(([kind, outcomes]) => `  ${kind.padEnd(width)}  ${listed(outcomes)}`),
    `storm: ${listed(storm) || "none"}; writers fenced: ${figures.fenced}`,
    `model: ${calls} calls, ${faults} of them to go wrong, ${recorded} replies recorded; tools: ${tools} executions`,
    `repeated in-flight calls: ${repeated}, ${crossed} of them crossed with the record; in flight at kills and stops: ${inFlight}`,
    `recovery, from a kill to the next step: p50 ${recovery.p50} ms, p99 ${recovery.p99} ms, of ${recoveries.length} runs`,
    ...slowest.map(({ ms, story }) => `  ${Math.round(ms)} ms  ${story}`),
    `a daemon's start until it is ready: p50 ${starts.p50} ms, p99 ${starts.p99} ms`,
    `results told: ${figures.resultsTold} of ${figures.resultsAsked} asked for; spans: ${figures.spans}`,
    problems.length === 0 ? "no problems" : `${problems.length} PROBLEMS; again with: npm run soak -- --seed ${seed}`,
    ...problems.slice(0, 20).map((problem) => `  ${problem}`),
  ].join("\n");
}

function listed(counts: { [name: string]: number }): string {
  return Object.entries(counts)
    .map(([name, n]) => `${name} ${n}`)
    .join(", ");
}
