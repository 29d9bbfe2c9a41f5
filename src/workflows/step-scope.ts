/** What one step of a deterministic workflow is given and depends on, and whose ends that takes. */
import { defaultChainInput, defaultValueInput, type PreviousStep, previousInScope } from "./chain-input.ts";
import { compileWords } from "./check-step-kinds.ts";
import { type Compensation, compensationWith } from "./compensations.ts";
import { type Condition, compileCondition, compileList, holds, itemsOf } from "./conditions.ts";
import type { DebtScope } from "./debt.ts";
import type { StepDefinition } from "./definition.ts";
import type { Expression, ExpressionScope, LoopScope, StepEnd } from "./expressions.ts";
import { isWaiting } from "./outside-waits.ts";
import type { RunSetup } from "./plan.ts";
import type { StepsBefore } from "./step-order.ts";
import { contextsOf, type Surroundings } from "./step-surroundings.ts";
import { compileTemplate, evaluateTemplate, expressionsIn, type Template } from "./templates.ts";

/** A step as an expression names it, and how many groups further out it stands; -1 is inside of the step itself. */
export type NamedStep = { readonly id: string; readonly up: number };

/** Where a step stands in a run; `endOf` gives the ends of the steps it `uses`. */
export type StepAt = {
  setup: RunSetup;
  endOf: (step: NamedStep) => StepEnd;
  loop: LoopScope;
  /** What the first steps beside it are given where they do not say, for one that takes it as `form`. */
  given: (form: InputForm) => unknown;
};

/** A model reads text; a tool and another workflow take values. */
export type InputForm = "words" | "values";

export type StepScope = {
  /** Makes its input, of a group for a step in it that takes `form`; throws `template_failed` where it cannot. */
  inputOf(at: StepAt, form?: InputForm): unknown;
  /** Fills in what an approval or a wait says; throws `template_failed` where it cannot. */
  wordsOf(at: StepAt): { readonly [word: string]: unknown };
  /** Whether its condition holds; throws `condition_failed` where that cannot be told. */
  mayRun(at: StepAt): boolean;
  /** The list it is done for; throws `bad_list` where there is none. */
  itemsOf(at: StepAt): readonly unknown[];
  /** Whether it need not be done again; throws `condition_failed` where that cannot be told. */
  isEnough(at: StepAt): boolean;
  /** What undoes it, where anything does. */
  undo: Undo | undefined;
  /** The steps of which all of these may speak. */
  uses: readonly NamedStep[];
};

export type Undo = Compensation & {
  /** What has to be kept of an instance that gave `output`, while what it speaks of is known. */
  scopeOf(at: StepAt, output: unknown): DebtScope;
};

type Words = { readonly [word: string]: unknown };

/** What an expression takes. */
type Used = { named: readonly NamedStep[]; usesPrevious: boolean };

type Around = {
  workflow: string;
  /** Where the step stands in the definition. */
  path: string;
  /** The steps it comes directly after. */
  direct: readonly string[];
  /** The steps beside it that have ended before. */
  own: StepsBefore;
  around: Surroundings;
};

/** Compiles what a step is given and depends on, once per definition. */
export function compileStepScope(step: StepDefinition, { workflow, path, direct, own, around }: Around): StepScope {
  const { input, when, forEach, repeat } = step;
  const inner = step.kind === "group" ? step.steps.map(({ id }) => id) : [];
  const contexts = contextsOf(step, { own, previous: direct.length > 0, around, inner });
  const levels = [own, ...around.before];
  const levelOf = (id: string) => (inner.includes(id) ? -1 : levels.findIndex((level) => level.has(id)));

  const template =
    input === undefined ? undefined : withUse(compileTemplate(input, { path: `${path}.input`, ...contexts.each }));
  const condition = when === undefined ? undefined : compiled(compileCondition, when, "when", contexts.once);
  const list = forEach === undefined ? undefined : compiled(compileList, forEach, "forEach", contexts.once);
  const until = repeat && compiled(compileCondition, repeat.until, "repeat.until", contexts.until);
  const undoing = compileUndo();
  const texts = compileWords(step, { path, ...contexts.each });
  const words = texts && withUse(texts);
  const ownForm: InputForm = step.kind === "tool" || step.kind === "workflow" ? "values" : "words";
  const hasDefaultInput = forEach === undefined && !isWaiting(step);
  const before: Used = { named: direct.map((id) => ({ id, up: 0 })), usesPrevious: false };

  return {
    inputOf(at, form = ownForm) {
      if (template) return evaluateTemplate(template.template, scopeOf(template, at));
      // An item is all there is to say about it.
      if (forEach !== undefined) return at.given(form);
      const last = iterationBefore(at);
      if (form === "words") return defaultChainInput(at.given(form), [...endsOf(at), ...last]);
      return defaultValueInput(at.given(form), last.length > 0 ? last : endsOf(at));
    },
    wordsOf: (at) => (words ? (evaluateTemplate(words.template, scopeOf(words, at)) as object as Words) : {}),
    mayRun: (at) => !condition || holds(condition.condition, scopeOf(condition, at)),
    itemsOf: (at) => (list ? itemsOf(list.condition, scopeOf(list, at)) : []),
    isEnough: (at) => !until || holds(until.condition, scopeOf(until, at)),
    undo: undoing?.undo,
    uses: usesOf([template ?? (hasDefaultInput ? before : undefined), condition, list, until, undoing, words]),
  };

  function compileUndo(): (Used & { undo: Undo }) | undefined {
    const { compensate } = step;
    if (!compensate) return undefined;
    const source = compensate.input;
    const made =
      source === undefined
        ? undefined
        : compileTemplate(source, { path: `${path}.compensate.input`, ...contexts.undo });
    const used = made ? usedIn(expressionsIn(made), contexts.undo.steps) : { named: [], usesPrevious: false };
    const compensation = compensationWith(workflow, made, compensate.tool === undefined ? "words" : "values");
    const undo: Undo = {
      ...compensation,
      scopeOf: (at, output) => compensation.keep({ ...scopeOf(used, at), output }),
    };
    return { ...used, undo };
  }

  function compiled(
    compile: typeof compileCondition,
    source: string,
    key: string,
    context: (typeof contexts)["once"],
  ): Used & { condition: Condition } {
    const made = compile(source, { path: `${path}.${key}`, ...context });
    return { condition: made, ...usedIn([made.expression], context.steps) };
  }

  function withUse(template: Template): Used & { template: Template } {
    return { template, ...usedIn(expressionsIn(template), contexts.each.steps) };
  }

  function usedIn(expressions: readonly Expression[], visible: StepsBefore): Used {
    const usesAny = expressions.some(({ usesAnyStep }) => usesAnyStep);
    const ids = usesAny ? [...visible] : [...new Set(expressions.flatMap(({ steps }) => steps))];
    return {
      named: ids.map((id) => ({ id, up: levelOf(id) })),
      usesPrevious: expressions.some(({ usesPrevious }) => usesPrevious),
    };
  }

  function usesOf(parts: readonly (Used | undefined)[]): NamedStep[] {
    const all = parts.flatMap((used) => [...(used?.usesPrevious ? before.named : []), ...(used?.named ?? [])]);
    return [...new Map(all.map((named) => [named.id, named])).values()];
  }

  function scopeOf({ named, usesPrevious }: Used, at: StepAt): ExpressionScope {
    return {
      input: at.setup.request.input,
      // Only what has surely ended is in scope, so that a fold finds the same.
      steps: Object.fromEntries(named.map((step) => [step.id, at.endOf(step)])),
      ...(usesPrevious && previousInScope(endsOf(at))),
      session: {},
      run: { id: at.setup.runId, workflow },
      ...at.loop,
      ...(at.setup.failure && { error: at.setup.failure }),
    };
  }

  function iterationBefore({ loop: { index = 0n, last } }: StepAt): PreviousStep[] {
    if (!repeat || index === 0n) return [];
    return [{ step: step.id, end: { status: "completed", output: last } }];
  }

  function endsOf({ endOf }: StepAt): PreviousStep[] {
    return before.named.map((step) => ({ step: step.id, end: endOf(step) }));
  }
}
