/** What is around the steps of one group, or of the whole workflow: what they may speak of beside each other. */
import type { StepDefinition } from "./definition.ts";
import type { LocalVariable } from "./expressions.ts";
import type { StepsBefore } from "./step-order.ts";
import type { TemplateContext } from "./templates.ts";

export type Surroundings = {
  /** The steps before the groups these steps are in, from the nearest group outwards. */
  readonly before: readonly StepsBefore[];
  /** Variables that are not everywhere, and are there for all of them. */
  readonly locals: ReadonlySet<LocalVariable>;
};

/** Around the steps that are in no group there is nothing. */
export const NOTHING_AROUND: Surroundings = { before: [], locals: new Set() };

/** Around those that run because a run failed there is what it failed with. */
export const FAILURE_AROUND: Surroundings = { before: [], locals: new Set(["error" as const]) };

type Repeating = Partial<Pick<StepDefinition, "forEach" | "repeat">>;

/** What an input may speak of: of a step with items or iterations it is that of each. */
export function insideOf(step: Repeating, own: StepsBefore, { before, locals }: Surroundings): Surroundings {
  const more: LocalVariable[] = [
    ...(step.forEach !== undefined || step.repeat !== undefined ? (["index"] as const) : []),
    ...(step.forEach === undefined ? [] : (["item"] as const)),
    ...(step.repeat === undefined ? [] : (["last"] as const)),
  ];
  return { before: [own, ...before], locals: new Set([...locals, ...more]) };
}

/** What the expressions of a step may refer to. */
export type StepContexts = {
  /** `when`, `switch` and `forEach`: once for the step. */
  once: Pick<TemplateContext, "steps" | "previous" | "locals">;
  /** `input`: once for each item or iteration. */
  each: Pick<TemplateContext, "steps" | "previous" | "locals">;
  /** `until`: with the steps of the iteration that has ended. */
  until: Pick<TemplateContext, "steps" | "previous" | "locals">;
  /** The input of what undoes it. */
  undo: Pick<TemplateContext, "steps" | "previous" | "locals">;
};

type StepPlace = {
  /** The steps beside it that have ended before, and whether there are any. */
  own: StepsBefore;
  previous: boolean;
  around: Surroundings;
  /** The ids of the steps in it. */
  inner: readonly string[];
};

/** Says what the expressions of a step may refer to. */
export function contextsOf(step: Repeating, { own, previous, around, inner }: StepPlace): StepContexts {
  const { before, locals } = around;
  const steps = before.length === 0 ? own : together([own, ...before]);
  const inside = insideOf(step, own, around).locals;
  return {
    once: { steps, previous, locals },
    each: { steps, previous, locals: inside },
    until: { steps: together([new Set(inner), steps]), previous, locals: new Set([...inside, "output" as const]) },
    undo: { steps, previous, locals: new Set([...inside, "output" as const, "error" as const]) },
  };
}

function together(parts: readonly StepsBefore[]): StepsBefore {
  return {
    has: (id) => parts.some((part) => part.has(id)),
    *[Symbol.iterator]() {
      for (const part of parts) yield* part;
    },
  };
}
