/** The command line of the benchmark. */
import { parseArgs } from "node:util";
import { MODELS, type Selection, WORKS } from "./cases.ts";
import { type Effort, USUAL_EFFORT } from "./measure.ts";
import { type RecoveryEffort, USUAL_RECOVERY } from "./recovery.ts";

export const USAGE = `usage: npm run bench -- [options]

  --work ${WORKS.join("|")}         one work (a sequence of 3 agents, two handoffs, 1 -> 10 -> 1)
  --model ${MODELS.join("|")}     the lean model module, or the openai client
  --telemetry on|off      spans to a collector, or tracing off
  --daemons N             so many daemons on one broker
  --all                   every combination (of what is not said otherwise); without any of these, a sensible few
  --seconds N             how long the load lasts (default ${USUAL_EFFORT.seconds})
  --warm-up N             seconds of load before that (default ${USUAL_EFFORT.warmUpSeconds})
  --single N              runs one at a time (default ${USUAL_EFFORT.single})
  --in-flight N           runs at once under load (default ${USUAL_EFFORT.inFlight})
  --recovery              how soon runs go on after kills, restarts and drains, instead of the works
  --runs N                active runs of --recovery (default ${USUAL_RECOVERY.runs})
  --rounds N              how often each of it is done (default ${USUAL_RECOVERY.rounds})
  --profile               also show where the daemon's processor time goes (slows it down)
  --json FILE             write the measurements, and with --profile FILE.cpuprofile for Chrome's tools
`;

export type Flags = {
  selection: Selection;
  effort: Effort;
  /** Absent where the works are measured. */
  recovery?: RecoveryEffort;
  json?: string;
  help: boolean;
};

const OPTIONS = {
  work: { type: "string" },
  model: { type: "string" },
  telemetry: { type: "string" },
  daemons: { type: "string" },
  all: { type: "boolean" },
  seconds: { type: "string" },
  "warm-up": { type: "string" },
  single: { type: "string" },
  "in-flight": { type: "string" },
  recovery: { type: "boolean" },
  runs: { type: "string" },
  rounds: { type: "string" },
  profile: { type: "boolean" },
  json: { type: "string" },
  help: { type: "boolean", short: "h" },
} as const;

/** Reads the command line. @throws Error that says which flag is wrong and what was expected. */
export function readFlags(args: readonly string[]): Flags {
  const { values } = parseArgs({ args: [...args], options: OPTIONS });
  const { work, model, telemetry, daemons, all, json, help = false, profile = USUAL_EFFORT.profile } = values;
  const numbers = { least: 1, whole: true };
  return {
    selection: {
      ...(work !== undefined && { work: oneOf("--work", work, WORKS) }),
      ...(model !== undefined && { model: oneOf("--model", model, MODELS) }),
      ...(telemetry !== undefined && { telemetry: oneOf("--telemetry", telemetry, ["on", "off"]) === "on" }),
      ...(daemons !== undefined && { daemons: number("--daemons", daemons, numbers) }),
      ...(all !== undefined && { all }),
    },
    effort: {
      seconds: number("--seconds", values.seconds ?? USUAL_EFFORT.seconds, { least: 0.1, whole: false }),
      warmUpSeconds: number("--warm-up", values["warm-up"] ?? USUAL_EFFORT.warmUpSeconds, { least: 0, whole: false }),
      single: number("--single", values.single ?? USUAL_EFFORT.single, numbers),
      inFlight: number("--in-flight", values["in-flight"] ?? USUAL_EFFORT.inFlight, numbers),
      profile,
    },
    ...(values.recovery && {
      recovery: {
        runs: number("--runs", values.runs ?? USUAL_RECOVERY.runs, numbers),
        rounds: number("--rounds", values.rounds ?? USUAL_RECOVERY.rounds, numbers),
      },
    }),
    ...(json !== undefined && { json }),
    help,
  };
}

function oneOf<const Word extends string>(flag: string, word: string, words: readonly Word[]): Word {
  const found = words.find((each) => each === word);
  if (found === undefined) throw new Error(`${flag}: expected one of ${words.join(", ")}, got ${JSON.stringify(word)}`);
  return found;
}

function number(flag: string, text: string | number, { least, whole }: { least: number; whole: boolean }): number {
  const value = Number(text);
  if (value >= least && Number.isFinite(value) && (!whole || Number.isInteger(value))) return value;
  throw new Error(`${flag}: expected a ${whole ? "whole " : ""}number from ${least}, got ${JSON.stringify(text)}`);
}
