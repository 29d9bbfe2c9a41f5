/**
 * What a mailbox carries and what comes back (docs/protocol.md). These shapes are the wire contract; an agent in
 * any language takes part by speaking just this.
 */
import type { ErrorRecord } from "../errors.ts";
import type { Message } from "./conversation.ts";
import type { JsonSchema, ModelName, ModelReply, Usage } from "./model.ts";
import type { WithRefs } from "./value-ref.ts";

/** What the next agent sees of the conversation so far. */
export type HandoffContext = "full" | "summary" | "last" | "none";

/** One agent this task may be handed to, as it travels. */
export type HandoffOption = {
  to: string;
  /** Tells the model when to use it. */
  description?: string;
  /** The typed payload the handing agent's model must give. */
  input?: JsonSchema;
  /** @default "full" */
  context?: HandoffContext;
};

/** Limits that hold over the whole run and therefore travel with every task. */
type TaskLimits = {
  /** Handoffs in one run. */
  maxHandoffs?: number;
  /** Times one agent may have the run. */
  maxVisits?: number;
};

/** One message in an agent's mailbox: one execution of one agent. */
export type Task = WithRefs & {
  v: 1;
  taskId: string;
  runId: string;
  workflow: string;
  /** The hash of the workflow's definition the run is bound to. */
  definition?: string;
  /** Whose it is: an agent's name, or that of what `kind` says. */
  agent: string;
  /** `tool`: it runs a tool, and `input` is its arguments. `workflow`: it is another run, and never in a mailbox. */
  kind?: "tool" | "workflow";
  /** The run that a task of kind `workflow` is. */
  childId?: string;
  /** Which attempt at the same piece of work this is, from 1. */
  attempt: number;
  /** How often the journal says this task was sent, from 1; above 1 its task journal may hold turns to go on from. */
  delivery: number;
  input: unknown;
  /** The conversation before this task, where the agent is to see one; `input` then is not repeated to the model. */
  messages?: Message[];
  sessionId?: string;
  /** Agents this task may be handed to; empty outside handoff workflows. */
  handoffs: HandoffOption[];
  /** The handoffs of the run so far, oldest first. */
  hops: { from: string; to: string }[];
  limits: TaskLimits;
  /** Sent by the agent that handed off; the journal's entry may come a moment later. */
  forwarded?: boolean;
  /** How long this attempt may take, in milliseconds; absent means the agent's own limit. */
  timeoutMs?: number;
  /** When the run times out, as an ISO 8601 instant. */
  deadline?: string;
};

/** Usage of a task or a run. */
export type TaskUsage = Usage & {
  modelCalls: number;
  /** Tools that were executed and answered; absent means none, or a worker that does not count them. */
  toolCalls?: number;
  /** Which models answered how often, where an agent has several. */
  models?: (ModelName & { modelCalls: number })[];
};

/** How a task ended. The optional parts of a handoff are for workers of Troupe itself; a foreign worker leaves them out. */
export type Outcome =
  | { type: "completed"; output: unknown; usage: TaskUsage; transcript?: Message[] }
  | {
      type: "handoff";
      to: string;
      /** The typed payload, where the edge asks for one. */
      input?: unknown;
      reason?: string;
      /** What this task added to the conversation, every tool call answered. */
      transcript?: Message[];
      /** The next agent's whole view, where a function on the edge made it. */
      messages?: Message[];
      /** The id of the task that goes to `to`; with `forwarded` it is already in that agent's mailbox. */
      next?: { taskId: string; forwarded: boolean };
      usage?: TaskUsage;
    }
  | { type: "failed"; error: ErrorRecord; usage?: TaskUsage };

/** The outcome as it travels and as a worker stores it when nobody takes it. */
export type OutcomeMessage = { v: 1; taskId: string; attempt: number; delivery?: number; worker?: string } & Outcome &
  WithRefs;

/**
 * What a worker says on the task's reply subject. `accepted` and `working` (every few seconds) may carry a reply subject of
 * their own, which takes {@link TaskControl}s; `busy` means: no room here, try again; `unknown` answers an
 * {@link OwnerNotice}, so that the owner need not wait for those who have nothing to say. The outcome is a request.
 */
export type TaskAnswer =
  | { type: "accepted" | "working" | "busy" | "unknown"; taskId: string; delivery?: number; worker?: string }
  | OutcomeMessage;

/** What an owner tells a worker about a task it accepted. */
export type TaskControl =
  /** Stop it: abort its model calls and tools, then send the outcome `failed` with code `cancelled`. */
  | { type: "cancel"; taskId: string; reason: string }
  /**
   * The journal knows this task; said for forwarded tasks, which may arrive before their journal entry, and for those that were
   * found: whatever the journal says up to this delivery, the owner counts on this worker.
   */
  | { type: "known"; taskId: string; delivery?: number };

/** How an owner answers an outcome; no answer means: ask again, then store it in the task's journal. */
export type OutcomeReceipt = { type: "recorded" } | { type: "superseded" };

/**
 * What a new owner asks on `<prefix>.owners`: whoever is at work on one of these answers as if the task had just come, or
 * with its outcome. Workers of Troupe answer `unknown` where they have neither; others may be silent.
 */
export type OwnerNotice = {
  v: 1;
  runId: string;
  tasks: string[];
  /** Answers go to `<reply>.<taskId>`, as the reply subject of every task ends in its id. */
  reply: string;
};

/** An entry of a task's journal. Ids are unique per write. */
export type TaskEntry = { v: 1; id: string; at: string } & WithRefs &
  (
    | { type: "turn"; turn: number; reply: ModelReply }
    | { type: "tool"; turn: number; callId: string; content: string; failed: boolean }
    /** A tool whose effect must come once is about to be executed; without a `tool` entry after it, nobody knows what came of it. */
    | { type: "calling"; turn: number; callId: string }
    /** A worker sets about what may have been begun elsewhere; what was at work when its worker died is known by it. */
    | { type: "begun"; delivery: number; worker: string }
    /** A worker that lives gives back what it had begun. */
    | { type: "returned"; worker: string }
    /** Stored by the worker when no owner took it. */
    | { type: "outcome"; outcome: OutcomeMessage }
  );
