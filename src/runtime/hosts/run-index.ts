/**
 * The run index: which runs there are, where they stand and who owns them, for lists, counts and "what is unfinished".
 *
 * Invariants
 * X1  It is a projection of the runs stream, never a second truth: every row can be made again, and no decision about a
 *     run rests on it without a look at the journal.
 * X2  Entries count in stream order and once. What a host hands over with `ownEntry` only saves parsing; its place is where
 *     the stream has it.
 * X3  Rows and the position they bring the tables to are stored in one transaction.
 * X4  The stored position is believed only if the stream still has that very entry there (or has purged it); otherwise, as
 *     when the stream was made again or has lost its end, the index is built again from the beginning.
 * X5  A damaged file is replaced and the index built again; no reader sees the damage.
 * X6  Queries see everything that was applied, stored or not.
 */
import type { Logger } from "pino";
import { isTerminal, type RunEvent } from "../../workflows/run-events.ts";
import {
  advanceStanding,
  type CurrentWork,
  initialStanding,
  isOver,
  isResting,
  type RunStatus,
  wakeAtOf,
} from "../../workflows/run-status.ts";
import type { Bus } from "../nats/connection.ts";
import { type FollowedEntry, followStream, type StreamFacts } from "../nats/follow.ts";
import type { Subjects } from "../subjects.ts";
import { TransientMap } from "../transient-map.ts";
import {
  type IndexedParent,
  type IndexPosition,
  type IndexRow,
  isDamage,
  openIndexStore,
  type UnfinishedRow,
} from "./run-index-store.ts";
import { pageCondition, pageOf, type RunListQuery, type RunPage, type RunSummary, summaryOf } from "./run-list.ts";

export type RunIndexOptions = {
  /** The SQLite file; ":memory:" keeps it in memory and builds it again at every start. */
  file: string;
  bus: Bus;
  subjects: Subjects;
  logger: Logger;
};

/** A run that has not ended, for whoever looks after it. */
type UnfinishedRun = {
  runId: string;
  workflow: string;
  hash: string | undefined;
  kind: "deterministic" | "handoff" | undefined;
  status: RunStatus;
  ownerHost: string | undefined;
  ownerIncarnation: string | undefined;
  epoch: number;
  /** The earliest due time of its timers, in milliseconds since the epoch. */
  wakeMs: number | undefined;
  /** The instant of its newest entry, in milliseconds since the epoch. */
  lastMs: number;
  /** Whether it waits for nothing but that. */
  rests: boolean;
  /** Why no daemon can continue it. */
  parked: string | undefined;
  /** Where its newest entry stands in the runs stream. */
  lastSeq: number;
};

/** A run that has ended and has somebody to be told. */
type EndedRun = {
  runId: string;
  workflow: string;
  status: RunStatus;
  replyTo: string;
  endedAt: string;
  lastSeq: number;
};

/** A run that waits for something from outside. */
type AwaitingRun = { runId: string; workflow: string; current: readonly CurrentWork[] };

type EntryListener = (runId: string, events: readonly RunEvent[], seq: number) => void;

export type RunIndex = {
  /** Runs, newest first. @throws UsageError when the query is malformed. */
  list(query?: RunListQuery): RunPage;
  get(runId: string): RunSummary | undefined;
  /** Runs that wait for a person's decision, the longest there first, at most 10,000; those of one workflow where it is given. */
  awaitingApproval(workflow?: string): AwaitingRun[];
  /** The run and the task that asked for this one. */
  parentOf(runId: string): IndexedParent | undefined;
  /** Whether a run may wait for the other one, which it asked for; also where nothing is known of it. */
  mayWaitFor(runId: string, childId: string): boolean;
  /** Runs that have not ended and that this one asked for; asking costs next to nothing where it asked for none. */
  openChildrenOf(runId: string): string[];
  counts(): { workflow: string; status: RunStatus; count: number }[];
  unfinished(): UnfinishedRun[];
  unfinishedOwnedBy(incarnation: string): UnfinishedRun[];
  /** Runs that ended at or after an instant under this incarnation and have a `replyTo`, oldest first. */
  endedSince(instant: string, incarnation: string): EndedRun[];
  /** Runs that ended or rest in a host's hands and have an entry after `seq`, newest first, at most 10,000. */
  quietUnder(host: string, seq: number): string[];
  /** Runs that ended before an instant, the longest ended first. */
  olderThan(instant: string, limit: number): { runId: string; endedAt: string }[];
  /** Drops a run whose journal was purged; its id stays known. */
  forget(runId: string): void;
  /** Whether this id has ever been a run's. */
  known(runId: string): boolean;
  /** The sequence of the newest entry applied; 0 before the first. */
  position(): number;
  /** Whether everything that was stored at the last (re)start has been applied. */
  caughtUp(): boolean;
  whenCaughtUp(): Promise<void>;
  /** Calls `listener` for every entry applied, in stream order; a rebuild gives old ones again. Returns how to stop it. */
  onEntry(listener: EntryListener): () => void;
  /** Hands over an entry this process appended, so that it need not be parsed again. */
  ownEntry(seq: number, runId: string, events: readonly RunEvent[]): void;
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
};

// A transaction costs about as much as writing fifty rows: seldom is cheap, and queries flush by themselves (X6).
const FLUSH_MS = 50;
const FLUSH_ENTRIES = 500;
const FLUSH_RETRY_MS = 1_000;
// Entries are handed over milliseconds before they arrive; only a broker that stalls makes this fill up.
const MAX_OWN = 10_000;
// Unfinished runs kept in memory, some 500 bytes each; others, and those that rest, are read from the file when they go on.
const MAX_CACHED = 20_000;

/** Opens the index and starts following the runs stream, which need not exist yet. */
export function openRunIndex({ file, bus, subjects, logger }: RunIndexOptions): RunIndex {
  const store = openIndexStore(file);
  const runIdAt = subjects.run("").length;
  const decoder = new TextDecoder();
  const listeners = new Set<EntryListener>();
  const own = new TransientMap<number, readonly RunEvent[]>();
  /** Rows that differ from the tables. */
  const changed = new TransientMap<string, IndexRow>();
  const cached = new TransientMap<string, IndexRow>();
  let position: IndexPosition = store.position() ?? { created: "", seq: 0, storedAt: "" };
  let unflushed = 0;
  let flushTimer: NodeJS.Timeout | undefined;
  let storeFails = false;
  let caughtUp = false;
  let closed = false;
  /** Counts how often everything was thrown away; what was begun before must not go on after. */
  let rebuilds = 0;
  let waiting: (() => void)[] = [];
  const follower = followStream({
    bus,
    stream: subjects.streams.runs,
    logger,
    from,
    entries,
    caughtUp: noteCaughtUp,
    interrupted,
  });

  return {
    list(query = {}) {
      const { condition, values, limit } = pageCondition(query);
      return pageOf(rows(condition, ...values), limit);
    },
    get(runId) {
      const row = find(runId);
      return row && summaryOf(row);
    },
    awaitingApproval(workflow) {
      // What is open is stored as JSON, and a title may say the same: what comes back is looked through.
      const waits = `ended_ms IS NULL AND open LIKE '%"kind":"approval"%'`;
      const order = "ORDER BY created_ms, run_id LIMIT 10000";
      const found =
        workflow === undefined
          ? rows(`WHERE ${waits} ${order}`)
          : rows(`WHERE workflow = ? AND ${waits} ${order}`, workflow);
      return found.map(({ runId, workflow, standing: { current } }) => ({ runId, workflow, current }));
    },
    parentOf: (runId) => find(runId)?.parent,
    mayWaitFor(runId, childId) {
      const standing = find(runId)?.standing;
      return !standing || standing.current.some((open) => "runId" in open && open.runId === childId);
    },
    openChildrenOf: (runId) =>
      !find(runId)?.hasChildren
        ? []
        : rows("WHERE parent_id = ? AND ended_ms IS NULL ORDER BY created_ms", runId).map((row) => row.runId),
    counts: () => query(() => store.counts()),
    unfinished: () => query(() => store.unfinished()).map(unfinishedOf),
    unfinishedOwnedBy: (incarnation) => query(() => store.unfinished(incarnation)).map(unfinishedOf),
    endedSince: (instant, incarnation) =>
      rows(
        "WHERE reply_to IS NOT NULL AND ended_ms >= ? AND owner_incarnation = ? ORDER BY ended_ms",
        Date.parse(instant),
        incarnation,
      ).flatMap(endedOf),
    quietUnder: (host, seq) =>
      rows(
        "WHERE (ended_ms IS NOT NULL OR resting = 1) AND owner_host = ? AND last_seq > ? ORDER BY last_seq DESC LIMIT 10000",
        host,
        seq,
      ).map(({ runId }) => runId),
    olderThan: (instant, limit) =>
      rows("WHERE ended_ms < ?1 ORDER BY ended_ms LIMIT ?2", Date.parse(instant), limit).map(({ runId, endedMs }) => ({
        runId,
        endedAt: iso(endedMs) ?? instant,
      })),
    forget(runId) {
      query(() => store.forget(runId));
      cached.delete(runId);
    },
    // Asked for every request: no flush.
    known: (runId) => changed.has(runId) || cached.has(runId) || guarded(() => store.knows(runId)),
    position: () => position.seq,
    caughtUp: () => caughtUp,
    whenCaughtUp: () => (caughtUp ? Promise.resolve() : new Promise((resolve) => waiting.push(resolve))),
    onEntry(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    ownEntry(seq, _runId, events) {
      if (seq <= position.seq) return;
      own.set(seq, events);
      if (own.size > MAX_OWN) own.delete(own.keys().next().value as number);
    },
    close,
    [Symbol.asyncDispose]: close,
  };

  async function close() {
    if (closed) return;
    closed = true;
    await follower.stop();
    clearTimeout(flushTimer);
    guarded(flush);
    store.close();
  }

  // X4
  function from({ created, firstSeq, lastSeq }: StreamFacts): number {
    guarded(flush);
    const recreated = position.created !== "" && position.created !== created;
    const lostItsEnd = lastSeq < position.seq;
    const leftBehind = firstSeq > position.seq + 1;
    if (position.seq > 0 && (recreated || lostItsEnd || leftBehind)) {
      const knew = store.counts();
      logger.warn(
        {
          position: position.seq,
          firstSeq,
          lastSeq,
          recreated,
          runs: sum(knew),
          unfinished: sum(knew.filter(isUnfinished)),
        },
        recreated
          ? "the runs stream was made again, without the runs the index knew; building it again"
          : "the run index is stale; building it again",
      );
      reset({ ids: recreated });
    }
    position = { ...position, created };
    // The entry at the position comes once more, to be compared.
    return position.seq;
  }

  function entries(batch: FollowedEntry[]) {
    for (const entry of batch) {
      if (entry.seq === position.seq && entry.storedAt !== position.storedAt) {
        logger.warn(
          { position: position.seq },
          "the runs stream has another entry at the index's position; building it again",
        );
        reset({ ids: false });
        follower.restart();
        return;
      }
      if (entry.seq > position.seq && !take(entry)) return;
    }
    if (unflushed >= FLUSH_ENTRIES) guarded(flush);
    else if (unflushed > 0) scheduleFlush(FLUSH_MS);
  }

  /** False when the index turned out to be damaged on the way. */
  function take({ seq, subject, data, storedAt }: FollowedEntry): boolean {
    const before = rebuilds;
    const runId = subject.slice(runIdAt);
    try {
      // X2
      const events = own.get(seq) ?? parse(data);
      guarded(() => apply(runId, events, seq));
      if (rebuilds !== before) return false;
      for (const listener of listeners) listener(runId, events, seq);
    } catch (error) {
      // One entry that cannot be read must not hide the others.
      logger.warn({ err: error, runId, seq }, "an entry of the runs stream could not be indexed");
    }
    own.delete(seq);
    position = { created: position.created, seq, storedAt };
    unflushed += 1;
    return true;
  }

  function parse(data: Uint8Array): RunEvent[] {
    const value: unknown = JSON.parse(decoder.decode(data));
    if (!Array.isArray(value)) throw new TypeError(`expected an array of events, got ${typeof value}`);
    return value as RunEvent[];
  }

  function apply(runId: string, events: readonly RunEvent[], seq: number) {
    const [first] = events;
    const row = first?.type === "run.accepted" ? accept(first) : find(runId);
    // Without its beginning a run is nothing: its journal is being purged.
    if (!row) return;
    advanceStanding(row.standing, events);
    row.lastSeq = seq;
    for (const { type, at, data } of events) {
      if (type === "task.sent" && data.childId !== undefined) row.hasChildren = true;
      if (type === "task.sent" || type === "step.started") row.startedMs ??= Date.parse(at);
      else if (isTerminal(type)) row.endedMs ??= Date.parse(at);
      else if (type === "run.claimed" && data.hash !== undefined) {
        row.hash = data.hash;
        row.version = data.version;
      }
    }
    const wakeAt = wakeAtOf(row.standing);
    row.wakeMs = wakeAt === undefined ? undefined : Date.parse(wakeAt);
    row.lastMs = Date.parse(events.at(-1)?.at ?? "");
    changed.set(runId, row);
  }

  function find(runId: string): IndexRow | undefined {
    return changed.get(runId) ?? cached.get(runId) ?? guarded(() => store.row(runId));
  }

  function query<T>(ask: () => T): T {
    // X6
    return guarded(() => {
      flush();
      return ask();
    });
  }

  function rows(
    condition: string,
    ...values: (string | number | bigint | null | NodeJS.ArrayBufferView)[]
  ): IndexRow[] {
    return query(() => store.rows(condition, ...values));
  }

  function flush() {
    clearTimeout(flushTimer);
    flushTimer = undefined;
    if (unflushed === 0) return;
    try {
      // X3
      store.write(changed.values(), position);
    } catch (error) {
      if (isDamage(error)) throw error;
      // A full disk, say: the rows stay in memory and are tried again.
      if (!storeFails) logger.error({ err: error }, "the run index cannot be stored; it stays in memory until it can");
      storeFails = true;
      scheduleFlush(FLUSH_RETRY_MS);
      return;
    }
    storeFails = false;
    unflushed = 0;
    for (const row of changed.values()) {
      cached.delete(row.runId);
      if (!isOver(row.standing.status) && !isResting(row.standing)) cached.set(row.runId, row);
    }
    changed.clear();
    for (const oldest of cached.keys()) {
      if (cached.size <= MAX_CACHED) break;
      cached.delete(oldest);
    }
  }

  function scheduleFlush(ms: number) {
    flushTimer ??= setTimeout(() => {
      flushTimer = undefined;
      guarded(flush);
    }, ms).unref();
  }

  function reset(what: { ids: boolean }) {
    forgetAll();
    guarded(() => store.clear(what));
  }

  function forgetAll() {
    rebuilds += 1;
    changed.clear();
    cached.clear();
    unflushed = 0;
    caughtUp = false;
    position = { created: position.created, seq: 0, storedAt: "" };
  }

  // X5
  function guarded<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (!isDamage(error)) throw error;
      logger.warn({ err: error, file }, "the run index is damaged; building it again");
      store.recreate();
      forgetAll();
      if (!closed) follower.restart();
      return work();
    }
  }

  function noteCaughtUp() {
    caughtUp = true;
    const resolved = waiting;
    waiting = [];
    for (const resolve of resolved) resolve();
  }

  function interrupted() {
    caughtUp = false;
  }
}

function accept(accepted: Extract<RunEvent, { type: "run.accepted" }>): IndexRow {
  const { workflow, version, hash, kind, sessionId, userId, replyTo, parent } = accepted.data;
  return {
    runId: accepted.runId,
    workflow,
    version,
    hash,
    kind,
    standing: initialStanding(),
    sessionId,
    userId,
    replyTo,
    hasChildren: false,
    parent: parent && { runId: parent.runId, taskId: parent.taskId },
    createdMs: Date.parse(accepted.at),
    startedMs: undefined,
    endedMs: undefined,
    wakeMs: undefined,
    lastMs: Date.parse(accepted.at),
    lastSeq: 0,
  };
}

function unfinishedOf(row: UnfinishedRow): UnfinishedRun {
  return {
    runId: row.runId,
    workflow: row.workflow,
    hash: row.hash ?? undefined,
    kind: row.kind ?? undefined,
    status: row.status,
    ownerHost: row.ownerHost ?? undefined,
    ownerIncarnation: row.ownerIncarnation ?? undefined,
    epoch: row.epoch ?? 0,
    wakeMs: row.wakeMs ?? undefined,
    lastMs: row.lastMs,
    rests: row.resting === 1,
    parked: row.parked ?? undefined,
    lastSeq: row.lastSeq,
  };
}

function endedOf({ runId, workflow, standing, replyTo, endedMs, lastSeq }: IndexRow): EndedRun[] {
  const endedAt = iso(endedMs);
  if (replyTo === undefined || endedAt === undefined) return [];
  return [{ runId, workflow, status: standing.status, replyTo, endedAt, lastSeq }];
}

function isUnfinished({ status }: { status: RunStatus }): boolean {
  return !isOver(status);
}

function sum(counts: readonly { count: number }[]): number {
  return counts.reduce((total, { count }) => total + count, 0);
}

function iso(ms: number | undefined): string | undefined {
  return ms === undefined ? undefined : new Date(ms).toISOString();
}
