/** What each step of a deterministic workflow is given and depends on, and whose ends that takes. */
import { defaultChainInput, defaultValueInput, type PreviousStep, previousInScope } from "./chain-input.ts";
import { compileWords } from "./check-step-kinds.ts";
import { type Condition, compileCondition, holds } from "./conditions.ts";
import type { DeterministicDefinition, StepDefinition } from "./definition.ts";
import type { Expression, ExpressionScope, StepEnd } from "./expressions.ts";
import type { RunSetup } from "./plan.ts";
import { type LinkedStep, linkSteps, type StepsBefore, stepsBefore } from "./step-order.ts";
import { compileTemplate, evaluateTemplate, expressionsIn, type Template } from "./templates.ts";

/** Where a step stands in a run; `endOf` gives the ends of the steps in `usedBy`. */
type StepAt = { endOf: (step: string) => StepEnd; setup: RunSetup };

export type StepScopes = {
  /** Makes a step's input; throws `template_failed` where it cannot. */
  inputOf(step: string, at: StepAt): unknown;
  /** Fills in what an approval or a wait says; throws `template_failed` where it cannot. */
  wordsOf(step: string, at: StepAt): { readonly [word: string]: unknown };
  /** Whether a step's condition holds; throws `condition_failed` where that cannot be told. */
  mayRun(step: string, at: StepAt): boolean;
  /** The steps of which the input or the condition of a step may speak. */
  usedBy(step: string): readonly string[];
};

/** What an input or a condition takes. */
type Used = {
  /** Steps in `steps`. */
  named: readonly string[];
  usesPrevious: boolean;
};

type Entry = {
  before: readonly string[];
  used: readonly string[];
  input: (Used & { template: Template }) | undefined;
  when: (Used & { condition: Condition }) | undefined;
  words: (Used & { template: Template }) | undefined;
  /** Whether it is an agent's, whose model reads text. */
  takesWords: boolean;
};

type Words = { readonly [word: string]: unknown };

/** Compiles the inputs and conditions of all steps, once per definition. */
export function compileStepScopes({ name, steps }: DeterministicDefinition): StepScopes {
  const linked = linkSteps(steps);
  const before = stepsBefore(linked);
  const compiled = new Map(
    steps.map((step, index) => {
      const path = `workflows.${name}.steps[${index}]`;
      return [step.id, compileStep(step, { link: linked[index], before: () => before(step.id), path })];
    }),
  );
  const entryOf = (step: string) => {
    const entry = compiled.get(step);
    if (!entry) throw new Error(`${name}: no step ${JSON.stringify(step)}`);
    return entry;
  };
  return {
    inputOf(step, at) {
      const { before, input, takesWords } = entryOf(step);
      const makeDefault = takesWords ? defaultChainInput : defaultValueInput;
      if (!input) return makeDefault(at.setup.request.input, endsOf(before, at));
      return evaluateTemplate(input.template, scopeOf(before, input, at));
    },
    wordsOf(step, at) {
      const { before, words } = entryOf(step);
      return words ? (evaluateTemplate(words.template, scopeOf(before, words, at)) as object as Words) : {};
    },
    mayRun(step, at) {
      const { before, when } = entryOf(step);
      return !when || holds(when.condition, scopeOf(before, when, at));
    },
    usedBy(step) {
      return entryOf(step).used;
    },
  };

  function scopeOf(before: readonly string[], { named, usesPrevious }: Used, at: StepAt): ExpressionScope {
    return {
      input: at.setup.request.input,
      // Only what has surely ended is in scope, so that a fold finds the same.
      steps: Object.fromEntries(named.map((id) => [id, at.endOf(id)])),
      ...(usesPrevious && previousInScope(endsOf(before, at))),
      session: {},
      run: { id: at.setup.runId, workflow: name },
    };
  }
}

function endsOf(steps: readonly string[], { endOf }: StepAt): PreviousStep[] {
  return steps.map((step) => ({ step, end: endOf(step) }));
}

type Around = { link: LinkedStep | undefined; before: () => StepsBefore; path: string };

function compileStep(step: StepDefinition, { link, before, path }: Around): Entry {
  const { after, input, when } = step;
  const direct = link?.after ?? after;
  const entry: Entry = {
    before: direct,
    used: [],
    input: undefined,
    when: undefined,
    words: undefined,
    takesWords: step.kind === "agent",
  };
  if (input !== undefined) {
    const template = compileTemplate(input, { path: `${path}.input`, steps: before() });
    entry.input = { ...usedIn(expressionsIn(template), before), template };
  }
  if (when !== undefined) {
    const condition = compileCondition(when, { path: `${path}.when`, steps: before() });
    entry.when = { ...usedIn([condition.expression], before), condition };
  }
  const template = compileWords(step, { path, steps: before() });
  if (template) entry.words = { ...usedIn(expressionsIn(template), before), template };
  const hasDefaultInput = !entry.input && step.kind !== "approval" && step.kind !== "wait";
  const uses: Used[] = [...(hasDefaultInput ? [{ named: [], usesPrevious: true }] : [])];
  for (const part of [entry.input, entry.when, entry.words]) if (part) uses.push(part);
  const used = uses.flatMap(({ named, usesPrevious }) => (usesPrevious ? [...direct, ...named] : named));
  return { ...entry, used: [...new Set(used)] };
}

function usedIn(expressions: readonly Expression[], before: () => StepsBefore): Used {
  const usesAny = expressions.some(({ usesAnyStep }) => usesAnyStep);
  const named = usesAny ? [...before()] : [...new Set(expressions.flatMap(({ steps }) => steps))];
  return { named, usesPrevious: expressions.some(({ usesPrevious }) => usesPrevious) };
}
