/** What can be wrong with the steps of a deterministic workflow among each other, all of it at once. */
import { type Place, placeAt, problemAt, showValue } from "../actors/schema-problems.ts";
import { DefinitionError, type Problem } from "../errors.ts";
import { compileWords, problemsOfKind, wordsIn } from "./check-step-kinds.ts";
import { checkSwitch, compileCondition, compileList } from "./conditions.ts";
import type { StepDefinition } from "./definition.ts";
import type { StepDraft } from "./definition-schema.ts";
import { linkSteps, type StepsBefore, sortSteps, stepsBefore } from "./step-order.ts";
import { contextsOf, type Surroundings } from "./step-surroundings.ts";
import { compileTemplate, type TemplateContext } from "./templates.ts";
import { unknownAgent, unknownTool, type WorkflowSources } from "./workflow-sources.ts";

/** What is checked: the steps, and in the same order what was written of them. */
type Checked = {
  steps: readonly StepDefinition[];
  drafts: readonly StepDraft[];
  sources: WorkflowSources & Place;
  list: StepList;
};

/** Where steps stand in their workflow. */
export type StepList = "steps" | "onFailure";

/**
 * Sorts the steps of one group so that each stands after those it comes after and those it handles, or says what is wrong with
 * them; `before` gives the steps that have ended before one, as far as that is known.
 */
export function checkSteps(
  steps: readonly StepDefinition[],
  drafts: readonly StepDraft[],
  sources: WorkflowSources & Place,
  { list, around }: { list: StepList; around: Surroundings },
): { sorted: StepDefinition[]; problems: Problem[]; before: (id: string) => StepsBefore } {
  const checked: Checked = { steps, drafts, sources, list };
  const kinds = drafts.flatMap((draft, index) => [
    ...problemsOfKind(draft, sources, placeAt(sources, list, index)),
    ...compensationProblems(draft.compensate, placeAt(sources, list, index, "compensate"), { sources, around }),
  ]);
  const links = linkProblems(checked);
  const order = links.length > 0 ? { problems: links } : orderOf(checked);
  const sorted = order.sorted ?? [...steps];
  const all = new Set(steps.map(({ id }) => id));
  // Where the order is not known the rest is still checked.
  const before = order.sorted ? stepsBefore(linkSteps(order.sorted)) : () => all;
  const expressions = expressionProblems(checked, before, around);
  return { sorted, problems: [...kinds, ...order.problems, ...expressions], before };
}

/** Where in the file each id stands, and where what is looked at does. */
type Ids = { places: ReadonlyMap<string, readonly number[]>; place: Place };

function compensationProblems(
  compensate: StepDraft["compensate"],
  place: Place,
  { sources, around }: { sources: WorkflowSources; around: Surroundings },
): Problem[] {
  if (!compensate) return [];
  const { agent, tool } = compensate;
  if (around.locals.has("error")) return [problemAt(place, "no `compensate` in `onFailure`", showValue(agent ?? tool))];
  if ((agent === undefined) === (tool === undefined)) {
    return [problemAt(place, "either `agent` or `tool`", agent === undefined ? "neither" : "both")];
  }
  if (tool !== undefined) return unknownTool(tool, sources, placeAt(place, "tool"));
  return unknownAgent(agent ?? "", sources, placeAt(place, "agent"));
}

function linkProblems({ steps, drafts, sources, list }: Checked): Problem[] {
  const places = Map.groupBy(steps.keys(), (index) => steps[index]?.id ?? "");
  return drafts.flatMap((draft, index) => {
    const at = (...keys: (string | number)[]): Ids => ({ places, place: placeAt(sources, list, index, ...keys) });
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

function orderOf({ steps, sources, list }: Checked): { sorted?: StepDefinition[]; problems: Problem[] } {
  const plain = sortSteps(steps);
  const place = placeAt(sources, list);
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

/** An expression may speak only of steps that are certain to have ended, so that a fold always gives the same. */
function expressionProblems(
  { steps, drafts, sources, list }: Checked,
  before: (id: string) => StepsBefore,
  around: Surroundings,
): Problem[] {
  return drafts.flatMap((draft, index) => {
    const { id, input, when, switch: choice, forEach, repeat, compensate } = draft;
    const undoing = compensate?.input;
    const step = steps[index];
    if (!step || [input, when, choice, forEach, repeat, undoing, wordsIn(step)].every((source) => source === undefined))
      return [];
    const own = before(id);
    const inner = draft.steps?.map((step) => step.id) ?? [];
    const previous = own[Symbol.iterator]().next().done !== true;
    const { once, each, until, undo } = contextsOf(step, { own, previous, around, inner });
    const at = (context: typeof once, ...keys: string[]): TemplateContext => ({
      ...placeAt(sources, list, index, ...keys),
      ...context,
    });
    const problems: Problem[] = [];
    const check = (compile: () => unknown) => problems.push(...problemsOf(compile));
    if (when !== undefined) check(() => compileCondition(when, at(once, "when")));
    if (choice) {
      const known = new Set([...once.steps, id]);
      check(() => checkSwitch(choice.on, at({ ...once, steps: known }, "switch", "on")));
    }
    if (forEach !== undefined) check(() => compileList(forEach, at(once, "forEach")));
    const enough = repeat?.until;
    if (enough !== undefined) check(() => compileCondition(enough, at(until, "repeat", "until")));
    if (input !== undefined) check(() => compileTemplate(input, at(each, "input")));
    check(() => compileWords(step, at(each)));
    if (undoing !== undefined) check(() => compileTemplate(undoing, at(undo, "compensate", "input")));
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
