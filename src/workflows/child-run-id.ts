/** The run that a step of kind `workflow` is. */
import { fnv1a64 } from "./definition-hash.ts";

/** How many runs may be one below the other: more is a workflow that starts itself without an end. */
export const MAX_DEPTH = 16;

// Together with the hash below what a run id may have.
const RUN_PART = 40;
const TASK_PART = 60;

/**
 * The id of the run for one attempt at a step: whoever drives the parent asks for the same one, however often. It can be read as
 * far as it is short; the hash tells apart what was cut off.
 */
export function childRunIdOf(runId: string, taskId: string): string {
  const task = taskId.replaceAll("/", "_").slice(-TASK_PART);
  return `${runId.slice(0, RUN_PART)}_${task}_${fnv1a64(`${runId}/${taskId}`)}`;
}
