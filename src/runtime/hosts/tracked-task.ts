/**
 * A task as its owner's desk knows it: where it is, and what was said about it. `task-desk.ts` moves it along.
 *
 *   sent ──accepted──▶ taken        held: nobody had room, or nobody is there
 *    ▲ ▼                            asked: after a takeover, does anybody have it?
 *   held
 */
import type { OutcomeMessage, Task } from "../../actors/task.ts";

/** Who has a task, and the subject that takes `TaskControl`s for it. */
export type Holder = { worker: string | undefined; control: string | undefined };

/** Why a task has to be sent again, and the worker that had it. */
export type LostTask = { worker?: string; reason: string };

/** Why a task is lost whose worker has said nothing for `ms` milliseconds. */
export function silentFor(ms: number): string {
  return `silent for ${ms} ms`;
}

/** Whether a task was lost because its worker said nothing, by the reason on record. */
export function isSilence(reason: string): boolean {
  return reason.startsWith("silent for ");
}

/** A question everybody is asked: who has not answered yet, and what to do when there is nobody left. */
export type Search = { awaited: Set<string>; found: () => void };

export type Tracked = {
  readonly task: Task;
  readonly traceparent: string;
  /** Its worker holds back its spans until it hears that the journal knows the task. */
  readonly forwarded: boolean;
  /** Nobody waits for it any more; it is only still to be learned whether somebody has it. */
  withdrawn?: true;
  /** It was sent once without an answer: whoever gets it from now on looks first for what may be on record of it. */
  again?: true;
  /** The message it is sent as, where its large values had to be stored first. */
  made?: Uint8Array | "being made";
  /** Who sent an outcome of it. */
  reporter?: string;
  state: Sent | Held | Asked | Taken;
};

/** Sent, nobody said anything yet; `asked` says since when everybody is asked who has it. */
export type Sent = { is: "sent"; at: number; tries: number; asked?: Search & { at: number } };

/** To be sent again at a time: nobody had room, or nobody is there. `sent` means that it was, and nobody answered. */
export type Held = {
  is: "held";
  until: number;
  tries: number;
  why: "busy" | "unserved";
  since: number;
  said: boolean;
  sent: boolean;
};

/** Asked for after a takeover; nobody is sent anything until the answer is in. */
type Asked = { is: "asked"; asked: Search };

/** At work with a worker, which was last heard of at `heard`. */
type Taken = { is: "taken"; heard: number } & Holder;

// Whoever handed off has sent the task to somebody who answers to another inbox if the owner is new. And what nobody took the
// first time may go astray once more: until the broker notices, it gives every other task to a connection that is dead.
const ASK_SOON_MS = 200;
const BUSY_MIN_MS = 10;
const BUSY_MAX_MS = 500;
// A foreign worker announces itself by nothing but its subscription, so an unserved mailbox is tried again.
const UNSERVED_RETRY_MS = 1_000;

/** The state of a task that `why` keeps from being taken; the more often it was tried, the longer it waits. */
export function heldAfter(before: Sent | Held, why: Held["why"], now: number): Held {
  const wait = why === "unserved" ? UNSERVED_RETRY_MS : Math.min(BUSY_MIN_MS * 2 ** before.tries, BUSY_MAX_MS);
  return {
    is: "held",
    until: now + wait * (0.5 + Math.random() / 2),
    tries: before.tries + 1,
    why,
    since: before.is === "held" && before.why === why ? before.since : now,
    said: before.is === "held" && before.said,
    sent: false,
  };
}

/** A search among those who would say so if the task were not with them. */
export function searchAmong(workers: readonly string[], found: () => void, leaver?: string): Search {
  const awaited = new Set(workers);
  if (leaver !== undefined) awaited.add(leaver);
  // Whoever serves it need not say that it has nothing.
  if (awaited.size === 0) awaited.add("a foreign worker");
  return { awaited, found };
}

/** Takes note that a worker has nothing of the task; whoever searches for it hears when all have said so. */
export function noteUnknown({ state }: Tracked, worker: string | undefined): void {
  const asked = state.is === "asked" || state.is === "sent" ? state.asked : undefined;
  if (!asked || worker === undefined || !asked.awaited.delete(worker)) return;
  if (asked.awaited.size === 0) asked.found();
}

/** When everybody is asked about a task that was sent: the more often in vain, the later, up to the time it has. */
export function askAfter({ forwarded }: Tracked, tries: number, acceptTimeoutMs: number): number {
  if (tries === 1) return forwarded ? Math.min(ASK_SOON_MS, acceptTimeoutMs) : acceptTimeoutMs;
  return Math.min(ASK_SOON_MS * (tries - 1), acceptTimeoutMs);
}

/**
 * Whether everybody has said that a task is not with them. It was asked after the task was sent, and each got the task first if
 * the broker gave it to them; what another worker has sent may come by another way.
 */
export function isWithNobody({ forwarded, state }: Tracked, { awaited }: Search, isDue: boolean): boolean {
  return awaited.size === 0 && (isDue || !forwarded || (state.is === "sent" && state.tries > 1));
}

/** Whether a task is with a worker of a daemon. */
export function isHeldBy(state: Tracked["state"], incarnation: string): boolean {
  return state.is === "taken" && state.worker?.endsWith(`/${incarnation}`) === true;
}

/** Whether an outcome is of an earlier delivery than the one that another worker has, or is about to take. */
export function isOutdated({ task, state }: Tracked, { delivery, worker }: OutcomeMessage): boolean {
  if (delivery === undefined || delivery >= task.delivery) return false;
  if (state.is === "taken") return state.worker !== worker;
  // Once everybody was asked, whoever has an outcome and nothing else answers with it.
  return state.is === "sent" && state.asked === undefined;
}
