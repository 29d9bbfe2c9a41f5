/**
 * Answers as a recorded model did.
 *
 * 1. A call is answered with what was recorded for the same request of the same agent; the order of calls does not matter, so
 *    agents may run at the same time.
 * 2. What was asked several times is answered in the order of the recording; asked more often, with the last answer, because a
 *    call that is made again after a restart is the same call.
 * 3. A call that is not in the recording fails at once, for good, says which one is nearest, and is remembered for
 *    `assertComplete`.
 */
import type { Model, ModelCallContext, ModelReply, ModelRequest } from "../actors/model.ts";
import { ModelError, TroupeError } from "../errors.ts";
import { LONG_RETRY_AFTER_MS } from "../runtime/models/breaker.ts";
import { type CassetteCall, type CassetteOptions, plainWith, readCassette } from "./cassette.ts";
import { describeDifference, nearest } from "./nearest-call.ts";
import { toPieces } from "./replies.ts";
import type { RecordedCall } from "./scripted-model.ts";

export type ReplayOptions = CassetteOptions & {
  /**
   * What of a request has to be the same, as JSON; leave out what differs each time, such as the date in a prompt.
   *
   * @default all of it
   */
  match?: (request: ModelRequest, agent: string) => unknown;
};

export type ReplayedModel = Model & {
  /** Every call so far, in order. */
  readonly calls: readonly RecordedCall[];
  /** Throws when recorded calls were not made, or calls came that are not recorded. */
  assertComplete(): void;
};

/** Differences that are told; the first ones say enough. */
const MOST_TOLD = 3;

/**
 * A model that answers from what `recordModel` has written.
 *
 * @throws UsageError when the file is not there, or is no cassette.
 */
export function replayModel(file: string, options: ReplayOptions = {}): ReplayedModel {
  const { match = (request) => request } = options;
  const plain = plainWith(options);
  const cassette = readCassette(file);
  const recorded = cassette.calls.map((call) => ({ call, key: keyOf(call), used: 0 }));
  const calls: RecordedCall[] = [];
  const unexpected: string[] = [];

  return {
    provider: cassette.provider,
    calls,
    async call(request, context) {
      context.signal.throwIfAborted();
      calls.push({ request, context });
      const found = find(keyOf(plain({ agent: context.agent, request })));
      if (!found) throw notRecorded(request, context);
      found.used += 1;
      return answer(found.call, context);
    },
    assertComplete() {
      const left = recorded.flatMap(({ call, used }, i) =>
        used === 0 ? [`  never made: ${place(i)}, by ${call.agent}`] : [],
      );
      const extra = unexpected.map((what) => `  not recorded: ${what}`);
      if (left.length + extra.length === 0) return;
      const account = `${file}: expected ${recorded.length} calls, got ${calls.length}`;
      throw new TroupeError("replay_incomplete", [account, ...left, ...extra].join("\n"));
    },
  };

  // 1, 2
  function find(key: string) {
    const same = recorded.filter((one) => one.key === key);
    return same.find(({ used }) => used === 0) ?? same.at(-1);
  }

  // Keys in any order are the same request.
  function keyOf({ agent, request }: Pick<CassetteCall, "agent" | "request">): string {
    return JSON.stringify([agent, sorted(JSON.parse(JSON.stringify(match(request, agent) ?? null)))]);
  }

  // 3
  function notRecorded(request: ModelRequest, { agent, turn }: ModelCallContext): ModelError {
    const what = `call ${calls.length} by ${agent}, turn ${turn}`;
    unexpected.push(what);
    const got = plain({ agent, request });
    const ofAgent = cassette.calls.filter((call) => call.agent === agent);
    const candidates = ofAgent.length > 0 ? ofAgent : cassette.calls;
    const close = nearest(
      candidates.map((call) => ({ agent: call.agent, request: match(call.request, call.agent) })),
      { agent, request: match(got.request, agent) },
    );
    const lines = [`${file}: expected a call that is recorded, got ${what}`];
    const call = close && candidates[close.index];
    if (close && call) {
      const { differences } = close;
      lines.push(`  nearest: ${place(cassette.calls.indexOf(call))}`);
      lines.push(...differences.slice(0, MOST_TOLD).map((difference) => `  ${describeDifference(difference)}`));
      if (differences.length > MOST_TOLD) lines.push(`  and ${differences.length - MOST_TOLD} more differences`);
    }
    lines.push("  record it again with recordModel, or say in `match` what may differ");
    return new ModelError("not_recorded", lines.join("\n"), { retryable: false });
  }

  function place(index: number): string {
    return `call ${index + 1} of ${cassette.calls.length}`;
  }
}

function answer(call: CassetteCall, { onDelta }: ModelCallContext): ModelReply {
  if ("error" in call) {
    const { code, message, retryable = false, retryAfterMs = 0 } = call.error;
    // Only a long one is worth its time: with it another model is asked, by a short one the same again.
    const later = retryAfterMs > LONG_RETRY_AFTER_MS && { retryAfterMs };
    throw new ModelError(code, message, { retryable, ...later });
  }
  const { reply } = call;
  if (reply.content !== null) for (const piece of toPieces(reply.content)) onDelta?.(piece);
  return structuredClone(reply);
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, inner]) => [key, sorted(inner)]));
}
