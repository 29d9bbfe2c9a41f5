/**
 * What a daemon that died may have left unsaid about runs that had ended or rest: results it did not send, spans it did not
 * export, functions of their workflows it did not call. Runs that go on are settled by whoever takes them over.
 *
 * Invariants
 * A1  Saying it again is harmless: a result carries its run id, a span made again is the same span, and hooks are called at
 *     least once.
 * A2  One living daemon does it, chosen like the owner of a run; where two do it for a moment, see A1.
 */
import type { Logger } from "pino";
import type { Tracing } from "../../tracing/tracing.ts";
import { hashOf, type RunEvent } from "../../workflows/run-events.ts";
import type { Bus } from "../nats/connection.ts";
import type { Journals } from "../nats/journal.ts";
import type { Subjects } from "../subjects.ts";
import { callHooks, newestOf, stepsIn } from "./call-hooks.ts";
import type { Definitions } from "./definitions.ts";
import { type Exports, exportedUpTo, lastClaimIn, type Mark } from "./exports.ts";
import type { RunIndex } from "./run-index.ts";
import { resultOf } from "./run-telling.ts";

export type AftermathOptions = {
  bus: Bus;
  subjects: Subjects;
  journals: Journals<RunEvent[]>;
  index: RunIndex;
  tracing: Tracing;
  definitions: Definitions;
  exports: Exports;
  logger: Logger;
  /** How long a dead daemon may have gone unnoticed, in milliseconds. */
  unnoticedMs: number;
};

const AT_ONCE = 16;
// Whoever asked longer ago than this is not listening any more.
const RESULT_AGE_MS = 3_600_000;

/** Settles what `host` left unsaid; `incarnation` is the process that died, where it is known. */
export async function settleAftermath(options: AftermathOptions, host: string, incarnation?: string): Promise<void> {
  const { index, exports, logger } = options;
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
      try {
        await settleRun(options, runId, (other) => (other === host ? mark : exports.mark(other)));
      } catch (error) {
        logger.debug({ runId, err: error }, "could not settle what was left of a run");
      }
    }
  }
}

async function settleRun(
  { bus, subjects, journals, tracing, definitions, logger }: AftermathOptions,
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
  if (result && accepted.data.replyTo && isRecent) bus.nc.publish(accepted.data.replyTo, JSON.stringify(result));
  const hash = hashOf(events);
  const definition = hash === undefined ? undefined : definitions.pinned(accepted.data.workflow, hash);
  if (definition && result) callHooks({ runId, definition, logger }, newestOf(entries), stepsIn(events));
  await tracing.reproject(
    { accepted, entries: entries.map(({ seq, value }) => ({ seq, events: value })) },
    exportedUpTo(lastClaimIn(entries), markOf),
  );
}
