/**
 * What a run that is tried again takes over of the run before: the outputs of the steps it need not run again.
 *
 * Invariants
 * X1  What a step is given is what it was given before: a step is taken over only with all the steps before it, each taken over
 *     or skipped. So whatever runs again is followed by what comes after it.
 * X2  What was undone, or may have been, is not there any more: it runs again, and so does the group it is in.
 */
import { TroupeError } from "../errors.ts";
import type { DeterministicDefinition, WorkflowDefinition } from "./definition.ts";
import { recordedOutputs } from "./recorded-outputs.ts";
import type { RunEvent, RunEventBody } from "./run-events.ts";
import { graphOf } from "./step-graph.ts";
import { linkSteps } from "./step-order.ts";
import { workerOf } from "./step-workers.ts";

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
  const known = recordedOutputs(events);
  const { nodes } = graphOf(definition);
  const outputs = new Map([...nodes.values()].map((node) => [node.step.id, known.of(node)]));
  const again = runsAgain(definition, (id) => outputs.get(id) !== undefined || known.isSkipped(id), from);
  return steps.flatMap((step): ReusedStep[] => {
    const { id } = step;
    const output = outputs.get(id);
    if (!output || again.has(id)) return [];
    return [{ type: "step.reused", data: { step: id, ...workerOf(step), ...output } }];
  });
}

// X1
function runsAgain(
  { steps }: DeterministicDefinition,
  isOver: (id: string) => boolean,
  from: string | undefined,
): Set<string> {
  const again = new Set<string>();
  // They stand in an order in which each comes after those before it.
  for (const { id, after } of linkSteps(steps)) {
    const isKnown = isOver(id) && id !== from;
    if (!isKnown || after.some((before) => again.has(before))) again.add(id);
  }
  return again;
}
