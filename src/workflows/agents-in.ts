/** The agents a deterministic workflow asks, and the tools it runs without one, wherever in it they stand. */
import type { DeterministicDefinition, StepDefinition } from "./definition.ts";
import { undoerOf } from "./step-workers.ts";

/** Someone with the keys that lead there from the workflow, as in `steps`, `2`, `steps`, `0`, `agent`. */
type Named = { key: "agent" | "tool"; name: string; at: (string | number)[] };

type Steps = Pick<DeterministicDefinition, "steps" | "onFailure">;

/** Every agent that is asked, and where. */
export function agentsIn(workflow: Steps): { agent: string; at: Named["at"] }[] {
  return workersIn(workflow).flatMap(({ key, name, at }) => (key === "agent" ? [{ agent: name, at }] : []));
}

/** Every tool that is run by a step, or to undo one, and where. */
export function toolsIn(workflow: Steps): { tool: string; at: Named["at"] }[] {
  return workersIn(workflow).flatMap(({ key, name, at }) => (key === "tool" ? [{ tool: name, at }] : []));
}

function workersIn({ steps, onFailure = [] }: Steps): Named[] {
  return [...namedIn(steps, "steps"), ...namedIn(onFailure, "onFailure")];
}

function namedIn(steps: readonly StepDefinition[], list: string): Named[] {
  return steps.flatMap((step, index) => {
    const inner = step.kind === "group" ? namedIn(step.steps, "steps") : [...doneBy(step), ...undoneBy(step)];
    return inner.map((named) => ({ ...named, at: [list, index, ...named.at] }));
  });
}

function doneBy(step: StepDefinition): Named[] {
  if (step.kind === "agent") return [{ key: "agent", name: step.agent, at: ["agent"] }];
  return step.kind === "tool" ? [{ key: "tool", name: step.tool, at: ["tool"] }] : [];
}

function undoneBy({ compensate }: StepDefinition): Named[] {
  if (!compensate) return [];
  const { agent, kind: key = "agent" } = undoerOf(compensate);
  return [{ key, name: agent, at: ["compensate", key] }];
}
