/** What becomes of a step once all it comes after have ended. */
import { type ErrorRecord, toErrorRecord } from "../errors.ts";
import type { Node } from "./step-graph.ts";
import type { StepAt } from "./step-scope.ts";
import { type Frame, statusOf } from "./step-states.ts";

export type Verdict =
  | { type: "start" }
  /** `reason` is in words. */
  | { type: "skip"; reason: string }
  /** Its condition cannot be told. */
  | { type: "fail"; error: ErrorRecord };

/** A reason is recorded for each of perhaps thousands of steps that are skipped in one entry. */
const SHOWN_LENGTH = 120;

/** Judges a step: first whether it has something to handle, then what it needs, then its condition. */
export function judge(node: Node, frame: Frame, at: StepAt): Verdict {
  const reason = nothingToHandle(node, frame) ?? unmetNeed(node, frame);
  if (reason !== undefined) return { type: "skip", reason };
  const { when } = node.step;
  if (when === undefined) return { type: "start" };
  try {
    if (node.scope.mayRun(at)) return { type: "start" };
    return { type: "skip", reason: `when: ${shortened(when)} is false` };
  } catch (error) {
    return { type: "fail", error: toErrorRecord(error, "condition_failed") };
  }
}

function nothingToHandle({ handles }: Node, frame: Frame): string | undefined {
  if (handles.length === 0 || handles.some((node) => statusOf(frame, node) === "failed")) return undefined;
  const [only] = handles;
  return handles.length === 1 ? `nothing to handle: ${only?.step.id} did not fail` : "nothing to handle: none failed";
}

function unmetNeed({ step: { needs }, after }: Node, frame: Frame): string | undefined {
  if (needs === "always" || after.length === 0) return undefined;
  const isMissing = (node: Node) => statusOf(frame, node) !== "completed";
  if (needs === "any") return after.every(isMissing) ? "needs any: none of the steps before completed" : undefined;
  const missing = after.find(isMissing);
  if (!missing) return undefined;
  return `needs all: ${missing.step.id} ${statusOf(frame, missing) === "failed" ? "failed" : "was skipped"}`;
}

function shortened(text: string): string {
  return text.length > SHOWN_LENGTH ? `${text.slice(0, SHOWN_LENGTH)}…` : text;
}
