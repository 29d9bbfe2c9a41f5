/** The agents a deterministic workflow asks, wherever in it they stand. */
import type { DeterministicDefinition, StepDefinition } from "./definition.ts";

type Named = { agent: string; at: (string | number)[] };

/** Every agent with the keys that lead to it from the workflow, as in `steps`, `2`, `steps`, `0`, `agent`. */
export function agentsIn({ steps, onFailure = [] }: Pick<DeterministicDefinition, "steps" | "onFailure">): Named[] {
  return [...namedIn(steps, "steps"), ...namedIn(onFailure, "onFailure")];
}

function namedIn(steps: readonly StepDefinition[], list: string): Named[] {
  return steps.flatMap((step, index) => {
    if (step.kind === "group") {
      return namedIn(step.steps, "steps").map(({ agent, at }) => ({ agent, at: [list, index, ...at] }));
    }
    const { agent, compensate } = step;
    const undoing = compensate && { agent: compensate.agent, at: [list, index, "compensate", "agent"] };
    return [{ agent, at: [list, index, "agent"] }, ...(undoing ? [undoing] : [])];
  });
}
