/** `troupe runs …`: what there is to know of runs, and how to stop one or decide about one that stands still. */
import { type Command, Option } from "commander";
import { TroupeError } from "../errors.ts";
import type { RunListQuery, RunSummary } from "../runtime/hosts/run-list.ts";
import type { RunEvent } from "../workflows/run-events.ts";
import { isOver, RUN_STATUSES, type RunStatus } from "../workflows/run-status.ts";
import { asksDaemon, does } from "./cli-command.ts";
import { describeRun } from "./describe-run.ts";
import { addRunGraphCommand } from "./graph-commands.ts";
import { type Given, withClient } from "./open-client.ts";
import { print, printJson } from "./print.ts";
import { COMPLETED, FAILED } from "./report-error.ts";
import { tellOutcome } from "./run-command.ts";
import { addRunInspection } from "./run-inspection.ts";
import { runTeller } from "./run-lines.ts";
import { dim, paintStatus } from "./style.ts";
import { renderTable } from "./table.ts";
import { cut, harmless } from "./terminal-text.ts";
import { dateAndTime, durationBetween, inline, timeOfDay } from "./words.ts";

const EXAMPLES = `
Examples:
  troupe runs list --status failed --since 2026-11-01T00:00:00Z
  troupe runs get <run-id>
  troupe runs result <run-id> --wait
  troupe runs logs <run-id> --follow
  troupe runs metrics <run-id>
  troupe runs cancel <run-id> --reason "wrong topic"
  troupe runs retry <run-id> --from card
  troupe runs resume <run-id>`;

type Asked = Given & { json?: boolean };

/** Adds the commands to the program; gives back what they are under. */
export function addRunsCommands(program: Command): Command {
  const runs = program
    .command("runs")
    .description("List, inspect and decide about runs.")
    .addHelpText("after", EXAMPLES);

  const list = runs
    .command("list")
    .description("List runs, newest first.")
    .option("--workflow <name>", "Only runs of this workflow.")
    .addOption(new Option("--status <status>", "Only runs with this status.").choices(RUN_STATUSES))
    .option("--session-id <id>", "Only runs of this session.")
    .option("--user-id <id>", "Only runs for this user.")
    .option("--since <instant>", "Only runs created at or after it, such as 2026-11-20T09:00:00Z.")
    .option("--until <instant>", "Only runs created before it.")
    .option("--limit <n>", "How many at most, 1 to 500. (default: 50)", Number)
    .option("--cursor <cursor>", "Goes on where the list before ended.");
  does(asksDaemon(list), listRuns);

  does(asksDaemon(runs.command("get").description("Show a run.").argument("<run-id>")), getRun);

  const result = runs
    .command("result")
    .description("Print a run's output.")
    .argument("<run-id>")
    .option("--wait", "Wait for a run that is not finished.");
  does(asksDaemon(result, "Print the finished run as JSON."), printResult);

  const cancel = runs
    .command("cancel")
    .description("Stop a run; what has to be undone then is.")
    .argument("<run-id>")
    .option("--reason <text>", "What is recorded as the reason.")
    .option("--force", "End it at once, without waiting for anything or undoing anything more.");
  does(asksDaemon(cancel), cancelRun);

  const retry = runs
    .command("retry")
    .description("Try a run again that failed or was cancelled: a new run that does only what that one has not done.")
    .argument("<run-id>")
    .option("--from <step>", "Run this step and what comes after it again in any case.")
    .option("--run-id <id>", "The id of the new run. (default: a new one)");
  does(asksDaemon(retry), retryRun);

  const resume = runs
    .command("resume")
    .description("Take up a parked run again, with its own definition or the one there is now.")
    .argument("<run-id>");
  does(asksDaemon(resume), resumeRun);

  const fail = runs
    .command("fail")
    .description("End a parked run as failed.")
    .argument("<run-id>")
    .option("--reason <text>", "What is recorded as the error. (default: why it was parked)");
  does(asksDaemon(fail), failRun);

  const transcript = runs
    .command("transcript")
    .description("Retell a run: who said what, which tools were called, who handed over to whom.")
    .argument("<run-id>");
  does(asksDaemon(transcript, "Print it as text in JSON."), printTranscript);

  const journal = runs
    .command("journal")
    .description("Print everything that is recorded of a run.")
    .argument("<run-id>");
  does(asksDaemon(journal, "Print the events as JSON."), printJournal);

  addRunInspection(runs);
  addRunGraphCommand(runs);
  return runs;
}

type ListGiven = Asked & {
  workflow?: string;
  status?: RunStatus;
  sessionId?: string;
  userId?: string;
  since?: string;
  until?: string;
  limit?: number;
  cursor?: string;
};

async function listRuns(given: ListGiven): Promise<void> {
  const { workflow, status, sessionId, userId, since, until, limit, cursor } = given;
  const query: RunListQuery = { workflow, status, sessionId, userId, since, until, limit, cursor };
  const page = await withClient(given, (client) => client.list(query));
  if (given.json) return printJson(page);
  if (page.runs.length === 0) return print("No runs.");
  print(renderTable(["RUN", "WORKFLOW", "STATUS", "CREATED", "TOOK", ""], page.runs.map(rowOf)));
  if (page.cursor !== undefined) print(dim(`\nThere are more: --cursor ${page.cursor}`));
}

function rowOf({ runId, workflow, status, createdAt, startedAt, endedAt, waitingFor }: RunSummary): string[] {
  const took = isOver(status) ? durationBetween(startedAt ?? createdAt, endedAt) : "";
  return [runId, workflow, paintStatus(status), dateAndTime(createdAt), took, cut(inline(waitingFor ?? ""), 60)];
}

async function getRun(given: Asked, runId: string): Promise<void> {
  const run = await withClient(given, (client) => client.get(runId));
  if (given.json) printJson(run);
  else print(describeRun(run));
}

async function printResult(given: Asked & { wait?: boolean }, runId: string): Promise<number> {
  return withClient(given, async (client) => {
    if (given.wait) for await (const _ of client.events(runId, { live: false }));
    const run = await client.get(runId);
    if (given.json) printJson(run);
    if (!isOver(run.status)) {
      throw new TroupeError("not_finished", `run ${runId} is ${run.status}, not finished; --wait waits for its end`);
    }
    if (!given.json) tellOutcome(run);
    return run.status === "completed" ? COMPLETED : FAILED;
  });
}

async function cancelRun(given: Asked & { reason?: string; force?: true }, runId: string): Promise<void> {
  const { reason, force } = given;
  const how = { ...(reason !== undefined && { reason }), ...(force && { force }) };
  await withClient(given, (client) => client.cancel(runId, how));
  if (given.json) printJson({ runId, status: "cancelling" });
  else print(`cancelling ${runId}`);
}

async function retryRun(given: Asked & { from?: string; runId?: string }, runId: string): Promise<void> {
  const { from, runId: newRunId } = given;
  const options = { ...(from !== undefined && { from }), ...(newRunId !== undefined && { newRunId }) };
  const made = await withClient(given, (client) => client.retry(runId, options));
  if (given.json) printJson(made);
  else print(made.runId);
}

async function resumeRun(given: Asked, runId: string): Promise<void> {
  await withClient(given, (client) => client.resume(runId));
  if (given.json) printJson({ runId });
  else print(`${runId} goes on`);
}

async function failRun(given: Asked & { reason?: string }, runId: string): Promise<void> {
  const { reason } = given;
  await withClient(given, (client) => client.fail(runId, reason === undefined ? {} : { reason }));
  if (given.json) printJson({ runId, status: "failed" });
  else print(`failed ${runId}`);
}

async function printJournal(given: Asked, runId: string): Promise<void> {
  const events = await withClient(given, (client) => client.journal(runId));
  if (given.json) return printJson(events);
  const tell = runTeller();
  for (const event of events) print(tell(event) ?? tellBare(event));
}

async function printTranscript(given: Asked, runId: string): Promise<void> {
  const transcript = await withClient(given, (client) => client.transcript(runId));
  if (given.json) printJson({ runId, transcript });
  else print(harmless(transcript));
}

/** A journal is shown whole, also what nobody would watch. */
function tellBare({ at, type, data }: RunEvent): string {
  return dim(`${timeOfDay(at)}  ${type}  ${cut(inline(data), 60)}`);
}
