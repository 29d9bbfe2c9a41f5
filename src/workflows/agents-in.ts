/** The agents a deterministic workflow asks, wherever in it they stand. */
import type { StepDefinition } from "./definition.ts";

/** Every agent with the keys that lead to it from the workflow, as in `steps`, `2`, `steps`, `0`, `agent`. */
export function agentsIn(steps: readonly StepDefinition[]): { agent: string; at: (string | number)[] }[] {
  return steps.flatMap((step, index) => {
    if (step.kind === "agent") return [{ agent: step.agent, at: ["steps", index, "agent"] }];
    return agentsIn(step.steps).map(({ agent, at }) => ({ agent, at: ["steps", index, ...at] }));
  });
}
