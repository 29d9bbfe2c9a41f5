/** `troupe workflows put`, `delete`, `versions`, `diff` and `export`: workflows that are stored in the troupe. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { DefinitionError, UsageError } from "../errors.ts";
import type { Client } from "../runtime/edges/client.ts";
import type { WorkflowPut, WorkflowSource, WorkflowVersion } from "../runtime/edges/workflow-api.ts";
import { type Difference, diffData } from "../workflows/definition-diff.ts";
import { asksDaemon, does } from "./cli-command.ts";
import { type Given, withClient } from "./open-client.ts";
import { print, printJson } from "./print.ts";
import { bold, dim, green, red, yellow } from "./style.ts";
import { renderTable } from "./table.ts";
import { cut, harmless } from "./terminal-text.ts";
import { count, dateAndTime, inline } from "./words.ts";

type Asked = Given & { json?: boolean };

/** Adds the commands to `troupe workflows`. */
export function addWorkflowCommands(workflows: Command): void {
  const put = workflows
    .command("put")
    .description("Store the workflows of a file, and the agents they name, for every daemon.")
    .argument("<file>", "YAML, JSON, TypeScript or JavaScript: a configuration, or a single workflow")
    .option(
      "--expect <number>",
      "Only if the last change of the one workflow has this number; 0 for a new one.",
      number,
    );
  does(asksDaemon(put), putFile);

  const remove = workflows
    .command("delete")
    .description("Delete a stored workflow: no run begins any more, those there are go on.")
    .argument("<name>")
    .option("--expect <number>", "Only if its last change has this number.", number);
  does(asksDaemon(remove), deleteWorkflow);

  const versions = workflows.command("versions").description("List a workflow's versions, newest first.");
  does(asksDaemon(versions.argument("<name>")), listVersions);

  const diff = workflows
    .command("diff")
    .description("Show what changed between two versions: labels, hashes, or numbers as in #3.")
    .argument("<name>")
    .argument("[from]", "the older one (default: the one before the current)")
    .argument("[to]", "the newer one (default: the current)");
  does(asksDaemon(diff), showDiff);

  const exported = workflows
    .command("export")
    .description("Print a workflow and its agents as a file that any daemon runs.")
    .argument("<name>")
    .addOption(new Option("--format <format>", "As YAML or as JSON. (default: yaml)").choices(["yaml", "json"]))
    .option("--workflow-version <version>", "A label, a hash, or a number as in #3. (default: the current one)");
  does(asksDaemon(exported, "The same as --format json."), exportWorkflow);
}

async function putFile(given: Asked & { expect?: number }, path: string): Promise<void> {
  const { readSections } = await import("../runtime/config/definition-sections.ts");
  const { agents, workflows, others, locate } = await readSections(path, process.cwd());
  const names = Object.keys(workflows);
  if (given.expect !== undefined && names.length !== 1) {
    throw new UsageError(`--expect: expected a file with one workflow, got ${names.length}`);
  }
  const expected = given.expect === undefined ? {} : { expected: { [names[0] ?? ""]: given.expect } };
  const answer = await withClient(given, (client) => client.putWorkflows({ agents, workflows }, expected)).catch(
    (error: unknown) => {
      if (error instanceof DefinitionError) throw new DefinitionError(error.problems.map(locate));
      throw error;
    },
  );
  if (given.json) return printJson(answer);
  for (const put of answer.workflows) print(describePut(put));
  if (answer.unused) print(dim(`not kept, because no workflow of the file names them: ${answer.unused.join(", ")}`));
  if (others.length > 0) print(dim(`not kept, because each daemon has its own: ${others.join(", ")}`));
}

function describePut({ workflow, version, number: n, hash, changed, agents, without }: WorkflowPut): string {
  const what = changed ? `is now version ${version}` : `is version ${version} already`;
  const kept = agents.length > 0 ? `, with ${count(agents.length, "agent")}` : "";
  const late = without ? yellow(`\n  not run by ${without.join(", ")}: see the log there`) : "";
  return `${bold(workflow)} ${what} (#${n}, ${hash})${kept}${late}`;
}

async function deleteWorkflow(given: Asked & { expect?: number }, name: string): Promise<void> {
  const { expect } = given;
  await withClient(given, (client) => client.deleteWorkflow(name, expect === undefined ? {} : { expected: expect }));
  if (given.json) printJson({ workflow: name });
  else print(`deleted ${name}; its runs go on`);
}

async function listVersions(given: Asked, name: string): Promise<void> {
  const versions = await withClient(given, (client) => client.workflowVersions(name));
  if (given.json) return printJson(versions);
  print(renderTable(["", "VERSION", "", "HASH", "SINCE", "BY", ""], versions.map(rowOf)));
}

function rowOf({ version, hash, from, current, number: n, at, by, trouble }: WorkflowVersion): string[] {
  return [
    n === undefined ? "" : `#${n}`,
    version,
    current ? green("current") : "",
    hash,
    at === undefined ? dim(from) : dateAndTime(at),
    by ?? "",
    trouble === undefined ? "" : yellow(cut(inline(trouble), 60)),
  ];
}

async function showDiff(given: Asked, name: string, from?: string, to?: string): Promise<void> {
  const [older, newer] = await withClient(given, async (client) => {
    const before = from ?? (await versionBefore(client, name, to));
    return Promise.all([client.workflowSource(name, before), client.workflowSource(name, to)]);
  });
  const differences = diffData(older.file, newer.file);
  if (given.json) return printJson(differences);
  print(dim(`${titleOf(older)} → ${titleOf(newer)}`));
  if (differences.length === 0) print("No difference.");
  for (const difference of differences) print(describeDifference(difference));
}

/** The version before another one, or before the current. */
async function versionBefore(client: Client, name: string, newer: string | undefined): Promise<string> {
  const { number: n } = await client.workflowSource(name, newer);
  const versions = await client.workflowVersions(name);
  const before = versions.find((one) => one.number !== undefined && (n === undefined || one.number < n));
  if (before?.number === undefined)
    throw new UsageError(`from: expected a version, for ${name} has none before this one`);
  return `#${before.number}`;
}

function titleOf({ workflow, version, number: n, hash }: WorkflowSource): string {
  return `${workflow} version ${version} (${n === undefined ? "" : `#${n}, `}${hash})`;
}

function describeDifference({ path, before, after }: Difference): string {
  const words = (value: unknown) => cut(inline(value), 120);
  if (before === undefined) return green(`+ ${path}: ${words(after)}`);
  if (after === undefined) return red(`- ${path}: ${words(before)}`);
  return `${yellow("~")} ${path}: ${red(words(before))} → ${green(words(after))}`;
}

async function exportWorkflow(
  given: Asked & { format?: "yaml" | "json"; workflowVersion?: string },
  name: string,
): Promise<void> {
  const source = await withClient(given, (client) => client.workflowSource(name, given.workflowVersion));
  if (source.problems) throw new DefinitionError(source.problems);
  const { renderDefinitionFile } = await import("../runtime/config/definition-text.ts");
  const text = renderDefinitionFile(source.file, given.json ? "json" : (given.format ?? "yaml"));
  process.stdout.write(process.stdout.isTTY ? harmless(text) : text);
}

function number(written: string): number {
  const value = Number(written);
  if (Number.isInteger(value) && value >= 0) return value;
  throw new InvalidArgumentError(`expected a whole number from 0 on, got ${JSON.stringify(written)}`);
}
