/**
 * What agents and tools log, kept by run: lines are collected for a moment and stored together, without waiting for anything.
 *
 * Invariants
 * L1  Nobody who logs waits, or fails, for it. A run whose agents log nothing costs nothing.
 * L2  Memory is bounded: beyond what is kept while the broker is away the oldest lines of the run with the most go, and a line
 *     says how many. So a run that logs much does not cost the others theirs.
 * L3  What a task logged is sent before its outcome, on the same connection.
 */
import type { ToolLogger } from "../../actors/tool.ts";
import type { Bus } from "../nats/connection.ts";
import type { Subjects } from "../subjects.ts";
import type { TaskWork } from "./task-work.ts";

export type LogLevel = "debug" | "info" | "warn" | "error";

/** One line. */
export type LogLine = {
  at: string;
  level: LogLevel;
  agent: string;
  taskId: string;
  message: string;
  fields?: { [name: string]: unknown };
};

/** Lines that are stored together. The wire form of `troupe.logs.<runId>`. */
export type LogBatch = {
  v: 1;
  runId: string;
  worker: string;
  lines: LogLine[];
};

export type RunLogs = {
  /** A logger that logs to `base` and keeps the lines with the task's run. */
  loggerFor(work: TaskWork, base: ToolLogger): ToolLogger;
  /** Sends what is kept back of a run. */
  flush(runId: string): void;
  /** Sends all of it, and keeps nothing any more. */
  stop(): void;
};

/** Seen soon, and dozens of lines of a loop are one message. */
const COALESCE_MS = 200;
/** So many of them fit beside each other into one answer of the API. */
const BATCH_BYTES = 16 * 1_024;
/** A line beyond is cut: logs are for words, not for payloads. */
const LINE_BYTES = 8 * 1_024;
/** L2: what is kept of all runs while the broker is away. */
const KEPT_BYTES = 4 * 1_024 * 1_024;

const LEVELS: readonly LogLevel[] = ["debug", "info", "warn", "error"];

type Kept = { workflow: string; lines: { json: string; bytes: number }[]; bytes: number; lost: number };

/** Opens the logs of the runs that this worker works for. */
export function openRunLogs(bus: Bus, subjects: Subjects, worker: string): RunLogs {
  const kept = new Map<string, Kept>();
  let total = 0;
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;

  return {
    loggerFor(work, base) {
      const log = (level: LogLevel) =>
        function write(first: object | string, message?: string) {
          if (typeof first === "string") base[level](first);
          else base[level](first, message);
          // L1
          try {
            note(work, level, first, message);
          } catch {
            // Fields that cannot be made JSON are in the daemon's own log, as far as that can say them.
          }
        };
      return Object.fromEntries(LEVELS.map((level) => [level, log(level)])) as ToolLogger;
    },
    flush,
    stop() {
      clearTimeout(timer);
      flushAll();
      stopped = true;
    },
  };

  function note({ task, agent }: TaskWork, level: LogLevel, first: object | string, second: string | undefined) {
    if (stopped) return;
    const { message, fields } =
      typeof first === "string" ? { message: first, fields: undefined } : split(first, second);
    const line: LogLine = {
      at: new Date().toISOString(),
      level,
      agent: agent.name,
      taskId: task.taskId,
      message: message.slice(0, LINE_BYTES),
      ...(fields && { fields }),
    };
    const json = jsonOf(line);
    const bytes = Buffer.byteLength(json) + 1;
    if ((kept.get(task.runId)?.bytes ?? 0) + bytes > BATCH_BYTES) flush(task.runId);
    const run = kept.get(task.runId) ?? { workflow: task.workflow, lines: [], bytes: 0, lost: 0 };
    kept.set(task.runId, run);
    run.lines.push({ json, bytes });
    run.bytes += bytes;
    total += bytes;
    // L2
    while (total > KEPT_BYTES) {
      const most = longest();
      if (!most || most.lines.length <= 1) break;
      const gone = most.lines.shift()?.bytes ?? 0;
      most.bytes -= gone;
      total -= gone;
      most.lost += 1;
    }
    timer ??= setTimeout(flushAll, COALESCE_MS).unref();
  }

  function longest(): Kept | undefined {
    let most: Kept | undefined;
    for (const run of kept.values()) if (!most || run.bytes > most.bytes) most = run;
    return most;
  }

  function flush(runId: string) {
    const run = kept.get(runId);
    // What is published while the connection is away is lost.
    if (!run || !bus.connected()) return;
    kept.delete(runId);
    total -= run.bytes;
    const [first] = run.lines;
    if (first && run.lost > 0) publish(runId, run.workflow, [lossBefore(first.json, run.lost)]);
    for (const lines of batchesOf(run.lines)) publish(runId, run.workflow, lines);
  }

  function flushAll() {
    timer = undefined;
    for (const runId of [...kept.keys()]) flush(runId);
    if (kept.size > 0 && !stopped) timer = setTimeout(flushAll, COALESCE_MS).unref();
  }

  function publish(runId: string, workflow: string, lines: readonly string[]) {
    const batch = JSON.stringify({ v: 1, runId, worker }).slice(0, -1);
    const event = JSON.stringify({ v: 1, type: "log.line", runId }).slice(0, -1);
    try {
      bus.nc.publish(subjects.log(runId), `${batch},"lines":[${lines.join(",")}]}`);
      for (const line of lines) bus.nc.publish(subjects.event(workflow, runId, "log.line"), `${event},"data":${line}}`);
    } catch {
      // L1: the connection is closing.
    }
  }
}

function jsonOf(line: LogLine): string {
  const json = JSON.stringify(line);
  return json.length > 2 * LINE_BYTES && line.fields ? JSON.stringify({ ...line, fields: { cut: true } }) : json;
}

function lossBefore(first: string, lost: number): string {
  const line: LogLine = JSON.parse(first) as LogLine;
  const { fields: _fields, ...rest } = line;
  return JSON.stringify({
    ...rest,
    level: "warn",
    message: `${lost} lines before this were given up`,
  } satisfies LogLine);
}

/** The lines in their order, as many together as belong into one message. */
function* batchesOf(lines: Kept["lines"]): Generator<string[], void, undefined> {
  let batch: string[] = [];
  let room = BATCH_BYTES;
  for (const { json, bytes } of lines) {
    if (bytes > room && batch.length > 0) {
      yield batch;
      batch = [];
      room = BATCH_BYTES;
    }
    batch.push(json);
    room -= bytes;
  }
  if (batch.length > 0) yield batch;
}

/** pino's call style: fields first; an error is its message and its stack. */
function split(given: object, message: string | undefined): { message: string; fields?: { [name: string]: unknown } } {
  if (given instanceof Error) return { message: message ?? given.message, fields: { err: errorFields(given) } };
  const fields = Object.fromEntries(
    Object.entries(given).map(([name, value]) => [name, value instanceof Error ? errorFields(value) : value]),
  );
  const said = message ?? (typeof fields.msg === "string" ? fields.msg : "");
  return Object.keys(fields).length > 0 ? { message: said, fields } : { message: said };
}

function errorFields({ name, message, stack }: Error): object {
  return { name, message, ...(stack !== undefined && { stack: stack.slice(0, 2_000) }) };
}
