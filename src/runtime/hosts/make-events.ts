/** From what happened to the events of one journal entry: numbered on from where the journal stands, all at one instant. */
import type { RunEvent, RunEventBody } from "../../workflows/run-events.ts";

/** Where a journal stands, and the claim it is written under. */
export type Position = {
  /** The stream sequence of the run's last entry; 0 before the first. */
  seq: number;
  /** The number of its last event. */
  n: number;
  epoch: number;
  /** When its newest event was written, in milliseconds since the epoch. @default 0 */
  at?: number;
  /** How long the entries are together, in bytes. @default 0 */
  bytes?: number;
};

/** A journal's first event as its writer makes it. */
export type AcceptedBody = Extract<RunEventBody, { type: "run.accepted" }>;

/** Who writes, as it stands in claims. */
export type Writer = { host: string; incarnation: string };

export type ClaimReason = Extract<RunEventBody, { type: "run.claimed" }>["data"]["reason"];

/** Makes the events of the entry that comes after `position`; there is at least one, whose id is the entry's. */
export function makeEvents(
  bodies: readonly RunEventBody[],
  { runId, at, position, newEventId }: EntryFacts,
): [RunEvent, ...RunEvent[]] {
  const { n, epoch } = position;
  return bodies.map(({ type, data }, i) => {
    return { v: 1, id: newEventId(), type, runId, n: n + i + 1, at, epoch, data } as RunEvent;
  }) as [RunEvent, ...RunEvent[]];
}

type EntryFacts = {
  runId: string;
  /** An ISO 8601 instant. */
  at: string;
  position: Pick<Position, "n" | "epoch">;
  newEventId: () => string;
};

/** The event that makes `writer` a run's owner; with `rebound` the run is bound to that definition from here on. */
export function claimedEvent(
  writer: Writer,
  reason: ClaimReason,
  rebound?: { version: string; hash: string },
): RunEventBody {
  const { version, hash } = rebound ?? {};
  return { type: "run.claimed", data: { ...writer, reason, ...(version && { version }), ...(hash && { hash }) } };
}
