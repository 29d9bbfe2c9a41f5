/** What a step does: which of its keys says so, what goes with that, and what becomes of both in the definition. */
import { problemsOfSchema } from "../actors/check-agent.ts";
import { oneOf, type Place, placeAt, problemAt, showValue } from "../actors/schema-problems.ts";
import { toJsonSchema } from "../actors/schemas.ts";
import type { Problem } from "../errors.ts";
import type { ApprovalDefinition, StepDefinition, WaitDefinition } from "./definition.ts";
import type { StepDraft } from "./definition-schema.ts";
import { compileTemplate, type Template, type TemplateContext } from "./templates.ts";
import { unknownAgent, unknownTool, type WorkflowSources } from "./workflow-sources.ts";

/** The name under which approvals are decided, and which no other signal can have. */
export const APPROVAL_SIGNAL = "approval";
/** The choice that `onReject` is about. */
export const REJECT = "reject";

/** What a step does, in its final form. */
type StepWork =
  | { kind: "group"; steps: [] }
  | { kind: "agent"; agent: string }
  | { kind: "tool"; tool: string }
  | { kind: "approval"; approval: ApprovalDefinition }
  | { kind: "wait"; wait: WaitDefinition }
  | { kind: "workflow"; workflow: string };

/** What a step does. Of one that is wrong it is anything that can be read on from. The steps of a group come later. */
export function workOf(draft: StepDraft): StepWork {
  const { agent, tool, approval, wait, workflow, steps } = draft;
  if (steps) return { kind: "group", steps: [] };
  if (agent !== undefined) return { kind: "agent", agent };
  if (tool !== undefined) return { kind: "tool", tool };
  if (approval !== undefined) return { kind: "approval", approval: approvalOf(approval) };
  if (wait !== undefined) return { kind: "wait", wait: waitOf(wait) };
  return { kind: "workflow", workflow: workflow ?? "" };
}

/** The texts of an approval or a wait, which are templates; undefined where a step has none. */
export function wordsIn(step: StepDefinition): { key: "approval" | "wait"; words: object } | undefined {
  if (step.kind === "approval") {
    const { title, prompt } = step.approval;
    return { key: "approval", words: prompt === undefined ? { title } : { title, prompt } };
  }
  if (step.kind !== "wait" || step.wait.until === undefined) return undefined;
  return { key: "wait", words: { until: step.wait.until } };
}

/** Compiles the texts of an approval or a wait; `context` is the step's. */
export function compileWords(step: StepDefinition, context: TemplateContext): Template | undefined {
  const found = wordsIn(step);
  return found && compileTemplate(found.words, { ...context, path: `${context.path}.${found.key}` });
}

/** Everything wrong with what one step does; `check-shape.ts` says which keys go together. */
export function problemsOfKind(draft: StepDraft, sources: WorkflowSources, place: Place): Problem[] {
  const { agent, tool, approval, wait } = draft;
  return [
    ...(agent === undefined ? [] : unknownAgent(agent, sources, placeAt(place, "agent"))),
    ...(tool === undefined ? [] : unknownTool(tool, sources, placeAt(place, "tool"))),
    ...problemsOfApproval(approval, placeAt(place, "approval")),
    ...problemsOfWait(wait, placeAt(place, "wait")),
  ];
}

function problemsOfApproval(approval: StepDraft["approval"], place: Place): Problem[] {
  if (!approval) return [];
  const { choices, timeoutMs, onTimeout, onReject } = approval;
  const problems: Problem[] = [];
  if (onTimeout !== "fail" && !choices.includes(onTimeout)) {
    problems.push(problemAt(placeAt(place, "onTimeout"), `"fail" or ${oneOf(choices)}`, showValue(onTimeout)));
  }
  if (onTimeout !== "fail" && timeoutMs === undefined) {
    problems.push(problemAt(placeAt(place, "onTimeout"), "a `timeoutMs` beside it", showValue(onTimeout)));
  }
  if (onReject === "fail" && !choices.includes(REJECT)) {
    problems.push(problemAt(placeAt(place, "onReject"), `the choice "${REJECT}" among ${oneOf(choices)}`, '"fail"'));
  }
  return problems;
}

function problemsOfWait(wait: StepDraft["wait"], place: Place): Problem[] {
  if (!wait) return [];
  const { forMs, until, signal, schema, timeoutMs, onTimeout } = wait;
  const ways = Object.entries({ forMs, until, signal }).flatMap(([way, value]) => (value === undefined ? [] : [way]));
  if (ways.length !== 1) {
    const got = ways.length === 0 ? "none of them" : ways.join(" and ");
    return [problemAt(place, "exactly one of forMs, until, signal", got)];
  }
  const problems: Problem[] = [];
  if (until !== undefined && !until.includes("{{") && !isInstant(until)) {
    const expected = "an ISO 8601 instant such as 2030-01-31T09:00:00Z, or {{ an expression that gives one }}";
    problems.push(problemAt(placeAt(place, "until"), expected, showValue(until)));
  }
  if (signal === APPROVAL_SIGNAL) {
    problems.push(problemAt(placeAt(place, "signal"), "another name, as approvals are decided by it", `"${signal}"`));
  }
  if (signal === undefined) {
    for (const [key, value] of Object.entries({ schema, timeoutMs })) {
      if (value !== undefined) {
        problems.push(problemAt(placeAt(place, key), `no \`${key}\` where no signal is waited for`, showValue(value)));
      }
    }
  }
  if (onTimeout !== "fail" && timeoutMs === undefined) {
    problems.push(problemAt(placeAt(place, "onTimeout"), "a `timeoutMs` beside it", showValue(onTimeout)));
  }
  return [...problems, ...problemsOfSchema(schema, placeAt(place, "schema"))];
}

/** Whether a text is an instant with a time and a zone: anything less depends on where it is read. */
export function isInstant(text: string): boolean {
  return /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)$/.test(text) && !Number.isNaN(Date.parse(text));
}

/** What says no more than the default is left out, so that it makes no other hash. */
function approvalOf({ onTimeout, onReject, ...rest }: NonNullable<StepDraft["approval"]>): ApprovalDefinition {
  return {
    ...withoutUndefined(rest),
    ...(onTimeout === "fail" ? {} : { onTimeout }),
    ...(onReject === "fail" && { onReject }),
  } as ApprovalDefinition;
}

function waitOf({
  forMs,
  until,
  signal,
  schema,
  timeoutMs,
  onTimeout,
}: NonNullable<StepDraft["wait"]>): WaitDefinition {
  if (forMs !== undefined) return { forMs };
  if (until !== undefined) return { until };
  return {
    signal: signal ?? "",
    ...(schema !== undefined && { schema: readable(schema) }),
    ...(timeoutMs !== undefined && { timeoutMs }),
    ...(onTimeout === "continue" && { onTimeout }),
  };
}

/** A schema that cannot be one is told elsewhere. A sender may say more than a workflow reads, so it stays open. */
function readable(schema: Parameters<typeof toJsonSchema>[0]): { [key: string]: unknown } {
  try {
    return toJsonSchema(schema, { closed: false });
  } catch {
    return {};
  }
}

function withoutUndefined(object: object): object {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));
}
