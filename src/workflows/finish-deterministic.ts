/** Deterministic workflows: from either of their forms to steps in a possible order. */

import type { Read } from "../actors/read-by-schema.ts";
import { type Place, placeAt, problemAt, showValue } from "../actors/schema-problems.ts";
import { DefinitionError, type Problem } from "../errors.ts";
import type { StepDefinition, WorkflowDefinition } from "./definition.ts";
import { hashDefinition } from "./definition-hash.ts";
import { DEFAULT_RETRY, type DeterministicDraft, type StepDraft } from "./definition-schema.ts";
import { sortSteps, stepsBefore } from "./step-order.ts";
import { compileTemplate } from "./templates.ts";
import { type CommonParts, unknownAgent, type WorkflowSources } from "./workflow-sources.ts";

/** Makes the definition of a deterministic workflow, or says what is wrong with it. */
export function finishDeterministic(
  draft: DeterministicDraft,
  common: CommonParts,
  sources: WorkflowSources & Place,
): Read<WorkflowDefinition> {
  const { agents, steps } = draft;
  if ((agents === undefined) === (steps === undefined)) {
    const got = agents === undefined ? "neither" : "both";
    return { problems: [problemAt(placeAt(sources), "either `agents`, one after the other, or `steps`", got)] };
  }
  const { sorted, problems } = steps ? fromSteps(steps, sources) : fromAgents(agents ?? [], sources);
  if (problems.length > 0) return { problems };
  const definition = { ...common, kind: "deterministic" as const, steps: sorted };
  return { value: { ...definition, hash: hashDefinition(definition) }, problems: [] };
}

type Steps = { sorted: StepDefinition[]; problems: Problem[] };

/** The short form: each agent after the one before. An agent that comes again gets a number: `writer`, `writer-2`. */
function fromAgents(agents: readonly string[], sources: WorkflowSources & Place): Steps {
  const problems = agents.flatMap((agent, index) => unknownAgent(agent, sources, placeAt(sources, "agents", index)));
  const ids = uniqueIds(agents);
  const sorted = agents.map((agent, index) => {
    const after = index === 0 ? [] : ids.slice(index - 1, index);
    return { id: ids[index] ?? agent, agent, after, retry: DEFAULT_RETRY };
  });
  return { sorted, problems };
}

/** The agents' names, numbered where they come again: `writer`, `writer-2`. A number never makes the name of another agent. */
function uniqueIds(agents: readonly string[]): string[] {
  const names = new Set(agents);
  const taken = new Set<string>();
  const numbers = new Map<string, number>();
  return agents.map((agent) => {
    let id = agent;
    let n = numbers.get(agent) ?? 2;
    while (taken.has(id) || (id !== agent && names.has(id))) {
      id = `${agent}-${n}`;
      n += 1;
    }
    numbers.set(agent, n);
    taken.add(id);
    return id;
  });
}

function fromSteps(drafts: readonly StepDraft[], sources: WorkflowSources & Place): Steps {
  const steps = drafts.map(toStep);
  const places = Map.groupBy(steps.keys(), (index) => steps[index]?.id ?? "");
  const problems = steps.flatMap((step, index) => [
    ...unknownAgent(step.agent, sources, placeAt(sources, "steps", index, "agent")),
    ...repeatedId(step.id, index, { places, place: placeAt(sources, "steps", index, "id") }),
    ...unknownSteps(drafts[index]?.after ?? [], index, { places, place: placeAt(sources, "steps", index, "after") }),
  ]);
  if (problems.length > 0) return { sorted: steps, problems };
  const order = sortSteps(steps);
  if ("cycle" in order) {
    return {
      sorted: steps,
      problems: [problemAt(placeAt(sources, "steps"), "steps without a circle", order.cycle.join(" → "))],
    };
  }
  return { sorted: order.sorted, problems: templateProblems(order.sorted, steps, sources) };
}

function toStep({ id, agent, after = [], input, retry, timeoutMs }: StepDraft): StepDefinition {
  return {
    id,
    agent,
    after: typeof after === "string" ? [after] : [...new Set(after)],
    ...(input === undefined ? {} : { input }),
    retry,
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
  };
}

/** Where in the file each id stands, and where what is looked at does. */
type Ids = { places: ReadonlyMap<string, readonly number[]>; place: Place };

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

/** A template may speak only of steps that are certain to have completed, so that a fold always gives the same. */
function templateProblems(
  sorted: readonly StepDefinition[],
  written: readonly StepDefinition[],
  sources: Place,
): Problem[] {
  const before = stepsBefore(sorted);
  return written.flatMap((step, index) => {
    if (step.input === undefined) return [];
    try {
      compileTemplate(step.input, { ...placeAt(sources, "steps", index, "input"), steps: before(step.id) });
      return [];
    } catch (error) {
      if (error instanceof DefinitionError) return [...error.problems];
      throw error;
    }
  });
}
