/** `npm run soak`: lets a storm loose on daemons and a broker, and says whether every promise was kept. */
import { writeFileSync } from "node:fs";
import { spreadOf } from "./figures.ts";
import { type Flags, readFlags, USAGE } from "./flags.ts";
import { renderResult } from "./report.ts";
import { soak } from "./soak.ts";

const stopped = new AbortController();
// The first signal ends the storm, a second one everything.
for (const name of ["SIGINT", "SIGTERM"] as const) {
  process.on(name, () => (stopped.signal.aborted ? process.exit(130) : stopped.abort()));
}

process.exit(await main(process.argv.slice(2)));

async function main(args: readonly string[]): Promise<number> {
  let flags: Flags;
  try {
    flags = readFlags(args, Date.now());
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : String(error)}\n\n${USAGE}`);
    return 2;
  }
  if (flags.help) {
    console.log(USAGE);
    return 0;
  }
  const { seed, json } = flags;
  console.log(`soak: seed ${seed}, ${flags.minutes} min, ${flags.daemons} daemons`);
  const result = await soak({ ...flags, signal: stopped.signal, say: (line) => console.log(line) });
  console.log(`\n${renderResult(result, seed)}`);
  if (json !== undefined) {
    const { recoveries, startsMs, ...counts } = result.figures;
    const recovery = { runs: recoveries.length, ...spreadOf(recoveries.map(({ ms }) => ms)) };
    const figures = { ...counts, recovery, starts: spreadOf(startsMs) };
    writeFileSync(json, `${JSON.stringify({ ...flags, ...result, figures }, null, 2)}\n`);
  }
  if (result.problems.length > 0) return 1;
  if (stopped.signal.aborted) console.log("stopped early by a signal: this says nothing about runs that were going on");
  return stopped.signal.aborted ? 130 : 0;
}
