/** Measurements as text for a terminal. */
import { nameOf } from "./cases.ts";
import type { Measured } from "./measure.ts";
import type { ProfileReading, Ranked } from "./read-profile.ts";

type Column = { title: string; of: (measured: Measured) => string };

const COLUMNS: readonly Column[] = [
  { title: "case", of: nameOf },
  { title: "p50 ms", of: ({ p50Ms }) => p50Ms.toFixed(1) },
  { title: "p99 ms", of: ({ p99Ms }) => p99Ms.toFixed(1) },
  { title: "runs/s", of: ({ runsPerSecond }) => runsPerSecond.toFixed(0) },
  { title: "floor", of: ({ floorRunsPerSecond }) => floorRunsPerSecond.toFixed(0) },
  { title: "of floor", of: ({ ofFloor }) => percent(ofFloor) },
  { title: "cpu ms/run", of: ({ cpuMsPerRun }) => cpuMsPerRun.daemons.toFixed(3) },
  { title: "broker", of: ({ cpuMsPerRun }) => cpuMsPerRun.broker?.toFixed(3) ?? "-" },
  { title: "peak MB", of: ({ peakMb }) => peakMb.toFixed(0) },
  { title: "stored B/run", of: ({ storedPerRun }) => storedPerRun.bytes.toFixed(0) },
  { title: "msgs", of: ({ storedPerRun }) => storedPerRun.messages.toFixed(1) },
  { title: "spans", of: ({ spansPerRun }) => spansPerRun?.toFixed(1) ?? "-" },
  { title: "others", of: ({ otherLoad }) => (otherLoad === undefined ? "-" : percent(otherLoad)) },
];

/** The table of all measurements, its columns explained below it. */
export function renderTable(all: readonly Measured[]): string {
  const rows = [COLUMNS.map(({ title }) => title), ...all.map((one) => COLUMNS.map(({ of }) => of(one)))];
  const widths = COLUMNS.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const lines = rows.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join("  "),
  );
  lines.splice(1, 0, widths.map((width) => "-".repeat(width)).join("  "));
  return lines.join("\n");
}

/** What the columns mean, in a few lines. */
export function renderLegend(inFlight: number): string {
  return [
    `p50, p99: one run at a time. runs/s, cpu, broker: ${inFlight} runs in flight. floor: runs/s if storing as many messages`,
    "of the same size were all there is to a run. cpu ms/run: all daemons together; broker: nats-server. stored, msgs: what",
    "a run leaves in journals. spans: what the collector got for a run. others: the part of the machine that other programs took.",
  ].join("\n");
}

/** The rankings of a profile, the first `lines` of each. */
export function renderProfile(
  { busyMs, byOrigin, byFunction, byCause }: ProfileReading,
  runs: number,
  lines = 25,
): string {
  const perRun = (ms: number) => `${((ms * 1_000) / runs).toFixed(0).padStart(5)} us/run`;
  const render = (title: string, ranked: readonly Ranked[]) => [
    title,
    ...ranked.slice(0, lines).map(({ name, ms, share }) => `  ${percent(share).padStart(6)} ${perRun(ms)}  ${name}`),
    "",
  ];
  return [
    `Profile of the first daemon's main thread under load: busy ${perRun(busyMs).trim()}`,
    "",
    ...render("Own time by package or file, with what Node did for it", byOrigin),
    ...render("Own time by function", byFunction),
    ...render("All time, credited to the innermost function of ours on the stack", byCause),
  ].join("\n");
}

function percent(part: number): string {
  return `${(part * 100).toFixed(1)} %`;
}
