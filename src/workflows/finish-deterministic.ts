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
  const ids: string[] = [];
  for (const agent of agents)
    ids.push(uniqueId(agent, new Set([...ids, ...agents.filter((other) => other !== agent)])));
  const sorted = agents.map((agent, index) => {
    const after = index === 0 ? [] : ids.slice(index - 1, index);
    return { id: ids[index] ?? agent, agent, after, retry: DEFAULT_RETRY };
  });
  return { sorted, problems };
}

function uniqueId(agent: string, taken: ReadonlySet<string>): string {
  if (!taken.has(agent)) return agent;
  let n = 2;
  while (taken.has(`${agent}-${n}`)) n++;
  return `${agent}-${n}`;
}

function fromSteps(drafts: readonly StepDraft[], sources: WorkflowSources & Place): Steps {
  const steps = drafts.map(toStep);
  const problems = steps.flatMap((step, index) => [
    ...unknownAgent(step.agent, sources, placeAt(sources, "steps", index, "agent")),
    ...repeatedId(steps, index, placeAt(sources, "steps", index, "id")),
    ...unknownSteps(steps, drafts, index, placeAt(sources, "steps", index, "after")),
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

function repeatedId(steps: readonly StepDefinition[], index: number, place: Place): Problem[] {
  const id = steps[index]?.id;
  const first = steps.findIndex((step) => step.id === id);
  return first === index ? [] : [problemAt(place, "an id no other step has", showValue(id))];
}

function unknownSteps(
  steps: readonly StepDefinition[],
  drafts: readonly StepDraft[],
  index: number,
  place: Place,
): Problem[] {
  const others = steps.filter((_, other) => other !== index).map(({ id }) => id);
  const written = drafts[index]?.after ?? [];
  const expected =
    others.length === 0 ? "nothing, for there is no other step" : `the id of another step (${others.join(", ")})`;
  if (typeof written === "string") {
    return others.includes(written) ? [] : [problemAt(place, expected, showValue(written))];
  }
  return written.flatMap((id, at) =>
    others.includes(id) ? [] : [problemAt(placeAt(place, at), expected, showValue(id))],
  );
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
      compileTemplate(step.input, { ...placeAt(sources, "steps", index, "input"), steps: before.get(step.id) ?? [] });
      return [];
    } catch (error) {
      if (error instanceof DefinitionError) return [...error.problems];
      throw error;
    }
  });
}
