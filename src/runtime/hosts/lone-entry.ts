/** Entries for runs that nobody drives: they begin and end at once, stand still, or are cancelled while they do. */
import type { Tracing } from "../../tracing/tracing.ts";
import type { RunEvent, RunEventBody, RunTrace } from "../../workflows/run-events.ts";
import { setupOf } from "../../workflows/supervisor.ts";
import type { RunHostParts } from "./active-run.ts";
import { crashPoints } from "./crash-points.ts";
import { encodeFitting } from "./encode-entry.ts";
import { makeEvents, type Position } from "./make-events.ts";
import type { TellRun } from "./run-telling.ts";

/** One entry, and the run it belongs to. */
type LoneEntry = {
  runId: string;
  workflow: string;
  trace: RunTrace;
  bodies: readonly RunEventBody[];
  position: Position;
  /** What the journal says before it. @default nothing */
  before?: readonly RunEvent[];
};

/** Stores a lone entry and gives back its sequence; throws what appending throws. */
export type AppendLoneEntry = (entry: LoneEntry) => Promise<number>;

/** Opens what writes lone entries; others hear of them as of any entry. */
export function openLoneEntries(
  parts: Pick<RunHostParts, "journals" | "payloads" | "subjectOf" | "clock" | "newEventId" | "stopping">,
  tracing: Tracing,
  tell: TellRun,
): AppendLoneEntry {
  const { journals, payloads, subjectOf, clock, newEventId, stopping } = parts;
  return async function append({ runId, workflow, trace, bodies, position, before = [] }) {
    const at = new Date(clock.now()).toISOString();
    const events = makeEvents(bodies, { runId, at, position, newEventId });
    const { stored, texts, body } = await encodeFitting(payloads, events, stopping);
    const options = { expected: position.seq, id: events[0].id, signal: stopping };
    if (crashPoints.armed) await crashPoints.before("before-lone-entry");
    const seq = await journals.append(subjectOf(runId), body, options);
    crashPoints.at("after-lone-entry");
    const projection = tracing.run(runId, workflow, trace);
    if (before.length > 0) projection.replayed(before);
    projection.recorded(stored, seq);
    const accepted = before[0] ?? events[0];
    const setup = accepted.type === "run.accepted" ? setupOf(accepted) : undefined;
    tell({ runId, workflow, setup }, stored, texts, seq);
    return seq;
  };
}

/** Why a run is cancelled, who wants it, and whether it is to end without being undone. */
export type Cancel = { reason?: string; by?: string; force?: true };

/** A run that is cancelled while nobody works for it ends at once; `seq` is the signal's sequence. */
export function cancelledAtOnce({ seq, reason, by }: Cancel & { seq: number }): RunEventBody[] {
  const why = reason !== undefined && { reason };
  return [
    { type: "signal.received", data: { seq, kind: "cancel" } },
    { type: "run.cancelling", data: { ...why, ...(by !== undefined && { by }) } },
    { type: "run.cancelled", data: { ...why } },
  ];
}
