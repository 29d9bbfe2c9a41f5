/**
 * What the steps of a run wait for from outside: a person's decision, a signal, their time. How such a step is opened, which
 * facts settle it, and what becomes of signals that settle nothing. A plan keeps the state and does what comes out.
 *
 * Invariants
 * W1  A waiting step is settled once, by the first fact that can: later ones find it not waiting.
 * W2  A signal is for one step. What came before its step began is kept, and goes to the first that asks for it.
 * W3  A signal that fits nothing harms nothing: it is refused with the reason, on record, and the run goes on as before.
 */
import { validateOutput } from "../actors/schemas.ts";
import type { ErrorRecord } from "../errors.ts";
import { APPROVAL_SIGNAL, isInstant, REJECT } from "./check-step-kinds.ts";
import type { ApprovalStep, StepDefinition, WaitingStep, WaitStep } from "./definition.ts";
import { later, type Move } from "./plan.ts";
import { readDecision } from "./read-decision.ts";
import type { Fact } from "./run-events.ts";

type SignalWait = Extract<WaitStep["wait"], { signal: string }>;

/** Plain data: part of what a supervisor remembers. */
export type OutsideWaits = {
  /** The steps that wait, by their path. */
  readonly waiting: { readonly [path: string]: "approval" | "signal" | "time" };
  /** Signals no step has asked for yet, oldest first. */
  readonly kept: readonly KeptSignal[];
};

export type KeptSignal = { readonly name: string; readonly payload: unknown };

/** How a waiting step has ended. */
type Settled = { path: string } & ({ status: "completed"; output: unknown } | { status: "failed"; error: ErrorRecord });

/** What a fact or an opening leads to; `settled` steps end after the moves. */
export type Waited = { waits: OutsideWaits; moves: Move[]; settled?: Settled };

/** Nothing waits yet. */
export const NO_WAITS: OutsideWaits = { waiting: {}, kept: [] };

const DURATION_TIMER = "wait.";
const INSTANT_TIMER = "until.";
const EXPIRY_TIMER = "expiry.";

/** Whether a step waits for something from outside. */
export function isWaiting(step: StepDefinition): step is WaitingStep {
  return step.kind === "approval" || step.kind === "wait";
}

/** A step waits no more, whatever comes; `timer` is the one that was set for it. */
export function withdraw(
  waits: OutsideWaits,
  path: string,
  step: WaitingStep,
): { waits: OutsideWaits; timer?: string } {
  return { waits: withoutWaiting(waits, path), ...timerOf(step, path) };
}

type Limits = { forMs?: number; until?: string; timeoutMs?: number };

function timerOf(step: WaitingStep, path: string): { timer?: string } {
  const { forMs, until, timeoutMs }: Limits = step.kind === "wait" ? step.wait : step.approval;
  if (forMs !== undefined) return { timer: `${DURATION_TIMER}${path}` };
  if (until !== undefined) return { timer: `${INSTANT_TIMER}${path}` };
  return timeoutMs === undefined ? {} : { timer: `${EXPIRY_TIMER}${path}` };
}

/** Whether a timer is for an instant of the clock on the wall; others are durations, whatever that clock is set to. */
export function isInstantTimer(id: string): boolean {
  return id.startsWith(INSTANT_TIMER);
}

export type Opening = {
  path: string;
  /** When it opens, an ISO 8601 instant. */
  at: string;
  /** The step's texts, filled in. */
  words: { readonly [word: string]: unknown };
};

/** Opens a step that waits; one for a signal that is there already ends at once. */
export function openWait(waits: OutsideWaits, step: WaitingStep, opening: Opening): Waited {
  if (step.kind === "approval") return requestApproval(waits, step, opening);
  const { path, at, words } = opening;
  const { wait } = step;
  if (wait.signal !== undefined) return awaitSignal(waits, wait, opening);
  const isDuration = wait.forMs !== undefined;
  const until = isDuration ? later(at, wait.forMs) : words.until;
  if (typeof until !== "string" || !isInstant(until)) {
    const message = `wait.until: expected an ISO 8601 instant, got ${JSON.stringify(until)}`;
    return { waits, moves: [], settled: { path, status: "failed", error: { code: "template_failed", message } } };
  }
  const dueAt = new Date(until).toISOString();
  const id = `${isDuration ? DURATION_TIMER : INSTANT_TIMER}${path}`;
  return {
    waits: withWaiting(waits, path, "time"),
    moves: [
      { type: "say", event: { type: "wait.begun", data: { step: path, dueAt } } },
      { type: "timer", id, dueAt },
    ],
  };
}

function requestApproval(waits: OutsideWaits, { approval }: ApprovalStep, { path, at, words }: Opening): Waited {
  const { choices, assignees, timeoutMs } = approval;
  const dueAt = timeoutMs === undefined ? undefined : later(at, timeoutMs);
  const data = {
    step: path,
    title: asWords(words.title),
    ...(words.prompt !== undefined && { prompt: asWords(words.prompt) }),
    choices,
    ...(assignees && { assignees }),
    ...(dueAt !== undefined && { dueAt }),
  };
  return {
    waits: withWaiting(waits, path, "approval"),
    moves: [{ type: "say", event: { type: "approval.requested", data } }, ...expiry(path, dueAt)],
  };
}

function awaitSignal(waits: OutsideWaits, wait: SignalWait, { path, at }: Opening): Waited {
  const { signal, timeoutMs } = wait;
  // W2
  const place = waits.kept.findIndex(({ name, payload }) => name === signal && misfit(wait, payload) === undefined);
  const found = waits.kept[place];
  if (found) {
    const kept = waits.kept.toSpliced(place, 1);
    return { waits: { ...waits, kept }, moves: [], settled: { path, status: "completed", output: found.payload } };
  }
  const dueAt = timeoutMs === undefined ? undefined : later(at, timeoutMs);
  const data = { step: path, signal, ...(dueAt !== undefined && { dueAt }) };
  return {
    waits: withWaiting(waits, path, "signal"),
    moves: [{ type: "say", event: { type: "wait.begun", data } }, ...expiry(path, dueAt)],
  };
}

/** What a named signal leads to; `steps` are all that wait for signals, `stepAt` gives the one at a path. */
export function takeSignal(
  waits: OutsideWaits,
  { at, data }: Fact & { type: "signal.received" },
  { steps, stepAt }: { steps: readonly StepDefinition[]; stepAt: (path: string) => StepDefinition },
): Waited {
  const { seq, name } = data;
  const payload = data.payload ?? null;
  const refused = (code: string, message: string): Waited => ({
    waits,
    moves: [{ type: "say", event: { type: "signal.refused", data: { seq, code, message } } }],
  });
  if (name === APPROVAL_SIGNAL) {
    const open = Object.keys(waits.waiting).filter((path) => waits.waiting[path] === "approval");
    const read = readDecision(payload, open);
    if ("code" in read) return refused(read.code, read.message);
    const step = stepAt(read.step);
    if (step.kind !== "approval") return refused("not_waiting", `step ${read.step} is no approval`);
    const problem = wrongDecision(step, read);
    if (problem) return refused(problem.code, problem.message);
    return decided(waits, step, { ...read, seq, at });
  }
  const asking = steps.filter((step) => step.kind === "wait" && step.wait.signal === name) as WaitStep[];
  if (asking.length === 0) return refused("unknown_signal", unknownSignal(name, steps));
  const problems = asking.map(({ wait }) => misfit(wait, payload));
  // W1, W2
  const path = Object.keys(waits.waiting).find((path) => {
    const step = waits.waiting[path] === "signal" ? stepAt(path) : undefined;
    return step?.kind === "wait" && step.wait.signal === name && misfit(step.wait, payload) === undefined;
  });
  if (path !== undefined) return settle(waits, { path, status: "completed", output: payload });
  const [problem] = problems;
  // W3
  if (problem !== undefined && !problems.includes(undefined)) return refused("invalid_payload", problem);
  return { waits: { ...waits, kept: [...waits.kept, { name, payload }] }, moves: [] };
}

/** What a timer leads to; undefined where it is none of these. */
export function takeTimer(
  waits: OutsideWaits,
  { at, data: { id } }: Fact & { type: "timer.fired" },
  stepAt: (path: string) => StepDefinition,
): Waited | undefined {
  const prefix = [DURATION_TIMER, INSTANT_TIMER, EXPIRY_TIMER].find((known) => id.startsWith(known));
  if (prefix === undefined) return undefined;
  const path = id.slice(prefix.length);
  // W1
  if (!Object.hasOwn(waits.waiting, path)) return { waits, moves: [] };
  if (prefix !== EXPIRY_TIMER) return settle(waits, { path, status: "completed", output: null });
  const step = stepAt(path);
  if (step.kind === "approval") {
    const { onTimeout: choice, timeoutMs } = step.approval;
    if (choice !== undefined) return decided(waits, step, { step: path, choice, at });
    const message = `nobody decided within ${timeoutMs} ms`;
    return settle(waits, { path, status: "failed", error: { code: "timeout", message } });
  }
  if (step.kind !== "wait" || step.wait.signal === undefined) return { waits, moves: [] };
  const { signal, timeoutMs, onTimeout } = step.wait;
  if (onTimeout === "continue") return settle(waits, { path, status: "completed", output: null });
  const message = `no signal ${signal} came within ${timeoutMs} ms`;
  return settle(waits, { path, status: "failed", error: { code: "timeout", message } });
}

type Decision = { step: string; choice: string; by?: string; comment?: string; seq?: number; at: string };

function decided(waits: OutsideWaits, { approval }: ApprovalStep, { at, ...data }: Decision): Waited {
  const { step: path, choice, by, comment } = data;
  const isRejected = choice === REJECT && approval.onReject === "fail";
  const words = [...(by === undefined ? [] : [`by ${by}`]), ...(comment === undefined ? [] : [comment])].join(": ");
  const error = { code: "rejected", message: `rejected${words === "" ? "" : ` ${words}`}` };
  const output = { choice, by: by ?? null, comment: comment ?? null, at };
  const ended = settle(waits, {
    path,
    ...(isRejected ? { status: "failed", error } : { status: "completed", output }),
  });
  return { ...ended, moves: [{ type: "say", event: { type: "approval.resolved", data } }, ...ended.moves] };
}

/** Why a decision cannot count although the step waits for one; undefined where it can. */
export function wrongDecision(
  { approval }: Pick<ApprovalStep, "approval">,
  { step, choice, by }: { step: string; choice: string; by?: string },
): ErrorRecord | undefined {
  const { choices, assignees } = approval;
  if (!choices.includes(choice)) {
    const message = `payload.choice: expected one of ${choices.join(", ")}, got ${JSON.stringify(choice)}`;
    return { code: "invalid_payload", message };
  }
  if (assignees && !(by !== undefined && assignees.includes(by))) {
    const who = by === undefined ? "nobody" : JSON.stringify(by);
    return { code: "not_assigned", message: `step ${step} is to be decided by ${assignees.join(", ")}, not by ${who}` };
  }
  return undefined;
}

/** The words for a signal that no step of a definition waits for. */
export function unknownSignal(name: string, steps: readonly StepDefinition[]): string {
  const known = steps.flatMap((step) => (step.kind === "wait" ? (step.wait.signal ?? []) : []));
  const expected = known.length === 0 ? "none" : [...new Set(known)].join(", ");
  return `no step waits for a signal ${JSON.stringify(name)}; signals that are waited for: ${expected}`;
}

/** Why a payload does not fit what a step waits for, with the path; undefined where it does. */
export function misfit(wait: WaitStep["wait"], payload: unknown): string | undefined {
  const schema = wait.signal === undefined ? undefined : wait.schema;
  if (!schema) return undefined;
  const checked = validateOutput(schema, payload);
  return checked.ok ? undefined : `payload: ${checked.problems.join("; ")}`;
}

function settle(waits: OutsideWaits, settled: Settled): Waited {
  // What has fired is not there any more, and nothing happens.
  const moves: Move[] = [{ type: "clear", id: `${EXPIRY_TIMER}${settled.path}` }];
  return { waits: withoutWaiting(waits, settled.path), moves, settled };
}

function withoutWaiting(waits: OutsideWaits, path: string): OutsideWaits {
  const { [path]: _was, ...waiting } = waits.waiting;
  return { ...waits, waiting };
}

function withWaiting(waits: OutsideWaits, path: string, what: "approval" | "signal" | "time"): OutsideWaits {
  return { ...waits, waiting: { ...waits.waiting, [path]: what } };
}

function expiry(path: string, dueAt: string | undefined): Move[] {
  return dueAt === undefined ? [] : [{ type: "timer", id: `${EXPIRY_TIMER}${path}`, dueAt }];
}

function asWords(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}
