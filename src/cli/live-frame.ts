/** What a run looks like at one moment, as lines for a terminal. */
import type { CompensationRecord } from "../workflows/record-compensations.ts";
import type { RunRecord, StepRecord } from "../workflows/run-record.ts";
import { isOver } from "../workflows/run-status.ts";
import { stepRows } from "./step-rows.ts";
import { bold, cyan, dim, green, paintStatus, red, yellow } from "./style.ts";
import { cut, harmless, pad, widthOf } from "./terminal-text.ts";
import { durationBetween, inline, tokens } from "./words.ts";

type ToolUse = { callId: string; tool: string; state: "running" | "done" | "failed" };

/** A task under way, as far as the live feed told. */
export type TaskView = {
  /** The row it belongs to: the step, or in handoff runs the task itself. */
  row: string;
  /** What the model has said in this turn. */
  words: string;
  tools: ToolUse[];
};

export type Screen = {
  columns: number;
  rows: number;
  /** Counts frames; turns the spinner. */
  frame: number;
};

const SPINNER = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
/** Lines of a model's words that are shown while they come. */
const WORDS_LINES = 3;

/** Draws a run: its head, a line for each step or task, and under it its tools, its words and to whom it handed over. */
export function drawRun(run: RunRecord, tasks: ReadonlyMap<string, TaskView>, screen: Screen): string[] {
  const undoing = run.compensations.map((row) => ({ step: undoingRow(row), depth: 0, done: undefined }));
  const rows = [...stepRows(run), ...undoing];
  const names = rows.map(({ step, depth }) => `${"  ".repeat(depth)}${nameOf(step, run)}`);
  const width = Math.min(40, Math.max(10, ...names.map(widthOf)));
  const head = drawHead(run, screen);
  const body = rows.flatMap(({ step, done }, index) => {
    const { status, startedAt, endedAt, attempts, error, continued, reason } = step;
    const mark = status === "running" && isOver(run.status) ? " " : markOf(status, screen);
    const took = startedAt === undefined ? "" : durationBetween(startedAt, endedAt);
    const notes = [
      ...(done === undefined ? [] : [done]),
      ...(attempts > 1 ? [`attempt ${attempts}`] : []),
      ...(status === "retrying" ? [yellow("retrying")] : []),
      ...(reason === undefined ? [] : [dim(`skipped: ${inline(reason)}`)]),
      ...(error && status !== "completed" ? [red(inline(error.message))] : []),
      ...(continued ? [dim("the run goes on")] : []),
    ];
    const line = `  ${mark} ${pad(cut(names[index] ?? "", width), width)}  ${dim(took.padStart(8))}  ${notes.join("  ")}`;
    return [line.trimEnd(), ...drawTasks(step, tasks, screen), ...drawHandoff(run, index)];
  });
  // A frame that is taller than the screen could not be drawn over.
  const room = Math.max(2, screen.rows - 2 - head.length);
  const shown = body.length > room ? [dim(`  … ${body.length - room + 1} lines above`), ...body.slice(1 - room)] : body;
  return [...head, ...shown].map((line) => narrowed(line, screen.columns - 1));
}

/** What undoes a step is drawn as a step of its own. */
function undoingRow({ step, agent = "", status, ...rest }: CompensationRecord): StepRecord {
  return { ...rest, id: `${step}/compensate`, agent, status: status === "abandoned" ? "cancelled" : status };
}

function drawHead(
  { progress: { completed, total }, workflow, runId, status, createdAt, endedAt, usage, waitingFor }: RunRecord,
  screen: Screen,
): string[] {
  const used = usage.totalTokens > 0 ? [dim(tokens(usage))] : [];
  const steps = total > 1 ? [`${completed}/${total}`] : [];
  const took = durationBetween(createdAt, endedAt);
  const parts = [bold(workflow), paintStatus(status), ...steps, took, ...used, dim(runId)];
  const head = `${markOf(status, screen)} ${parts.join("  ")}`;
  return waitingFor ? [head, yellow(`  ${inline(waitingFor)}`)] : [head];
}

function nameOf({ id, agent, kind: does }: StepRecord, { kind }: RunRecord): string {
  const name = id.slice(id.lastIndexOf("/") + 1);
  if (agent === undefined) return does === undefined ? name : `${name} (${does})`;
  return kind === "handoff" || id === agent ? agent : `${name} (${agent})`;
}

function markOf(status: RunRecord["status"] | StepRecord["status"], { frame }: Screen): string {
  switch (status) {
    case "completed":
      return green("✔");
    case "failed":
      return red("✘");
    case "cancelled":
      return red("■");
    case "skipped":
      return dim("–");
    case "pending":
    case "waiting":
      return yellow("◦");
    default:
      return cyan(SPINNER[frame % SPINNER.length] ?? "");
  }
}

function drawTasks({ id, status }: StepRecord, tasks: ReadonlyMap<string, TaskView>, { columns }: Screen): string[] {
  return [...tasks.values()]
    .filter(({ row }) => row === id)
    .flatMap(({ words, tools }) => [
      ...tools.map(({ tool, state }) => `      ${toolMark(state)} ${dim(`${tool}()`)}`),
      ...(status === "running" ? lastLines(words, columns - 9).map((line) => `      ${dim("│")} ${line}`) : []),
    ]);
}

function toolMark(state: ToolUse["state"]): string {
  return state === "running" ? cyan("⚙") : state === "done" ? green("⚙") : yellow("⚙");
}

/** In a handoff run every task but the last ended by handing over. */
function drawHandoff({ kind, handoffs }: RunRecord, index: number): string[] {
  const handoff = kind === "handoff" ? handoffs[index] : undefined;
  if (!handoff) return [];
  return [`      ${cyan(`→ ${handoff.to}`)}${handoff.reason ? dim(`  ${inline(handoff.reason)}`) : ""}`];
}

function lastLines(words: string, columns: number): string[] {
  // Only the end is looked at: this is drawn several times a second while the text grows.
  const text = harmless(words.slice(-columns * WORDS_LINES * 2));
  const lines = text.split("\n").flatMap((line) => wrap(line, columns));
  return lines.filter((line) => line.trim() !== "").slice(-WORDS_LINES);
}

function wrap(line: string, columns: number): string[] {
  const lines: string[] = [];
  let current = "";
  for (const word of line.split(/(?<=\s)/)) {
    if (current !== "" && widthOf(current) + widthOf(word.trimEnd()) > columns) {
      lines.push(current);
      current = "";
    }
    current += word;
  }
  return [...lines, current];
}

/** A line that is too long would wrap and spoil the drawing; it then loses its colours too. */
function narrowed(line: string, columns: number): string {
  return widthOf(line) <= columns ? line : cut(harmless(line), columns);
}
