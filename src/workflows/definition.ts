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
  /** A template; absent means the default input of a chain. */
  input?: unknown;
  /** A JSON Schema the output must fit; one that does not is a failed attempt (`bad_output`). */
  output?: { [key: string]: unknown };
  retry: RetryPolicy;
  /** How long one attempt may take, in milliseconds; absent means the agent's own limit. */
  timeoutMs?: number;
  /** A list in CEL: the step is done once for each item of it, and gives a list. Not together with `repeat`. */
  forEach?: string;
  /** How many items of `forEach` are at work at once. */
  concurrency?: number;
  /** The step is done again until `until`, a condition in CEL, holds, at most `max` times. */
  repeat?: { until: string; max: number };
};

/** What undoes a step. */
export type CompensationDefinition = {
  agent: string;
  /** A template; absent means a text with the request, the step's output and the error. */
  input?: unknown;
  retry: RetryPolicy;
  /** How long one attempt may take, in milliseconds; absent means the agent's own limit. */
  timeoutMs?: number;
};

/** A step an agent is asked for. */
type AgentStep = StepCommon & {
  kind: "agent";
  agent: string;
  /** How what it did is undone when the run fails later. */
  compensate?: CompensationDefinition;
};

/** A step that is a graph of its own. */
type GroupStep = StepCommon & { kind: "group"; agent?: never; compensate?: never; steps: StepDefinition[] };

/** One node of a deterministic workflow. */
export type StepDefinition = AgentStep | GroupStep;

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
