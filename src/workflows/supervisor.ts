/**
 * A supervisor as its host drives it: a fact goes in; the next snapshot, what belongs on record, and what is to be done come
 * out as data. Nothing happens here, so the same calls drive a live run and fold a journal.
 *
 * Invariants
 * S1  Everything depends on the definition and the facts alone: folding a journal's facts makes the same decisions again.
 * S2  A fold that decides anything else than what is on record stops with `FoldError`; it never goes on from a guess. One that
 *     goes on from a saved state holds the events after it to that; the state stands for those before.
 * S3  A saved state is plain data, and is taken up only by the definition it was made with, in the form it was made in: what
 *     `restore` gives decides on every fact as the saved one would have.
 */
import { createActor, type SnapshotFrom } from "xstate";
import { TroupeError } from "../errors.ts";
import { withCheckedOutput } from "./check-output.ts";
import type { WorkflowDefinition } from "./definition.ts";
import { deterministicPlan } from "./deterministic.ts";
import { handoffPlan } from "./handoff-plan.ts";
import type { Decision, OpenTask, Plan, RunSetup } from "./plan.ts";
import type { ReusedStep } from "./reused-steps.ts";
import type { Fact, RunEvent } from "./run-events.ts";
import type { ReusedOutput } from "./step-states.ts";
import { type SupervisorContext, supervisorMachine, timerChild } from "./supervisor-machine.ts";
import { type UnwindingPlan, unwindingPlan } from "./unwinding.ts";

export type SupervisorSnapshot = SnapshotFrom<typeof supervisorMachine>;

/** What the host is to do once the decisions are in the journal. */
export type Effect =
  | { type: "askAgent"; open: OpenTask }
  | { type: "timer"; id: string; dueAt: string }
  /** Stop a child: a task is cancelled at its worker, a timer is forgotten. */
  | { type: "stop"; child: string };

export type Decided = { snapshot: SupervisorSnapshot; decisions: Decision[]; effects: Effect[] };

/** The journal and the definition disagree; the run has to be parked, not continued. */
export class FoldError extends TroupeError {
  constructor(message: string) {
    super("cannot_fold", message);
  }
}

type Plans = { plan: Plan; unwinding: UnwindingPlan };

const plans = new WeakMap<WorkflowDefinition, Plans>();

/** The plans of a definition, made once. */
function plansOf(definition: WorkflowDefinition): Plans {
  let made = plans.get(definition);
  if (!made) {
    const plan = withCheckedOutput(
      (definition.kind === "deterministic" ? deterministicPlan(definition) : handoffPlan(definition)) as Plan,
      definition.output,
    );
    made = { plan, unwinding: unwindingPlan(definition) };
    plans.set(definition, made);
  }
  return made;
}

/** Starts a run; `reused` are the steps that it takes over of another one. */
export function begin(definition: WorkflowDefinition, setup: RunSetup, reused: readonly ReusedStep[] = []): Decided {
  const outputs = new Map(reused.map(({ data }) => [data.step, data]));
  const input = { setup, ...plansOf(definition), ...(reused.length > 0 && { reused: outputs }) };
  return interpret((scope) => supervisorMachine.getInitialSnapshot(scope, input));
}

/** Lets a supervisor decide on one more fact. Facts that no longer matter change nothing. */
export function decide(snapshot: SupervisorSnapshot, fact: Fact): Decided {
  return interpret((scope) => supervisorMachine.transition(snapshot, fact, scope));
}

/** The definition's part of a journal's first event. */
export function setupOf(accepted: Extract<RunEvent, { type: "run.accepted" }>): RunSetup {
  return { runId: accepted.runId, request: accepted.data, acceptedAt: accepted.at };
}

/**
 * Folds a whole journal to where its supervisor stands.
 *
 * @throws FoldError when the definition does not lead to the recorded decisions.
 */
export function fold(definition: WorkflowDefinition, journal: readonly RunEvent[]): SupervisorSnapshot {
  const [accepted] = journal;
  if (accepted?.type !== "run.accepted") throw new FoldError("the journal does not begin with run.accepted");
  return follow(begin(definition, setupOf(accepted), reusedIn(journal)), journal);
}

function reusedIn(journal: readonly RunEvent[]): ReusedStep[] {
  return journal.flatMap((event) => (event.type === "step.reused" ? [event] : []));
}

/**
 * Folds the events after a saved state on from there.
 *
 * @throws FoldError when the definition does not lead to the recorded decisions.
 */
export function foldOn(snapshot: SupervisorSnapshot, events: readonly RunEvent[]): SupervisorSnapshot {
  return follow({ snapshot, decisions: [] }, events);
}

function follow(start: Pick<Decided, "snapshot" | "decisions">, events: readonly RunEvent[]): SupervisorSnapshot {
  const recorded = events.filter(isDecision).map(fingerprint);
  const made = start.decisions.map(fingerprint);
  let { snapshot } = start;
  for (const event of events) {
    if (!isFact(event)) continue;
    const decided = decide(snapshot, event);
    snapshot = decided.snapshot;
    for (const decision of decided.decisions) made.push(fingerprint(decision));
  }
  // S2
  const length = Math.max(made.length, recorded.length);
  for (let i = 0; i < length; i += 1) {
    if (made[i] !== recorded[i]) {
      throw new FoldError(`decision ${i + 1}: expected ${recorded[i] ?? "none"} as recorded, got ${made[i] ?? "none"}`);
    }
  }
  return snapshot;
}

/** A supervisor as plain data; what it began with and its definition are kept elsewhere. */
export type SavedSupervisor = Pick<
  SupervisorContext,
  "state" | "open" | "timers" | "signals" | "early" | "debts" | "end" | "unwound"
> & {
  form: typeof SAVED_FORM;
  value: string;
  /** What is taken over of another run, where it has not begun. */
  reused?: (readonly [step: string, ReusedOutput])[];
};

/** Raise it when the states of the chart or what a plan remembers change: a saved state of another form is not taken up. */
const SAVED_FORM = 4;

/** A supervisor that has not ended, to be stored. */
export function save({ value, context }: SupervisorSnapshot): SavedSupervisor {
  const { state, open, timers, signals, early, debts, end, unwound, reused } = context;
  const saved = { form: SAVED_FORM, value: String(value), state, open, timers, signals, early, debts } as const;
  return { ...saved, ...(end && { end }), ...(unwound && { unwound }), ...(reused && { reused: [...reused] }) };
}

/**
 * A saved supervisor, to go on from.
 *
 * @throws FoldError when it was saved in another form.
 */
export function restore(definition: WorkflowDefinition, setup: RunSetup, saved: SavedSupervisor): SupervisorSnapshot {
  const { form, value, reused, ...rest } = saved;
  // S3
  if (form !== SAVED_FORM) throw new FoldError(`the saved state: expected form ${SAVED_FORM}, got ${form}`);
  const context = { ...rest, ...(reused && { reused: new Map(reused) }), setup, ...plansOf(definition) };
  const snapshot = supervisorMachine.resolveState({ value: value as SupervisorSnapshot["value"], context });
  // Of its children the machine knows no more than their names: they are the host's. Tasks that are cancelled are stopped.
  const tasks = isCallingOff(value) ? [] : Object.keys(rest.open);
  const children = [...tasks, ...Object.keys(rest.timers).map(timerChild)].map((id) => [id, { id }]);
  return Object.assign(snapshot, { children: Object.fromEntries(children) as SupervisorSnapshot["children"] });
}

/** Whether the tasks of a run in this state of the chart are called off. */
export function isCallingOff(value: unknown): boolean {
  return value === "cancelling" || value === "failing";
}

/** Whether a run in this state of the chart is going to fail or to be cancelled. */
export function isEnding(value: unknown): boolean {
  return isCallingOff(value) || value === "unwinding";
}

/** Whether the supervisor wants nothing more. */
export function isDone(snapshot: SupervisorSnapshot): boolean {
  return snapshot.status === "done";
}

function isFact(event: RunEvent): event is RunEvent & Fact {
  switch (event.type) {
    case "task.settled":
    case "agent.handoff":
    case "timer.fired":
    case "run.cancelling":
    case "run.exceeded":
      return true;
    case "signal.received":
      return event.data.kind === "signal";
    default:
      return false;
  }
}

/** Decisions only: a task sent again and a refused request's failure are the host's. */
function isDecision(event: RunEvent): boolean {
  switch (event.type) {
    case "task.sent":
      return event.data.delivery === 1;
    case "step.started":
    case "step.completed":
    case "step.failed":
    case "step.skipped":
    case "step.retrying":
    case "step.cancelled":
    case "timer.set":
    case "compensation.started":
    case "compensation.completed":
    case "compensation.retrying":
    case "compensation.failed":
    case "compensation.abandoned":
    case "run.failing":
    case "timer.cleared":
    case "approval.requested":
    case "approval.resolved":
    case "wait.begun":
    case "signal.refused":
    case "run.completed":
    case "run.failed":
    case "run.cancelled":
      return true;
    default:
      return false;
  }
}

function fingerprint(decision: Decision | RunEvent): string {
  const data = decision.data as { step?: string; taskId?: string; id?: string; seq?: number; choice?: string };
  const { step, taskId, id, seq, choice } = data;
  return [decision.type, step, taskId, id, seq, choice].filter((part) => part !== undefined).join(" ");
}

type Scope = Parameters<typeof supervisorMachine.transition>[2];

/**
 * What a machine needs around it to compute a step and do nothing. XState's pure `transition` makes an actor and a system anew
 * for every call, which takes longer than the step; since nothing here keeps anything, one serves all runs.
 */
const inert: Pick<Scope, "self" | "system"> = (() => {
  const self = createActor(supervisorMachine, { input: undefined as never });
  return { self, system: self.system } as Pick<Scope, "self" | "system">;
})();

function interpret(step: (scope: Scope) => SupervisorSnapshot): Decided {
  const decisions: Decision[] = [];
  const effects: Effect[] = [];
  const snapshot = step({
    ...inert,
    id: "",
    sessionId: "",
    defer: nothing,
    logger: nothing,
    stopChild: nothing,
    emit: nothing,
    actionExecutor: (action) => read(action as Action, decisions, effects),
  });
  // XState throws what an action throws, except in the very first step, whose error it hides in the snapshot.
  if (snapshot.status === "error") throw snapshot.error;
  return { snapshot, decisions, effects };
}

function nothing(): void {}

type Action = { type: string; params: unknown };

/** Actions as `transition()` gives them, read as data. */
function read({ type, params }: Action, decisions: Decision[], effects: Effect[]): void {
  switch (type) {
    case "xstate.emit":
      decisions.push((params as { event: Decision }).event);
      return;
    case "xstate.spawnChild": {
      const { input } = params as { input: OpenTask | { id: string; dueAt: string } };
      effects.push("task" in input ? { type: "askAgent", open: input } : { type: "timer", ...input });
      return;
    }
    case "xstate.stopChild":
      // What was stopped before is no child any more, and nameless.
      if (params) effects.push({ type: "stop", child: (params as { id: string }).id });
      return;
    default:
  }
}
