/** What a run's agents and tools logged, in pages. */
import type { LogBatch, LogLine } from "../hosts/run-logs.ts";
import type { Bus } from "../nats/connection.ts";
import { openSubjectReader } from "../nats/read-subject.ts";
import type { Subjects } from "../subjects.ts";
import { limitConcurrency } from "./limit-concurrency.ts";

export type RunLogPage = {
  lines: LogLine[];
  /** Where what comes after these begins. */
  next: number;
  /** Whether there is more already. */
  more: boolean;
};

/** Reads a page; `room` is how long its lines may be together, in bytes. @throws UnavailableError */
export type ReadRunLog = (runId: string, from: number, room: number) => Promise<RunLogPage>;

// Each read is a consumer of its own while it lasts.
const MAX_READS = 8;

/** Opens the logs of runs. */
export function openRunLogPages(bus: Bus, subjects: Subjects): ReadRunLog {
  const read = openSubjectReader(bus, subjects.streams.logs);
  const reading = limitConcurrency(MAX_READS);

  return async function readPage(runId, from, room) {
    const stored = await reading(() => read(subjects.log(runId), { from, bytes: room }));
    const lines: LogLine[] = [];
    let next = from;
    let left = room;
    for (const { seq, data } of stored) {
      left -= data.length;
      // One batch fits into every answer.
      if (left < 0 && lines.length > 0) return { lines, next, more: true };
      lines.push(...linesIn(data));
      next = seq + 1;
    }
    return { lines, next, more: left <= 0 };
  };
}

/** Workers in any language write here; what is no batch is passed over. */
function linesIn(data: Uint8Array): LogLine[] {
  try {
    const { lines } = JSON.parse(Buffer.from(data).toString("utf8")) as LogBatch;
    return Array.isArray(lines) ? lines : [];
  } catch {
    return [];
  }
}
