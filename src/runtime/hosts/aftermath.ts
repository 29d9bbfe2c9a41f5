/**
 * What a daemon that died may have left unsaid about runs that had ended or rest: results it did not send, spans it did not
 * export, functions of their workflows it did not call. Runs that go on are settled by whoever takes them over.
 *
 * Invariants
 * A1  Saying it again is harmless: a result carries its run id, a span made again is the same span, and hooks are called at
 *     least once.
 * A2  One living daemon does it, chosen like the owner of a run; where two do it for a moment, see A1.
 * A3  A host counts as settled once each of its runs was looked at: while the broker is away it is waited for. Until then a host
 *     that has restarted says no mark of its own, which costs spans made twice at most.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { UnavailableError } from "../../errors.ts";
import type { Tracing } from "../../tracing/tracing.ts";
import { hashOf, type RunEvent } from "../../workflows/run-events.ts";
import type { Bus } from "../nats/connection.ts";
import type { Journals } from "../nats/journal.ts";
import { NoRespondersError } from "../nats/requests.ts";
import type { Subjects } from "../subjects.ts";
import { callHooks, newestOf, stepsIn } from "./call-hooks.ts";
import type { Definitions } from "./definitions.ts";
import { type Exports, exportedUpTo, lastClaimIn, type Mark } from "./exports.ts";
import type { Results } from "./results.ts";
import type { RunIndex } from "./run-index.ts";
import { resultOf } from "./run-telling.ts";

export type AftermathOptions = {
  bus: Pick<Bus, "connected">;
  subjects: Subjects;
  journals: Journals<RunEvent[]>;
  index: RunIndex;
  tracing: Tracing;
  definitions: Definitions;
  exports: Exports;
  results: Results;
  logger: Logger;
  /** How long a dead daemon may have gone unnoticed, in milliseconds. */
  unnoticedMs: number;
  /** Aborts when this daemon stops. */
  stopping: AbortSignal;
};

const AT_ONCE = 16;
const AGAIN_MS = 250;
// Whoever asked longer ago than this is not listening any more.
const RESULT_AGE_MS = 3_600_000;

/**
 * Settles what `host` left unsaid; `incarnation` is the process that died, where it is known. Rejects, with the host not
 * settled, when this daemon stops.
 */
export async function settleAftermath(options: AftermathOptions, host: string, incarnation?: string): Promise<void> {
  const { bus, index, exports, logger, stopping } = options;
  await index.whenCaughtUp();
  const mark = exports.mark(host);
  // A host that never said anything is one whose mark has expired, or one that died within its first second.
  const runs = new Set(index.quietUnder(host, mark?.through ?? 0));
  if (incarnation !== undefined) {
    const since = new Date(Date.now() - options.unnoticedMs).toISOString();
    for (const { runId } of index.endedSince(since, incarnation)) runs.add(runId);
  }
  const position = index.position();
  const queue = [...runs];
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  exports.settle(host, position);
  if (runs.size > 0) logger.info({ host, runs: runs.size }, "settled what a gone daemon left unsaid");

  async function worker() {
    for (let runId = queue.pop(); runId !== undefined; runId = queue.pop()) {
      // A3
      while (!(await isLookedAt(runId))) await sleep(AGAIN_MS, undefined, { signal: stopping });
    }
  }

  /** False where its journal cannot be read now; one that cannot be read at all is left. */
  async function isLookedAt(runId: string): Promise<boolean> {
    stopping.throwIfAborted();
    // What is asked for meanwhile is dropped, and would be waited for in vain.
    if (!bus.connected()) return false;
    try {
      await settleRun(options, runId, (other) => (other === host ? mark : exports.mark(other)));
    } catch (error) {
      stopping.throwIfAborted();
      if (error instanceof UnavailableError || error instanceof NoRespondersError) return false;
      logger.warn({ runId, err: error }, "could not settle what was left of a run");
    }
    return true;
  }
}

async function settleRun(
  { results, subjects, journals, tracing, definitions, logger }: AftermathOptions,
  runId: string,
  markOf: (host: string) => Mark | undefined,
) {
  const entries = await journals.read(subjects.run(runId));
  const events = entries.flatMap(({ value }) => value);
  const [accepted] = events;
  const last = events.at(-1);
  if (accepted?.type !== "run.accepted" || !last) return;
  const result = resultOf(accepted.data.workflow, runId, last);
  const isRecent = Date.parse(last.at) > Date.now() - RESULT_AGE_MS;
  if (result && accepted.data.replyTo && isRecent) results.send(accepted.data.replyTo, result);
  const hash = hashOf(events);
  const definition = hash === undefined ? undefined : definitions.pinned(accepted.data.workflow, hash);
  if (definition && result) callHooks({ runId, definition, logger }, newestOf(entries), stepsIn(events));
  await tracing.reproject(
    { accepted, entries: entries.map(({ seq, value }) => ({ seq, events: value })) },
    exportedUpTo(lastClaimIn(entries), markOf),
  );
}
