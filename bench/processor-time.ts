/** Processor time of processes that cannot be asked, and of the machine. */
import { readFileSync } from "node:fs";
import { cpus } from "node:os";

// Linux counts in USER_HZ, which is 100 wherever Node runs.
const MS_PER_TICK = 10;

/** A process's processor time so far, in milliseconds; undefined where there is no /proc. */
export function processorTimeOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The name, in parentheses, may hold anything; after it come the fields from the third on.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const [user, system] = [fields[11], fields[12]].map(Number);
    return ((user ?? 0) + (system ?? 0)) * MS_PER_TICK;
  } catch {
    return undefined;
  }
}

/** What all processors of the machine did so far, and could have done, in milliseconds. */
export function machineTime(): { busyMs: number; totalMs: number } {
  const times = cpus().map(({ times: { user, nice, sys, irq, idle } }) => ({ busy: user + nice + sys + irq, idle }));
  const busyMs = times.reduce((sum, { busy }) => sum + busy, 0);
  return { busyMs, totalMs: busyMs + times.reduce((sum, { idle }) => sum + idle, 0) };
}
