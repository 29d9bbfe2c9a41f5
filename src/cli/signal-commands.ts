/** `troupe runs signal|approve|reject` and `troupe approvals …`: what is said to runs that wait for somebody. */
import type { Command } from "commander";
import { UsageError } from "../errors.ts";
import type { OpenApproval } from "../runtime/edges/open-approvals.ts";
import { asksDaemon, does } from "./cli-command.ts";
import { type Given, withClient } from "./open-client.ts";
import { print, printJson } from "./print.ts";
import { dim } from "./style.ts";
import { renderTable } from "./table.ts";
import { cut } from "./terminal-text.ts";
import { dateAndTime, inline } from "./words.ts";

type Asked = Given & { json?: boolean };

const SIGNAL_EXAMPLES = `
Examples:
  troupe runs signal <run-id> paid '{"amount": 12}'
  troupe runs signal <run-id> go`;

const APPROVAL_EXAMPLES = `
Examples:
  troupe approvals list
  troupe runs approve <run-id> --by ada --comment "go ahead"
  troupe runs reject <run-id> publish`;

/** Adds the commands under `runs`. */
export function addSignalCommands(runs: Command): void {
  const signal = runs
    .command("signal")
    .description("Send a run a named signal, with a payload in JSON.")
    .argument("<run-id>")
    .argument("<name>")
    .argument("[json]")
    .addHelpText("after", SIGNAL_EXAMPLES);
  does(asksDaemon(signal), sendSignal);
  for (const [choice, description] of [
    ["approve", "Approve what a run asks for."],
    ["reject", "Reject what a run asks for."],
  ] as const) {
    const command = runs
      .command(choice)
      .description(description)
      .argument("<run-id>")
      .argument("[step]", "The step that asks. (default: the only one that waits)")
      .option("--by <name>", "Who decides.")
      .option("--comment <text>", "What is recorded with the decision.")
      .addHelpText("after", APPROVAL_EXAMPLES);
    does(asksDaemon(command), (given: Decided, runId: string, step?: string) => decide(given, { runId, step, choice }));
  }
}

/** Adds `approvals` to the program. */
export function addApprovalCommands(program: Command): void {
  const list = program
    .command("approvals")
    .description("What waits for a person to decide.")
    .addHelpText("after", APPROVAL_EXAMPLES)
    .command("list")
    .description("List the approvals that wait, those of the oldest runs first.")
    .option("--workflow <name>", "Only those of this workflow.")
    .option("--assignee <name>", "Only those that this one may decide.")
    .option("--limit <n>", "How many at most, 1 to 500. (default: 100)", Number);
  does(asksDaemon(list), listApprovals);
}

async function sendSignal(given: Asked, runId: string, name: string, json?: string): Promise<void> {
  const payload = json === undefined ? undefined : readPayload(json);
  const { taken } = await withClient(given, (client) => client.signal(runId, name, payload));
  if (given.json) printJson({ runId, name, taken });
  else print(taken ? `${runId} took ${name}` : `sent ${name} to ${runId}, which will take it when it goes on`);
}

type Decided = Asked & { by?: string; comment?: string };

async function decide(
  given: Decided,
  { runId, step, choice }: { runId: string; step: string | undefined; choice: string },
): Promise<void> {
  const { by, comment } = given;
  const decision = {
    choice,
    ...(step !== undefined && { step }),
    ...(by !== undefined && { by }),
    ...(comment !== undefined && { comment }),
  };
  const { taken } = await withClient(given, (client) => client.approve(runId, decision));
  if (given.json) printJson({ runId, choice, taken });
  else print(taken ? `${runId}: ${choice}` : `sent ${choice} to ${runId}, which will take it when it goes on`);
}

type ListGiven = Asked & { workflow?: string; assignee?: string; limit?: number };

async function listApprovals(given: ListGiven): Promise<void> {
  const { workflow, assignee, limit } = given;
  const query = {
    ...(workflow !== undefined && { workflow }),
    ...(assignee !== undefined && { assignee }),
    ...(limit !== undefined && { limit }),
  };
  const approvals = await withClient(given, (client) => client.approvals(query));
  if (given.json) return printJson({ approvals });
  if (approvals.length === 0) return print("Nothing waits for a decision.");
  print(renderTable(["RUN", "WORKFLOW", "STEP", "SINCE", "CHOICES", "TITLE"], approvals.map(rowOf)));
}

function rowOf({ runId, workflow, step, since, choices, title, assignees }: OpenApproval): string[] {
  const who = assignees ? dim(`  (${assignees.join(", ")})`) : "";
  return [runId, workflow, step, dateAndTime(since), choices.join(", "), `${cut(inline(title), 60)}${who}`];
}

function readPayload(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new UsageError(`the payload: expected JSON, got ${json.slice(0, 80)} (${why})`);
  }
}
