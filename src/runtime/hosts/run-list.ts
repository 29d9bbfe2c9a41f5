/** Lists of runs: which rows of the index a question asks for, page by page, newest first. */
import type { SQLInputValue } from "node:sqlite";
import { UsageError } from "../../errors.ts";
import type { RunStatus } from "../../workflows/run-status.ts";
import type { IndexRow } from "./run-index-store.ts";

export type RunListQuery = {
  workflow?: string | undefined;
  status?: RunStatus | undefined;
  sessionId?: string | undefined;
  userId?: string | undefined;
  /** Only runs created at or after this ISO 8601 instant. */
  since?: string | undefined;
  /** Only runs created before this ISO 8601 instant. */
  until?: string | undefined;
  /** Runs on a page, 1 to 500. @default 50 */
  limit?: number | undefined;
  /** Where the page before ended. */
  cursor?: string | undefined;
};

/** A run in a list. */
export type RunSummary = {
  runId: string;
  workflow: string;
  version?: string;
  kind?: "deterministic" | "handoff";
  status: RunStatus;
  waitingFor?: string;
  parked?: string;
  sessionId?: string;
  userId?: string;
  createdAt: string;
  startedAt?: string;
  endedAt?: string;
};

export type RunPage = { runs: RunSummary[]; cursor?: string };

const DEFAULT_LIMIT = 50;
const MAX_LIMIT = 500;

/**
 * The condition that finds a page, one row longer than the page so that it shows whether there is another.
 *
 * @throws UsageError when the cursor, the limit or an instant is malformed.
 */
export function pageCondition(query: RunListQuery): { condition: string; values: SQLInputValue[]; limit: number } {
  const limit = query.limit ?? DEFAULT_LIMIT;
  if (!Number.isInteger(limit) || limit < 1 || limit > MAX_LIMIT) {
    throw new UsageError(`limit: expected a whole number from 1 to ${MAX_LIMIT}, got ${limit}`, "invalid_request");
  }
  const clauses: string[] = [];
  const values: SQLInputValue[] = [];
  for (const [column, value] of driving(query)) {
    clauses.push(`${column} = ?`);
    values.push(value);
  }
  if (query.since !== undefined) add("created_ms >= ?", instant("since", query.since));
  if (query.until !== undefined) add("created_ms < ?", instant("until", query.until));
  if (query.cursor !== undefined) add("(created_ms, run_id) < (?, ?)", ...decodeCursor(query.cursor));
  const where = clauses.length > 0 ? `WHERE ${clauses.join(" AND ")} ` : "";
  return { condition: `${where}ORDER BY created_ms DESC, run_id DESC LIMIT ?`, values: [...values, limit + 1], limit };

  function add(clause: string, ...more: SQLInputValue[]) {
    clauses.push(clause);
    values.push(...more);
  }
}

/** The page from the rows found. */
export function pageOf(rows: IndexRow[], limit: number): RunPage {
  const runs = rows.slice(0, limit);
  const last = runs.at(-1);
  return { runs: runs.map(summaryOf), ...(rows.length > limit && last && { cursor: encodeCursor(last) }) };
}

export function summaryOf(row: IndexRow): RunSummary {
  const { version, kind, sessionId, userId, startedMs, endedMs, standing } = row;
  return {
    runId: row.runId,
    workflow: row.workflow,
    ...(version !== undefined && { version }),
    ...(kind !== undefined && { kind }),
    status: standing.status,
    ...(standing.waitingFor !== undefined && { waitingFor: standing.waitingFor }),
    ...(standing.parked !== undefined && { parked: standing.parked }),
    ...(sessionId !== undefined && { sessionId }),
    ...(userId !== undefined && { userId }),
    createdAt: new Date(row.createdMs).toISOString(),
    ...(startedMs !== undefined && { startedAt: new Date(startedMs).toISOString() }),
    ...(endedMs !== undefined && { endedAt: new Date(endedMs).toISOString() }),
  };
}

/**
 * The filters, the most selective one free for an index. The `+` keeps SQLite from choosing an index for the others: without
 * statistics it cannot know that a session is narrower than a status.
 */
function driving({ workflow, status, sessionId, userId }: RunListQuery): [column: string, value: string][] {
  const narrow = sessionId !== undefined ? "session_id" : userId !== undefined ? "user_id" : undefined;
  const filters: [string, string | undefined][] = [
    ["session_id", sessionId],
    ["user_id", userId],
    ["workflow", workflow],
    ["status", status],
  ];
  return filters.flatMap(([column, value]) =>
    value === undefined ? [] : [[narrow === undefined || narrow === column ? column : `+${column}`, value]],
  );
}

function instant(field: string, value: string): number {
  const ms = Date.parse(value);
  if (Number.isNaN(ms)) {
    throw new UsageError(`${field}: expected an ISO 8601 instant, got ${JSON.stringify(value)}`, "invalid_request");
  }
  return ms;
}

function encodeCursor({ createdMs, runId }: IndexRow): string {
  return Buffer.from(`${createdMs} ${runId}`).toString("base64url");
}

function decodeCursor(cursor: string): [createdMs: number, runId: string] {
  const [ms, runId] = Buffer.from(cursor, "base64url").toString().split(" ");
  if (!ms || !runId || !Number.isInteger(Number(ms))) {
    throw new UsageError(`cursor: expected one from an earlier page, got ${JSON.stringify(cursor)}`, "invalid_request");
  }
  return [Number(ms), runId];
}
