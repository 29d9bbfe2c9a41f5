/** `troupe doctor`: what there is, what is wrong with it, and what to do. Its exit code is for monitoring. */
import type { Command } from "commander";
import { UnavailableError } from "../errors.ts";
import { asksDaemon, does } from "./cli-command.ts";
import { describeDiagnosis } from "./describe-diagnosis.ts";
import { durationFlag } from "./duration-flag.ts";
import { type Given, openBus } from "./open-client.ts";
import { print, printJson } from "./print.ts";
import { COMPLETED, FAILED } from "./report-error.ts";

const HELP = `
Exit code: 0 for healthy, 1 for problems, 2 for a mistake in the command.
It works without a daemon, too; what only a daemon knows is missing then.`;

// A beat may come as late as the next one is due.
const BEATS = 2;
const LATE_BEAT_MS = 200;
const STALE_AFTER_MS = 60_000;
// Where a daemon is, it answers at once; where none is, that is what shall be said.
const PATIENCE_MS = 1_500;

type DoctorGiven = Given & { json?: boolean; listen?: number; staleAfter?: number };

/** Adds the command to the program. */
export function addDoctorCommand(program: Command): void {
  const command = program
    .command("doctor")
    .description("Look at the broker, the streams, the daemons and what waits, and say what is wrong.")
    .option("--listen <duration>", "How long to listen for daemons. (default: two beats)", durationFlag)
    .option("--stale-after <duration>", "How long a request may wait at the door. (default: 60s)", durationFlag)
    .addHelpText("after", HELP);
  does(asksDaemon(command), examineAll);
}

async function examineAll(given: DoctorGiven): Promise<number> {
  const diagnosis = await diagnose(given);
  if (given.json) printJson(diagnosis);
  else print(describeDiagnosis(diagnosis));
  return diagnosis.healthy ? COMPLETED : FAILED;
}

async function diagnose(given: DoctorGiven) {
  const { examine, unreachable } = await import("../runtime/edges/doctor.ts");
  const opened = await openBus(given).catch((error: unknown) => {
    if (!(error instanceof UnavailableError)) throw error;
    return unreachable(error.message);
  });
  if (!("bus" in opened)) return opened;
  const { bus, options } = opened;
  const { prefix, data, beatMs } = options;
  const { listen = BEATS * beatMs + LATE_BEAT_MS, staleAfter = STALE_AFTER_MS } = given;
  try {
    return await examine({ bus, prefix, data, listenMs: listen, staleAfterMs: staleAfter, patienceMs: PATIENCE_MS });
  } finally {
    await bus.close();
  }
}
