/**
 * How an outcome leaves its worker: to the run's owner, who says that it is recorded or superseded, or else into the task's
 * journal, where the run's next owner looks. A handoff's next task leaves at the same time.
 *
 * Invariants
 * D1  An outcome is made once; every try sends the same bytes.
 * D2  Nobody answers: the outcome is stored. The journal is fenced: somebody else has done so, or is at work; be silent.
 * D3  The next task of a handoff is sent by exactly one: by this host, where the outcome says `forwarded`, else by the owner.
 * D4  A broker that is away, has just come back or does not answer uses up no tries: the owner waits for it too.
 * D5  An outcome that is too long for a message goes without its large values, once they are stored.
 */
import { randomUUID } from "node:crypto";
import type { HandoffOption, Outcome, OutcomeMessage, OutcomeReceipt, Task } from "../../actors/task.ts";
import { nextTask } from "../../actors/transfer.ts";
import { FencedError, toErrorRecord, UnavailableError } from "../../errors.ts";
import { formatTraceparent } from "../../tracing/traceparent.ts";
import type { Tracing } from "../../tracing/tracing.ts";
import type { Bus } from "../nats/connection.ts";
import { UNHEARD_MS } from "../nats/contact.ts";
import { rawHeaders } from "../nats/nats.ts";
import { LARGE, type Payloads } from "../nats/payloads.ts";
import { NoRespondersError } from "../nats/requests.ts";
import { SENT_AT_HEADER, type Subjects, TRACEPARENT_HEADER } from "../subjects.ts";
import { crashPoints } from "./crash-points.ts";
import type { SentOutcomes } from "./sent-outcomes.ts";
import type { TaskWork } from "./task-work.ts";

export type DeliveryOptions = {
  bus: Bus;
  subjects: Subjects;
  payloads: Payloads;
  tracing: Tracing;
  /** `host/incarnation`. */
  worker: string;
  sent: SentOutcomes;
  outcomeTimeoutMs: number;
  outcomeAttempts: number;
  handoffsOf?: (workflow: string, agent: string, definition?: string) => HandoffOption[] | undefined;
  /** Whether this process may have missed that the task was given to another worker: then the owner sends the next one. */
  mayBeStale?: (work: TaskWork) => boolean;
  /** Aborts when the host drains or stops: then nobody who is not there is waited for. */
  hurry: AbortSignal;
};

/** What became of an outcome. `lost` means that it could not even be stored; the task will be sent again. */
export type Delivered = "recorded" | "superseded" | "stored" | "fenced" | "lost";

// Room for the headers beside the body.
const HEADROOM_BYTES = 512;
// After a broker was away daemons are back within half a second of each other, mostly; what is asked meanwhile may be lost.
const OWNER_BACK_MS = 500;
const JUST_BACK_MS = 3_000;

/** Sends a task's outcome and sees it through; never rejects. */
export async function deliverOutcome(work: TaskWork, outcome: Outcome, options: DeliveryOptions): Promise<Delivered> {
  const prepared = await prepare(work, outcome, options);
  if (!prepared) return "lost";
  const { message, bytes } = prepared;
  // A task that comes again meanwhile is at work; afterwards it is answered from here.
  options.sent.remember(work.key, bytes);
  const { bus, outcomeTimeoutMs } = options;
  let backAt = Number.NEGATIVE_INFINITY;
  for (let attempt = 1; attempt <= options.outcomeAttempts; attempt += 1) {
    // D4
    if (await connected(options)) backAt = performance.now();
    const isJustBack = performance.now() - backAt < JUST_BACK_MS;
    const waitMs = isJustBack ? Math.min(OWNER_BACK_MS, outcomeTimeoutMs) : outcomeTimeoutMs;
    const receipt = await ask(work, bytes, options, waitMs);
    if (receipt) return receipt.type;
    if (isJustBack || !bus.connected() || performance.now() - bus.heardAt() > UNHEARD_MS) attempt -= 1;
    if (options.hurry.aborted || work.reply === undefined) break;
  }
  return store(work, message);
}

type Prepared = { message: OutcomeMessage; bytes: Uint8Array };

/** Makes the message, and sends the next task where that can be done from here; undefined when this host stops before. */
function prepare(work: TaskWork, outcome: Outcome, options: DeliveryOptions): Prepared | Promise<Prepared | undefined> {
  const room = options.payloads.room(HEADROOM_BYTES);
  const made = outcome.type === "handoff" ? handOff(work, outcome, room, options) : encode(work, outcome, options);
  if (made.bytes.length <= room) return made;
  return makeSmaller(work, { outcome, message: made.message, bytes: made.bytes.length }, room, options);
}

// D5
async function makeSmaller(
  work: TaskWork,
  { outcome, message, bytes }: { outcome: Outcome; message: OutcomeMessage; bytes: number },
  room: number,
  options: DeliveryOptions,
): Promise<Prepared | undefined> {
  const { payloads, hurry: signal } = options;
  const { runId, taskId } = work.task;
  const what = `the outcome of task ${taskId}`;
  try {
    const [left] = await payloads.detach([message], { what, fields: LARGE.outcome, bytes, room, runId, signal });
    return left && { message: left, bytes: Buffer.from(JSON.stringify(left)) };
  } catch (thrown) {
    if (thrown instanceof UnavailableError) return undefined;
    const error = toErrorRecord(thrown);
    return encode(work, { type: "failed", error, ...(outcome.usage && { usage: outcome.usage }) }, options);
  }
}

function encode(work: TaskWork, outcome: Outcome, { worker }: DeliveryOptions): Prepared {
  const { task, delivery } = work;
  const message: OutcomeMessage = { v: 1, taskId: task.taskId, attempt: task.attempt, delivery, worker, ...outcome };
  return { message, bytes: Buffer.from(JSON.stringify(message)) };
}

// D3
function handOff(
  work: TaskWork,
  outcome: Extract<Outcome, { type: "handoff" }>,
  limit: number,
  options: DeliveryOptions,
): Prepared {
  const taskId = `h${work.task.hops.length + 1}-${randomUUID().slice(0, 6)}`;
  const kept = encode(work, { ...outcome, next: { taskId, forwarded: false } }, options);
  const send = options.mayBeStale?.(work) ? undefined : forwarding(work, outcome, taskId, limit, options);
  if (!send) return kept;
  const forwarded = encode(work, { ...outcome, next: { taskId, forwarded: true } }, options);
  // One that has to be stored in part takes a while: its next task is sent by the owner, once the handoff is on record.
  return forwarded.bytes.length <= limit && send() ? forwarded : kept;
}

/** What sends the next task from here, where this host knows all that it is made from. */
function forwarding(
  { task, reply, segment }: TaskWork,
  outcome: Extract<Outcome, { type: "handoff" }>,
  taskId: string,
  limit: number,
  { bus, subjects, tracing, handoffsOf }: DeliveryOptions,
): (() => boolean) | undefined {
  const edge = task.handoffs.find((option) => option.to === outcome.to);
  const targetHandoffs = handoffsOf?.(task.workflow, outcome.to, task.definition);
  const own = `.${task.taskId}`;
  if (!edge || !targetHandoffs || !reply?.endsWith(own)) return undefined;
  const next: Task = nextTask(task, { ...outcome, next: { taskId, forwarded: true } }, edge, targetHandoffs);
  const bytes = Buffer.from(JSON.stringify(next));
  if (bytes.length > limit) return undefined;
  return () => {
    const { traceId, sampled } = segment;
    const traceparent = formatTraceparent(tracing.segmentOf({ traceId, sampled }, task.runId, taskId, next.delivery));
    const headers = rawHeaders([TRACEPARENT_HEADER, traceparent], [SENT_AT_HEADER, String(Date.now())]);
    const nextReply = `${reply.slice(0, -own.length)}.${taskId}`;
    try {
      crashPoints.at("before-next-task");
      bus.nc.publish(subjects.mailbox(outcome.to), bytes, { reply: nextReply, headers });
      crashPoints.onceSent("after-next-task");
      return true;
    } catch {
      return false;
    }
  };
}

/**
 * One try; undefined when nobody answered. `waitMs` is how long an owner gets to answer, or one that is not there to come back;
 * a new owner that says where it listens ends the wait at once.
 */
async function ask(
  work: TaskWork,
  bytes: Uint8Array,
  options: DeliveryOptions,
  waitMs: number,
): Promise<OutcomeReceipt | undefined> {
  const { bus, hurry } = options;
  const { reply } = work;
  if (reply === undefined) return undefined;
  const { promise: moved, resolve } = Promise.withResolvers<undefined>();
  work.onMoved = () => resolve(undefined);
  crashPoints.at("before-outcome");
  const asked = bus.request(reply, bytes, { timeoutMs: waitMs });
  crashPoints.onceSent("after-outcome");
  // It may still fail when nobody looks any more.
  asked.catch(() => {});
  try {
    const answer = await Promise.race([asked, moved]);
    return answer && readReceipt(answer.string());
  } catch (error) {
    // Nobody listens: the owner is gone, and a new one takes a moment to say so.
    if (error instanceof NoRespondersError) await pause(waitMs, moved, hurry);
    return undefined;
  } finally {
    delete work.onMoved;
  }
}

function readReceipt(text: string): OutcomeReceipt | undefined {
  try {
    const { type } = JSON.parse(text) as Partial<OutcomeReceipt>;
    return type === "recorded" || type === "superseded" ? { type } : undefined;
  } catch {
    return undefined;
  }
}

/** Over when the broker is there, or the host stops; whether it was away. */
async function connected({ bus, hurry }: DeliveryOptions): Promise<boolean> {
  if (bus.connected() || hurry.aborted) return false;
  const { promise: over, resolve } = Promise.withResolvers<void>();
  const stop = () => resolve();
  const stopListening = bus.onRestored(stop);
  hurry.addEventListener("abort", stop, { once: true });
  await over;
  stopListening();
  hurry.removeEventListener("abort", stop);
  return true;
}

/** Over when the time is up, the owner has moved, or the host stops. */
async function pause(ms: number, moved: Promise<undefined>, hurry: AbortSignal): Promise<void> {
  const { promise: over, resolve } = Promise.withResolvers<void>();
  const stop = () => resolve();
  const timer = setTimeout(stop, ms);
  if (hurry.aborted) stop();
  hurry.addEventListener("abort", stop, { once: true });
  await Promise.race([over, moved]);
  clearTimeout(timer);
  hurry.removeEventListener("abort", stop);
}

// D2
async function store(work: TaskWork, outcome: OutcomeMessage): Promise<Delivered> {
  try {
    if (crashPoints.armed) await crashPoints.before("before-outcome-entry");
    await work.journal.append({ type: "outcome", outcome });
    crashPoints.at("after-outcome-entry");
    return "stored";
  } catch (error) {
    return error instanceof FencedError ? "fenced" : "lost";
  }
}
