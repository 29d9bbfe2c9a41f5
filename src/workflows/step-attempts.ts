/** How an attempt at a step ends: with an output that fits, or with an error, after which it is made again or not. */
import type { ErrorRecord } from "../errors.ts";
import { backoff } from "./backoff.ts";
import { badOutput } from "./check-output.ts";
import { later } from "./plan.ts";
import { isTriedAgain } from "./retry-policy.ts";
import { complete, fail, type Making, RETRY_TIMER, say } from "./step-ends.ts";
import { bodyOf, type Instance, withBody } from "./step-instances.ts";
import { pointAt } from "./step-points.ts";

/** What an attempt gave; `taskId` is its task, which a step that waits for something from outside has none of. */
type Given = { taskId?: string; output: unknown };

/** Takes what an attempt gave: the step, or one item or iteration of it, completes with it, unless it does not fit. */
export function endAttempt(making: Making, instance: Instance, { taskId, output }: Given): void {
  const { step, scope } = instance.node;
  const told = taskId !== undefined && { taskId };
  const bad = badOutput(step.output, output);
  if (bad) {
    failAttempt(making, instance, { ...told, error: bad });
    return;
  }
  if (scope.undo) {
    // Before the step ends: what its compensation may speak of is still known then.
    const kept = scope.undo.scopeOf(pointAt(making, instance), output);
    making.moves.push({ type: "owe", debt: { step: instance.path, ...told, scope: kept } });
  }
  complete(making, instance, output, taskId === undefined ? { output } : { taskId });
}

/** An attempt came to nothing: it is made again, or the step has failed. */
export function failAttempt(making: Making, instance: Instance, failed: { taskId?: string; error: ErrorRecord }): void {
  const { taskId, error } = failed;
  const { retry } = instance.node.step;
  const attempt = attemptOf(making, instance);
  if (!isTriedAgain(retry, attempt, error)) {
    fail(making, instance, failed);
    return;
  }
  const dueAt = later(making.at, backoff(retry, attempt, `${making.setup.runId}/${taskId}`));
  making.states = withBody(making.states, instance, -(attempt + 1));
  say(making, { type: "step.retrying", data: { step: instance.path, attempt: attempt + 1, dueAt, error } });
  making.moves.push({ type: "timer", id: `${RETRY_TIMER}${instance.path}`, dueAt });
}

/** The attempt an instance is at, or is to begin. */
export function attemptOf({ states }: Making, instance: Instance): number {
  const body = bodyOf(states, instance);
  return typeof body === "number" && body !== 0 ? Math.abs(body) : 1;
}
