/** What each step of a deterministic workflow is given. */
import { defaultChainInput, previousInScope } from "./chain-input.ts";
import type { DeterministicDefinition } from "./definition.ts";
import type { RunSetup } from "./plan.ts";
import { stepsBefore } from "./step-order.ts";
import { compileTemplate, evaluateTemplate } from "./templates.ts";

export type StepInputs = (
  step: string,
  at: { outputs: { readonly [step: string]: unknown }; setup: RunSetup; workflow: string },
) => unknown;

/** Compiles the inputs of all steps, once per definition. */
export function compileStepInputs({ name, steps }: DeterministicDefinition): StepInputs {
  const before = stepsBefore(steps);
  const compiled = new Map(
    steps.map(({ id, after, input }, index) => {
      const ancestors = before.get(id) ?? [];
      const template =
        input === undefined
          ? undefined
          : compileTemplate(input, { path: `workflows.${name}.steps[${index}].input`, steps: ancestors });
      return [id, { after, ancestors, template }];
    }),
  );
  return (step, { outputs, setup, workflow }) => {
    const entry = compiled.get(step);
    if (!entry) throw new Error(`${workflow}: no step ${JSON.stringify(step)}`);
    const previous = entry.after.map((id) => ({ step: id, output: outputs[id] }));
    const { input } = setup.request;
    if (!entry.template) return defaultChainInput(input, previous);
    // Only what has surely completed is in scope, so that a fold finds the same.
    const known = Object.fromEntries(entry.ancestors.map((id) => [id, { output: outputs[id] }]));
    return evaluateTemplate(entry.template, {
      input,
      steps: known,
      ...previousInScope(previous),
      session: {},
      run: { id: setup.runId, workflow },
    });
  };
}
