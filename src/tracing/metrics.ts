/**
 * The seam between the runtime and metrics: what the hosts tell, in words of Troupe. `startMetrics` keeps and serves it,
 * `noMetrics` forgets it.
 *
 * Never in a label: run ids, task ids, session or user ids, error messages. Error codes are few, so they may.
 */
import type { Usage } from "../actors/model.ts";

/** What ended, and how long it took. */
type RunEnded = {
  workflow: string;
  status: "completed" | "failed" | "cancelled";
  seconds: number;
  /** The error's code. */
  error?: string;
};

/** One attempt at a step. */
type StepEnded = { workflow: string; step: string; agent: string; seconds: number; error?: string };

/** One execution of an agent, as the worker saw it. */
type TaskEnded = { agent: string; seconds: number; modelCalls: number; toolCalls: number; error?: string };

/** One attempt at a model call. */
export type ModelCalled = {
  provider: string;
  model: string;
  seconds: number;
  responseModel?: string;
  serverAddress?: string;
  usage?: Usage;
  /** Until the first piece of a streamed reply. */
  firstChunkSeconds?: number;
  error?: string;
};

/** A call that had to wait for its provider: for its limits, or because it was down. */
type ModelWaited = { provider: string; seconds: number; why: "limits" | "down" };

type ToolCalled = { tool: string; agent: string; seconds: number; error?: string };

/** One instant of a schedule. */
export type ScheduleDue = {
  workflow: string;
  outcome: "fired" | "missed" | "overlap";
  /** How long after its instant. */
  lateSeconds: number;
};

/** Reads a gauge when it is scraped: pairs of label and value. */
export type Observe = () => Iterable<readonly [label: string, value: number]>;

export type Metrics = {
  runAccepted(workflow: string): void;
  runEnded(run: RunEnded): void;
  stepEnded(step: StepEnded): void;
  taskEnded(task: TaskEnded): void;
  modelCall(call: ModelCalled): void;
  modelWaited(wait: ModelWaited): void;
  toolCall(call: ToolCalled): void;
  /** A task was sent again because its worker was lost. */
  segmentLost(agent: string): void;
  /** An instant of a schedule has come: a run was started, or not, because it was missed or the run before is not over. */
  scheduleDue(due: ScheduleDue): void;
  /** Something went to the dead-letter stream. */
  deadLettered(kind: "requests" | "tasks"): void;
  /** How long one append to a journal took, in seconds. */
  appendSeconds(seconds: number): void;
  /** Spans that were given up. */
  spansDropped(spans: number): void;
  /** Says how many runs of each workflow this daemon owns; gives back what unregisters it. */
  observeActiveRuns(observe: Observe): () => void;
  /** Says how many of them only wait for their time; gives back what unregisters it. */
  observeRestingRuns(observe: Observe): () => void;
  /** Says how many messages wait in each queue (the door, a mailbox); gives back what unregisters it. */
  observeQueueDepth(observe: Observe): () => void;
  /** Says which providers are down (1) and which are not (0); gives back what unregisters it. */
  observeProvidersDown(observe: Observe): () => void;
  /** Says how many calls wait for the limits of their provider; gives back what unregisters it. */
  observeModelQueue(observe: Observe): () => void;
  /** Everything in the Prometheus text format, version 0.0.4. */
  render(): Promise<string>;
  stop(): Promise<void>;
};

function nothing(): void {}

/** Metrics that are off. */
export const noMetrics: Metrics = {
  runAccepted: nothing,
  runEnded: nothing,
  stepEnded: nothing,
  taskEnded: nothing,
  modelCall: nothing,
  modelWaited: nothing,
  toolCall: nothing,
  segmentLost: nothing,
  scheduleDue: nothing,
  deadLettered: nothing,
  appendSeconds: nothing,
  spansDropped: nothing,
  observeActiveRuns: () => nothing,
  observeRestingRuns: () => nothing,
  observeQueueDepth: () => nothing,
  observeProvidersDown: () => nothing,
  observeModelQueue: () => nothing,
  render: () => Promise.resolve(""),
  stop: () => Promise.resolve(),
};
