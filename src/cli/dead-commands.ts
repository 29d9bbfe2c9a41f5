/** `troupe dead …`: what could not be handled, and what shall become of it. */
import type { Command } from "commander";
import { UnavailableError, UsageError } from "../errors.ts";
import type { Client } from "../runtime/edges/client.ts";
import type { DeadLetterSummary } from "../runtime/edges/dead-api.ts";
import type { DeadLetterRecord } from "../runtime/edges/dead-letter-record.ts";
import { asksDaemon, does } from "./cli-command.ts";
import { type Given, withClient } from "./open-client.ts";
import { print, printJson } from "./print.ts";
import { COMPLETED, FAILED, tellError } from "./report-error.ts";
import { bold, dim, red, yellow } from "./style.ts";
import { renderFacts, renderTable } from "./table.ts";
import { cut, harmless } from "./terminal-text.ts";
import { bytes, dateAndTime, inline } from "./words.ts";

const EXAMPLES = `
Examples:
  troupe dead list
  troupe dead show 17
  troupe dead redrive 17 18      after the cause is mended: send them again, and remove them here
  troupe dead drop --all         remove them for good`;

// As many as the API gives at once.
const PAGE = 100;

type Asked = Given & { json?: boolean };
type Chosen = Asked & { all?: boolean };

/** Adds the commands to the program. */
export function addDeadCommands(program: Command): void {
  const dead = program
    .command("dead")
    .description("List, send again or drop what could not be handled.")
    .addHelpText("after", EXAMPLES);

  const list = dead
    .command("list")
    .description("List dead letters, newest first.")
    .option("--limit <n>", "How many at most, 1 to 100. (default: 50)", Number)
    .option("--cursor <cursor>", "Goes on where the list before ended.");
  does(asksDaemon(list), listLetters);

  does(asksDaemon(dead.command("show").description("Show one with its message.").argument("<id>")), showLetter);

  const redrive = dead
    .command("redrive")
    .description("Send messages again to where they came from; a request is for the same run as before.")
    .argument("[ids...]");
  does(asksDaemon(redrive.option("--all", "All there are.")), (given: Chosen, ids: string[]) =>
    forEach(given, ids, "sent again", (client, seq) => client.redrive(seq)),
  );

  const drop = dead.command("drop").description("Remove dead letters for good.").argument("[ids...]");
  does(asksDaemon(drop.option("--all", "All there are.")), (given: Chosen, ids: string[]) =>
    forEach(given, ids, "dropped", async (client, seq) => {
      await client.drop(seq);
      return {};
    }),
  );
}

async function listLetters(given: Asked & { limit?: number; cursor?: string }): Promise<void> {
  const { limit, cursor } = given;
  const query = { ...(limit !== undefined && { limit }), ...(cursor !== undefined && { cursor }) };
  const page = await withClient(given, (client) => client.deadLetters(query));
  if (given.json) return printJson(page);
  if (page.letters.length === 0) return print("No dead letters.");
  print(renderTable(["ID", "SENT TO", "RUN", "SINCE", "SIZE", "REASON"], page.letters.map(rowOf)));
  if (page.cursor !== undefined) print(dim(`\nThere are more, ${page.total} in all: --cursor ${page.cursor}`));
}

function rowOf({ seq, subject, runId, at, bytes: size, whole, reason }: DeadLetterSummary): string[] {
  const why = cut(`${inline(reason.code)}: ${inline(reason.message)}`, 60);
  const room = whole ? bytes(size) : yellow(`${bytes(size)}, cut`);
  return [String(seq), cut(inline(subject), 50), runId ?? "", dateAndTime(at), room, why];
}

async function showLetter(given: Asked, id: string): Promise<void> {
  const seq = sequenceOf(id);
  const letter = await withClient(given, (client) => client.deadLetter(seq));
  if (given.json) printJson(letter);
  else print(describeLetter(letter));
}

function describeLetter(letter: DeadLetterRecord): string {
  const { seq, kind, subject, at, reason, whole, data, encoding } = letter;
  const facts = renderFacts([
    ["dead letter", bold(String(seq))],
    ["kind", kind === "tasks" ? "a message in a mailbox that is no task" : "a request"],
    ["sent to", inline(subject)],
    ["given up", dateAndTime(at)],
    ["reason", red(`${inline(reason.code)}: ${inline(reason.message)}`)],
    ["run", letter.runId],
    ["task", letter.taskId],
    ["workflow", letter.workflow],
    ["agent", letter.agent],
    ["worker", letter.worker],
    ["trace context", letter.traceparent],
    ["size", bytes(letter.bytes)],
  ]);
  const kept = whole
    ? encoding === "base64"
      ? "The message, in base64, for it is not text:"
      : "The message:"
    : yellow("The beginning of the message. The rest did not fit into a letter, so it cannot be sent again from here:");
  return `${facts}\n\n${dim(kept)}\n${harmless(data)}`;
}

/** Does something with each letter; one that it cannot be done with does not keep it from the others. */
async function forEach(
  given: Chosen,
  ids: readonly string[],
  done: string,
  act: (client: Client, seq: number) => Promise<{ runId?: string }>,
): Promise<number> {
  const chosen = ids.map(sequenceOf);
  if (given.all ? chosen.length > 0 : chosen.length === 0) {
    throw new UsageError("ids: expected ids as `troupe dead list` shows them, or --all");
  }
  return withClient(given, async (client) => {
    const outcomes: { seq: number; runId?: string; error?: string }[] = [];
    // The oldest first, as they would have been handled.
    for (const seq of given.all ? await allOf(client) : chosen) {
      try {
        const { runId } = await act(client, seq);
        outcomes.push({ seq, ...(runId !== undefined && { runId }) });
        if (!given.json) print(`${done}: ${seq}${runId === undefined ? "" : dim(`  run ${runId}`)}`);
      } catch (error) {
        if (error instanceof UnavailableError) throw error;
        outcomes.push({ seq, error: error instanceof Error ? error.message : String(error) });
        if (!given.json) tellError(error);
      }
    }
    if (given.json) printJson(outcomes);
    else if (outcomes.length === 0) print("No dead letters.");
    return outcomes.some(({ error }) => error !== undefined) ? FAILED : COMPLETED;
  });
}

async function allOf(client: Client): Promise<number[]> {
  const all: number[] = [];
  for (let cursor: string | undefined, more = true; more; more = cursor !== undefined) {
    const page = await client.deadLetters({ limit: PAGE, ...(cursor !== undefined && { cursor }) });
    all.push(...page.letters.map(({ seq }) => seq));
    cursor = page.cursor;
  }
  return all.reverse();
}

function sequenceOf(id: string): number {
  const seq = Number(id);
  if (Number.isInteger(seq) && seq > 0) return seq;
  throw new UsageError(`id: expected a number as \`troupe dead list\` shows it, got ${JSON.stringify(id)}`);
}
