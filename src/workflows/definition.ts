/** What a workflow is once it is checked: plain data, the same whichever of YAML, JSON or TypeScript it was written in. */
import type { HandoffOption } from "../actors/task.ts";

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

type AgentStep = StepCommon & { kind: "agent"; agent: string };
/** Runs a tool without a model. */
type ToolStep = StepCommon & { kind: "tool"; tool: string };
/** Waits for a person to decide. */
export type ApprovalStep = StepCommon & { kind: "approval"; approval: ApprovalDefinition };
/** Waits for its time or for a signal. */
export type WaitStep = StepCommon & { kind: "wait"; wait: WaitDefinition };
/** Another run, with a record of its own. */
type WorkflowStep = StepCommon & { kind: "workflow"; workflow: string };

/** One node of a deterministic workflow. */
export type StepDefinition = AgentStep | ToolStep | ApprovalStep | WaitStep | WorkflowStep;

type Common = {
  name: string;
  /** @default "1" */
  version: string;
  description?: string;
  /** A JSON Schema the request's input must fit. */
  input?: { [key: string]: unknown };
  /** How long a run may take, in milliseconds, where the request does not say. */
  timeoutMs?: number;
  /** The hash of everything above that a fold depends on; runs carry it. */
  hash: string;
};

export type DeterministicDefinition = Common & {
  kind: "deterministic";
  /** In an order in which every step stands after those it depends on. */
  steps: StepDefinition[];
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
