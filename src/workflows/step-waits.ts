/** Steps that wait for something from outside, wherever they stand: what `outside-waits.ts` says becomes of them is done here. */
import { toErrorRecord } from "../errors.ts";
import type { DeterministicDefinition, StepDefinition, WaitingStep } from "./definition.ts";
import { openWait, takeSignal, takeTimer, type Waited } from "./outside-waits.ts";
import type { Fact } from "./run-events.ts";
import { endAttempt } from "./step-attempts.ts";
import { fail, type Making, say } from "./step-ends.ts";
import { type Instance, instanceOf, withBody } from "./step-instances.ts";
import { pointAt } from "./step-points.ts";

/** Every step of a workflow that waits for a signal, wherever it stands. */
export function signalStepsOf({
  steps,
  onFailure = [],
}: Pick<DeterministicDefinition, "steps" | "onFailure">): StepDefinition[] {
  return [...steps, ...onFailure].flatMap((step): StepDefinition[] => {
    if (step.kind === "group") return signalStepsOf(step);
    return step.kind === "wait" && step.wait.signal !== undefined ? [step] : [];
  });
}

/** Begins to wait. It takes no room: nobody is at work. */
export function beginWait(making: Making, instance: Instance, step: WaitingStep): void {
  const { path, node } = instance;
  making.states = withBody(making.states, instance, 1);
  say(making, { type: "step.started", data: { step: path, kind: step.kind } });
  let words: { readonly [word: string]: unknown };
  try {
    words = node.scope.wordsOf(pointAt(making, instance));
  } catch (error) {
    fail(making, instance, { error: toErrorRecord(error, "template_failed") });
    return;
  }
  goOn(making, openWait(making.states.waits, step, { path, at: making.at, words }));
}

/** Takes a named signal. */
export function signalled(
  making: Making,
  fact: Fact & { type: "signal.received" },
  steps: readonly StepDefinition[],
): void {
  goOn(making, takeSignal(making.states.waits, fact, { steps, stepAt: stepIn(making) }));
}

/** Takes a timer; false where it is none that a step waits for. */
export function timedOut(making: Making, fact: Fact & { type: "timer.fired" }): boolean {
  const waited = takeTimer(making.states.waits, fact, stepIn(making));
  if (waited) goOn(making, waited);
  return waited !== undefined;
}

function stepIn({ graph }: Making): (path: string) => StepDefinition {
  return (path) => instanceOf(graph, path).node.step;
}

function goOn(making: Making, { waits, moves, settled }: Waited): void {
  making.states = { ...making.states, waits };
  making.moves.push(...moves);
  if (!settled) return;
  const instance = instanceOf(making.graph, settled.path);
  if (settled.status === "failed") fail(making, instance, { error: settled.error });
  else endAttempt(making, instance, { output: settled.output });
}
