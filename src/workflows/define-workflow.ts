/** Makes workflows in TypeScript. */
import type { z } from "zod";
import type { Agent } from "../actors/agent.ts";
import { isTool } from "../actors/define-tool.ts";
import type { JsonSchema } from "../actors/model.ts";
import { joinPath, problemAt } from "../actors/schema-problems.ts";
import type { Tool } from "../actors/tool.ts";
import { DefinitionError, type Problem } from "../errors.ts";
import type { RetryPolicy, WorkflowDefinition } from "./definition.ts";
import { parseWorkflow } from "./parse-definition.ts";

/** What every workflow may say; the defaults are those of {@link WorkflowDefinition}. */
type CommonOptions = {
  name: string;
  version?: string | number;
  description?: string;
  /** What the request's input must fit; of a zod schema, as far as JSON Schema can say it. */
  input?: z.ZodType | JsonSchema;
  timeoutMs?: number;
};

/** A step of a deterministic workflow. Steps run at once unless `after` says what they wait for. */
export type StepOptions = StepCommonOptions & StepWorkOptions;

/** What a step does: one of these. */
type StepWorkOptions =
  | { agent: Agent | string; tool?: never; approval?: never; wait?: never; workflow?: never }
  /** Runs a tool without a model; `input` is its arguments. */
  | { tool: Tool | string; agent?: never; approval?: never; wait?: never; workflow?: never }
  /** Asks a person; the output is `{choice, by, comment, at}`. */
  | { approval: ApprovalOptions; agent?: never; tool?: never; wait?: never; workflow?: never }
  /** Waits; the output is the signal's payload, else `null`. */
  | { wait: WaitOptions; agent?: never; tool?: never; approval?: never; workflow?: never }
  /** Starts a run of another workflow and waits for its end; the output is that run's. */
  | { workflow: string; agent?: never; tool?: never; approval?: never; wait?: never };

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
  /** Not for approvals and waits. */
  retry?: Partial<RetryPolicy>;
  /** How long one attempt may take, in milliseconds. Not for approvals and waits. */
  timeoutMs?: number;
};

export type DeterministicWorkflowOptions = CommonOptions & { kind?: "deterministic" } & (
    | { agents: readonly (Agent | string)[]; steps?: never }
    | { steps: readonly StepOptions[]; agents?: never }
  );

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
  const raw = withNames(options, (agent) => {
    const known = agents.get(agent.name);
    if (known && known !== agent)
      problems.push(problemAt({ path }, `one agent named "${agent.name}"`, "two different ones"));
    agents.set(agent.name, agent);
  });
  const parsed = parseWorkflow(options?.name, raw, { path, agents, open: true });
  if (!parsed.definition) throw new DefinitionError([...problems, ...parsed.problems]);
  if (problems.length > 0) throw new DefinitionError(problems);
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
  return raw;
}

function namedStep(step: unknown, named: (value: unknown) => unknown): unknown {
  if (typeof step !== "object" || step === null) return step;
  if ("agent" in step) return { ...step, agent: named(step.agent) };
  return "tool" in step ? { ...step, tool: isTool(step.tool) ? step.tool.name : step.tool } : step;
}

function isAgent(value: unknown): value is Agent {
  return (
    typeof value === "object" && value !== null && "name" in value && "instructions" in value && "handoffs" in value
  );
}
