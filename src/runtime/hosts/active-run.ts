/**
 * One run in the hands of its owner: takes what happens to it, lets the supervisor decide, journals, then acts.
 *
 * Who does what: `run-draft.ts` says what a batch of happenings leads to, this file puts it into the journal, `run-effects.ts`
 * does what is on record and hears what becomes of it.
 *
 * Invariants
 * R1  Journal, then act, then answer: effects are performed and outcomes answered only after the entry that causes them is
 *     stored. What happens while an append is in flight waits for the next entry.
 * R2, R4: see `run-draft.ts`.
 * R3  An append that finds another writer ends this object silently: no answer, no effect, no further write.
 *     An answer that took long may have waited for this process to run again: it is believed only after another look.
 * R5  A supervisor or a journal that cannot be handled parks this run with its reason; it never throws into the daemon.
 * R7  A journal that has come to its limit takes one entry more: what has just happened, and the end of the run.
 * R8  Snapshots are made between two entries, of what is stored and done; the run does not wait for them.
 */
import type { Logger } from "pino";
import type { OutcomeMessage } from "../../actors/task.ts";
import { FencedError, PayloadTooLargeError, toErrorRecord, UnavailableError } from "../../errors.ts";
import type { Metrics } from "../../tracing/metrics.ts";
import type { RunProjection } from "../../tracing/tracing.ts";
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import { isInstantTimer } from "../../workflows/outside-waits.ts";
import { ENTRY_TOO_LARGE, type OpenTask, type RunSetup } from "../../workflows/plan.ts";
import type { ReusedStep } from "../../workflows/reused-steps.ts";
import type { FactBody, RunEvent, RunEventBody } from "../../workflows/run-events.ts";
import { isCallingOff, isDone, isEnding, type SupervisorSnapshot, save } from "../../workflows/supervisor.ts";
import type { Journals } from "../nats/journal.ts";
import type { Payloads } from "../nats/payloads.ts";
import { callHooks } from "./call-hooks.ts";
import type { ChildRuns } from "./child-runs.ts";
import type { Clock } from "./clock.ts";
import { crashPoints } from "./crash-points.ts";
import { encodeEntry, encodeFitting } from "./encode-entry.ts";
import { type JournalLimits, limitReached } from "./journal-limits.ts";
import { type AcceptedBody, makeEvents, type Position, type Writer } from "./make-events.ts";
import type { RestingRun } from "./resting-runs.ts";
import { type Draft, emptyDraft, type Happening, type Sendings, take } from "./run-draft.ts";
import { openRunEffects } from "./run-effects.ts";
import type { RunSnapshots, SnapshotContent } from "./run-snapshots.ts";
import type { Answer, TaskDesk } from "./task-desk.ts";
import type { LostTask } from "./tracked-task.ts";

/** What a run needs from its daemon. */
export type RunHostParts = {
  journals: Journals<RunEvent[]>;
  payloads: Payloads;
  subjectOf: (runId: string) => string;
  desk: TaskDesk;
  children: Pick<ChildRuns, "start" | "cancel">;
  clock: Clock;
  logger: Logger;
  newEventId: () => string;
  newTaskId: (hops: number) => string;
  writer: Writer;
  stopping: AbortSignal;
  metrics: Metrics;
  snapshots: RunSnapshots;
  /** How much the journal of one run may hold. */
  journalLimits: JournalLimits;
  /** Called after every entry, before its effects. */
  recorded: (run: ActiveRun, events: readonly RunEvent[], texts: readonly Uint8Array[], seq: number) => void;
  /** Called whenever nothing is on its way to the run's journal any more. */
  quiet: (run: ActiveRun) => void;
  /** Called once when this object has nothing more to do. */
  closed: (run: ActiveRun, why: CloseReason) => void;
};

export type CloseReason = "ended" | "fenced" | "released" | "parked" | "resting";

export type ActiveRun = ReturnType<typeof activateRun>;

export type ActiveRunStart = {
  runId: string;
  definition: WorkflowDefinition;
  projection: RunProjection;
  position: Position;
  /** The folded supervisor of a run that is taken over; absent for a new run. */
  snapshot?: SupervisorSnapshot;
  /** How often each open task was sent, where that is not once. */
  sendings?: ReadonlyMap<string, Sendings>;
  /** The first event of a run that is taken over. */
  accepted?: Accepted;
  /** Where its last claim stands; one that wakes goes on under it. */
  claimSeq?: number;
  /** Where the journal's last snapshot stands. @default before the first event */
  snapshotAt?: { n: number; bytes: number };
};

type Accepted = RunEvent & { type: "run.accepted" };

/** Far below the time after which another daemon takes over, far above what an append takes. */
const OLD_ANSWER_MS = 500;
const CHECK_AGAIN_MS = 250;

/** Puts a run into this daemon's hands. */
export function activateRun(parts: RunHostParts, start: ActiveRunStart) {
  const { runId, definition, projection } = start;
  const { journals, clock, logger, metrics } = parts;
  const subject = parts.subjectOf(runId);
  let { seq, n, epoch, bytes = 0 } = start.position;
  let { accepted } = start;
  let { claimSeq = 0 } = start;
  let snapshot = start.snapshot;
  let queue: Happening[] = [];
  let pumping: Promise<void> | undefined;
  let open = true;
  let lastAt = start.position.at ?? 0;
  /** What has become of its children has still to be looked up, and would be told to nobody if it rested. */
  let isAboutChildren = Object.values(start.snapshot?.context.open ?? {}).some(({ task }) => task.kind === "workflow");
  const keeper = parts.snapshots.keep(runId, start.snapshotAt ?? { n: 0, bytes: 0 });
  const effects = openRunEffects({
    runId,
    definition,
    projection,
    desk: parts.desk,
    children: parts.children,
    clock,
    metrics,
    sendings: start.sendings,
    now,
    snapshot: () => snapshot,
    happen,
  });

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
    /** Whether its tasks are called off. */
    get callingOff() {
      return isCallingOff(snapshot?.value);
    },
    /** Whether it is going to fail or to be cancelled. */
    get ending() {
      return isEnding(snapshot?.value);
    },
    /** What the run was accepted with. */
    get setup(): RunSetup | undefined {
      return snapshot?.context.setup;
    },
    /** Whether nothing is at work on it: it waits for its time, for a worker, or for a retry. */
    get isIdle() {
      if (!snapshot) return false;
      if (snapshot.value !== "scheduled" && !effects.allWait()) return false;
      // What is due has been given its room already.
      return !Object.values(snapshot.context.timers).some((dueAt) => Date.parse(dueAt) <= now());
    },
    /** When it wakes if it rests from now on; undefined where it waits for something else than its time. */
    get rest(): Pick<RestingRun, "dueMs" | "aheadMs"> | undefined {
      if (!open || pumping || isAboutChildren || !snapshot || isDone(snapshot)) return undefined;
      const { open: tasks, timers } = snapshot.context;
      // Another run's end wakes this one.
      if (Object.values(tasks).some(({ task }) => task.kind !== "workflow")) return undefined;
      const dueMs = Math.min(...Object.values(timers).map((dueAt) => Date.parse(dueAt)));
      const isByWall = Object.keys(timers).every(isInstantTimer);
      if (snapshot.value === "scheduled" || isByWall) return { dueMs };
      const aheadMs = now() - clock.now();
      return { dueMs: dueMs - aheadMs, aheadMs };
    },
    openTasks: (): OpenTask[] => (snapshot ? Object.values(snapshot.context.open) : []),
    snapshot: () => snapshot,

    /** Opens the journal of a new run, with what it takes over of another. Rejects with FencedError when the run exists. */
    begin(accepted: AcceptedBody, claimed: RunEventBody, reused: readonly ReusedStep[]): Promise<void> {
      return new Promise((resolve, reject) =>
        happen({ type: "begin", accepted, claimed, reused, done: { resolve, reject } }),
      );
    },

    /** Makes this daemon the owner of a run whose journal was read. Rejects with FencedError when another was quicker. */
    claim(claimed: RunEventBody): Promise<void> {
      epoch += 1;
      return new Promise((resolve, reject) => happen({ type: "claim", claimed, done: { resolve, reject } }));
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

    /** Sends a task again under a new delivery; in a run that is being cancelled it counts as stopped instead. */
    redeliver(taskId: string, lost: LostTask) {
      happen({ type: "redeliver", taskId, lost });
    },

    resumeTimers: effects.resumeTimers,
    traceparent: effects.traceparent,
    // What the desk tells.
    accepted: effects.accepted,
    unserved: effects.unserved,
    unsendable: effects.unsendable,
    stray: effects.stray,

    /** Asks once more for what a task of kind `workflow` stands for. */
    askAgain: effects.askAgain,
    /** It is known where its children are; from here on it is told of their ends. */
    childrenFound() {
      isAboutChildren = false;
      if (open && !pumping) parts.quiet(self);
    },

    /** Resolves when nothing is on its way to the journal. */
    idle: () => pumping ?? Promise.resolve(),

    /** Says on record why the run cannot go on, and lets go. */
    park,

    /** Lets go without a word in the journal; whoever claims the run goes on from there. */
    close(why: CloseReason) {
      if (!open) return;
      open = false;
      effects.close(why === "ended");
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
      if (open) parts.quiet(self);
    }
  }

  async function record(batch: readonly Happening[]) {
    const draft = draftOf(batch);
    if (!draft) return;
    if (draft.bodies.length === 0) {
      for (const answer of draft.answers) answer();
      return;
    }
    try {
      await append(draft, batch.length === 1);
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
    const draft = emptyDraft(nextInstant(), snapshot);
    const { newTaskId } = parts;
    const base = { runId, definition, snapshot, sendings: effects.sendings, newTaskId };
    try {
      for (const happening of batch) take(base, draft, happening);
      const isNews = draft.bodies.length > 0 && batch.some(({ type }) => type !== "claim");
      const reached = isNews && limitReached(parts.journalLimits, { events: n + draft.bodies.length, bytes });
      // R7
      if (reached) take(base, draft, { type: "fact", body: { type: "run.exceeded", data: reached } });
    } catch (error) {
      for (const { reject } of draft.settles) reject(error);
      // R5
      park(error);
      return undefined;
    }
    return draft;
  }

  /** Stores a draft. What does not fit goes without its large values, where nothing else is to be tried first. */
  async function append(draft: Draft, isLast: boolean) {
    const { at, bodies, settles, resent, answers } = draft;
    const events = makeEvents(bodies, { runId, at, position: { n, epoch }, newEventId: parts.newEventId });
    const made = isLast ? encodeFitting(parts.payloads, events, parts.stopping) : encodeEntry(events);
    const { stored, texts, body } = made instanceof Promise ? await made : made;
    const since = performance.now();
    if (crashPoints.armed) await crashPoints.beforeEntry(events);
    seq = await journals.append(subject, body, { expected: seq, id: events[0].id, signal: parts.stopping });
    crashPoints.afterEntry(events);
    n += events.length;
    bytes += body.length;
    const [first] = stored;
    if (first?.type === "run.accepted") accepted = first;
    if (events.some(({ type }) => type === "run.claimed")) claimSeq = seq;
    const tookMs = performance.now() - since;
    metrics.appendSeconds(tookMs / 1_000);
    if (tookMs > OLD_ANSWER_MS) await checkOwnership();
    const before = snapshot?.context.open ?? {};
    snapshot = draft.snapshot;
    projection.recorded(stored, seq);
    effects.recorded(stored);
    parts.recorded(self, stored, texts, seq);
    callHooks({ runId, definition, logger }, events, (taskId) => before[taskId]?.step);
    for (const { resolve } of settles) resolve();
    // R3: a claim may have been followed by a release while it was in flight.
    if (!open) return;
    if (crashPoints.armed) await crashPoints.before("before-effects");
    // R1
    for (const [i, effect] of draft.effects.entries()) {
      if (crashPoints.armed && i > 0) await crashPoints.before("between-effects");
      attempt(() => effects.perform(effect));
    }
    for (const again of resent) attempt(() => effects.resend(again));
    for (const answer of answers) attempt(answer);
    if (!snapshot) return;
    if (isDone(snapshot)) self.close("ended");
    else if (accepted) {
      const now = { accepted, entryId: events[0].id, at, supervisor: snapshot };
      // R8
      keeper.stored(n, bytes, () => snapshotContent(now));
    }
  }

  function snapshotContent(now: { accepted: Accepted; entryId: string; at: string; supervisor: SupervisorSnapshot }) {
    const supervisor = save(now.supervisor);
    const made = projection.save();
    return {
      ...now,
      ...{ seq, n, epoch, bytes, supervisor },
      claim: { ...parts.writer, seq: claimSeq },
      hash: definition.hash,
      sendings: Object.fromEntries([...effects.sendings].filter(([id]) => Object.hasOwn(supervisor.open, id))),
      ...(made && { projection: made }),
    } satisfies SnapshotContent;
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

  /** An entry the broker would not take: in parts it may fit; what is beyond the cap becomes an error that says so. */
  async function divide(batch: readonly Happening[], error: PayloadTooLargeError): Promise<void> {
    const [only] = batch;
    if (batch.length > 1) {
      const middle = batch.length >> 1;
      await record(batch.slice(0, middle));
      if (open) await record(batch.slice(middle));
    } else if (only?.type === "outcome") {
      const { message, answer } = only;
      const { taskId, attempt } = message;
      const before = message.type === "failed" ? message.error.code : undefined;
      if (before === ENTRY_TOO_LARGE) return park(error);
      // A step may let the run go on without it, and that be too much as well.
      const code = before === error.code ? ENTRY_TOO_LARGE : error.code;
      const replaced: OutcomeMessage = {
        v: 1,
        taskId,
        attempt,
        type: "failed",
        error: { ...toErrorRecord(error), code, retryable: false },
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
      append({ ...emptyDraft(nextInstant(), snapshot), bodies: [parked] }, true).catch((failure: unknown) =>
        logger.warn({ runId, err: failure }, "could not record that the run is parked"),
      );
    }
    self.close("parked");
  }

  /** The journal's times never run backwards, even when the clock is set back. */
  function nextInstant(): string {
    lastAt = now();
    return new Date(lastAt).toISOString();
  }

  function now(): number {
    return Math.max(lastAt, clock.now());
  }
}
