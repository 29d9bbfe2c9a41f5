/** Makes workflows in TypeScript. */
import type { z } from "zod";
import type { Agent } from "../actors/agent.ts";
import type { JsonSchema } from "../actors/model.ts";
import { joinPath, problemAt } from "../actors/schema-problems.ts";
import { DefinitionError, type Problem } from "../errors.ts";
import type { RetryPolicy, WorkflowDefinition } from "./definition.ts";
import { splitHooks, type WorkflowHooks } from "./hooks.ts";
import { parseWorkflow } from "./parse-definition.ts";
import type { ScheduleTermsOptions } from "./schedule.ts";

/** What every workflow may say; the defaults are those of {@link WorkflowDefinition}. */
type CommonOptions = WorkflowHooks & {
  name: string;
  version?: string | number;
  description?: string;
  /** What the request's input must fit; of a zod schema, as far as JSON Schema can say it. */
  input?: z.ZodType | JsonSchema;
  /** What the run's output must fit; otherwise the run fails with `bad_output`. */
  output?: z.ZodType | JsonSchema;
  timeoutMs?: number;
  /** When it starts by itself, on any of the daemons that have it. The schedule has the workflow's name. */
  schedule?: ScheduleTermsOptions;
};

/** What a step does: it asks an agent, or is a graph of steps itself. */
type StepWork = { agent: Agent | string; steps?: never } | { steps: readonly StepOptions[]; agent?: never };

/** A step of a deterministic workflow. Steps run at once unless `after` says what they wait for. */
export type StepOptions = StepWork & {
  id: string;
  /** The id of a step, or several, that must have ended before. */
  after?: string | readonly string[];
  /** A condition in CEL, without braces; where it is false the step is skipped. */
  when?: string;
  /**
   * When the step runs, once all in `after` have ended: when all have completed, when any has, or always. Otherwise it is
   * skipped.
   *
   * @default "all"
   */
  needs?: "all" | "any" | "always";
  /**
   * What a failure for good leads to: the run fails, it goes on, or it goes on with the step of this id, which is skipped
   * where there is nothing to handle.
   *
   * @default "fail"
   */
  onError?: "fail" | "continue" | (string & {});
  /**
   * Which step comes next, by the value of an expression in CEL, in text: one of `cases`, else `default`. Each of them comes
   * after this one and is skipped where the value is not for it.
   */
  switch?: { on: string; cases: { readonly [value: string]: string }; default?: string };
  /** A template. @default the default input of a chain */
  input?: unknown;
  /** What the output must fit; one that does not is a failed attempt, with `bad_output`. */
  output?: z.ZodType | JsonSchema;
  /** What it does not say is as the workflow's `defaults` have it. */
  retry?: Partial<RetryPolicy>;
  /**
   * What undoes the step when the run fails or is cancelled after it has completed. Its `input` is a template that may speak of
   * all the step's may, and of its `output` and the `error`.
   *
   * @default input a text with the request, the output and the error, each marked
   */
  compensate?: { agent: Agent | string; input?: unknown; retry?: Partial<RetryPolicy>; timeoutMs?: number };
  /** How long one attempt may take, in milliseconds. @default that of the workflow's `defaults`, else the agent's own limit */
  timeoutMs?: number;
  /**
   * A list in CEL: the step is done once for each item, with `item` and `index` in scope, and its output is the list of what
   * they gave, in order. With `onError: "continue"` an item that fails has `{error}` in its place.
   */
  forEach?: string;
  /** How many items are at work at once, at most 500. @default 32 */
  concurrency?: number;
  /**
   * The step is done again until `until`, a condition in CEL, holds, at most `max` times (up to 10,000). `index` and `last`, the
   * output of the iteration before, are in scope; `until` also sees `output` and the steps of the iteration.
   */
  repeat?: { until: string; max: number };
};

export type DeterministicWorkflowOptions = CommonOptions & {
  kind?: "deterministic";
  /** How many tasks of a run are open at once, at most 500. @default 500 */
  concurrency?: number;
  /** What steps have that do not say otherwise. */
  defaults?: { retry?: Partial<RetryPolicy>; timeoutMs?: number };
  /** Steps that run when a run fails, after it was undone what was to be; in their expressions there is `error`. */
  onFailure?: readonly StepOptions[];
} & ({ agents: readonly (Agent | string)[]; steps?: never } | { steps: readonly StepOptions[]; agents?: never });

export type HandoffWorkflowOptions = CommonOptions & {
  kind?: "handoff";
  entry: Agent | string;
  agents: readonly (Agent | string)[];
  maxHandoffs?: number;
  maxVisits?: number;
};

export type WorkflowOptions = DeterministicWorkflowOptions | HandoffWorkflowOptions;

/**
 * Defines a workflow. Agents may be given by name where they are defined elsewhere; a handoff workflow wants the agents
 * themselves, each at least once, for their handoffs.
 *
 * @throws DefinitionError with everything that is wrong with it.
 */
export function defineWorkflow(options: WorkflowOptions): WorkflowDefinition {
  const agents = new Map<string, Agent>();
  const problems: Problem[] = [];
  const path = joinPath("workflows", [String(options?.name)]);
  const { plain, attach } = splitHooks(options);
  const raw = withNames(plain, (agent) => {
    const known = agents.get(agent.name);
    if (known && known !== agent)
      problems.push(problemAt({ path }, `one agent named "${agent.name}"`, "two different ones"));
    agents.set(agent.name, agent);
  });
  const parsed = parseWorkflow(options?.name, raw, { path, agents, open: true });
  if (!parsed.definition) throw new DefinitionError([...problems, ...parsed.problems]);
  if (problems.length > 0) throw new DefinitionError(problems);
  attach(parsed.definition);
  return parsed.definition;
}

/** The options as a file would have them: agents by name, each told to `found`. */
export function withNames(options: unknown, found: (agent: Agent) => void): unknown {
  if (typeof options !== "object" || options === null) return options;
  const named = (value: unknown) => {
    if (!isAgent(value)) return value;
    found(value);
    return value.name;
  };
  const each = (list: unknown, turn: (item: unknown) => unknown) => (Array.isArray(list) ? list.map(turn) : list);
  const raw: Record<string, unknown> = { ...options };
  if ("entry" in raw) raw.entry = named(raw.entry);
  if ("agents" in raw) raw.agents = each(raw.agents, named);
  if ("steps" in raw) raw.steps = each(raw.steps, (step) => namedStep(step, named));
  if ("onFailure" in raw) raw.onFailure = each(raw.onFailure, (step) => namedStep(step, named));
  return raw;
}

function namedStep(step: unknown, named: (value: unknown) => unknown): unknown {
  if (typeof step !== "object" || step === null) return step;
  return {
    ...step,
    ...("agent" in step && { agent: named(step.agent) }),
    ...("steps" in step && Array.isArray(step.steps) && { steps: step.steps.map((inner) => namedStep(inner, named)) }),
    ...("compensate" in step && { compensate: namedStep(step.compensate, named) }),
  };
}

function isAgent(value: unknown): value is Agent {
  return (
    typeof value === "object" && value !== null && "name" in value && "instructions" in value && "handoffs" in value
  );
}
