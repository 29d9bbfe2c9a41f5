/**
 * The run index's tables: one row per run in a local SQLite file. Only `run-index.ts` uses it.
 *
 * Everything here can be made again from the journal, so durability is traded for speed: no fsync. A process that dies loses
 * nothing (the file is the operating system's by then); a machine that dies may damage the file, so a file that was not
 * closed is checked when it is opened, and one that is damaged is replaced.
 */
import { rmSync } from "node:fs";
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import { isResting, type RunStanding, type RunStatus } from "../../workflows/run-status.ts";

/** The run and the task that asked for a run. */
export type IndexedParent = { runId: string; taskId: string };

/** A run as the index keeps it. Times are milliseconds since the epoch. */
export type IndexRow = {
  runId: string;
  workflow: string;
  version: string | undefined;
  hash: string | undefined;
  kind: "deterministic" | "handoff" | undefined;
  standing: RunStanding;
  sessionId: string | undefined;
  userId: string | undefined;
  replyTo: string | undefined;
  parent: IndexedParent | undefined;
  /** Whether it has asked for other runs. */
  hasChildren: boolean;
  createdMs: number;
  startedMs: number | undefined;
  endedMs: number | undefined;
  wakeMs: number | undefined;
  /** The instant of the newest entry. */
  lastMs: number;
  lastSeq: number;
};

/** The newest entry that is in the tables. */
export type IndexPosition = { created: string; seq: number; storedAt: string };

/** What is asked of a run that has not ended by whoever looks after it. */
export type UnfinishedRow = {
  runId: string;
  workflow: string;
  hash: string | null;
  kind: IndexRow["kind"] | null;
  status: RunStatus;
  ownerHost: string | null;
  ownerIncarnation: string | null;
  epoch: number | null;
  wakeMs: number | null;
  lastMs: number;
  resting: 0 | 1;
  parked: string | null;
  lastSeq: number;
};

export type IndexStore = {
  position(): IndexPosition | undefined;
  /** Stores rows and the position they bring the tables to, in one transaction. */
  write(rows: Iterable<IndexRow>, position: IndexPosition): void;
  row(runId: string): IndexRow | undefined;
  /** Rows for a condition; the text of the condition is the key of its prepared statement. */
  rows(condition: string, ...values: SQLInputValue[]): IndexRow[];
  /** Runs that have not ended; only those of `owner` where one is given. */
  unfinished(owner?: string): UnfinishedRow[];
  counts(): { workflow: string; status: RunStatus; count: number }[];
  /** Deletes a run's row and remembers that its id was used. */
  forget(runId: string): void;
  /** Whether there is a row, or was one that was forgotten. */
  knows(runId: string): boolean;
  /** Deletes all rows; `ids: true` also what is remembered of forgotten ones. */
  clear(options: { ids: boolean }): void;
  /** Throws the file away and begins with an empty one. */
  recreate(): void;
  close(): void;
};

// Raise it when the tables change: a file with another number is made again.
const SCHEMA_VERSION = 3;

const SCHEMA = `
  CREATE TABLE runs (
    run_id TEXT PRIMARY KEY, workflow TEXT NOT NULL, version TEXT, hash TEXT, kind TEXT,
    status TEXT NOT NULL, waiting_for TEXT, parked TEXT,
    session_id TEXT, user_id TEXT, reply_to TEXT,
    created_ms INTEGER NOT NULL, started_ms INTEGER, ended_ms INTEGER, wake_ms INTEGER, last_ms INTEGER NOT NULL,
    owner_host TEXT, owner_incarnation TEXT, epoch INTEGER, last_seq INTEGER NOT NULL,
    open TEXT, resting INTEGER NOT NULL, parent_id TEXT, parent_task TEXT,
    has_children INTEGER NOT NULL
  ) WITHOUT ROWID;
  CREATE INDEX runs_by_time ON runs (created_ms, run_id);
  CREATE INDEX runs_by_status ON runs (status, created_ms, run_id);
  CREATE INDEX runs_by_workflow ON runs (workflow, created_ms, run_id);
  CREATE INDEX runs_by_workflow_and_status ON runs (workflow, status, created_ms, run_id);
  CREATE INDEX runs_by_session ON runs (session_id, created_ms, run_id) WHERE session_id IS NOT NULL;
  CREATE INDEX runs_by_user ON runs (user_id, created_ms, run_id) WHERE user_id IS NOT NULL;
  CREATE INDEX runs_unfinished ON runs (owner_incarnation) WHERE ended_ms IS NULL;
  CREATE INDEX runs_by_parent ON runs (parent_id) WHERE parent_id IS NOT NULL;
  CREATE INDEX runs_by_end ON runs (ended_ms) WHERE ended_ms IS NOT NULL;
  CREATE TABLE forgotten (run_id TEXT PRIMARY KEY) WITHOUT ROWID;
  CREATE TABLE position (id INTEGER PRIMARY KEY CHECK (id = 1), created TEXT, seq INTEGER, stored_at TEXT);
  CREATE TABLE closed (id INTEGER PRIMARY KEY CHECK (id = 1));
`;

// What never changes after a run was accepted is not in the update.
const UPSERT = `
  INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
  ON CONFLICT (run_id) DO UPDATE SET
    version = excluded.version, hash = excluded.hash, status = excluded.status, waiting_for = excluded.waiting_for, parked = excluded.parked,
    started_ms = excluded.started_ms, ended_ms = excluded.ended_ms, wake_ms = excluded.wake_ms, last_ms = excluded.last_ms,
    owner_host = excluded.owner_host, owner_incarnation = excluded.owner_incarnation, epoch = excluded.epoch,
    last_seq = excluded.last_seq, open = excluded.open, resting = excluded.resting,
    has_children = excluded.has_children
`;

// Asked every few seconds for every run that waits, so what is open of each is left out: it would have to be parsed.
const UNFINISHED = `
  SELECT run_id AS runId, workflow, hash, kind, status, owner_host AS ownerHost, owner_incarnation AS ownerIncarnation,
    epoch, wake_ms AS wakeMs, last_ms AS lastMs, resting, parked, last_seq AS lastSeq
  FROM runs WHERE`;

type StoredRow = {
  run_id: string;
  workflow: string;
  version: string | null;
  hash: string | null;
  kind: IndexRow["kind"] | null;
  status: RunStatus;
  waiting_for: string | null;
  parked: string | null;
  session_id: string | null;
  user_id: string | null;
  reply_to: string | null;
  created_ms: number;
  started_ms: number | null;
  ended_ms: number | null;
  wake_ms: number | null;
  last_ms: number;
  owner_host: string | null;
  owner_incarnation: string | null;
  epoch: number | null;
  last_seq: number;
  open: string | null;
  parent_id: string | null;
  parent_task: string | null;
  has_children: 0 | 1;
};

/** Opens the index's file, making it again where it is damaged or of another version; ":memory:" needs no file. */
export function openIndexStore(file: string): IndexStore {
  let database = openOrReplace(file);
  let statements = new Map<string, StatementSync>();

  return {
    position() {
      return prepared("SELECT created, seq, stored_at AS storedAt FROM position").get() as IndexPosition | undefined;
    },

    write(rows, { created, seq, storedAt }) {
      transaction(() => {
        const upsert = prepared(UPSERT);
        for (const row of rows) upsert.run(...storedForm(row));
        prepared("INSERT OR REPLACE INTO position VALUES (1, ?, ?, ?)").run(created, seq, storedAt);
      });
    },

    row(runId) {
      const found = prepared("SELECT * FROM runs WHERE run_id = ?").get(runId) as StoredRow | undefined;
      return found && readForm(found);
    },

    rows(condition, ...values) {
      return (prepared(`SELECT * FROM runs ${condition}`).all(...values) as StoredRow[]).map(readForm);
    },

    unfinished(owner) {
      if (owner === undefined) return prepared(`${UNFINISHED} ended_ms IS NULL`).all() as UnfinishedRow[];
      return prepared(`${UNFINISHED} ended_ms IS NULL AND owner_incarnation = ?`).all(owner) as UnfinishedRow[];
    },

    counts() {
      const query = "SELECT workflow, status, count(*) AS count FROM runs GROUP BY workflow, status";
      return prepared(query).all() as { workflow: string; status: RunStatus; count: number }[];
    },

    forget(runId) {
      transaction(() => {
        prepared("DELETE FROM runs WHERE run_id = ?").run(runId);
        prepared("INSERT OR IGNORE INTO forgotten VALUES (?)").run(runId);
      });
    },

    knows(runId) {
      const query = "SELECT 1 FROM runs WHERE run_id = ?1 UNION ALL SELECT 1 FROM forgotten WHERE run_id = ?1";
      return prepared(query).get(runId) !== undefined;
    },

    clear({ ids }) {
      transaction(() => {
        prepared("DELETE FROM runs").run();
        prepared("DELETE FROM position").run();
        if (ids) prepared("DELETE FROM forgotten").run();
      });
    },

    recreate() {
      closeQuietly(database);
      remove(file);
      statements = new Map();
      database = open(file);
    },

    close() {
      prepared("INSERT OR IGNORE INTO closed VALUES (1)").run();
      database.close();
    },
  };

  function prepared(sql: string): StatementSync {
    let statement = statements.get(sql);
    if (!statement) {
      statement = database.prepare(sql);
      statements.set(sql, statement);
    }
    return statement;
  }

  function transaction(work: () => void) {
    database.exec("BEGIN");
    try {
      work();
      database.exec("COMMIT");
    } catch (error) {
      if (database.isTransaction) database.exec("ROLLBACK");
      throw error;
    }
  }
}

/** Whether an error says that the file is damaged or not a database. */
export function isDamage(error: unknown): boolean {
  if (!(error instanceof Error) || !("errcode" in error)) return false;
  // SQLITE_CORRUPT and SQLITE_NOTADB; the upper bits only refine them.
  const code = Number(error.errcode) & 0xff;
  return code === 11 || code === 26;
}

function openOrReplace(file: string): DatabaseSync {
  try {
    return open(file);
  } catch (error) {
    if (file === ":memory:" || !isDamage(error)) throw error;
    remove(file);
    return open(file);
  }
}

function open(file: string): DatabaseSync {
  const database = new DatabaseSync(file);
  try {
    database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA temp_store = MEMORY");
    prepareTables(database);
    return database;
  } catch (error) {
    closeQuietly(database);
    throw error;
  }
}

function prepareTables(database: DatabaseSync) {
  const { user_version } = database.prepare("PRAGMA user_version").get() as { user_version: number };
  if (user_version !== SCHEMA_VERSION) {
    const tables = database
      .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
      .all() as { name: string }[];
    for (const { name } of tables) database.exec(`DROP TABLE "${name}"`);
    database.exec(`${SCHEMA}; PRAGMA user_version = ${SCHEMA_VERSION}`);
    return;
  }
  const wasClosed = database.prepare("SELECT 1 FROM closed").get() !== undefined;
  database.exec("DELETE FROM closed");
  if (wasClosed) return;
  const [verdict] = Object.values(database.prepare("PRAGMA quick_check(1)").get() ?? {});
  // The same shape as SQLite's own error, so that it is treated the same.
  if (verdict !== "ok") throw Object.assign(new Error(`damaged index: ${String(verdict)}`), { errcode: 11 });
}

function closeQuietly(database: DatabaseSync) {
  try {
    database.close();
  } catch {
    // It is thrown away; a damaged file may even refuse to be closed.
  }
}

function remove(file: string) {
  if (file === ":memory:") return;
  for (const suffix of ["", "-wal", "-shm"]) rmSync(file + suffix, { force: true });
}

function storedForm(row: IndexRow): SQLInputValue[] {
  const { standing } = row;
  const { owner, current, timers } = standing;
  const open = row.endedMs === undefined ? JSON.stringify({ current, timers }) : null;
  return [
    row.runId,
    row.workflow,
    row.version ?? null,
    row.hash ?? null,
    row.kind ?? null,
    standing.status,
    standing.waitingFor ?? null,
    standing.parked ?? null,
    row.sessionId ?? null,
    row.userId ?? null,
    row.replyTo ?? null,
    row.createdMs,
    row.startedMs ?? null,
    row.endedMs ?? null,
    row.wakeMs ?? null,
    row.lastMs,
    owner?.host ?? null,
    owner?.incarnation ?? null,
    owner?.epoch ?? null,
    row.lastSeq,
    open,
    isResting(standing) ? 1 : 0,
    row.parent?.runId ?? null,
    row.parent?.taskId ?? null,
    row.hasChildren ? 1 : 0,
  ];
}

function readForm(row: StoredRow): IndexRow {
  const { current, timers } = JSON.parse(row.open ?? '{"current":[],"timers":[]}') as Pick<
    RunStanding,
    "current" | "timers"
  >;
  const { owner_host: host, owner_incarnation: incarnation, epoch, parent_id: parent, parent_task: taskId } = row;
  return {
    runId: row.run_id,
    workflow: row.workflow,
    version: row.version ?? undefined,
    hash: row.hash ?? undefined,
    kind: row.kind ?? undefined,
    standing: {
      status: row.status,
      ...(row.waiting_for !== null && { waitingFor: row.waiting_for }),
      ...(row.parked !== null && { parked: row.parked }),
      ...(host !== null && incarnation !== null && epoch !== null && { owner: { host, incarnation, epoch } }),
      current,
      timers,
    },
    sessionId: row.session_id ?? undefined,
    userId: row.user_id ?? undefined,
    replyTo: row.reply_to ?? undefined,
    parent: parent === null ? undefined : { runId: parent, taskId: taskId ?? "" },
    hasChildren: row.has_children === 1,
    createdMs: row.created_ms,
    startedMs: row.started_ms ?? undefined,
    endedMs: row.ended_ms ?? undefined,
    wakeMs: row.wake_ms ?? undefined,
    lastMs: row.last_ms,
    lastSeq: row.last_seq,
  };
}
