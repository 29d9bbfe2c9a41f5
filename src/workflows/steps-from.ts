/** From steps as they are written to steps in a possible order, group by group, with everything that is wrong in any of them. */
import { type Place, placeAt, problemAt } from "../actors/schema-problems.ts";
import type { Problem } from "../errors.ts";
import { checkShape } from "./check-shape.ts";
import { checkSteps } from "./check-steps.ts";
import type { StepDefinition } from "./definition.ts";
import type { StepDraft } from "./definition-schema.ts";
import { expandSwitches } from "./expand-switches.ts";
import { insideOf, NOTHING_AROUND, type Surroundings } from "./step-surroundings.ts";
import type { WorkflowSources } from "./workflow-sources.ts";

/** What a group knows of where it stands. */
type Group = {
  around: Surroundings;
  /** The ids of the steps around it, and of the groups it is in, which none of its steps may have. */
  taken: ReadonlySet<string>;
};

/** The steps of a workflow are in no group. */
export const NO_GROUP: Group = { around: NOTHING_AROUND, taken: new Set() };

// A path of that many ids still fits into a subject, and nobody reads deeper.
const DEEPEST = 8;

/** Makes steps of drafts; `sources` says where these stand. */
export function stepsFrom(
  drafts: readonly StepDraft[],
  sources: WorkflowSources & Place,
  { around, taken }: Group,
): { sorted: StepDefinition[]; problems: Problem[] } {
  const shapes = drafts.flatMap((draft, index) => checkShape(draft, placeAt(sources, "steps", index)));
  const hidden = drafts.flatMap(({ id }, index) => {
    if (!taken.has(id)) return [];
    const place = placeAt(sources, "steps", index, "id");
    return [problemAt(place, "an id no step around the group has", JSON.stringify(id))];
  });
  const expanded = expandSwitches(drafts.map(toStep), drafts, placeAt(sources, "steps"));
  const { sorted, problems, before } = checkSteps(expanded.steps, drafts, sources, around);
  const ids = new Set([...taken, ...drafts.map(({ id }) => id)]);
  const bodies = new Map<string, StepDefinition[]>();
  const inner = drafts.flatMap((draft, index) => {
    if (!draft.steps) return [];
    const place = placeAt(sources, "steps", index);
    if (around.before.length >= DEEPEST) return [problemAt(place, `at most ${DEEPEST} groups in each other`, "more")];
    const within = { around: insideOf(toStep(draft), before(draft.id), around), taken: ids };
    const made = stepsFrom(draft.steps, { ...sources, ...place }, within);
    bodies.set(draft.id, made.sorted);
    return made.problems;
  });
  return {
    sorted: sorted.map((step) => (step.kind === "group" ? { ...step, steps: bodies.get(step.id) ?? [] } : step)),
    problems: [...hidden, ...shapes, ...expanded.problems, ...problems, ...inner],
  };
}

function repeated({ until = "", max = 1 }: NonNullable<StepDraft["repeat"]>): { until: string; max: number } {
  return { until, max };
}

/** What says no more than the default is left out, so that it makes no other hash. The steps of a group come later. */
function toStep(draft: StepDraft): StepDefinition {
  const { id, agent = "", steps, after = [], when, needs, onError, input, retry, timeoutMs } = draft;
  const { forEach, concurrency, repeat } = draft;
  return {
    ...(steps ? { kind: "group", steps: [] } : { kind: "agent", agent }),
    id,
    after: typeof after === "string" ? [after] : [...new Set(after)],
    ...(when === undefined ? {} : { when }),
    ...(needs === "all" ? {} : { needs }),
    ...(onError === "fail" ? {} : { onError }),
    ...(input === undefined ? {} : { input }),
    retry,
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(forEach === undefined ? {} : { forEach }),
    ...(concurrency === undefined ? {} : { concurrency }),
    ...(repeat === undefined ? {} : { repeat: repeated(repeat) }),
  };
}
