/**
 * The runs that steps ask for: their requests go through the door like any other, and their ends come back to their parents.
 *
 * Invariants
 * C1  A child's id follows from its parent's and the attempt, so asking for it again is safe: at the door it is one run.
 * C2  A child's end is taken from its journal, whoever says that there is one, and is a fact in its parent's journal like the
 *     outcome of any task.
 * C3  A run without its parent is cancelled: by the parent's owner, and by whoever drives the child and sees that the parent is
 *     over, because an owner may die before it says so.
 */
import type { Logger } from "pino";
import type { OutcomeMessage, Task } from "../../actors/task.ts";
import { PayloadTooLargeError, toErrorRecord } from "../../errors.ts";
import { childRunIdOf } from "../../workflows/child-run-id.ts";
import { isTerminal, type RunEvent, type RunParent } from "../../workflows/run-events.ts";
import { resultOf } from "../../workflows/run-record.ts";
import type { Bus } from "../nats/connection.ts";
import type { Journals } from "../nats/journal.ts";
import { headers, nuid } from "../nats/nats.ts";
import { LARGE, type Payloads } from "../nats/payloads.ts";
import { type Subjects, TRACEPARENT_HEADER } from "../subjects.ts";
import type { ActiveRun } from "./active-run.ts";
import { crashPoints } from "./crash-points.ts";
import type { Signal } from "./signals.ts";

export type ChildRuns = {
  /** Asks for the run of a task, until the broker has stored the request. */
  start(task: Task, about: ChildRequest): void;
  /** Asks for a run to be stopped. */
  cancel(childId: string, reason: string): void;
  /** Looks what has become of the children of a run that came here, and asks for those there are not. */
  lookAfter(run: ActiveRun): Promise<void>;
  /** A child has ended, or so it seems: `tell` gets its outcome, as the journal says it. */
  ended(parent: Pick<RunParent, "runId" | "taskId">, childId: string, tell: (outcome: OutcomeMessage) => void): void;
};

/** What a child's request carries beside its input. */
type ChildRequest = { parent: RunParent; traceparent: string; sessionId?: string; userId?: string };

export type ChildRunsOptions = {
  bus: Bus;
  subjects: Subjects;
  logger: Logger;
  journals: Journals<RunEvent[]>;
  payloads: Payloads;
  stopping: AbortSignal;
  /** Whether a run is this daemon's. */
  owns: (runId: string) => boolean;
  /** Whether an id has ever been a run's, as far as this daemon has seen. */
  known: (runId: string) => boolean;
  now: () => number;
};

const AGAIN_MS = 500;
const PUBLISH_TIMEOUT_MS = 5_000;
const ENVELOPE_BYTES = 512;

/** Opens what looks after children for one daemon. */
export function openChildRuns(options: ChildRunsOptions): ChildRuns {
  const { bus, subjects, logger, journals, payloads, stopping, owns, known, now } = options;
  return { start, cancel, lookAfter, ended };

  function start(task: Task, about: ChildRequest) {
    const { childId, runId } = task;
    void untilDone(`could not ask for run ${childId}`, runId, () => request(task, about));
  }

  // C1
  async function request(task: Task, { parent, traceparent, sessionId, userId }: ChildRequest): Promise<void> {
    const { childId: runId, agent: workflow, input } = task;
    const timeoutMs = timeLeft(task);
    const body = {
      input: input ?? null,
      runId,
      parent,
      ...(sessionId !== undefined && { sessionId }),
      ...(userId !== undefined && { userId }),
      ...(timeoutMs !== undefined && { timeoutMs }),
    };
    const hdrs = headers();
    hdrs.set(TRACEPARENT_HEADER, traceparent);
    const data = await encoded(body);
    if (crashPoints.armed) await crashPoints.before("before-child-asked");
    await bus.js.publish(subjects.request(workflow), data, { headers: hdrs, timeout: PUBLISH_TIMEOUT_MS });
    crashPoints.at("after-child-asked");
  }

  /** The step's own limit, and what is left of the run's. */
  function timeLeft({ timeoutMs, deadline }: Task): number | undefined {
    const left = deadline === undefined ? undefined : Math.max(1, Date.parse(deadline) - now());
    if (timeoutMs === undefined || left === undefined) return timeoutMs ?? left;
    return Math.min(timeoutMs, left);
  }

  async function encoded(body: { input: unknown }): Promise<Buffer> {
    const whole = Buffer.from(JSON.stringify(body));
    const room = payloads.room(ENVELOPE_BYTES);
    if (whole.length <= room) return whole;
    const about = {
      what: "the request of a child run",
      fields: LARGE.request,
      bytes: whole.length,
      room,
      signal: stopping,
    };
    const [left] = await payloads.detach([body], about);
    return Buffer.from(JSON.stringify({ ...left, input: null }));
  }

  // C3
  function cancel(childId: string, reason: string) {
    const signal: Signal = { v: 1, kind: "cancel", id: nuid.next(), at: new Date().toISOString(), reason };
    void untilDone(`could not cancel run ${childId}`, undefined, async () => {
      await bus.js.publish(subjects.signal(childId), JSON.stringify(signal), {
        msgID: signal.id,
        timeout: PUBLISH_TIMEOUT_MS,
      });
    });
  }

  async function lookAfter(run: ActiveRun): Promise<void> {
    for (const { task } of run.openTasks()) {
      const { childId, taskId } = task;
      if (childId === undefined) continue;
      await untilDone(`could not look after run ${childId}`, run.runId, async () => {
        const wasKnown = known(childId);
        const last = await journals.last(subjects.run(childId));
        if (!run.isOpen) return;
        if (!last && wasKnown) return run.outcome(goneOutcome(task), () => {});
        if (!last) return run.askAgain(taskId);
        const end = last.value.at(-1);
        if (end && isTerminal(end.type)) run.outcome(await outcomeOf(run.runId, task, end), () => {});
      });
    }
    run.childrenFound();
  }

  // C2
  function ended(
    { runId, taskId }: Pick<RunParent, "runId" | "taskId">,
    childId: string,
    tell: (outcome: OutcomeMessage) => void,
  ) {
    // Whoever writes a request may say whose child it is.
    if (childRunIdOf(runId, taskId) !== childId) return;
    void untilDone(`could not read the end of run ${childId}`, runId, async () => {
      const end = (await journals.last(subjects.run(childId)))?.value.at(-1);
      if (end && isTerminal(end.type)) tell(await outcomeOf(runId, { taskId, attempt: 1 }, end));
    });
  }

  async function outcomeOf(
    runId: string,
    { taskId, attempt }: Pick<Task, "taskId" | "attempt">,
    end: RunEvent,
  ): Promise<OutcomeMessage> {
    const base = { v: 1, taskId, attempt } as const;
    try {
      const result = resultOf(await payloads.resolve(end, { fields: LARGE.event }));
      if (result?.status === "completed") {
        return { ...base, type: "completed", output: result.output, usage: NO_USAGE };
      }
      const { code, message } = result?.error ?? { code: "internal", message: "it ended without a result" };
      return { ...base, type: "failed", error: { code, message: `run ${end.runId}: ${message}` } };
    } catch (error) {
      if (!(error instanceof PayloadTooLargeError)) throw error;
      logger.warn({ runId, taskId, err: error }, "what a child run gave cannot be taken");
      return { ...base, type: "failed", error: { ...toErrorRecord(error), retryable: false } };
    }
  }

  /** Tries until it works, this daemon stops, or the run is not its own any more. */
  async function untilDone(trouble: string, runId: string | undefined, act: () => Promise<void>): Promise<void> {
    while (!stopping.aborted) {
      try {
        return await act();
      } catch (error) {
        if (runId !== undefined && !owns(runId)) return;
        logger.debug({ runId, err: error }, `${trouble}; trying again`);
      }
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS).unref());
    }
  }
}

/** Its retention was over before anybody looked: the parent stood still for that long. */
function goneOutcome({ taskId, attempt, childId }: Task): OutcomeMessage {
  const message = `run ${childId}: it is over, and its journal is not kept any more`;
  return { v: 1, taskId, attempt, type: "failed", error: { code: "run_gone", message } };
}

/** A child's usage is its own. */
const NO_USAGE = { inputTokens: 0, outputTokens: 0, modelCalls: 0 };
