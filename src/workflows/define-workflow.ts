/** Makes workflows in TypeScript. */
import type { z } from "zod";
import type { Agent } from "../actors/agent.ts";
import { isTool } from "../actors/define-tool.ts";
import type { JsonSchema } from "../actors/model.ts";
import { joinPath, problemAt } from "../actors/schema-problems.ts";
import type { Tool } from "../actors/tool.ts";
import { DefinitionError, type Problem } from "../errors.ts";
import type { RetryPolicy, WorkflowDefinition } from "./definition.ts";
import type { STEP_KEYS } from "./definition-schema.ts";
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

/** A step of a deterministic workflow. Steps run at once unless `after` says what they wait for. */
export type StepOptions = StepCommonOptions & StepWorkOptions;

/** What a step does: one of these. */
type StepWorkOptions =
  | OneOf<"agent", { agent: Agent | string }>
  /** Runs a tool without a model; `input` is its arguments. */
  | OneOf<"tool", { tool: Tool | string }>
  /** Asks a person; the output is `{choice, by, comment, at}`. */
  | OneOf<"approval", { approval: ApprovalOptions }>
  /** Waits; the output is the signal's payload, else `null`. */
  | OneOf<"wait", { wait: WaitOptions }>
  /** Starts a run of another workflow and waits for its end; the output is that run's. */
  | OneOf<"workflow", { workflow: string }>
  /** A graph of steps; the output is that of its last one, of several what each gave by its id. */
  | OneOf<"steps", { steps: readonly StepOptions[] }>;

type OneOf<Key extends (typeof STEP_KEYS)[number], Work> = Work & {
  [Other in Exclude<(typeof STEP_KEYS)[number], Key>]?: never;
};

export type ApprovalOptions = {
  /** A template: what is to be decided, in a line. */
  title: string;
  /** A template: all there is to know about it. */
  prompt?: string;
  /** @default ["approve", "reject"] */
  choices?: readonly string[];
  /** Who may decide, by the names they give. @default anybody */
  assignees?: readonly string[];
  /** How long there is to decide, in milliseconds. @default for ever */
  timeoutMs?: number;
  /** What follows then: the step fails, or one of `choices` counts. @default "fail" */
  onTimeout?: "fail" | (string & {});
  /** Whether the choice `reject` fails the step, or is its output as any other. @default "continue" */
  onReject?: "fail" | "continue";
};

/** One of `forMs`, `until` and `signal`. */
export type WaitOptions =
  /** How long, in milliseconds. */
  | { forMs: number; until?: never; signal?: never }
  /** An ISO 8601 instant, or a template that gives one. */
  | { until: string; forMs?: never; signal?: never }
  | {
      /** The name of a signal; one that came before the step began counts as well. */
      signal: string;
      /** What its payload must fit; of a zod schema, as far as JSON Schema can say it. */
      schema?: z.ZodType | JsonSchema;
      /** How long, in milliseconds. @default for ever */
      timeoutMs?: number;
      /** What follows then: the step fails, or ends with `null`. @default "fail" */
      onTimeout?: "fail" | "continue";
      forMs?: never;
      until?: never;
    };

type StepCommonOptions = {
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
  /** A template. @default the default input of a chain; approvals and waits have none */
  input?: unknown;
  /** What the output must fit; one that does not is a failed attempt, with `bad_output`. */
  output?: z.ZodType | JsonSchema;
  /** What it does not say is as the workflow's `defaults` have it. Not for approvals, waits and groups. */
  retry?: Partial<RetryPolicy>;
  /**
   * What undoes the step when the run fails or is cancelled after it has completed. Its `input` is a template that may speak of
   * all the step's may, and of its `output` and the `error`.
   *
   * @default input for an agent a text with the request, the output and the error, each marked; for a tool the output
   */
  compensate?: ({ agent: Agent | string; tool?: never } | { tool: Tool | string; agent?: never }) & {
    input?: unknown;
    retry?: Partial<RetryPolicy>;
    timeoutMs?: number;
  };
  /**
   * How long one attempt may take, in milliseconds. Not for approvals, waits and groups.
   *
   * @default that of the workflow's `defaults`, else the limit of whoever does it
   */
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
    ...("tool" in step && { tool: isTool(step.tool) ? step.tool.name : step.tool }),
    ...("steps" in step && Array.isArray(step.steps) && { steps: step.steps.map((inner) => namedStep(inner, named)) }),
    ...("compensate" in step && { compensate: namedStep(step.compensate, named) }),
  };
}

function isAgent(value: unknown): value is Agent {
  return (
    typeof value === "object" && value !== null && "name" in value && "instructions" in value && "handoffs" in value
  );
}
