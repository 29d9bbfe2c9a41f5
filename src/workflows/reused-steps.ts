/**
 * What a run that is tried again takes over of the run before: the outputs of the steps it need not run again.
 *
 * Invariants
 * X1  What a step is given is what it was given before: a step is taken over only with all the steps before it, each taken over
 *     or skipped. So whatever runs again is followed by what comes after it.
 * X2  What was undone, or may have been, is not there any more: it runs again.
 */
import { TroupeError } from "../errors.ts";
import type { DeterministicDefinition, WorkflowDefinition } from "./definition.ts";
import type { RunEvent, RunEventBody } from "./run-events.ts";
import { linkSteps } from "./step-order.ts";

/** A step as it stands in the first entry of the run that takes it over. */
export type ReusedStep = Extract<RunEventBody, { type: "step.reused" }>;

/** Why a run cannot be tried again as asked. Nothing about it changes by asking again. */
export class CannotRetryError extends TroupeError {
  constructor(message: string) {
    super("cannot_retry", message);
  }
}

/**
 * What is taken over of a run that is over; `from` is a step that runs again in any case. `events` is its whole journal, with
 * its outputs.
 *
 * @throws CannotRetryError where there is no such step.
 */
export function reusedSteps(definition: WorkflowDefinition, events: readonly RunEvent[], from?: string): ReusedStep[] {
  if (definition.kind !== "deterministic") {
    if (from === undefined) return [];
    throw new CannotRetryError(
      `from: expected none, for agents hand over to each other and there are no steps; got "${from}"`,
    );
  }
  const { steps } = definition;
  if (from !== undefined && !steps.some(({ id }) => id === from)) {
    const known = steps.map(({ id }) => id).join(", ");
    throw new CannotRetryError(`from: expected the id of a step (${known}), got ${JSON.stringify(from)}`);
  }
  const known = outputsIn(events);
  const again = runsAgain(definition, known, from);
  return steps.flatMap(({ id, agent }) => {
    const output = known.outputs.get(id);
    return output && !again.has(id) ? [{ type: "step.reused", data: { step: id, agent, output: output.value } }] : [];
  });
}

type Known = { outputs: Map<string, { value: unknown }>; skipped: Set<string> };

function outputsIn(events: readonly RunEvent[]): Known {
  const answers = new Map<string, unknown>();
  const known: Known = { outputs: new Map(), skipped: new Set() };
  for (const { type, data } of events) {
    switch (type) {
      case "task.settled":
        if (data.outcome.type === "completed") answers.set(data.taskId, data.outcome.output);
        break;
      case "step.completed":
        known.outputs.set(data.step, { value: answers.get(data.taskId) });
        break;
      case "step.reused":
        known.outputs.set(data.step, { value: data.output });
        break;
      case "step.skipped":
        known.skipped.add(data.step);
        break;
      case "compensation.started":
        // X2
        known.outputs.delete(data.step);
        break;
      default:
    }
  }
  return known;
}

// X1
function runsAgain({ steps }: DeterministicDefinition, { outputs, skipped }: Known, from?: string): Set<string> {
  const again = new Set<string>();
  // They stand in an order in which each comes after those before it.
  for (const { id, after } of linkSteps(steps)) {
    const isKnown = (outputs.has(id) || skipped.has(id)) && id !== from;
    if (!isKnown || after.some((before) => again.has(before))) again.add(id);
  }
  return again;
}
