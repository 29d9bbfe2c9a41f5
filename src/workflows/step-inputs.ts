/** What each step of a deterministic workflow is given, and whose outputs that takes. */
import { defaultChainInput, previousInScope } from "./chain-input.ts";
import type { DeterministicDefinition, StepDefinition } from "./definition.ts";
import type { RunSetup } from "./plan.ts";
import { type StepsBefore, stepsBefore } from "./step-order.ts";
import { compileTemplate, evaluateTemplate, expressionsIn } from "./templates.ts";

export type StepInputs = {
  /** Makes a step's input; `outputOf` gives the outputs of the steps in `usedBy`. */
  make(step: string, at: { outputOf: (step: string) => unknown; setup: RunSetup; workflow: string }): unknown;
  /** The steps whose outputs a step's input may be made of. */
  usedBy(step: string): readonly string[];
};

/** Compiles the inputs of all steps, once per definition. */
export function compileStepInputs({ name, steps }: DeterministicDefinition): StepInputs {
  const before = stepsBefore(steps);
  const compiled = new Map(
    steps.map((step, index) => [
      step.id,
      compileInput(step, before(step.id), `workflows.${name}.steps[${index}].input`),
    ]),
  );
  const entryOf = (step: string) => {
    const entry = compiled.get(step);
    if (!entry) throw new Error(`${name}: no step ${JSON.stringify(step)}`);
    return entry;
  };
  return {
    make(step, { outputOf, setup, workflow }) {
      const { after, named, template } = entryOf(step);
      const previous = after.map((id) => ({ step: id, output: outputOf(id) }));
      const { input } = setup.request;
      if (!template) return defaultChainInput(input, previous);
      return evaluateTemplate(template, {
        input,
        // Only what has surely completed is in scope, so that a fold finds the same.
        steps: Object.fromEntries(named.map((id) => [id, { output: outputOf(id) }])),
        ...previousInScope(previous),
        session: {},
        run: { id: setup.runId, workflow },
      });
    },
    usedBy(step) {
      return entryOf(step).used;
    },
  };
}

function compileInput({ after, input }: StepDefinition, before: StepsBefore, path: string) {
  if (input === undefined) return { after, named: [], used: after, template: undefined };
  const template = compileTemplate(input, { path, steps: before });
  const expressions = expressionsIn(template);
  const usesAny = expressions.some(({ usesAnyStep }) => usesAnyStep);
  const named = usesAny ? [...before] : [...new Set(expressions.flatMap(({ steps }) => steps))];
  const usesPrevious = expressions.some((expression) => expression.usesPrevious);
  return { after, named, used: usesPrevious ? [...new Set([...after, ...named])] : named, template };
}
