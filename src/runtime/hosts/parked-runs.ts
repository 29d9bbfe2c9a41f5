/**
 * What a person decides about a run that stands still because no daemon could continue it: it is taken up again, ended as
 * failed, or cancelled.
 *
 * Invariants
 * K1  A run is taken up again only with a definition its journal can be folded with, its own one first. Otherwise nothing is
 *     written: it stays parked with the reason it had.
 *     Its whole journal is, without a snapshot: nobody is in a hurry here.
 * K2  A definition that is not the one the run was bound to is named in the claim; from there on the run is bound to it.
 */
import { FencedError } from "../../errors.ts";
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import { isTerminal, type RunEventBody } from "../../workflows/run-events.ts";
import { isDone } from "../../workflows/supervisor.ts";
import { type Cancel, cancelledAtOnce } from "./lone-entry.ts";
import { boundTo, type Folded, foldJournal, type Journal, readJournal } from "./read-run.ts";
import { claimAlone, driveOn, type TakenOver, type TakeOverParts } from "./take-over-run.ts";

/** What came of a decision about a parked run. */
export type Decided =
  | { is: "done" }
  /** There is no such run, it is over, it is not parked, or somebody else has just taken it. */
  | { is: "unknown" | "ended" | "not parked" | "elsewhere" }
  | { is: "impossible"; problem: string };

/** The code of a run that a person ended because no daemon could continue it. */
const PARKED = "parked";

/**
 * Takes a parked run up again. With `isOffered` it is left to another living daemon that has the definition the run is bound
 * to, where this one has not.
 */
export async function resumeParked(
  parts: TakeOverParts,
  runId: string,
  isOffered: (workflow: string, hash: string) => boolean,
): Promise<Decided> {
  const found = await findParked(parts, runId);
  if ("is" in found) return found;
  const { workflow } = found.accepted.data;
  const hash = boundTo(found);
  const own = hash === undefined ? undefined : parts.definitions.pinned(workflow, hash);
  if (!own && hash !== undefined && isOffered(workflow, hash)) return { is: "elsewhere" };
  const current = parts.definitions.current(workflow);
  // K1
  const choices = [own, current].filter((choice) => choice !== undefined);
  let misfit: string | undefined;
  for (const definition of choices) {
    const { snapshot, problem } = await foldWith(parts, definition, found);
    if (snapshot) return decided(await driveOn(parts, found, { definition, snapshot, problem }, "resume"));
    misfit ??= problem;
  }
  return { is: "impossible", problem: misfit ?? `no living daemon has a workflow ${workflow}` };
}

/** Ends a parked run as failed. */
export async function failParked(parts: TakeOverParts, runId: string, reason?: string): Promise<Decided> {
  const found = await findParked(parts, runId);
  if ("is" in found) return found;
  const last = found.events.at(-1);
  const message = reason ?? (last?.type === "run.parked" ? last.data.reason : "");
  return endAlone(parts, found, [{ type: "run.failed", data: { error: { code: PARKED, message } } }]);
}

/** Cancels a parked run. */
export async function cancelParked(
  parts: TakeOverParts,
  runId: string,
  cancel: Cancel & { seq: number },
): Promise<Decided> {
  const found = await findParked(parts, runId);
  return "is" in found ? found : endAlone(parts, found, cancelledAtOnce(cancel));
}

async function findParked(parts: TakeOverParts, runId: string): Promise<Journal | Decided> {
  if (parts.runs.has(runId)) return { is: "not parked" };
  const journal = await readJournal(parts.host, runId);
  const last = journal?.events.at(-1);
  if (!journal || !last) return { is: "unknown" };
  if (isTerminal(last.type)) return { is: "ended" };
  return last.type === "run.parked" ? journal : { is: "not parked" };
}

/** What a run comes to with a definition, or why that cannot continue it, in words. */
async function foldWith({ host }: TakeOverParts, definition: WorkflowDefinition, journal: Journal): Promise<Folded> {
  const { kind } = journal.accepted.data;
  const misfit = (problem: string) => ({ snapshot: undefined, problem });
  if (kind !== definition.kind)
    return misfit(`the workflow is ${definition.kind} now, the run is ${kind ?? "of no kind"}`);
  const folded = await foldJournal(host, definition, journal);
  const isOver = folded.snapshot && isDone(folded.snapshot);
  return isOver ? misfit("the journal's facts end the run, its events do not") : folded;
}

function decided(taken: TakenOver): Decided {
  return { is: taken === "adopted" ? "done" : "elsewhere" };
}

async function endAlone(parts: TakeOverParts, journal: Journal, end: readonly RunEventBody[]): Promise<Decided> {
  try {
    await claimAlone(parts, journal, end);
    return { is: "done" };
  } catch (error) {
    if (error instanceof FencedError) return { is: "elsewhere" };
    throw error;
  }
}
