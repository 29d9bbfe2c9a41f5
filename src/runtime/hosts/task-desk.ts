/**
 * The owner's side of the task protocol: sends tasks to mailboxes, knows who has them, and notices when nobody does.
 * What is known of one task is in `tracked-task.ts`; `agent-host.ts` is the other side.
 *
 * Invariants
 * D1  A task is sent only after its run's journal says so; sending it again is always safe, because workers drop what they
 *     know and outcomes are recorded once.
 * D2  A task that a worker had and lost is not sent again from here: the run is told, journals a new delivery, and sends that,
 *     so that every segment of work is on record.
 * D3  No timer per task: one ticker looks at the tasks that are on their way or at work.
 * D4  An outcome is answered `recorded` only by whoever journaled it; where that is not known there is no answer, and the
 *     worker asks again or stores it.
 * D5  A task that nobody answered for is asked for everywhere before it is sent again, and then says so: the answer, not the
 *     worker, may have been lost, and what another worker has recorded of the task must not be done again.
 * D6  A task has one holder. Another worker that has it too changes nothing, until the holder is gone or an outcome comes.
 * D7  A process that was itself paused, or that did not hear the broker, has not listened: everybody gets their time anew, and
 *     nothing is sent again before it is known that its runs are still its own.
 * D8  Who is presumed dead may only be unheard: it is asked before its tasks are sent again. And while a task is out again, the
 *     outcome of an earlier delivery is not answered: its worker stores it, which only one of the two can, before the other
 *     begins or after.
 */
import type { Logger } from "pino";
import type { OutcomeMessage, OutcomeReceipt, OwnerNotice, Task, TaskControl } from "../../actors/task.ts";
import type { Bus } from "../nats/connection.ts";
import { UNHEARD_MS } from "../nats/contact.ts";
import type { Msg } from "../nats/nats.ts";
import type { Payloads } from "../nats/payloads.ts";
import type { Subjects } from "../subjects.ts";
import { TransientMap } from "../transient-map.ts";
import { crashPoints } from "./crash-points.ts";
import { readTaskAnswer } from "./read-task-answer.ts";
import { dispatcherOf } from "./task-dispatch.ts";
import {
  askAfter,
  type Held,
  type Holder,
  heldAfter,
  isHeldBy,
  isOutdated,
  isWithNobody,
  type LostTask,
  noteUnknown,
  type Sent,
  searchAmong,
  silentFor,
  type Tracked,
} from "./tracked-task.ts";
import { reporterOfLarge } from "./whole-outcome.ts";

export type Answer = (receipt: OutcomeReceipt) => void;

/** What the desk tells the runs. */
export type DeskListener = {
  outcome(runId: string, message: OutcomeMessage, answer: Answer): void;
  /** A worker had it and is gone, silent or gave it back. */
  lost(runId: string, taskId: string, lost: LostTask): void;
  /** Nobody serves this agent. */
  unserved(runId: string, taskId: string): void;
  /** The broker does not carry it. */
  unsendable(runId: string, taskId: string, error: unknown): void;
  /** A worker has it. */
  accepted(runId: string, taskId: string, worker: string | undefined): void;
  /** A worker has a task this desk does not track: it is over, or its handoff is not on record yet. */
  stray(runId: string, taskId: string, holder: Holder): void;
};

export type TaskDeskOptions = {
  bus: Bus;
  subjects: Subjects;
  logger: Logger;
  payloads: Payloads;
  /** Answers come under `<inbox>.<runId>.<taskId>`. */
  inbox: string;
  listener: DeskListener;
  /** A task nobody took for this long is sent again, in milliseconds. */
  acceptTimeoutMs: number;
  /** A worker silent for this long has lost its task, in milliseconds. */
  silenceMs: number;
  /** Who would say so if a task of this agent, or tool, were not with them: the living daemons that host it. */
  workersOf: (agent: string, kind: Task["kind"]) => readonly string[];
  /** Resolves once runs that others have taken over are let go of. */
  checkOwnership: () => Promise<void>;
};

export type TaskDesk = {
  /** Puts a task into its agent's mailbox and keeps at it until a worker has it. */
  send(task: Task, traceparent: string): void;
  /** Takes note of a task that the agent handing off has sent; `holder` is the worker that said so before the journal did. */
  expect(task: Task, traceparent: string, holder?: Holder): void;
  /**
   * Asks everywhere who has these tasks of a run. Resolves when each is found or everybody has said that it is not with them;
   * `leaver` is a worker to be heard that does not count as living any more.
   */
  whereAre(runId: string, tasks: readonly SoughtTask[], leaver?: string): Promise<void>;
  /** Whether a worker is known to have it. */
  isTaken(runId: string, taskId: string): boolean;
  /** Tells a task's worker; false when none is known. */
  tell(runId: string, control: TaskControl): boolean;
  tellHolder(holder: Holder, control: TaskControl): void;
  /** Gives a task up that may be on its way to a worker: it is lost when nobody says to have it. False when none is on its way. */
  withdraw(runId: string, taskId: string): boolean;
  /** Asks who is at work on a task that its run does not wait for; whoever says so is a stray. */
  callOff(runId: string, taskId: string): void;
  forget(runId: string, taskId: string): void;
  /** Tasks of a worker that is presumed dead are lost. */
  workerGone(incarnation: string): void;
  /** Somebody new serves something: waiting tasks are tried at once. */
  serversChanged(): void;
  /** The connection is back: what nobody answered for is asked for at once, because it may have been lost with it. */
  restored(): Promise<void>;
  stop(): void;
};

/** A task with the trace context it travels with. */
type SoughtTask = { task: Task; traceparent: string };

const TICK_MS = 100;
// How long is waited for somebody who does not say whether a task is with them: a daemon that died just now, or a foreign
// worker, which need not answer.
const WHEREABOUTS_MS = 600;
// A worker that lives answers within milliseconds, whoever takes it for dead.
const UNHEARD_ANSWER_MS = 100;
// Ticks further apart than this mean that the process did not run in between.
const PAUSED_MS = 500;
// Shorter gaps (a daemon that restarts) are not worth an entry in the journal.
const UNSERVED_SAID_AFTER_MS = 1_000;

/** Opens the desk of one daemon. */
export function openTaskDesk(options: TaskDeskOptions): TaskDesk {
  const { bus, subjects, logger, payloads, inbox, listener, acceptTimeoutMs, silenceMs, workersOf } = options;
  const { nc } = bus;
  const tracked = new TransientMap<string, Tracked>();
  const stopping = new AbortController();
  const publish = dispatcherOf({
    bus,
    subjects,
    payloads,
    inbox,
    signal: stopping.signal,
    isTracked: (entry) => tracked.get(keyOf(entry.task.runId, entry.task.taskId)) === entry,
    unsendable,
  });
  const reportWhole = reporterOfLarge({ payloads, logger, report });
  const inboxDepth = inbox.split(".").length;
  const subscription = nc.subscribe(`${inbox}.>`, { callback: (error, message) => error ?? hear(message) });
  const ticker = setInterval(tick, TICK_MS);
  let lastTick = performance.now();
  let deaf = false;
  let recovering: Promise<void> | undefined;

  return {
    send(task, traceparent) {
      publish(track(task, traceparent, false));
    },
    expect(task, traceparent, holder) {
      const entry = track(task, traceparent, true);
      if (holder) take(entry, holder);
    },
    async whereAre(runId, tasks, leaver) {
      const since = performance.now();
      const searches = tasks.map(({ task, traceparent }) => {
        const { promise, resolve } = Promise.withResolvers<void>();
        const asked = searchAmong(workersOf(task.agent, task.kind), resolve, leaver);
        track(task, traceparent, true).state = { is: "asked", asked };
        return promise;
      });
      ask(
        runId,
        tasks.map(({ task }) => task.taskId),
      );
      const { promise: over, resolve: giveUp } = Promise.withResolvers<void>();
      const timer = setTimeout(giveUp, WHEREABOUTS_MS);
      await Promise.race([Promise.all(searches), over]);
      clearTimeout(timer);
      // D8
      const leftMs = UNHEARD_ANSWER_MS - (performance.now() - since);
      if (leftMs > 0 && tasks.some(({ task }) => !isTaken(runId, task.taskId))) await sleep(leftMs);
    },
    isTaken,
    tell(runId, control) {
      const state = tracked.get(keyOf(runId, control.taskId))?.state;
      if (state?.is !== "taken" || !state.control) return false;
      tellHolder(state, control);
      return true;
    },
    tellHolder,
    withdraw(runId, taskId) {
      const entry = tracked.get(keyOf(runId, taskId));
      if (!entry || entry.state.is === "taken") return false;
      if (entry.state.is === "held") {
        if (!entry.state.sent) return false;
        // Nobody answered yet, and nobody is to be sent it again: from here on it is only asked for.
        entry.state = { is: "sent", at: performance.now(), tries: 1 };
      }
      entry.withdrawn = true;
      return true;
    },
    callOff: (runId, taskId) => ask(runId, [taskId]),
    forget(runId, taskId) {
      const entry = tracked.get(keyOf(runId, taskId));
      if (!entry) return;
      const { state, reporter } = entry;
      // D6: the outcome came from elsewhere.
      if (state.is === "taken" && reporter !== undefined && reporter !== state.worker) {
        tellHolder(state, { type: "cancel", taskId, reason: "another worker was first" });
      }
      tracked.delete(keyOf(runId, taskId));
      if (state.is === "asked") state.asked.found();
    },
    workerGone(incarnation) {
      const held = [...tracked.values()].filter(({ state }) => isHeldBy(state, incarnation));
      const since = performance.now();
      // D8
      for (const [runId, entries] of Map.groupBy(held, ({ task }) => task.runId)) {
        ask(
          runId,
          entries.map(({ task }) => task.taskId),
        );
      }
      void sleep(UNHEARD_ANSWER_MS).then(() => {
        for (const entry of held) {
          const { task, state } = entry;
          if (tracked.get(keyOf(task.runId, task.taskId)) !== entry || state.is !== "taken") continue;
          if (isHeldBy(state, incarnation) && state.heard <= since) lose(task, state.worker, "worker gone");
        }
      });
    },
    serversChanged() {
      for (const entry of tracked.values()) {
        if (entry.state.is === "held" && entry.state.why === "unserved") entry.state.until = 0;
      }
      tick();
    },
    async restored() {
      lastTick = performance.now();
      await recover();
      const now = performance.now();
      for (const entry of tracked.values()) {
        if (entry.state.is === "sent")
          seek(entry, { ...entry.state, at: now - acceptTimeoutMs * entry.state.tries }, now);
      }
    },
    stop() {
      stopping.abort();
      clearInterval(ticker);
      subscription.unsubscribe();
      tracked.clear();
    },
  };

  function track(task: Task, traceparent: string, forwarded: boolean): Tracked {
    const entry: Tracked = { task, traceparent, forwarded, state: { is: "sent", at: performance.now(), tries: 1 } };
    tracked.set(keyOf(task.runId, task.taskId), entry);
    return entry;
  }

  function tellHolder({ control }: Holder, words: TaskControl) {
    if (control) nc.publish(control, JSON.stringify(words));
  }

  function ask(runId: string, tasks: string[]) {
    const notice: OwnerNotice = { v: 1, runId, tasks, reply: `${inbox}.${runId}` };
    nc.publish(subjects.owners, JSON.stringify(notice));
  }

  function unsendable({ task: { runId, taskId } }: Tracked, error: unknown) {
    tracked.delete(keyOf(runId, taskId));
    listener.unsendable(runId, taskId, error);
  }

  function hear(message: Msg) {
    const [runId, taskId] = message.subject.split(".").slice(inboxDepth);
    if (runId === undefined || taskId === undefined) return;
    const entry = tracked.get(keyOf(runId, taskId));
    if (message.data.length === 0) {
      // The broker's "no responders" for a task that was just sent.
      if (entry && message.headers?.code === 503) hold(entry, "unserved");
      return;
    }
    const answer = readTaskAnswer(message);
    if (!answer) {
      logger.warn({ subject: message.subject, data: message.string().slice(0, 200) }, "not an answer to a task");
      return;
    }
    switch (answer.type) {
      case "accepted":
      case "working":
        if (entry) take(entry, { worker: answer.worker, control: message.reply }, answer.delivery);
        else listener.stray(runId, taskId, { worker: answer.worker, control: message.reply });
        return;
      case "busy":
        if (entry?.state.is !== "taken") entry && hold(entry, "busy");
        // D6
        else if (entry.state.worker === answer.worker) lose(entry.task, answer.worker, "handed back");
        return;
      case "unknown":
        if (entry) noteUnknown(entry, answer.worker);
        return;
      default:
        // D8
        if (entry && isOutdated(entry, answer)) return;
        if (entry) noteReport(entry, answer.worker);
        if (answer.refs === undefined) report(runId, answer, message);
        else void reportWhole(runId, answer, message);
    }
  }

  function report(runId: string, outcome: OutcomeMessage, message: Msg) {
    // D4
    listener.outcome(runId, outcome, (receipt) => {
      crashPoints.at("before-recorded");
      message.respond(JSON.stringify(receipt));
      crashPoints.onceSent("after-recorded");
    });
  }

  function isTaken(runId: string, taskId: string): boolean {
    return tracked.get(keyOf(runId, taskId))?.state.is === "taken";
  }

  function take(entry: Tracked, holder: Holder, delivery?: number) {
    const { task, forwarded, state } = entry;
    // D6
    if (state.is === "taken" && state.worker !== holder.worker) return;
    entry.state = { is: "taken", ...holder, heard: performance.now() };
    if (state.is === "taken") return;
    if (state.is === "asked") state.asked.found();
    // A worker that was found by asking may have it from somebody else.
    const isFound = state.is === "sent" && state.asked !== undefined;
    // One that was given to somebody else since would take itself for relieved.
    const isBehind = delivery !== undefined && delivery < task.delivery;
    if (forwarded || isFound || isBehind)
      tellHolder(holder, { type: "known", taskId: task.taskId, delivery: task.delivery });
    listener.accepted(task.runId, task.taskId, holder.worker);
  }

  function hold(entry: Tracked, why: Held["why"]) {
    if (entry.state.is === "taken" || entry.state.is === "asked") return;
    if (entry.withdrawn) return lose(entry.task, undefined, "withdrawn");
    entry.state = heldAfter(entry.state, why, performance.now());
  }

  function lose(task: Task, worker: string | undefined, reason: string) {
    tracked.delete(keyOf(task.runId, task.taskId));
    listener.lost(task.runId, task.taskId, { ...(worker !== undefined && { worker }), reason });
  }

  function tick() {
    if (!bus.connected()) return;
    const now = performance.now();
    // D7
    if (now - lastTick > PAUSED_MS) deaf = true;
    lastTick = now;
    if (now - bus.heardAt() > UNHEARD_MS) {
      deaf = true;
      return;
    }
    if (deaf) void recover();
    deaf = false;
    if (recovering) return;
    for (const entry of [...tracked.values()]) {
      const { task, state } = entry;
      switch (state.is) {
        case "sent":
          chase(entry, state, now);
          break;
        case "held":
          retry(entry, state, now);
          break;
        case "taken":
          if (now - state.heard > silenceMs) lose(task, state.worker, silentFor(silenceMs));
          break;
        case "asked":
          break;
        default:
          state satisfies never;
      }
    }
  }

  function retry(entry: Tracked, state: Held, now: number) {
    const { runId, taskId } = entry.task;
    if (state.why === "unserved" && !state.said && now - state.since > UNSERVED_SAID_AFTER_MS) {
      state.said = true;
      listener.unserved(runId, taskId);
    }
    if (now < state.until) return;
    // Stays held until somebody answers, so that `since` and `said` are kept over tries.
    state.until = now + acceptTimeoutMs;
    if (state.sent) entry.again = true;
    publish(entry);
    state.sent = true;
  }

  /** D5 */
  function chase(entry: Tracked, state: Sent, now: number) {
    const { runId, taskId, agent } = entry.task;
    const { at, asked, tries } = state;
    const due = at + acceptTimeoutMs * tries;
    if (!asked) {
      if (now >= at + askAfter(entry, tries, acceptTimeoutMs)) seek(entry, state, now);
    } else if (isWithNobody(entry, asked, now >= due) || (now >= due && now >= asked.at + WHEREABOUTS_MS)) {
      if (entry.withdrawn) return lose(entry.task, undefined, "withdrawn");
      logger.debug({ runId, taskId, agent }, "nobody took the task; sending it again");
      entry.state = { is: "sent", at: now, tries: tries + 1 };
      entry.again = true;
      publish(entry);
    }
  }

  /** Asks everybody whether they have a task that was sent. */
  function seek(entry: Tracked, state: Sent, now: number) {
    const { runId, taskId, agent, kind } = entry.task;
    entry.state = { ...state, asked: { ...searchAmong(workersOf(agent, kind), () => {}), at: now } };
    ask(runId, [taskId]);
  }

  /** Whoever has the outcome of a task has the task, until the run has made up its mind about it. */
  function noteReport(entry: Tracked, worker: string | undefined) {
    const { state } = entry;
    if (worker !== undefined) entry.reporter = worker;
    if (state.is === "taken") return;
    entry.state = { is: "taken", worker, control: undefined, heard: performance.now() };
    if (state.is === "asked") state.asked.found();
  }

  function recover(): Promise<void> {
    recovering ??= checkAndRenew().finally(() => {
      recovering = undefined;
    });
    return recovering;
  }

  async function checkAndRenew() {
    await options.checkOwnership();
    const now = performance.now();
    for (const { state } of tracked.values()) {
      if (state.is === "sent") state.at = now;
      else if (state.is === "taken") state.heard = now;
    }
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}

function keyOf(runId: string, taskId: string): string {
  return `${runId}/${taskId}`;
}
