/** What a workflow is once it is checked: plain data, the same whichever of YAML, JSON or TypeScript it was written in. */
import type { HandoffOption } from "../actors/task.ts";
import type { ScheduleTerms } from "./schedule.ts";

/** As many tasks as can be begun in one entry of a journal, far below what a broker takes in one message. */
export const MOST_OPEN_TASKS = 500;

/** How many items of a `forEach` are at work at once where nothing else is said. */
export const DEFAULT_ITEMS_AT_ONCE = 32;

/** How failed attempts at a step are repeated. */
export type RetryPolicy = {
  /** Attempts in all, the first included. @default 1 */
  maxAttempts: number;
  /** @default "exponential" */
  backoff: "exponential" | "fixed";
  /** The first delay, in milliseconds. @default 500 */
  delayMs: number;
  /** The longest delay, in milliseconds. @default 30000 */
  maxDelayMs: number;
  /** The codes of the errors after which a step is tried again. @default every error but one whose `retryable` is false */
  on?: string[];
};

/** What every step has, whatever its kind. */
type StepCommon = {
  id: string;
  /** Steps that must have ended before; none means at once. */
  after: string[];
  /** A condition in CEL; where it is false the step is skipped. */
  when?: string;
  /** What the steps in `after` must have come to; otherwise the step is skipped. Absent means `all` completed. */
  needs?: "any" | "always";
  /** Where a failure for good leads: `continue`, or to the step that handles it. Absent means the run fails. */
  onError?: string;
  /** A template; absent means the default input of a chain. Approvals and waits have none. */
  input?: unknown;
  /** A JSON Schema the output must fit; one that does not is a failed attempt (`bad_output`). */
  output?: { [key: string]: unknown };
  retry: RetryPolicy;
  /** How long one attempt may take, in milliseconds; absent means the limit of whoever does it. */
  timeoutMs?: number;
  /** A list in CEL: the step is done once for each item of it, and gives a list. Not together with `repeat`. */
  forEach?: string;
  /** How many items of `forEach` are at work at once. */
  concurrency?: number;
  /** The step is done again until `until`, a condition in CEL, holds, at most `max` times. */
  repeat?: { until: string; max: number };
};

/** What undoes a step: an agent, or a tool without a model. */
export type CompensationDefinition = ({ agent: string; tool?: never } | { tool: string; agent?: never }) & {
  /** A template; absent means for an agent a text with the request, the step's output and the error, for a tool that output. */
  input?: unknown;
  retry: RetryPolicy;
  /** How long one attempt may take, in milliseconds; absent means the limit of whoever does it. */
  timeoutMs?: number;
};

/** What a person is asked; templates are texts with `{{ CEL }}`. */
export type ApprovalDefinition = {
  /** A template. */
  title: string;
  /** A template. */
  prompt?: string;
  /** @default ["approve", "reject"] */
  choices: string[];
  /** Who may decide, by the names they give; absent means anybody. */
  assignees?: string[];
  /** How long there is to decide, in milliseconds. */
  timeoutMs?: number;
  /** The choice that counts once that is over; absent means the step fails. */
  onTimeout?: string;
  /** The choice `reject` fails the step; absent means it goes on with it as its output. */
  onReject?: "fail";
};

/** What a step waits for: a duration in milliseconds, an instant (a template that gives ISO 8601), or a signal. */
export type WaitDefinition =
  | { forMs: number; until?: never; signal?: never }
  | { until: string; forMs?: never; signal?: never }
  | {
      signal: string;
      /** A JSON Schema its payload must fit. */
      schema?: { [key: string]: unknown };
      timeoutMs?: number;
      /** What follows when it does not come in time: the step ends with `null`. Absent means it fails. */
      onTimeout?: "continue";
      forMs?: never;
      until?: never;
    };

/** A step that gives something of its own. */
type WorkStep = StepCommon & {
  /** How what it did is undone when the run fails later. */
  compensate?: CompensationDefinition;
};

/** A step an agent is asked for. */
type AgentStep = WorkStep & { kind: "agent"; agent: string };
/** Runs a tool without a model. */
type ToolStep = WorkStep & { kind: "tool"; tool: string };
/** Waits for a person to decide. */
export type ApprovalStep = WorkStep & { kind: "approval"; approval: ApprovalDefinition };
/** Waits for its time or for a signal. */
export type WaitStep = WorkStep & { kind: "wait"; wait: WaitDefinition };
/** Another run, with a record of its own. */
type WorkflowStep = WorkStep & { kind: "workflow"; workflow: string };
/** A step that is a graph of its own. */
type GroupStep = StepCommon & { kind: "group"; compensate?: never; steps: StepDefinition[] };

/** A step that waits for something from outside. */
export type WaitingStep = ApprovalStep | WaitStep;

/** A step that somebody is asked to do. */
export type AskedStep = AgentStep | ToolStep | WorkflowStep;

/** One node of a deterministic workflow. */
export type StepDefinition = AskedStep | WaitingStep | GroupStep;

type Common = {
  name: string;
  /** @default "1" */
  version: string;
  description?: string;
  /** A JSON Schema the request's input must fit. */
  input?: { [key: string]: unknown };
  /** A JSON Schema the run's output must fit; otherwise the run fails (`bad_output`). */
  output?: { [key: string]: unknown };
  /** How long a run may take, in milliseconds, where the request does not say. */
  timeoutMs?: number;
  /** When it starts by itself; the schedule has the workflow's name. */
  schedule?: ScheduleTerms;
  /** The hash of everything above that a fold depends on; runs carry it. */
  hash: string;
};

export type DeterministicDefinition = Common & {
  kind: "deterministic";
  /** In an order in which every step stands after those it depends on. */
  steps: StepDefinition[];
  /** How many tasks of a run are open at once; absent means {@link MOST_OPEN_TASKS}. */
  concurrency?: number;
  /** What runs when the run fails, after it was undone what was to be; in such an order too. */
  onFailure?: StepDefinition[];
};

export type HandoffDefinition = Common & {
  kind: "handoff";
  entry: string;
  /** Who may hand to whom; every agent of the workflow is a key. */
  agents: { [agent: string]: HandoffOption[] };
  /** Handoffs in one run. @default 16 */
  maxHandoffs: number;
  /** Times one agent may have the run. @default 8 */
  maxVisits: number;
};

export type WorkflowDefinition = DeterministicDefinition | HandoffDefinition;
