/** From steps as they are written to steps in a possible order, group by group, with everything that is wrong in any of them. */
import { type Place, placeAt, problemAt } from "../actors/schema-problems.ts";
import type { Problem } from "../errors.ts";
import { checkShape } from "./check-shape.ts";
import { workOf } from "./check-step-kinds.ts";
import { checkSteps, type StepList } from "./check-steps.ts";
import type { StepDefinition } from "./definition.ts";
import type { DefaultsDraft, StepDraft } from "./definition-schema.ts";
import { expandSwitches } from "./expand-switches.ts";
import { policiesOf } from "./step-policies.ts";
import { FAILURE_AROUND, insideOf, NOTHING_AROUND, type Surroundings } from "./step-surroundings.ts";
import type { WorkflowSources } from "./workflow-sources.ts";

/** What a group knows of where it stands. */
type Group = {
  /** The key it stands at. */
  list: StepList;
  defaults?: DefaultsDraft | undefined;
  around: Surroundings;
  /** The ids of the steps around it, and of the groups it is in, which none of its steps may have. */
  taken: ReadonlySet<string>;
};

/** The steps of a workflow are in no group. */
export const NO_GROUP: Group = { list: "steps", around: NOTHING_AROUND, taken: new Set() };

/** Neither are those that run because the run failed. */
export const LATE_GROUP: Group = { list: "onFailure", around: FAILURE_AROUND, taken: new Set() };

// A path of that many ids still fits into a subject, and nobody reads deeper.
const DEEPEST = 8;

/** Makes steps of drafts; `sources` says where these stand. */
export function stepsFrom(
  drafts: readonly StepDraft[],
  sources: WorkflowSources & Place,
  { list, defaults, around, taken }: Group,
): { sorted: StepDefinition[]; problems: Problem[] } {
  const shapes = drafts.flatMap((draft, index) => checkShape(draft, placeAt(sources, list, index)));
  const made = drafts.map((draft, index) => toStep(draft, defaults, placeAt(sources, list, index)));
  const hidden = drafts.flatMap(({ id }, index) => {
    if (!taken.has(id)) return [];
    const place = placeAt(sources, list, index, "id");
    return [problemAt(place, "an id no step around the group has", JSON.stringify(id))];
  });
  const expanded = expandSwitches(
    made.map(({ step }) => step),
    drafts,
    placeAt(sources, list),
  );
  const { sorted, problems, before } = checkSteps(expanded.steps, drafts, sources, { list, around });
  const ids = new Set([...taken, ...drafts.map(({ id }) => id)]);
  const bodies = new Map<string, StepDefinition[]>();
  const inner = drafts.flatMap((draft, index) => {
    if (!draft.steps) return [];
    const place = placeAt(sources, list, index);
    if (around.before.length >= DEEPEST) return [problemAt(place, `at most ${DEEPEST} groups in each other`, "more")];
    const inside = insideOf(made[index]?.step ?? {}, before(draft.id), around);
    const within: Group = { list: "steps", defaults, around: inside, taken: ids };
    const body = stepsFrom(draft.steps, { ...sources, ...place }, within);
    bodies.set(draft.id, body.sorted);
    return body.problems;
  });
  return {
    sorted: sorted.map((step) => (step.kind === "group" ? { ...step, steps: bodies.get(step.id) ?? [] } : step)),
    problems: [
      ...hidden,
      ...shapes,
      ...made.flatMap((each) => each.problems),
      ...expanded.problems,
      ...problems,
      ...inner,
    ],
  };
}

function repeated({ until = "", max = 1 }: NonNullable<StepDraft["repeat"]>): { until: string; max: number } {
  return { until, max };
}

/** A group is no task: what is tried again, or undone, are the tasks in it. What waits is tried once, for as long as it takes. */
function policiesFor(draft: StepDraft, defaults: DefaultsDraft | undefined, place: Place) {
  if (draft.steps) return policiesOf({ timeoutMs: draft.timeoutMs }, undefined, place);
  if (!draft.approval && !draft.wait) return policiesOf(draft, defaults, place);
  const { output, compensate } = draft;
  return policiesOf({ output, compensate }, undefined, place, defaults);
}

/** What says no more than the default is left out, so that it makes no other hash. The steps of a group come later. */
function toStep(
  draft: StepDraft,
  defaults: DefaultsDraft | undefined,
  place: Place,
): { step: StepDefinition; problems: Problem[] } {
  const { id, after = [], when, needs, onError, input, forEach, concurrency, repeat } = draft;
  const { parts, problems } = policiesFor(draft, defaults, place);
  const { compensate, ...policies } = parts;
  const work = workOf(draft);
  const step: StepDefinition = {
    ...(work.kind === "group" ? work : { ...work, ...(compensate && { compensate }) }),
    id,
    after: typeof after === "string" ? [after] : [...new Set(after)],
    ...(when === undefined ? {} : { when }),
    ...(needs === "all" ? {} : { needs }),
    ...(onError === "fail" ? {} : { onError }),
    ...(input === undefined ? {} : { input }),
    ...policies,
    ...(forEach === undefined ? {} : { forEach }),
    ...(concurrency === undefined ? {} : { concurrency }),
    ...(repeat === undefined ? {} : { repeat: repeated(repeat) }),
  };
  return { step, problems };
}
