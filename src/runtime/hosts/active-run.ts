/**
 * One run in the hands of its owner: takes what happens to it, lets the supervisor decide, journals, then acts.
 *
 * Invariants
 * R1  Journal, then act, then answer: effects are performed and outcomes answered only after the entry that causes them is
 *     stored. What happens while an append is in flight waits for the next entry.
 * R2  What one batch of happenings leads to is one entry: fact, decisions and the end of the run cannot be torn apart.
 * R3  An append that finds another writer ends this object silently: no answer, no effect, no further write.
 *     An answer that took long may have waited for this process to run again: it is believed only after another look.
 * R4  After a terminal event nothing is recorded any more.
 * R5  A supervisor or a journal that cannot be handled parks this run with its reason; it never throws into the daemon.
 */
import type { Logger } from "pino";
import type { OutcomeMessage, TaskControl } from "../../actors/task.ts";
import { type ErrorRecord, FencedError, PayloadTooLargeError, toErrorRecord, UnavailableError } from "../../errors.ts";
import type { Metrics } from "../../tracing/metrics.ts";
import { formatTraceparent } from "../../tracing/traceparent.ts";
import type { RunProjection } from "../../tracing/tracing.ts";
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import type { OpenTask, RunSetup } from "../../workflows/plan.ts";
import type { Fact, FactBody, RunEvent, RunEventBody } from "../../workflows/run-events.ts";
import {
  begin,
  type Decided,
  decide,
  type Effect,
  isDone,
  type SupervisorSnapshot,
} from "../../workflows/supervisor.ts";
import type { Journals } from "../nats/journal.ts";
import type { Clock } from "./clock.ts";
import { encodeEntry } from "./encode-entry.ts";
import type { Answer, Holder, TaskDesk } from "./task-desk.ts";

/** What a run needs from its daemon. */
export type RunHostParts = {
  journals: Journals<RunEvent[]>;
  subjectOf: (runId: string) => string;
  desk: TaskDesk;
  clock: Clock;
  logger: Logger;
  newEventId: () => string;
  newTaskId: (hops: number) => string;
  writer: { host: string; incarnation: string };
  stopping: AbortSignal;
  metrics: Metrics;
  /** Called after every entry, before its effects. */
  recorded: (run: ActiveRun, events: readonly RunEvent[], texts: readonly Uint8Array[], seq: number) => void;
  /** Called once when this object has nothing more to do. */
  closed: (run: ActiveRun, why: CloseReason) => void;
};

export type CloseReason = "ended" | "fenced" | "released" | "parked";

/** Where a journal stands. */
export type Position = {
  seq: number;
  n: number;
  epoch: number;
  /** When its newest event was written, in milliseconds since the epoch. @default 0 */
  at?: number;
};

export type ActiveRun = ReturnType<typeof activateRun>;

export type ActiveRunStart = {
  runId: string;
  definition: WorkflowDefinition;
  projection: RunProjection;
  position: Position;
  /** The folded supervisor of a run that is taken over; absent for a new run. */
  snapshot?: SupervisorSnapshot;
  /** How often each open task was sent. */
  deliveries?: ReadonlyMap<string, number>;
};

type Happening =
  | { type: "outcome"; message: OutcomeMessage; answer: Answer }
  | { type: "fact"; body: FactBody }
  | { type: "note"; body: RunEventBody }
  | { type: "redeliver"; taskId: string; lost: { worker?: string; reason: string } }
  | { type: "begin"; accepted: RunEventBody & { type: "run.accepted" }; claimed: RunEventBody; done: Settle }
  | { type: "claim"; claimed: RunEventBody; done: Settle };

/** Resolves when the entry is stored, rejects when it was not. */
type Settle = { resolve: () => void; reject: (error: unknown) => void };

type Draft = {
  at: string;
  bodies: RunEventBody[];
  effects: Effect[];
  after: (() => void)[];
  settles: Settle[];
  snapshot?: SupervisorSnapshot;
};

/** Far below the time after which another daemon takes over, far above what an append takes. */
const OLD_ANSWER_MS = 500;
const CHECK_AGAIN_MS = 250;
/** A task lost this often takes its workers down with it. */
const MAX_DELIVERIES = 10;

/** Puts a run into this daemon's hands. */
export function activateRun(parts: RunHostParts, start: ActiveRunStart) {
  const { runId, definition, projection } = start;
  const { journals, desk, clock, logger } = parts;
  const subject = parts.subjectOf(runId);
  const deliveries = new Map(start.deliveries);
  const timers = new Map<string, () => void>();
  /** Workers at work on a handed-off task whose handoff is not on record yet. */
  const early = new Map<string, Holder>();
  const waiting = new Set<string>();
  /** When each open task was sent, in milliseconds of the clock. */
  const sentAt = new Map<string, number>();
  /** The step of each open task. */
  const steps = new Map<string, string>();
  let { seq, n, epoch } = start.position;
  let snapshot = start.snapshot;
  let queue: Happening[] = [];
  let pumping: Promise<void> | undefined;
  let open = true;
  let lastAt = start.position.at ?? 0;

  const self = {
    runId,
    definition,
    workflow: definition.name,
    get epoch() {
      return epoch;
    },
    get lastSeq() {
      return seq;
    },
    get isOpen() {
      return open;
    },
    get cancelling() {
      return snapshot?.value === "cancelling";
    },
    /** What the run was accepted with. */
    get setup(): RunSetup | undefined {
      return snapshot?.context.setup;
    },
    /** Whether nothing is at work on it: it waits for its time, for a worker, or for a retry. */
    get isIdle() {
      if (!snapshot) return false;
      return (
        snapshot.value === "scheduled" || Object.keys(snapshot.context.open).every((taskId) => waiting.has(taskId))
      );
    },
    openTasks: (): OpenTask[] => (snapshot ? Object.values(snapshot.context.open) : []),
    snapshot: () => snapshot,

    /** Opens the journal of a new run. Rejects with FencedError when the run exists. */
    begin(accepted: RunEventBody & { type: "run.accepted" }, claimed: RunEventBody): Promise<void> {
      return new Promise((resolve, reject) => happen({ type: "begin", accepted, claimed, done: { resolve, reject } }));
    },

    /** Makes this daemon the owner of a run whose journal was read. Rejects with FencedError when another was quicker. */
    claim(claimed: RunEventBody): Promise<void> {
      epoch += 1;
      return new Promise((resolve, reject) => happen({ type: "claim", claimed, done: { resolve, reject } }));
    },

    /** Sets the timers a takeover found in the journal. */
    resumeTimers() {
      for (const [id, dueAt] of Object.entries(snapshot?.context.timers ?? {})) setTimer(id, dueAt);
    },

    outcome(message: OutcomeMessage, answer: Answer) {
      happen({ type: "outcome", message, answer });
    },
    fact(body: FactBody) {
      happen({ type: "fact", body });
    },
    note(body: RunEventBody) {
      happen({ type: "note", body });
    },

    /** A task the broker does not carry. */
    unsendable(taskId: string, error: unknown) {
      const task = snapshot?.context.open[taskId]?.task;
      if (!task) return;
      const record = { ...toErrorRecord(error), retryable: false };
      happen({ type: "fact", body: failed(taskId, task.agent, record) });
    },

    /** Sends a task again under a new delivery; in a run that is being cancelled it counts as stopped instead. */
    redeliver(taskId: string, lost: { worker?: string; reason: string }) {
      happen({ type: "redeliver", taskId, lost });
    },

    accepted(taskId: string, worker: string | undefined) {
      if (self.cancelling) return void cancelTask(taskId);
      if (!waiting.delete(taskId)) return;
      happen({
        type: "note",
        body: { type: "task.accepted", data: { taskId, ...(worker !== undefined && { worker }) } },
      });
    },

    unserved(taskId: string) {
      const task = snapshot?.context.open[taskId]?.task;
      if (!task || waiting.has(taskId)) return;
      waiting.add(taskId);
      const reason = `no worker serves agent ${task.agent}`;
      happen({ type: "note", body: { type: "task.waiting", data: { taskId, agent: task.agent, reason } } });
    },

    stray(taskId: string, holder: Holder) {
      if (isAhead(taskId) && !self.cancelling) early.set(taskId, holder);
      else desk.tellHolder(holder, notWaitedFor(taskId));
    },

    traceparent: (taskId: string) => formatTraceparent(projection.segment(taskId, deliveries.get(taskId) ?? 1)),

    /** Resolves when nothing is on its way to the journal. */
    idle: () => pumping ?? Promise.resolve(),

    /** Says on record why the run cannot go on, and lets go. */
    park,

    /** Lets go without a word in the journal; whoever claims the run goes on from there. */
    close(why: CloseReason) {
      if (!open) return;
      open = false;
      for (const cancel of timers.values()) cancel();
      timers.clear();
      for (const taskId of Object.keys(snapshot?.context.open ?? {})) desk.forget(runId, taskId);
      // Tasks of handoffs that never came on record are nobody's.
      if (why === "ended") for (const [taskId, holder] of early) desk.tellHolder(holder, notWaitedFor(taskId));
      for (const happening of queue.splice(0)) {
        if (happening.type === "begin" || happening.type === "claim") happening.done.reject(new FencedError(subject));
        // The run is over, so what came too late is answered; otherwise the next owner answers.
        if (happening.type === "outcome" && why === "ended") happening.answer({ type: "superseded" });
      }
      parts.closed(self, why);
    },
  };
  return self;

  function happen(happening: Happening) {
    if (!open) {
      if (happening.type === "begin" || happening.type === "claim") happening.done.reject(new FencedError(subject));
      return;
    }
    queue.push(happening);
    pumping ??= pump();
  }

  async function pump() {
    try {
      while (open && queue.length > 0) {
        const batch = queue;
        queue = [];
        await record(batch);
      }
    } catch (error) {
      logger.error({ runId, err: error }, "the run could not be driven on");
      park(error);
    } finally {
      pumping = undefined;
    }
  }

  async function record(batch: readonly Happening[]) {
    const draft = draftOf(batch);
    if (!draft) return;
    if (draft.bodies.length === 0) {
      for (const act of draft.after) act();
      return;
    }
    try {
      await append(draft);
    } catch (error) {
      if (error instanceof PayloadTooLargeError) return divide(batch, error);
      for (const { reject } of draft.settles) reject(error);
      if (error instanceof FencedError) {
        logger.debug({ runId, epoch }, "fenced: another daemon owns the run");
        return self.close("fenced");
      }
      // Stopped while the answer was unknown: whoever claims the run next reads what was stored.
      if (error instanceof UnavailableError) return self.close("released");
      throw error;
    }
  }

  /** Folds a batch; undefined when the supervisor cannot take it and the run is parked. */
  function draftOf(batch: readonly Happening[]): Draft | undefined {
    const draft = emptyDraft();
    try {
      for (const happening of batch) take(draft, happening);
    } catch (error) {
      for (const { reject } of draft.settles) reject(error);
      // R5
      park(error);
      return undefined;
    }
    return draft;
  }

  function emptyDraft(): Draft {
    return { at: nextInstant(), bodies: [], effects: [], after: [], settles: [], ...(snapshot && { snapshot }) };
  }

  function take(draft: Draft, happening: Happening) {
    switch (happening.type) {
      case "begin": {
        const { accepted, claimed, done } = happening;
        const setup: RunSetup = { runId, request: accepted.data, acceptedAt: draft.at };
        draft.bodies.push(accepted, claimed);
        draft.settles.push(done);
        merge(draft, begin(definition, setup));
        return;
      }
      case "claim":
        draft.bodies.push(happening.claimed);
        draft.settles.push(happening.done);
        return;
      case "note":
        if (!ended(draft)) draft.bodies.push(happening.body);
        return;
      case "fact":
        addFact(draft, happening.body);
        return;
      case "outcome": {
        const { message, answer } = happening;
        const fact = factOf(draft, message);
        if (fact) {
          addFact(draft, fact);
          draft.after.push(() => answer({ type: "recorded" }));
        } else if (ended(draft) || !isAhead(message.taskId)) {
          draft.after.push(() => answer({ type: "superseded" }));
        }
        // D4: a task that is ahead of the journal gets no answer; its worker asks again.
        return;
      }
      case "redeliver":
        redeliver(draft, happening.taskId, happening.lost);
        return;
      default:
        happening satisfies never;
    }
  }

  function addFact(draft: Draft, body: FactBody) {
    const before = draft.snapshot;
    // R4
    if (!before || ended(draft)) return;
    draft.bodies.push(body);
    merge(draft, decide(before, { ...body, at: draft.at } as Fact));
  }

  function merge(draft: Draft, { snapshot: next, decisions, effects }: Decided) {
    draft.snapshot = next;
    draft.bodies.push(...decisions);
    draft.effects.push(...effects);
  }

  function redeliver(draft: Draft, taskId: string, lost: { worker?: string; reason: string }) {
    const task = draft.snapshot?.context.open[taskId]?.task;
    if (!task || ended(draft)) return;
    if (draft.snapshot?.value === "cancelling") return addFact(draft, stopped(taskId, task.agent));
    const delivery = (deliveries.get(taskId) ?? 1) + 1;
    if (delivery > MAX_DELIVERIES) {
      const message = `${MAX_DELIVERIES} workers were lost at work on it; the last: ${lost.reason}`;
      return addFact(draft, failed(taskId, task.agent, { code: "worker_lost", message }));
    }
    deliveries.set(taskId, delivery);
    parts.metrics.segmentLost(task.agent);
    const { agent, attempt } = task;
    const step = draft.snapshot?.context.open[taskId]?.step;
    draft.bodies.push({
      type: "task.sent",
      data: { taskId, agent, ...(step !== undefined && { step }), attempt, delivery, lost },
    });
    const { forwarded: _sentByUs, ...again } = task;
    draft.after.push(() => desk.send({ ...again, delivery }, self.traceparent(taskId)));
  }

  function factOf(draft: Draft, message: OutcomeMessage): FactBody | undefined {
    const openTask = draft.snapshot?.context.open[message.taskId];
    if (!openTask || ended(draft)) return undefined;
    const { taskId, worker, usage } = message;
    const { agent, hops } = openTask.task;
    const base = { taskId, ...(worker !== undefined && { worker }) };
    switch (message.type) {
      case "completed": {
        const { output, transcript } = message;
        const outcome = {
          type: "completed",
          output,
          usage: usage ?? NO_USAGE,
          ...(transcript && { transcript }),
        } as const;
        return { type: "task.settled", data: { ...base, agent, outcome } };
      }
      case "failed": {
        const outcome = { type: "failed", error: message.error, ...(usage && { usage }) } as const;
        return { type: "task.settled", data: { ...base, agent, outcome } };
      }
      case "handoff": {
        const { to, input, reason, transcript = [], messages, next } = message;
        return {
          type: "agent.handoff",
          data: {
            ...base,
            from: agent,
            to,
            ...(input !== undefined && { input }),
            ...(reason !== undefined && { reason }),
            transcript,
            ...(messages && { messages }),
            next:
              isNew(draft, next?.taskId) && next
                ? next
                : { taskId: parts.newTaskId(hops.length + 1), forwarded: false },
            ...(usage && { usage }),
          },
        };
      }
      default:
        return message satisfies never;
    }
  }

  async function append(draft: Draft) {
    const { at } = draft;
    const events = draft.bodies.map(
      (body, i) =>
        ({
          v: 1,
          id: parts.newEventId(),
          type: body.type,
          runId,
          n: n + i + 1,
          at,
          epoch,
          data: body.data,
        }) as RunEvent,
    );
    const { texts, body } = encodeEntry(events);
    const id = (events[0] as RunEvent).id;
    const since = performance.now();
    seq = await journals.append(subject, body, { expected: seq, id, signal: parts.stopping });
    n += events.length;
    const tookMs = performance.now() - since;
    parts.metrics.appendSeconds(tookMs / 1_000);
    if (tookMs > OLD_ANSWER_MS) await checkOwnership();
    snapshot = draft.snapshot;
    projection.recorded(events, seq);
    measure(events);
    parts.recorded(self, events, texts, seq);
    for (const { resolve } of draft.settles) resolve();
    // R3: a claim may have been followed by a release while it was in flight.
    if (!open) return;
    for (const act of [...draft.effects.map((effect) => () => perform(effect)), ...draft.after]) attempt(act);
    if (snapshot && isDone(snapshot)) self.close("ended");
  }

  /** One effect that fails must not keep the others from happening: all of them are on record. */
  function attempt(act: () => void) {
    try {
      act();
    } catch (error) {
      logger.error({ runId, err: error }, "something that is on record could not be done");
    }
  }

  // R3
  async function checkOwnership() {
    for (;;) {
      try {
        const last = await journals.last(subject);
        if (last && last.seq > seq) throw new FencedError(subject);
        return;
      } catch (error) {
        if (error instanceof FencedError) throw error;
        if (parts.stopping.aborted)
          throw new UnavailableError(`${subject}: stopped before it was known who owns the run`);
        logger.debug({ runId, err: error }, "could not check who owns the run; trying again");
      }
      await new Promise((resolve) => setTimeout(resolve, CHECK_AGAIN_MS));
    }
  }

  function measure(events: readonly RunEvent[]) {
    for (const { type, data } of events) {
      if (type !== "task.settled") continue;
      const { taskId, agent, outcome } = data;
      const since = sentAt.get(taskId);
      // A task this process did not send was taken over; its length is not known here.
      if (since === undefined) continue;
      parts.metrics.stepEnded({
        workflow: definition.name,
        // Ids of handed-off tasks are random; as a label each would be a series of its own.
        step: steps.get(taskId) ?? agent,
        agent,
        seconds: (clock.now() - since) / 1_000,
        ...(outcome.type === "failed" && { error: outcome.error.code }),
      });
    }
  }

  function perform(effect: Effect) {
    switch (effect.type) {
      case "askAgent": {
        const { task, forwarded } = effect.open;
        const holder = early.get(task.taskId);
        early.delete(task.taskId);
        // Decided and over within one batch.
        if (!snapshot || !Object.hasOwn(snapshot.context.open, task.taskId)) return;
        sentAt.set(task.taskId, clock.now());
        if (effect.open.step !== undefined) steps.set(task.taskId, effect.open.step);
        if (forwarded) desk.expect(task, self.traceparent(task.taskId), holder);
        else desk.send(task, self.traceparent(task.taskId));
        return;
      }
      case "timer":
        setTimer(effect.id, effect.dueAt);
        return;
      case "stop":
        stop(effect.child);
        return;
      default:
        effect satisfies never;
    }
  }

  function stop(child: string) {
    if (snapshot && Object.hasOwn(snapshot.context.open, child)) {
      cancelTask(child);
      // A run that has ended waits for nobody.
      if (isDone(snapshot)) desk.forget(runId, child);
      return;
    }
    waiting.delete(child);
    deliveries.delete(child);
    sentAt.delete(child);
    steps.delete(child);
    desk.forget(runId, child);
  }

  /** Tells the worker; where nobody has the task it has stopped already. */
  function cancelTask(taskId: string) {
    if (desk.tell(runId, { type: "cancel", taskId, reason: "the run is being cancelled" })) return;
    // It may be in a worker's hands without our knowing yet; then the worker is told when it says so.
    if (desk.withdraw(runId, taskId)) return;
    const task = snapshot?.context.open[taskId]?.task;
    if (task) happen({ type: "fact", body: stopped(taskId, task.agent) });
  }

  function setTimer(id: string, dueAt: string) {
    timers.get(id)?.();
    timers.set(
      id,
      clock.at(Date.parse(dueAt), () => {
        timers.delete(id);
        if (snapshot && Object.hasOwn(snapshot.context.timers, id))
          happen({ type: "fact", body: { type: "timer.fired", data: { id } } });
      }),
    );
  }

  /** Handed-off tasks are numbered by hop, so one that this journal has not reached can be told from one that it passed. */
  function isAhead(taskId: string): boolean {
    const hop = definition.kind === "handoff" ? hopOf(taskId) : undefined;
    if (hop === undefined || !snapshot) return false;
    return Object.keys(snapshot.context.open).every((current) => (hopOf(current) ?? Number.POSITIVE_INFINITY) < hop);
  }

  /** An entry the broker would not take: in parts it may fit; what does not fit alone becomes an error that says so. */
  async function divide(batch: readonly Happening[], error: PayloadTooLargeError): Promise<void> {
    const [only] = batch;
    if (batch.length > 1) {
      const middle = batch.length >> 1;
      await record(batch.slice(0, middle));
      if (open) await record(batch.slice(middle));
    } else if (only?.type === "outcome") {
      const { message, answer } = only;
      const { taskId, attempt } = message;
      const replaced: OutcomeMessage = {
        v: 1,
        taskId,
        attempt,
        type: "failed",
        error: { ...toErrorRecord(error), retryable: false },
      };
      await record([{ type: "outcome", message: replaced, answer }]);
    } else {
      if (only?.type === "begin" || only?.type === "claim") only.done.reject(error);
      park(error);
    }
  }

  function park(error: unknown) {
    const { code, message } = toErrorRecord(error);
    logger.error({ runId, code, err: error }, "run parked");
    if (n > 0 && open) {
      const parked: RunEventBody = { type: "run.parked", data: { reason: `${code}: ${message}` } };
      append({ ...emptyDraft(), bodies: [parked] }).catch((failure: unknown) =>
        logger.warn({ runId, err: failure }, "could not record that the run is parked"),
      );
    }
    self.close("parked");
  }

  /** The journal's times never run backwards, even when the clock is set back. */
  function nextInstant(): string {
    lastAt = Math.max(lastAt, clock.now());
    return new Date(lastAt).toISOString();
  }
}

const NO_USAGE = { inputTokens: 0, outputTokens: 0, modelCalls: 0 };

function ended({ snapshot }: Draft): boolean {
  return snapshot !== undefined && isDone(snapshot);
}

function failed(taskId: string, agent: string, error: ErrorRecord): FactBody {
  return { type: "task.settled", data: { taskId, agent, outcome: { type: "failed", error } } };
}

function stopped(taskId: string, agent: string): FactBody {
  return failed(taskId, agent, { code: "cancelled", message: "stopped before a worker had it" });
}

function isNew({ snapshot }: Draft, taskId: string | undefined): boolean {
  return taskId !== undefined && !Object.hasOwn(snapshot?.context.open ?? {}, taskId);
}

function notWaitedFor(taskId: string): TaskControl {
  return { type: "cancel", taskId, reason: "the run does not wait for this task" };
}

/** The hop a handed-off task belongs to: `h3-x7f2q1` is 3. */
function hopOf(taskId: string): number | undefined {
  const match = /^h(\d+)(?:-|$)/.exec(taskId);
  return match ? Number(match[1]) : undefined;
}
