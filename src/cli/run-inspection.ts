/** `troupe runs watch`, `logs` and `metrics`: what goes on in one run, and what it took. */
import { type Command, Option } from "commander";
import type { LogLevel, LogLine } from "../runtime/hosts/run-logs.ts";
import type { RunMetrics, StepMetrics } from "../workflows/run-metrics.ts";
import { asksDaemon, does } from "./cli-command.ts";
import { type Given, withClient } from "./open-client.ts";
import { print, printJson, printJsonLine } from "./print.ts";
import { COMPLETED, FAILED } from "./report-error.ts";
import { follow, tellOutcome } from "./run-command.ts";
import { bold, dim, paintStatus, red, yellow } from "./style.ts";
import { renderFacts, renderTable } from "./table.ts";
import { pad } from "./terminal-text.ts";
import { count, duration, inline, timeOfDay, tokens } from "./words.ts";

type Asked = Given & { json?: boolean };

const LEVELS: readonly LogLevel[] = ["debug", "info", "warn", "error"];

/** Adds the commands to `troupe runs`. */
export function addRunInspection(runs: Command): void {
  const watch = runs.command("watch").description("Watch a run to its end, from wherever it is.").argument("<run-id>");
  does(asksDaemon(watch, "Print the run as a line of JSON whenever something has happened."), watchRun);

  const logs = runs
    .command("logs")
    .description("Print what the run's agents and tools logged.")
    .argument("<run-id>")
    .option("-f, --follow", "Go on with what is logged from now on, to the run's end.")
    .addOption(new Option("--level <level>", "Only lines of this level and above. (default: debug)").choices(LEVELS));
  does(asksDaemon(logs, "Print every line as a line of JSON."), printLogs);

  const metrics = runs
    .command("metrics")
    .description("Print what a run took, in sum and by step.")
    .argument("<run-id>");
  does(asksDaemon(metrics), printMetrics);
}

async function watchRun(given: Asked, runId: string): Promise<number> {
  return withClient(given, async (client) => {
    if (given.json) for await (const run of client.watch(runId)) printJsonLine(run);
    else await follow(client, runId, { watch: true }, new AbortController().signal);
    const run = await client.get(runId);
    if (!given.json) tellOutcome(run);
    return run.status === "completed" ? COMPLETED : FAILED;
  });
}

type LogsGiven = Asked & { follow?: boolean; level?: LogLevel };

async function printLogs({ json, follow = false, level = "debug", ...given }: LogsGiven, runId: string): Promise<void> {
  const least = LEVELS.indexOf(level);
  await withClient(given, async (client) => {
    for await (const line of client.logs(runId, { follow })) {
      if (LEVELS.indexOf(line.level) < least) continue;
      if (json) printJsonLine(line);
      else print(tellLine(line));
    }
  });
}

function tellLine({ at, level, agent, taskId, message, fields }: LogLine): string {
  const more = fields ? dim(`  ${inline(fields)}`) : "";
  return `${dim(timeOfDay(at))}  ${paintLevel(level)}  ${agent} ${dim(taskId)}  ${inline(message)}${more}`;
}

function paintLevel(level: LogLevel): string {
  const word = pad(level, 5);
  return level === "error" ? red(word) : level === "warn" ? yellow(word) : level === "debug" ? dim(word) : word;
}

async function printMetrics(given: Asked, runId: string): Promise<void> {
  const metrics = await withClient(given, (client) => client.metrics(runId));
  if (given.json) printJson(metrics);
  else print(describeMetrics(metrics));
}

function describeMetrics(run: RunMetrics): string {
  const { runId, workflow, status, durationMs, pendingMs, workMs, attempts, retries, lost, handoffs, takeovers } = run;
  const facts = renderFacts([
    ["run", bold(runId)],
    ["workflow", workflow],
    ["status", paintStatus(status)],
    ["took", duration(durationMs)],
    ["pending", duration(pendingMs)],
    ["at work", duration(workMs)],
    [
      "attempts",
      `${attempts}${retries > 0 ? `, ${retries} of them again` : ""}${lost > 0 ? `, ${lost} sent again` : ""}`,
    ],
    ["handoffs", handoffs > 0 ? String(handoffs) : undefined],
    ["takeovers", takeovers > 0 ? String(takeovers) : undefined],
    ["used", `${count(run.modelCalls, "model call")}, ${tokens(run)}, ${count(run.toolCalls, "tool call")}`],
    ["cost", run.cost === undefined ? undefined : String(run.cost)],
    ["models", run.models?.map(({ provider, model, modelCalls }) => `${provider}/${model} (${modelCalls})`).join(", ")],
  ]);
  if (run.steps.length === 0) return facts;
  const head = ["STEP", "AGENT", "TOOK", "AT WORK", "ATTEMPTS", "MODEL CALLS", "TOKENS", "TOOL CALLS"];
  return `${facts}\n\n${renderTable(head, run.steps.map(rowOf))}`;
}

function rowOf(step: StepMetrics): string[] {
  const { id, agent = "", durationMs, workMs, attempts, modelCalls, inputTokens, outputTokens, toolCalls } = step;
  const used = `${inputTokens}→${outputTokens}`;
  return [
    id,
    agent,
    duration(durationMs),
    duration(workMs),
    String(attempts),
    String(modelCalls),
    used,
    String(toolCalls),
  ];
}
