/**
 * The events of a run's journal (docs/protocol.md). An entry of the journal is a JSON array of
 * events that were decided together and are recorded together.
 *
 * Facts come from outside and are what a supervisor is folded from: `run.accepted`, `task.settled`, `agent.handoff`,
 * `timer.fired`, named signals, `run.cancelling`, `run.exceeded`. Decisions follow from them: a fold makes them again. The rest is bookkeeping of the host.
 */
import type { Message } from "../actors/conversation.ts";
import type { TaskUsage } from "../actors/task.ts";
import type { WithRefs } from "../actors/value-ref.ts";
import type { ErrorRecord } from "../errors.ts";

/** Where a run's spans hang. */
export type RunTrace = {
  traceId: string;
  /** The caller's span, where the request carried one. */
  parentSpanId?: string;
  sampled: boolean;
};

/** What a step holds. */
export type StepGroup = { type: "steps" | "forEach" | "repeat"; size: number };

export type RunRequest = {
  input: unknown;
  /** The version to run: a hash, a label, or a number as in `#3`. On record it is the label of the one that was found. */
  version?: string;
  sessionId?: string;
  userId?: string;
  metadata?: { [key: string]: unknown };
  /** An ISO 8601 instant before which nothing starts. */
  notBefore?: string;
  timeoutMs?: number;
  /** The NATS subject that gets the result. */
  replyTo?: string;
  retryOf?: RetryOf;
  /** The run and the step that asked for this one. */
  parent?: RunParent;
};

/** The run that is tried again, in what it has not done or from a step on. */
export type RetryOf = {
  runId: string;
  from?: string;
  /** The definition it was bound to. */
  hash: string;
};

/** Where a child run comes from. */
export type RunParent = {
  runId: string;
  step: string;
  /** The attempt at that step. */
  taskId: string;
  /** How many runs are above this one, from 1. */
  depth: number;
};

/** Whose a step or a task is, where it is not an agent's. */
export type NamedKind = "tool" | "workflow";

/** Whose a step is: `agent` names the agent, or what else `kind` says; who waits, and what holds others, has no name. */
export type StepWorker = { agent: string; kind?: NamedKind } | { agent?: never; kind?: "approval" | "wait" };

export type RunEventBody =
  // Facts
  | {
      type: "run.accepted";
      data: RunRequest & {
        workflow: string;
        /** The definition's version and hash; absent when the request was refused. */
        version?: string;
        hash?: string;
        kind?: "deterministic" | "handoff";
        /** Steps in all, for the progress; handoff runs do not know. */
        steps?: number;
        trace: RunTrace;
      };
    }
  /** In the first entry of a run that tries another one again: what that one had done, and is not done again. */
  | { type: "step.reused"; data: { step: string; output: unknown; exhausted?: true } & StepWorker }
  | {
      type: "task.settled";
      data: {
        taskId: string;
        agent: string;
        worker?: string;
        outcome:
          | { type: "completed"; output: unknown; usage: TaskUsage; transcript?: Message[] }
          | { type: "failed"; error: ErrorRecord; usage?: TaskUsage };
      };
    }
  | {
      type: "agent.handoff";
      data: {
        taskId: string;
        from: string;
        to: string;
        input?: unknown;
        reason?: string;
        transcript: Message[];
        messages?: Message[];
        next: { taskId: string; forwarded: boolean };
        worker?: string;
        usage?: TaskUsage;
      };
    }
  | { type: "timer.fired"; data: { id: string } }
  /** A message from outside, where it stands in the signals stream; `approval` is the name of those that decide approvals. */
  | { type: "signal.received"; data: { seq: number; kind: "signal"; id: string; name: string; payload?: unknown } }
  | {
      type: "run.cancelling";
      /** `graceMs` is how long tasks get to stop, in milliseconds. */
      data: {
        reason?: string;
        by?: string;
        graceMs?: number;
        /** Waits for nothing and undoes nothing more. */
        force?: true;
      };
    }
  /** The journal has come to the limit of `most` events or bytes; the run ends in the same entry. */
  | { type: "run.exceeded"; data: { limit: "events" | "bytes"; most: number; got: number } }
  // Decisions
  /** `step` is a path, as in `revise/2/score`. `group` is there for what holds others: how many steps, items, or at most iterations. */
  | { type: "step.started"; data: { step: string; group?: StepGroup } & StepWorker }
  /**
   * With `taskId` the output is that task's; `output` is what a step gave that waited for something from outside. `exhausted`: it
   * was repeated as often as it may be, and is not what was wanted yet.
   */
  | { type: "step.completed"; data: { step: string; taskId?: string; output?: unknown; exhausted?: true } }
  /** `continued`: the run goes on without it. */
  | { type: "step.failed"; data: { step: string; taskId?: string; error: ErrorRecord; continued?: true } }
  /** `reason` is in words. */
  | { type: "step.skipped"; data: { step: string; reason: string } & StepWorker }
  /** What it is a part of has failed, and the run goes on: it is called off, with its task and its timer where it has any. */
  | { type: "step.cancelled"; data: { step: string; taskId?: string; timer?: string } & StepWorker }
  | { type: "step.retrying"; data: { step: string; attempt: number; dueAt: string; error: ErrorRecord } }
  | {
      type: "task.sent";
      data: {
        taskId: string;
        agent: string;
        kind?: NamedKind;
        /** The child run of a task of kind `workflow`. */
        childId?: string;
        step?: string;
        attempt: number;
        /** 1 when a decision sent it; above 1 the host sent it again, because its worker was lost. */
        delivery: number;
        lost?: { worker?: string; reason: string };
      };
    }
  | { type: "timer.set"; data: { id: string; dueAt: string } }
  // Of a run that is undone; `step` is the path of the step.
  | { type: "compensation.started"; data: { step: string; agent: string; kind?: "tool" } }
  | { type: "compensation.completed"; data: { step: string; taskId: string } }
  | { type: "compensation.retrying"; data: { step: string; attempt: number; dueAt: string; error: ErrorRecord } }
  /** For good; the others are undone all the same. */
  | { type: "compensation.failed"; data: { step: string; taskId: string; error: ErrorRecord } }
  /** These are not undone any more: the run was ended by force, or its journal is full. */
  | { type: "compensation.abandoned"; data: { steps: string[] } }
  /** It will fail with this, once it is undone and what is to run then has run. */
  | { type: "run.failing"; data: { error: ErrorRecord } }
  /** It is not waited for any more. */
  | { type: "timer.cleared"; data: { id: string } }
  | {
      type: "approval.requested";
      data: {
        step: string;
        title: string;
        prompt?: string;
        choices: string[];
        assignees?: string[];
        /** When it is decided by itself. */
        dueAt?: string;
      };
    }
  /** Without `seq` nobody decided in time. */
  | { type: "approval.resolved"; data: { step: string; choice: string; by?: string; comment?: string; seq?: number } }
  /** A step waits: for a signal, or until `dueAt`. */
  | { type: "wait.begun"; data: { step: string; signal?: string; dueAt?: string } }
  /** A signal that changes nothing; whoever sent it is told. */
  | { type: "signal.refused"; data: { seq: number } & ErrorRecord }
  | { type: "run.completed"; data: { output: unknown } }
  | { type: "run.failed"; data: { error: ErrorRecord } }
  | { type: "run.cancelled"; data: { reason?: string } }
  // Bookkeeping
  | {
      type: "run.claimed";
      data: {
        host: string;
        incarnation: string;
        reason: "accepted" | "restart" | "takeover" | "handed-over" | "resume";
        /** The definition the run is bound to from here on, where that is another one than before. */
        version?: string;
        hash?: string;
      };
    }
  | { type: "signal.received"; data: { seq: number; kind: "cancel" } }
  | { type: "task.waiting"; data: { taskId: string; agent: string; reason: string } }
  /** Said only after `task.waiting`: a worker has it now. */
  | { type: "task.accepted"; data: { taskId: string; worker?: string } }
  | { type: "run.parked"; data: { reason: string } };

export type RunEventType = RunEventBody["type"];

/** An event as it stands in the journal and on the live feed. Times are ISO 8601 with milliseconds. */
export type RunEvent = {
  v: 1;
  /** Unique and never derived from content: a writer recognises its own entry by it. */
  id: string;
  runId: string;
  /** The event's number in its run, from 1, without gaps. */
  n: number;
  at: string;
  /** The claim it was written under. */
  epoch: number;
} & RunEventBody &
  WithRefs;

/** A fact without its time. */
export type FactBody =
  | Extract<
      RunEventBody,
      { type: "task.settled" | "agent.handoff" | "timer.fired" | "run.cancelling" | "run.exceeded" }
    >
  | Extract<RunEventBody, { type: "signal.received"; data: { kind: "signal" } }>;

/** An event as a supervisor sees it. */
export type Fact = { at: string } & FactBody;

/** The hash of the definition a run is bound to; undefined where its request was refused. */
export function hashOf(journal: readonly RunEvent[]): string | undefined {
  let hash: string | undefined;
  for (const { type, data } of journal) {
    if (type === "run.accepted" || type === "run.claimed") hash = data.hash ?? hash;
  }
  return hash;
}

const TERMINAL = new Set<RunEventType>(["run.completed", "run.failed", "run.cancelled"]);

/** Whether an event of this type ends its run. */
export function isTerminal(type: RunEventType): type is "run.completed" | "run.failed" | "run.cancelled" {
  return TERMINAL.has(type);
}
