/** What a step says about failure and about its output: its own words, and the workflow's where it says nothing. */
import { problemsOfSchema } from "../actors/check-agent.ts";
import { type Place, placeAt } from "../actors/schema-problems.ts";
import { toJsonSchema } from "../actors/schemas.ts";
import type { Problem } from "../errors.ts";
import type { CompensationDefinition, StepDefinition } from "./definition.ts";
import type { DefaultsDraft, StepDraft } from "./definition-schema.ts";
import { retryPolicyOf } from "./retry-policy.ts";

type Policies = Pick<StepDefinition, "output" | "retry" | "timeoutMs"> & { compensate?: CompensationDefinition };
type PolicyDraft = Partial<Pick<StepDraft, keyof Policies>>;

/** The policies of a step that stands at `place`, in their final form; `undoing` are the defaults of what undoes it. */
export function policiesOf(
  { output, retry: ownRetry, timeoutMs: ownTimeoutMs, compensate }: PolicyDraft,
  defaults: DefaultsDraft | undefined,
  place: Place,
  undoing = defaults,
): { parts: Policies; problems: Problem[] } {
  const { retry, problems: retryProblems } = retryPolicyOf(ownRetry, defaults?.retry, placeAt(place, "retry"));
  const schemaProblems = problemsOfSchema(output, placeAt(place, "output"));
  const timeoutMs = ownTimeoutMs ?? defaults?.timeoutMs;
  const undo = compensate && policiesOf(policiesIn(compensate), undoing, placeAt(place, "compensate"));
  const parts = {
    // As for a workflow's input, what is not spoken of may be there.
    ...(output === undefined || schemaProblems.length > 0 ? {} : { output: toJsonSchema(output, { closed: false }) }),
    retry,
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(compensate && undo ? { compensate: { ...saidBy(compensate), ...undo.parts } } : {}),
  };
  return { parts, problems: [...retryProblems, ...schemaProblems, ...(undo?.problems ?? [])] };
}

type CompensationDraft = NonNullable<StepDraft["compensate"]>;

function policiesIn({ retry, timeoutMs }: CompensationDraft): PolicyDraft {
  return { retry, timeoutMs };
}

function saidBy({ agent = "", tool, input }: CompensationDraft) {
  return { ...(tool === undefined ? { agent } : { tool }), ...(input === undefined ? {} : { input }) };
}
