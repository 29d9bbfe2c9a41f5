/** Deterministic workflows: from either of their forms to steps in a possible order. */

import type { Read } from "../actors/read-by-schema.ts";
import { type Place, placeAt, problemAt } from "../actors/schema-problems.ts";
import type { Problem } from "../errors.ts";
import type { StepDefinition, WorkflowDefinition } from "./definition.ts";
import { hashDefinition } from "./definition-hash.ts";
import type { DefaultsDraft, DeterministicDraft } from "./definition-schema.ts";
import { policiesOf } from "./step-policies.ts";
import { LATE_GROUP, NO_GROUP, stepsFrom } from "./steps-from.ts";
import { type CommonParts, unknownAgent, type WorkflowSources } from "./workflow-sources.ts";

/** Makes the definition of a deterministic workflow, or says what is wrong with it. */
export function finishDeterministic(
  draft: DeterministicDraft,
  common: CommonParts,
  sources: WorkflowSources & Place,
): Read<WorkflowDefinition> {
  const { agents, steps, concurrency, defaults, onFailure } = draft;
  if ((agents === undefined) === (steps === undefined)) {
    const got = agents === undefined ? "neither" : "both";
    return { problems: [problemAt(placeAt(sources), "either `agents`, one after the other, or `steps`", got)] };
  }
  const { sorted, problems } = steps
    ? stepsFrom(steps, sources, { ...NO_GROUP, defaults })
    : fromAgents(agents ?? [], defaults, sources);
  const late = onFailure && stepsFrom(onFailure, sources, { ...LATE_GROUP, defaults });
  const all = [...problems, ...(late?.problems ?? [])];
  if (all.length > 0) return { problems: all };
  const definition = {
    ...common,
    kind: "deterministic" as const,
    steps: sorted,
    ...(concurrency !== undefined && { concurrency }),
    ...(late && { onFailure: late.sorted }),
  };
  return { value: { ...definition, hash: hashDefinition(definition) }, problems: [] };
}

type Steps = { sorted: StepDefinition[]; problems: Problem[] };

/** The short form: each agent after the one before. An agent that comes again gets a number: `writer`, `writer-2`. */
function fromAgents(
  agents: readonly string[],
  defaults: DefaultsDraft | undefined,
  sources: WorkflowSources & Place,
): Steps {
  const { parts, problems: wrongDefaults } = policiesOf({}, defaults, placeAt(sources, "defaults"));
  const unknown = agents.flatMap((agent, index) => unknownAgent(agent, sources, placeAt(sources, "agents", index)));
  const ids = numberedIds(agents);
  const sorted = agents.map((agent, index) => {
    const after = index === 0 ? [] : ids.slice(index - 1, index);
    return { kind: "agent" as const, id: ids[index] ?? agent, agent, after, ...parts };
  });
  return { sorted, problems: [...wrongDefaults, ...unknown] };
}

/** The agents' names, numbered where they come again: `writer`, `writer-2`. A number never makes the name of another agent. */
export function numberedIds(agents: readonly string[]): string[] {
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
