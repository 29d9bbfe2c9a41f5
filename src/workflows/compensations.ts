/**
 * What undoes the steps of a workflow: what of a run has to be kept for that when a step completes, and what its compensation is
 * then asked.
 */
import { type PreviousStep, previousInScope } from "./chain-input.ts";
import type { Debt } from "./debt.ts";
import type { CompensationDefinition, DeterministicDefinition } from "./definition.ts";
import type { FailureInScope, LateVariable, StepEnd } from "./expressions.ts";
import type { RunSetup } from "./plan.ts";
import { linkSteps, stepsBefore } from "./step-order.ts";
import { compileTemplate, evaluateTemplate, expressionsIn, type Template } from "./templates.ts";

/** What a compensation may speak of beside what its step may. */
export const COMPENSATION_SCOPE: readonly LateVariable[] = ["error", "output"];

/** A step that has just completed; `endOf` gives the ends of the steps in `usedBy`. */
type Completed = { step: string; of: string; taskId: string; output: unknown; endOf: (step: string) => StepEnd };

export type Compensations = {
  /** Whether a step of the definition has one. */
  has(step: string): boolean;
  /** The steps of which a step's compensation may speak. */
  usedBy(step: string): readonly string[];
  /** What is to be kept of a step that has just completed; undefined where nothing undoes it. */
  debtOf(completed: Completed): Debt | undefined;
  of(debt: Debt): CompensationDefinition;
  /** @throws TroupeError `template_failed` */
  inputOf(debt: Debt, at: { setup: RunSetup; error: FailureInScope }): unknown;
};

type Entry = {
  compensate: CompensationDefinition;
  before: readonly string[];
  named: readonly string[];
  usesPrevious: boolean;
  usesOutput: boolean;
  template: Template | undefined;
};

/** Compiles the compensations of a definition. */
export function compileCompensations({ name, steps }: Pick<DeterministicDefinition, "name" | "steps">): Compensations {
  const entries = new Map<string, Entry>();
  const linked = steps.some(({ compensate }) => compensate) ? linkSteps(steps) : [];
  const before = stepsBefore(linked);
  linked.forEach(({ id, after }, index) => {
    const compensate = steps[index]?.compensate;
    if (!compensate) return;
    const known = before(id);
    const path = `workflows.${name}.steps[${index}].compensate.input`;
    const { input } = compensate;
    const template =
      input === undefined ? undefined : compileTemplate(input, { path, steps: known, late: COMPENSATION_SCOPE });
    const expressions = template ? expressionsIn(template) : [];
    const usesAny = expressions.some(({ usesAnyStep }) => usesAnyStep);
    entries.set(id, {
      compensate,
      before: after,
      named: usesAny ? [...known] : [...new Set(expressions.flatMap(({ steps }) => steps))],
      usesPrevious: expressions.some(({ usesPrevious }) => usesPrevious),
      usesOutput: !template || expressions.some(({ late }) => late.includes("output")),
      template,
    });
  });
  const entryOf = (step: string) => {
    const entry = entries.get(step);
    if (!entry) throw new Error(`${name}: nothing undoes step ${JSON.stringify(step)}`);
    return entry;
  };

  return {
    has: (step) => entries.has(step),
    usedBy(step) {
      const entry = entries.get(step);
      if (!entry) return [];
      return entry.usesPrevious ? [...new Set([...entry.before, ...entry.named])] : entry.named;
    },
    debtOf({ step, of, taskId, output, endOf }) {
      const entry = entries.get(of);
      if (!entry) return undefined;
      const previous = (): PreviousStep[] => entry.before.map((id) => ({ step: id, end: endOf(id) }));
      const scope = {
        steps: Object.fromEntries(entry.named.map((id) => [id, endOf(id)])),
        ...(entry.usesPrevious && previousInScope(previous())),
        ...(entry.usesOutput && { output }),
      };
      return { step, of, taskId, scope };
    },
    of: (debt) => entryOf(debt.of).compensate,
    inputOf({ step, of, scope }, { setup, error }) {
      const { template } = entryOf(of);
      const { input } = setup.request;
      if (!template) return defaultInput({ step, request: input, output: scope.output, error });
      return evaluateTemplate(template, {
        input,
        session: {},
        run: { id: setup.runId, workflow: name },
        ...scope,
        error,
      });
    },
  };
}

type Undone = { step: string; request: unknown; output: unknown; error: FailureInScope };

/** As a step's default input: each part clearly marked. */
function defaultInput({ step, request, output, error }: Undone): string {
  const text = (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value));
  return [
    `<request>\n${text(request)}\n</request>`,
    `<output step="${step}">\n${text(output)}\n</output>`,
    `<error>\n${error.code}: ${error.message}\n</error>`,
  ].join("\n\n");
}
