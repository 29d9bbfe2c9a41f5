/** `switch`: one expression that routes to many steps, turned into an `after` and a `when` of each of them. */
import { type Place, placeAt, problemAt, showValue } from "../actors/schema-problems.ts";
import type { Problem } from "../errors.ts";
import type { StepDefinition } from "./definition.ts";
import type { StepDraft } from "./definition-schema.ts";

/** What reads well without brackets around it: conditions are shown where steps are skipped. */
const PATH = /^[\w.]+$/;

/** From where a switch leads to a step, and on what condition. */
type Route = { from: string; when: string };

/**
 * Gives every step a switch leads to what that means. Steps that do not exist are told elsewhere. `place` is that of the
 * steps; `steps` are the drafts' in the same order.
 */
export function expandSwitches(
  steps: readonly StepDefinition[],
  drafts: readonly StepDraft[],
  place: Place,
): { steps: StepDefinition[]; problems: Problem[] } {
  const problems: Problem[] = [];
  const routes = new Map<string, Route>();
  drafts.forEach(({ id: from, switch: choice }, index) => {
    if (!choice) return;
    for (const target of new Set(targetsOf(choice))) {
      const other = routes.get(target);
      if (other) {
        const expected = "steps no other switch leads to";
        const got = `${showValue(target)}, to which that of ${other.from} leads`;
        problems.push(problemAt(placeAt(place, index, "switch"), expected, got));
      } else routes.set(target, { from, when: conditionFor(target, choice) });
    }
  });
  return { steps: steps.map((step) => routed(step, routes.get(step.id))), problems };
}

type Switch = NonNullable<StepDraft["switch"]>;

function targetsOf({ cases, default: other }: Switch): string[] {
  return [...Object.values(cases), ...(other === undefined ? [] : [other])];
}

function conditionFor(target: string, { on, cases, default: other }: Switch): string {
  const value = PATH.test(on) ? on : `(${on})`;
  const own = Object.keys(cases).filter((text) => cases[text] === target);
  const parts = own.length === 0 ? [] : [isOneOf(value, own)];
  if (other === target) parts.push(`!(${isOneOf(value, Object.keys(cases))})`);
  return parts.join(" || ");
}

/** Texts are written in CEL as in JSON. */
function isOneOf(value: string, texts: readonly string[]): string {
  const quoted = texts.map((text) => JSON.stringify(text));
  return quoted.length === 1 ? `${value} == ${quoted[0]}` : `${value} in [${quoted.join(", ")}]`;
}

function routed(step: StepDefinition, route: Route | undefined): StepDefinition {
  if (!route) return step;
  const { after, when } = step;
  return {
    ...step,
    after: after.includes(route.from) ? after : [...after, route.from],
    when: when === undefined ? route.when : `(${route.when}) && (${when})`,
  };
}
