/** `npm run bench`: measures cases one after the other, prints a table, and writes it as JSON on request. */
import { writeFileSync } from "node:fs";
import { cpus, loadavg, release } from "node:os";
import { type Case, casesOf, nameOf } from "./cases.ts";
import { type Flags, readFlags, USAGE } from "./flags.ts";
import { type Measured, measure } from "./measure.ts";
import { readProfile } from "./read-profile.ts";
import { DEEDS, measureRecovery, type Recovered, type RecoveryEffort, renderRecovery } from "./recovery.ts";
import { renderLegend, renderProfile, renderTable } from "./report.ts";

// Children notice that this process is gone, and end.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(130));

process.exitCode = await main(process.argv.slice(2));

async function main(args: readonly string[]): Promise<number> {
  let flags: Flags;
  try {
    flags = readFlags(args);
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : String(error)}\n\n${USAGE}`);
    return 2;
  }
  if (flags.help) {
    console.log(USAGE);
    return 0;
  }
  const machine = { processors: `${cpus().length} x ${cpus()[0]?.model}`, system: release(), node: process.version };
  console.log(`${machine.processors}, ${machine.system}, Node ${machine.node}\n`);
  if (flags.recovery) return measureRecoveries(flags.recovery, machine, flags.json);
  const cases = casesOf(flags.selection);
  const results: Measured[] = [];
  for (const [index, one] of cases.entries()) {
    console.error(`${index + 1}/${cases.length} ${nameOf(one)}`);
    results.push(await measureOne(one, flags));
  }
  console.log(`\n${renderTable(results)}\n\n${renderLegend(flags.effort.inFlight)}`);
  if (flags.json !== undefined) {
    writeFileSync(
      flags.json,
      `${JSON.stringify({ at: new Date(), machine, effort: flags.effort, results }, null, 2)}\n`,
    );
  }
  return 0;
}

async function measureRecoveries(effort: RecoveryEffort, machine: object, json: string | undefined): Promise<number> {
  const results: Recovered[] = [];
  for (const deed of DEEDS) {
    const result = await measureRecovery(deed, effort);
    // Above its processors the machine has other things to do as well.
    console.error(`recovery: ${deed}, the machine's load ${loadavg()[0]?.toFixed(1)}`);
    results.push(result);
    for (const { runId, ms, story } of result.still.slice(-3))
      console.error(`  ${runId}: ${ms.toFixed(0)} ms: ${story}`);
  }
  console.log(`\n${renderRecovery(results)}`);
  if (json !== undefined) writeFileSync(json, `${JSON.stringify({ at: new Date(), machine, results }, null, 2)}\n`);
  return 0;
}

async function measureOne(one: Case, { effort, json }: Flags): Promise<Measured> {
  const { profile, ...measured } = await measure(one, effort);
  if (profile) {
    const { busyMs } = readProfile(profile);
    const seconds = profile.timeDeltas.reduce((sum, us) => sum + us, 0) / 1_000_000;
    const runs = (measured.runsPerSecond / one.daemons) * seconds;
    console.log(
      `\n${nameOf(one)}: the main thread is busy ${((busyMs / seconds / 1_000) * 100).toFixed(0)} % of the time`,
    );
    console.log(renderProfile(readProfile(profile), runs));
    if (json !== undefined) writeFileSync(`${json}.${one.work}.cpuprofile`, JSON.stringify(profile));
  }
  return measured;
}
