import { readFile } from "node:fs/promises";

// USER_HZ is 100 on every Linux that Node runs on.
const MS_PER_TICK = 10;

/** How long a process has kept a processor busy since it started, in milliseconds. */
export async function cpuMsOf(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  // The name may contain anything, and ends with the last bracket; utime and stime are the 14th and 15th field (proc(5)).
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * MS_PER_TICK;
}
