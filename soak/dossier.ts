/** Problems, and for each run that has one everything that is known of it, in a file of its own. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { SoakDaemon } from "./daemon-process.ts";
import { timelineOf } from "./timeline.ts";
import type { TrackedRun } from "./tracked-run.ts";

export type Dossier = {
  readonly problems: readonly string[];
  problem(problem: string, run?: TrackedRun): void;
  /** Whose logs are asked. */
  witnesses(daemons: readonly SoakDaemon[]): void;
};

const LAST_LINES = 300;
// Runs with large values have problems as large.
const MAX_SAID = 2_000;

/** Opens a dossier in a folder; every problem is said at once. */
export function openDossier(folder: string, say: (line: string) => void): Dossier {
  const problems: string[] = [];
  const written = new Set<string>();
  let daemons: readonly SoakDaemon[] = [];
  return {
    problems,
    problem(problem, run) {
      const short = problem.length > MAX_SAID ? `${problem.slice(0, MAX_SAID)}…` : problem;
      problems.push(short);
      say(`PROBLEM ${short}`);
      const runId = run?.plan.runId ?? /^[\w-]+-\d+/.exec(problem)?.[0];
      if (runId === undefined || written.has(runId)) return;
      written.add(runId);
      const file = join(folder, `${runId}.txt`);
      writeFileSync(file, run ? dump(run, problem, daemons) : dumpLogs(runId, problem, daemons));
      say(`        all that is known of it: ${file}`);
    },
    witnesses: (given) => {
      daemons = given;
    },
  };
}

/** A run that is over and forgotten has left nothing but what daemons logged of it. */
function dumpLogs(runId: string, problem: string, daemons: readonly SoakDaemon[]): string {
  const logs = daemons.map((daemon) => `== ${daemon.name}, of this run\n${daemon.log(runId).join("\n")}\n`);
  return [problem, ...logs].join("\n");
}

function dump(run: TrackedRun, problem: string, daemons: readonly SoakDaemon[]): string {
  const { plan, journal, tasks, calls, tools, told, ...rest } = run;
  const lines = (values: readonly unknown[]) => values.map((value) => JSON.stringify(value)).join("\n");
  const shown = { ...plan, tasks: Object.fromEntries(plan.tasks) };
  const sections = [
    ["problem", problem],
    ["timeline, in milliseconds since the request", timelineOf(run, daemons).join("\n")],
    ["plan", JSON.stringify(shown, null, 2)],
    ["tracked", JSON.stringify(rest)],
    ["journal", lines(journal)],
    ...[...tasks].map(([taskId, entries]) => [`task ${taskId}`, lines(entries)]),
    ["model calls", lines(calls)],
    ["tools", lines(tools)],
    ["told", lines(told)],
    ...daemons.map((daemon) => [`${daemon.name}, last lines`, daemon.log().slice(-LAST_LINES).join("\n")]),
  ];
  return sections.map(([title, text]) => `== ${title}\n${text}\n`).join("\n");
}
