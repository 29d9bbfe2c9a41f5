/**
 * Snapshots of long runs: where a run stood after one of its entries, so that whoever takes it over reads and folds only the
 * entries after that one, however long the run is.
 *
 * Invariants
 * P1  The journal is the truth and stays whole until its retention is over. A snapshot only says what its entries say; a run
 *     can be taken over without it.
 * P2  A snapshot is written only of entries that are stored, and names the last of them by sequence and id. It counts only
 *     where the journal has that very entry there: it does not matter who wrote it, nor whether that was still the owner.
 * P3  What cannot be used (another version, damaged, of another definition, its entry not found, events after it that do not
 *     fit) is passed over, and the whole journal is folded.
 * P4  Nothing waits for a snapshot: it is made beside the run, one at a time, and one that cannot be stored is left out.
 * P5  What is written for snapshots stays below what is written for the journal.
 * P6  A snapshot never takes the place of a later one: who does not own the run any more changes nothing.
 */
import { promisify } from "node:util";
import { gunzip, gzip } from "node:zlib";
import type { Logger } from "pino";
import { z } from "zod";
import { PayloadTooLargeError } from "../../errors.ts";
import type { SavedProjection } from "../../tracing/run-projection.ts";
import type { RunEvent } from "../../workflows/run-events.ts";
import type { SavedSupervisor } from "../../workflows/supervisor.ts";
import type { NewestMessages } from "../nats/newest.ts";
import { crashPoints } from "./crash-points.ts";
import type { Claim } from "./exports.ts";
import type { Sendings } from "./run-draft.ts";

/** Where a run stood after one of its entries. */
export type RunSnapshot = {
  v: typeof VERSION;
  runId: string;
  /** The entry: its sequence, its id, and its last event's number, epoch and time. */
  seq: number;
  entryId: string;
  n: number;
  epoch: number;
  at: string;
  /** How long the journal is up to there. */
  bytes: number;
  accepted: RunEvent & { type: "run.accepted" };
  /** The last claim. */
  claim: Claim;
  /** The definition the run is bound to. */
  hash: string;
  supervisor: SavedSupervisor;
  /** How often open tasks were sent, where that is not once. */
  sendings: { [taskId: string]: Sendings };
  /** The structural spans that are open; absent where the writer made none. */
  projection?: SavedProjection;
};

/** A snapshot without what the store adds. */
export type SnapshotContent = Omit<RunSnapshot, "v" | "runId">;

/** Writes the snapshots of one run while it is driven here. */
type SnapshotKeeper = {
  /** An entry was stored and acted on: the journal has `n` events of `bytes` bytes now. Makes a snapshot when one is due. */
  stored(n: number, bytes: number, content: () => SnapshotContent): void;
};

export type RunSnapshots = {
  /** The newest snapshot of a run; undefined where there is none that can be read. */
  find(runId: string): Promise<RunSnapshot | undefined>;
  /** A keeper for a run whose last snapshot stands at event `n` and byte `bytes`. */
  keep(runId: string, since: { n: number; bytes: number }): SnapshotKeeper;
};

/** Raise it when a snapshot's shape changes: those of another version are passed over. */
const VERSION = 2;
// Read and folded in some tens of milliseconds; a step of a deterministic run is four events.
const EVERY_EVENTS = 1_000;
const EVERY_BYTES = 4 * 1024 * 1024;
// Far beyond what a journal may hold; a damaged length must not take the memory.
const MAX_UNPACKED_BYTES = 512 * 1024 * 1024;

const pack = promisify(gzip);
const unpack = promisify(gunzip);

/** Opens the snapshots of runs; `subjectOf` is where a run's stands. */
export function openRunSnapshots(
  newest: NewestMessages,
  subjectOf: (runId: string) => string,
  logger: Logger,
): RunSnapshots {
  return {
    async find(runId) {
      const found = await newest.get(subjectOf(runId)).catch((error: unknown) => {
        logger.debug({ runId, err: error }, "could not look for the run's snapshot");
        return undefined;
      });
      if (!found) return undefined;
      try {
        return await read(runId, found.data);
      } catch (error) {
        // P3
        logger.warn({ runId, err: error }, "the run's snapshot cannot be read; its whole journal is");
        return undefined;
      }
    },

    keep(runId, since) {
      let last = { ...since, size: 0 };
      let writing = false;
      /** The message this keeper's next one replaces, where that is known. */
      let standing: number | undefined;
      // Rejects with what making it throws (P4); until it waits for the first time it is between two entries.
      const make = async (content: () => SnapshotContent) => {
        const snapshot: RunSnapshot = { v: VERSION, runId, ...content() };
        const json = JSON.stringify(snapshot);
        last.size = json.length;
        return write(snapshot, json, standing);
      };
      return {
        stored(n, bytes, content) {
          const grown = { events: n - last.n, bytes: bytes - last.bytes };
          // P4, P5
          if (writing || (grown.events < EVERY_EVENTS && grown.bytes < EVERY_BYTES) || grown.bytes < last.size) return;
          last = { n, bytes, size: 0 };
          writing = true;
          void make(content)
            .then((seq) => {
              standing = seq;
            })
            .catch((error: unknown) => {
              // What did not fit, into a message or a text, does not fit soon.
              if (error instanceof PayloadTooLargeError || error instanceof RangeError)
                last.size = Math.max(bytes, last.size);
              logger.debug({ runId, err: error }, "no snapshot of the run could be stored");
            })
            .finally(() => {
              writing = false;
            });
        },
      };
    },
  };

  /** Gives back the sequence of what stands there now; undefined where that is another writer's. */
  async function write({ runId, seq }: RunSnapshot, json: string, standing: number | undefined) {
    const subject = subjectOf(runId);
    const data = await pack(json);
    const replaced = standing ?? (await placeFor(runId, seq));
    // P6
    if (replaced === undefined) return undefined;
    if (crashPoints.armed) await crashPoints.before("before-snapshot");
    const stored = await newest.put(subject, data, replaced);
    crashPoints.at("after-snapshot");
    logger.debug({ runId, seq, bytes: data.length, stored }, "snapshot of the run");
    return stored;
  }

  /** The message that a snapshot at `seq` may take the place of, 0 for none; undefined where a later one stands. */
  async function placeFor(runId: string, seq: number): Promise<number | undefined> {
    const found = await newest.get(subjectOf(runId));
    if (!found) return 0;
    const there = await read(runId, found.data).catch(() => undefined);
    return there && there.seq >= seq ? undefined : found.seq;
  }
}

/** What everything else rests on; the states inside speak up themselves when they are taken up. */
const shape = z.looseObject({
  v: z.literal(VERSION),
  runId: z.string(),
  seq: z.number(),
  entryId: z.string(),
  n: z.number(),
  epoch: z.number(),
  at: z.iso.datetime(),
  bytes: z.number(),
  accepted: z.looseObject({ type: z.literal("run.accepted"), data: z.looseObject({ workflow: z.string() }) }),
  claim: z.looseObject({ host: z.string(), incarnation: z.string(), seq: z.number() }),
  hash: z.string(),
  supervisor: z.looseObject({}),
  sendings: z.record(z.string(), z.object({ delivery: z.number(), silences: z.number() })),
});

/** Throws what damaged data makes it throw; undefined for another version. */
async function read(runId: string, data: Uint8Array): Promise<RunSnapshot | undefined> {
  const text = (await unpack(data, { maxOutputLength: MAX_UNPACKED_BYTES })).toString("utf8");
  const snapshot = JSON.parse(text) as RunSnapshot;
  if (snapshot.v !== VERSION) return undefined;
  const { success, error } = shape.extend({ runId: z.literal(runId) }).safeParse(snapshot);
  if (!success) throw new TypeError(`a snapshot of run ${runId}: ${z.prettifyError(error)}`);
  return snapshot;
}
