/** What a soak counts. */
import { quantile } from "../test/helpers/run-audit.ts";
import type { ModelCall } from "./calls.ts";
import { taskName } from "./calls.ts";
import type { Recovery } from "./recovery.ts";

export type Figures = {
  /** Runs that are over, by kind and by how they ended. */
  runs: { [kind: string]: { [outcome: string]: number } };
  /** What was done to the system, by name. */
  storm: { [deed: string]: number };
  /** Model calls that reached the server; those with a fault in them; replies on record; tools executed. */
  calls: number;
  faults: number;
  recorded: number;
  tools: number;
  /** Calls made again though nothing had gone wrong with the first: its process or its broker had. */
  repeated: number;
  /** Those of them that another process made while the news that the reply is on record was on its way to it. */
  crossed: number;
  /** Calls and tasks that were in flight in processes when those were killed or stopped. */
  inFlight: number;
  /** Writers that found out by the journal that another one owns it. */
  fenced: number;
  /** Requests sent more than once. */
  duplicates: number;
  /** Results told of those asked for. */
  resultsAsked: number;
  resultsTold: number;
  spans: number;
  /** From the start of a daemon to its being ready, in milliseconds. */
  startsMs: number[];
  /** From a kill to the next step of each run of the killed daemon. */
  recoveries: Recovery[];
};

export function noFigures(): Figures {
  return {
    runs: {},
    storm: {},
    calls: 0,
    faults: 0,
    recorded: 0,
    tools: 0,
    repeated: 0,
    crossed: 0,
    inFlight: 0,
    fenced: 0,
    duplicates: 0,
    resultsAsked: 0,
    resultsTold: 0,
    spans: 0,
    startsMs: [],
    recoveries: [],
  };
}

/** Takes note of one more of something. */
export function count(counts: { [name: string]: number }, name: string): void {
  counts[name] = (counts[name] ?? 0) + 1;
}

/** Takes note of how one more run ended. */
export function countRun({ runs }: Figures, kind: string, outcome: string): void {
  const outcomes = runs[kind] ?? {};
  runs[kind] = outcomes;
  count(outcomes, outcome);
}

/** Calls that were made again without a fault of the model's. */
export function repeatedCalls(calls: readonly ModelCall[]): number {
  const turns = new Map<string, number>();
  for (const { fault, taskId, turn } of calls) {
    if (fault !== undefined) continue;
    const name = `${taskName(taskId)} ${turn}`;
    turns.set(name, (turns.get(name) ?? 0) + 1);
  }
  return [...turns.values()].reduce((sum, made) => sum + made - 1, 0);
}

/** How many runs ended how, over all kinds. */
export function outcomesOf({ runs }: Figures): { [outcome: string]: number } {
  const outcomes: { [outcome: string]: number } = {};
  for (const ofKind of Object.values(runs)) {
    for (const [outcome, n] of Object.entries(ofKind)) outcomes[outcome] = (outcomes[outcome] ?? 0) + n;
  }
  return outcomes;
}

/** The median and the 99th percentile of some times, in whole milliseconds. */
export function spreadOf(times: readonly number[]): { p50: number; p99: number } {
  const ascending = times.toSorted((a, b) => a - b);
  return { p50: Math.round(quantile(ascending, 0.5)), p99: Math.round(quantile(ascending, 0.99)) };
}
