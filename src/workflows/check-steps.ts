/** What can be wrong with the steps of a deterministic workflow among each other, all of it at once. */
import { type Place, placeAt, problemAt, showValue } from "../actors/schema-problems.ts";
import { DefinitionError, type Problem } from "../errors.ts";
import { compileWords, problemsOfKind } from "./check-step-kinds.ts";
import { checkSwitch, compileCondition } from "./conditions.ts";
import type { StepDefinition } from "./definition.ts";
import type { StepDraft } from "./definition-schema.ts";
import { linkSteps, type StepsBefore, sortSteps, stepsBefore } from "./step-order.ts";
import { compileTemplate, type TemplateContext } from "./templates.ts";
import type { WorkflowSources } from "./workflow-sources.ts";

/** What is checked: the steps, and in the same order what was written of them. */
type Checked = { steps: readonly StepDefinition[]; drafts: readonly StepDraft[]; sources: WorkflowSources & Place };

/** Sorts steps so that each stands after those it comes after and those it handles, or says what is wrong with them. */
export function checkSteps(
  steps: readonly StepDefinition[],
  drafts: readonly StepDraft[],
  sources: WorkflowSources & Place,
): { sorted: StepDefinition[]; problems: Problem[] } {
  const checked: Checked = { steps, drafts, sources };
  const kinds = drafts.flatMap((draft, index) => problemsOfKind(draft, sources, placeAt(sources, "steps", index)));
  const links = linkProblems(checked);
  const order = links.length > 0 ? { problems: links } : orderOf(checked);
  const sorted = order.sorted ?? [...steps];
  const expressions = expressionProblems(checked, order.sorted);
  return { sorted, problems: [...kinds, ...order.problems, ...expressions] };
}

/** Where in the file each id stands, and where what is looked at does. */
type Ids = { places: ReadonlyMap<string, readonly number[]>; place: Place };

function linkProblems({ steps, drafts, sources }: Checked): Problem[] {
  const places = Map.groupBy(steps.keys(), (index) => steps[index]?.id ?? "");
  return drafts.flatMap((draft, index) => {
    const at = (...keys: (string | number)[]): Ids => ({ places, place: placeAt(sources, "steps", index, ...keys) });
    const { id, after = [], switch: choice } = draft;
    return [
      ...repeatedId(id, index, at("id")),
      ...unknownSteps(after, index, at("after")),
      ...idleNeeds(draft, steps[index], at("needs")),
      ...unclearOnError(draft, index, at("onError")),
      ...Object.entries(choice?.cases ?? {}).flatMap(([value, target]) =>
        unknownSteps(target, index, at("switch", "cases", value)),
      ),
      ...(choice?.default === undefined ? [] : unknownSteps(choice.default, index, at("switch", "default"))),
    ];
  });
}

function repeatedId(id: string, index: number, { places, place }: Ids): Problem[] {
  return places.get(id)?.[0] === index ? [] : [problemAt(place, "an id no other step has", showValue(id))];
}

function unknownSteps(written: string | readonly string[], index: number, { places, place }: Ids): Problem[] {
  const isOther = (id: string) => places.get(id)?.some((other) => other !== index) ?? false;
  const expected = () => {
    const others = [...places].flatMap(([id, at]) => at.filter((other) => other !== index).map(() => id));
    return others.length === 0
      ? "nothing, for there is no other step"
      : `the id of another step (${others.join(", ")})`;
  };
  if (typeof written === "string") {
    return isOther(written) ? [] : [problemAt(place, expected(), showValue(written))];
  }
  return written.flatMap((id, at) => (isOther(id) ? [] : [problemAt(placeAt(place, at), expected(), showValue(id))]));
}

function idleNeeds({ needs }: StepDraft, step: StepDefinition | undefined, { place }: Ids): Problem[] {
  if (needs === "all" || step?.after.length !== 0) return [];
  return [problemAt(place, "no `needs` where there is no `after`", showValue(needs))];
}

function unclearOnError({ onError }: StepDraft, index: number, { places, place }: Ids): Problem[] {
  if (onError === "fail") return [];
  if (onError !== "continue") {
    return unknownSteps(onError, index, { places, place }).map((problem) => ({
      ...problem,
      expected: `"fail", "continue" or ${problem.expected}`,
    }));
  }
  return places.has(onError) ? [problemAt(place, `a step of another name than "${onError}"`, showValue(onError))] : [];
}

function orderOf({ steps, sources }: Checked): { sorted?: StepDefinition[]; problems: Problem[] } {
  const plain = sortSteps(steps);
  const place = placeAt(sources, "steps");
  if ("cycle" in plain) return { problems: [circle(place, plain.cycle)] };
  const backward = handlersBefore(steps, plain.sorted, place);
  if (backward.length > 0) return { problems: backward };
  const linked = sortSteps(linkSteps(steps));
  if ("cycle" in linked) return { problems: [circle(place, linked.cycle)] };
  const byId = new Map(steps.map((step) => [step.id, step]));
  return { sorted: linked.sorted.flatMap(({ id }) => byId.get(id) ?? []), problems: [] };
}

function circle(place: Place, cycle: readonly string[]): Problem {
  return problemAt(place, "steps without a circle", cycle.join(" → "));
}

function handlersBefore(steps: readonly StepDefinition[], sorted: readonly StepDefinition[], place: Place): Problem[] {
  if (steps.every(({ onError }) => onError === undefined)) return [];
  const before = stepsBefore(sorted);
  return steps.flatMap(({ id, onError }, index) => {
    if (onError === undefined || !before(id).has(onError)) return [];
    return [problemAt(placeAt(place, index, "onError"), "a step that does not come before", showValue(onError))];
  });
}

/**
 * An expression may speak only of steps that are certain to have ended, so that a fold always gives the same. Where the order
 * is not known the rest is still checked.
 */
function expressionProblems(
  { steps, drafts, sources }: Checked,
  sorted: readonly StepDefinition[] | undefined,
): Problem[] {
  const all = new Set(steps.map(({ id }) => id));
  const before = sorted ? stepsBefore(linkSteps(sorted)) : () => all;
  return drafts.flatMap(({ id, input, when, switch: choice }, index) => {
    const context = (steps: StepsBefore, ...keys: string[]): TemplateContext => ({
      ...placeAt(sources, "steps", index, ...keys),
      steps,
    });
    const problems: Problem[] = [];
    if (when !== undefined) problems.push(...problemsOf(() => compileCondition(when, context(before(id), "when"))));
    if (choice) {
      const known = new Set([...before(id), id]);
      problems.push(...problemsOf(() => checkSwitch(choice.on, context(known, "switch", "on"))));
    }
    if (input !== undefined) problems.push(...problemsOf(() => compileTemplate(input, context(before(id), "input"))));
    const step = steps[index];
    if (step) problems.push(...problemsOf(() => compileWords(step, context(before(id)))));
    return problems;
  });
}

function problemsOf(compile: () => unknown): readonly Problem[] {
  try {
    compile();
    return [];
  } catch (error) {
    if (error instanceof DefinitionError) return error.problems;
    throw error;
  }
}
