/**
 * What a batch of happenings leads to: one entry for the run's journal, and what is to be done once it is stored. Nothing
 * happens here; `active-run.ts` stores the draft and then acts on it, or drops it.
 *
 * Invariants
 * R2  What one batch of happenings leads to is one entry: fact, decisions and the end of the run cannot be torn apart.
 * R4  After a terminal event nothing is recorded any more.
 * R6  What one batch has settled already is not recorded a second time: a task may be given up and answer at once.
 */
import type { OutcomeMessage, Task } from "../../actors/task.ts";
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import type { ReusedStep } from "../../workflows/reused-steps.ts";
import type { Fact, FactBody, RunEvent, RunEventBody } from "../../workflows/run-events.ts";
import {
  begin,
  type Decided,
  decide,
  type Effect,
  isCallingOff,
  isDone,
  isEnding,
  type SupervisorSnapshot,
} from "../../workflows/supervisor.ts";
import { MAX_SIGNALS } from "../../workflows/supervisor-machine.ts";
import type { AcceptedBody } from "./make-events.ts";
import { factOf, type HandoffNext, taskFailed, taskStopped } from "./outcome-fact.ts";
import type { Answer } from "./task-desk.ts";
import { isAhead } from "./task-hops.ts";
import { isSilence, type LostTask } from "./tracked-task.ts";

/** Something that happened to a run. */
export type Happening =
  | { type: "outcome"; message: OutcomeMessage; answer: Answer }
  | { type: "fact"; body: FactBody }
  | { type: "note"; body: RunEventBody }
  | { type: "redeliver"; taskId: string; lost: LostTask }
  | {
      type: "begin";
      accepted: AcceptedBody;
      claimed: RunEventBody;
      /** What is taken over of another run. */
      reused: readonly ReusedStep[];
      done: Settle;
    }
  | { type: "claim"; claimed: RunEventBody; done: Settle };

/** Resolves when the entry is stored, rejects when it was not. */
type Settle = { resolve: () => void; reject: (error: unknown) => void };

/** How often a task was sent, and how often in a row its worker then fell silent. */
export type Sendings = { delivery: number; silences: number };

/** A task to be sent again, as often as `silences` says after a worker that fell silent. */
export type Resent = { task: Task; silences: number };

/** An entry that is not stored yet, and everything that waits for it to be. */
export type Draft = {
  /** The entry's instant, ISO 8601. */
  readonly at: string;
  bodies: RunEventBody[];
  effects: Effect[];
  /** Tasks to be sent again, each with its new delivery. */
  resent: Resent[];
  answers: (() => void)[];
  settles: Settle[];
  snapshot?: SupervisorSnapshot;
};

/** What a draft starts from. */
export type DraftBase = {
  runId: string;
  definition: WorkflowDefinition;
  /** The supervisor as the journal has it; absent before the first entry. */
  snapshot: SupervisorSnapshot | undefined;
  /** How often each open task was sent, where that is not once. */
  sendings: ReadonlyMap<string, Sendings>;
  /** Makes the id of a task of the nth handoff. */
  newTaskId: (hop: number) => string;
};

/**
 * A task that workers accept and fall silent over is given up. Troupe's own workers count for themselves, by what was at work
 * when they died (`beginnings.ts`); this is for those that keep no journal.
 */
const MOST_SILENCES = 10;
const ONCE: Sendings = { delivery: 1, silences: 0 };

/** A draft of nothing yet. */
export function emptyDraft(at: string, snapshot: SupervisorSnapshot | undefined): Draft {
  return { at, bodies: [], effects: [], resent: [], answers: [], settles: [], ...(snapshot && { snapshot }) };
}

/** Adds one happening to a draft. Throws what a supervisor that cannot take it throws. */
export function take(base: DraftBase, draft: Draft, happening: Happening): void {
  switch (happening.type) {
    case "begin": {
      const { accepted, claimed, reused, done } = happening;
      draft.bodies.push(accepted, claimed, ...reused);
      draft.settles.push(done);
      const setup = { runId: base.runId, request: accepted.data, acceptedAt: draft.at };
      merge(draft, begin(base.definition, setup, reused));
      return;
    }
    case "claim":
      draft.bodies.push(happening.claimed);
      draft.settles.push(happening.done);
      return;
    case "note":
      if (!hasEnded(draft)) draft.bodies.push(happening.body);
      return;
    case "fact":
      addFact(draft, happening.body);
      return;
    case "outcome":
      addOutcome(base, draft, happening);
      return;
    case "redeliver":
      redeliver(base, draft, happening);
      return;
    default:
      happening satisfies never;
  }
}

function addFact(draft: Draft, body: FactBody) {
  const before = draft.snapshot;
  // R4, R6
  if (!before || hasEnded(draft) || isOvertaken(before, body)) return;
  draft.bodies.push(body);
  merge(draft, decide(before, { ...body, at: draft.at } as Fact));
}

/** Whether a fact is about a task or a timer the run does not have any more, or is one it has taken already. */
function isOvertaken({ value, context }: SupervisorSnapshot, body: FactBody): boolean {
  switch (body.type) {
    case "task.settled":
    case "agent.handoff":
      return !Object.hasOwn(context.open, body.data.taskId);
    case "timer.fired":
      return !Object.hasOwn(context.timers, body.data.id);
    case "signal.received":
      // Beyond the limit nothing is recorded: whoever is behind it would fill the journal.
      return !takesSignals(value, context) || body.data.seq <= context.signals.seq || isFull(context);
    case "run.cancelling":
      return isEnding(value) && !body.data.force;
    case "run.exceeded":
      return false;
    default:
      return body satisfies never;
  }
}

/** A run that is going to end without a result waits only in the steps it has for that. */
function takesSignals(value: unknown, { end, unwound, unwinding }: SupervisorSnapshot["context"]): boolean {
  return !isEnding(value) || (unwinding.hasOnFailure && (end?.type === "fail" || unwound?.after !== undefined));
}

function isFull({ signals }: SupervisorSnapshot["context"]): boolean {
  return signals.count >= MAX_SIGNALS;
}

// R2
function merge(draft: Draft, { snapshot, decisions, effects }: Decided) {
  draft.snapshot = snapshot;
  draft.bodies.push(...decisions);
  draft.effects.push(...effects);
}

function addOutcome(base: DraftBase, draft: Draft, { message, answer }: Happening & { type: "outcome" }) {
  const open = draft.snapshot?.context.open ?? {};
  const openTask = open[message.taskId];
  if (openTask && !hasEnded(draft)) {
    const isNew = (next: HandoffNext) => !Object.hasOwn(open, next.taskId);
    const ours = () => ({ taskId: base.newTaskId(openTask.task.hops.length + 1), forwarded: false });
    addFact(
      draft,
      factOf(openTask, message, (sent) => (sent && isNew(sent) ? sent : ours())),
    );
    draft.answers.push(() => answer({ type: "recorded" }));
  } else if (hasEnded(draft) || !isAhead(base.definition, base.snapshot, message.taskId)) {
    draft.answers.push(() => answer({ type: "superseded" }));
  }
  // D4: a task that is ahead of the journal gets no answer; its worker asks again.
}

function redeliver(base: DraftBase, draft: Draft, { taskId, lost }: Happening & { type: "redeliver" }) {
  const openTask = draft.snapshot?.context.open[taskId];
  if (!openTask || hasEnded(draft)) return;
  const { forwarded: _sentByUs, ...task } = openTask.task;
  const { agent, attempt, kind } = task;
  if (isCallingOff(draft.snapshot?.value)) return addFact(draft, taskStopped(taskId, agent));
  const before = lastSending(base, draft, taskId);
  const silences = silencesAfter(before, lost);
  const delivery = before.delivery + 1;
  if (silences >= MOST_SILENCES) {
    const message = `it was accepted ${silences} times in a row, and nothing more was heard of it; the last: ${lost.reason}`;
    return addFact(draft, taskFailed(taskId, agent, { code: "worker_lost", message }));
  }
  const { step } = openTask;
  draft.bodies.push({
    type: "task.sent",
    data: { taskId, agent, ...(kind && { kind }), ...(step !== undefined && { step }), attempt, delivery, lost },
  });
  draft.resent.push({ task: { ...task, delivery }, silences });
}

function lastSending({ sendings }: DraftBase, { resent }: Draft, taskId: string): Sendings {
  const again = resent.findLast(({ task }) => task.taskId === taskId);
  if (again) return { delivery: again.task.delivery, silences: again.silences };
  return sendings.get(taskId) ?? ONCE;
}

/** How often in a row a task was lost in silence, now that it is lost once more. */
function silencesAfter({ silences }: Sendings, { reason }: LostTask): number {
  return isSilence(reason) ? silences + 1 : 0;
}

/** How often each open task was sent, and lost in silence; `before` is what was known of them before these events. */
export function sendingsOf(
  events: readonly RunEvent[],
  before: { readonly [taskId: string]: Sendings } = {},
): Map<string, Sendings> {
  const sendings = new Map(Object.entries(before));
  for (const { type, data } of events) {
    if (type === "task.settled" || type === "agent.handoff") sendings.delete(data.taskId);
    if (type !== "task.sent" || !data.lost) continue;
    const { taskId, delivery, lost } = data;
    sendings.set(taskId, { delivery, silences: silencesAfter(sendings.get(taskId) ?? ONCE, lost) });
  }
  return sendings;
}

function hasEnded({ snapshot }: Draft): boolean {
  return snapshot !== undefined && isDone(snapshot);
}
