/** What is around the steps of one group, or of the whole workflow: what they may speak of beside each other. */
import type { StepDefinition } from "./definition.ts";
import type { LoopVariable } from "./expressions.ts";
import type { StepsBefore } from "./step-order.ts";
import type { TemplateContext } from "./templates.ts";

export type Surroundings = {
  /** The steps before the groups these steps are in, from the nearest group outwards. */
  readonly before: readonly StepsBefore[];
  readonly loop: ReadonlySet<LoopVariable>;
};

/** Around the steps that are in no group there is nothing. */
export const NOTHING_AROUND: Surroundings = { before: [], loop: new Set() };

type Repeating = Partial<Pick<StepDefinition, "forEach" | "repeat">>;

/** What an input may speak of: of a step with items or iterations it is that of each. */
export function insideOf(step: Repeating, own: StepsBefore, { before, loop }: Surroundings): Surroundings {
  const more: LoopVariable[] = [
    ...(step.forEach !== undefined || step.repeat !== undefined ? (["index"] as const) : []),
    ...(step.forEach === undefined ? [] : (["item"] as const)),
    ...(step.repeat === undefined ? [] : (["last"] as const)),
  ];
  return { before: [own, ...before], loop: new Set([...loop, ...more]) };
}

/** What the expressions of a step may refer to. */
export type StepContexts = {
  /** `when`, `switch` and `forEach`: once for the step. */
  once: Pick<TemplateContext, "steps" | "previous" | "loop">;
  /** `input`: once for each item or iteration. */
  each: Pick<TemplateContext, "steps" | "previous" | "loop">;
  /** `until`: with the steps of the iteration that has ended. */
  until: Pick<TemplateContext, "steps" | "previous" | "loop">;
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
  const { before, loop } = around;
  const steps = before.length === 0 ? own : together([own, ...before]);
  const inside = insideOf(step, own, around).loop;
  return {
    once: { steps, previous, loop },
    each: { steps, previous, loop: inside },
    until: { steps: together([new Set(inner), steps]), previous, loop: new Set([...inside, "output" as const]) },
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
