/** `troupe run`: starts a run and stays with it to its end. */
import { type Command, InvalidArgumentError, Option } from "commander";
import type { Client, StartOptions } from "../runtime/edges/client.ts";
import type { RunRecord } from "../workflows/run-record.ts";
import { isOver } from "../workflows/run-status.ts";
import { asksDaemon, does } from "./cli-command.ts";
import { durationFlag } from "./duration-flag.ts";
import { openLiveView } from "./live-view.ts";
import { connectionWords, type Given, withClient } from "./open-client.ts";
import { print, printJson, printJsonLine, printOutput } from "./print.ts";
import { readInput } from "./read-input.ts";
import { COMPLETED, FAILED } from "./report-error.ts";
import { runTeller } from "./run-lines.ts";
import { dim } from "./style.ts";

const EXAMPLES = `
Examples:
  troupe run article "the history of tea"
  troupe run article "the history of tea" --json | jq .output
  git diff | troupe run review -
  troupe run report '{"year": 2026}' --detach
  troupe run report '{"year": 2026}' --detach --delay 10m

The output goes to stdout. Exit code: 0 completed, 1 failed or cancelled, 2 a mistake in the command.
Ctrl-C leaves the run alone and ends only this command.`;

/** Shells give 128 + the signal's number. */
const INTERRUPTED = 130;

type RunGiven = Given & {
  json?: boolean;
  watch?: boolean;
  detach?: boolean;
  runId?: string;
  workflowVersion?: string;
  sessionId?: string;
  userId?: string;
  timeout?: number;
  notBefore?: string;
  at?: string;
  delay?: number;
  metadata?: { [key: string]: unknown };
};

/** Adds the command to the program. */
export function addRunCommand(program: Command): void {
  const command = program
    .command("run")
    .description("Start a run, watch it, and print its output.")
    .argument("<workflow>", "its name; see `troupe workflows`")
    .argument("[input]", "text or JSON; - or nothing reads it from stdin")
    .option("--watch", "Tell what happens also where stdout is no terminal; with --json, print every event as a line.")
    .option("--detach", "Print the run's id and do not wait.")
    .option("--run-id <id>", "The run's id: the same id twice is one run. (default: a new one)")
    .option("--workflow-version <version>", "A label, a hash, or a number as in #3. (default: the current one)")
    .option("--session-id <id>", "The session it belongs to.")
    .option("--user-id <id>", "Whom it is for.")
    .option("--timeout <duration>", "How long the run may take, such as 30s or 5m.", durationFlag)
    .option("--not-before <instant>", "When it starts at the earliest, such as 2030-01-31T09:00:00Z.")
    .addOption(new Option("--at <instant>", "The same as --not-before.").conflicts("notBefore"))
    .addOption(
      new Option("--delay <duration>", "How long from now on it starts at the earliest, such as 10m.")
        .argParser(durationFlag)
        .conflicts(["notBefore", "at"]),
    )
    .option("--metadata <key=value>", "What is kept with the run; may be given several times.", addMetadata)
    .addHelpText("after", EXAMPLES);
  does(asksDaemon(command, "Print the finished run as JSON."), runWorkflow);
}

async function runWorkflow(given: RunGiven, workflow: string, argument: string | undefined): Promise<number> {
  const input = await readInput(argument);
  return withClient(given, async (client) => {
    const { runId } = await client.start(workflow, input, startOptions(given));
    if (given.detach) {
      if (given.json) printJson({ runId });
      else print(runId);
      return COMPLETED;
    }
    const interrupted = new AbortController();
    const onInterrupt = () => interrupted.abort();
    process.once("SIGINT", onInterrupt);
    try {
      await follow(client, runId, given, interrupted.signal);
      return await conclude(client, runId, given);
    } catch (error) {
      if (!interrupted.signal.aborted) throw error;
      const where = connectionWords(given);
      process.stderr.write(
        `The run goes on. Watch it: troupe events ${runId}${where}\n   Its output: troupe runs result ${runId} --wait${where}\n` +
          `      Stop it: troupe runs cancel ${runId}${where}\n`,
      );
      return INTERRUPTED;
    } finally {
      process.off("SIGINT", onInterrupt);
    }
  });
}

/** Stays with the run to its end, and shows what was asked for. */
export async function follow(
  client: Client,
  runId: string,
  given: { json?: boolean; watch?: boolean },
  signal: AbortSignal,
): Promise<void> {
  const onTerminal = process.stdout.isTTY && process.env.TERM !== "dumb";
  if (given.json && given.watch) {
    for await (const event of client.events(runId, { signal })) printJsonLine(event);
  } else if (given.json || !(given.watch || process.stdout.isTTY)) {
    for await (const _ of client.events(runId, { signal, live: false, whole: false }));
  } else if (onTerminal) {
    const view = openLiveView(process.stdout);
    try {
      for await (const event of client.events(runId, { signal })) view.take(event);
    } finally {
      view.close();
    }
  } else {
    const tell = runTeller();
    print(`${dim("run")} ${runId}`);
    for await (const event of client.events(runId, { signal })) {
      const line = tell(event);
      if (line) print(line);
    }
  }
}

async function conclude(client: Client, runId: string, given: RunGiven): Promise<number> {
  const run = await client.get(runId);
  if (given.json) {
    if (!given.watch) printJson(run);
  } else {
    if (run.status === "completed" && (given.watch || process.stdout.isTTY)) print("");
    tellOutcome(run);
  }
  return run.status === "completed" ? COMPLETED : FAILED;
}

/** Prints a finished run's output on stdout, or says on stderr why there is none. */
export function tellOutcome(run: RunRecord): void {
  if (run.status === "completed") printOutput(run.output);
  else if (isOver(run.status)) {
    process.stderr.write(`troupe: run ${run.runId} ${run.status}: ${run.error?.message ?? "no reason is recorded"}\n`);
  }
}

function startOptions(given: RunGiven): StartOptions {
  const { runId, workflowVersion, sessionId, userId, timeout, at, delay, metadata } = given;
  const notBefore = given.notBefore ?? at ?? (delay === undefined ? undefined : new Date(Date.now() + delay));
  return {
    ...(runId !== undefined && { runId }),
    ...(workflowVersion !== undefined && { version: workflowVersion }),
    ...(sessionId !== undefined && { sessionId }),
    ...(userId !== undefined && { userId }),
    ...(timeout !== undefined && { timeoutMs: timeout }),
    ...(notBefore !== undefined && { notBefore }),
    ...(metadata !== undefined && { metadata }),
  };
}

function addMetadata(written: string, before: { [key: string]: unknown } = {}): { [key: string]: unknown } {
  const at = written.indexOf("=");
  if (at < 1) throw new InvalidArgumentError(`expected key=value, got ${JSON.stringify(written)}`);
  return { ...before, [written.slice(0, at)]: written.slice(at + 1) };
}
