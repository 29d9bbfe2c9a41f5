/** Tells runs a line at a time: one for each event that matters to somebody who watches. */

import type { TaskUsage } from "../actors/task.ts";
import type { LiveEvent } from "../runtime/edges/run-feed.ts";
import { isTerminal, type RunEvent, type StepGroup } from "../workflows/run-events.ts";
import { type LongLists, longLists } from "./long-lists.ts";
import { bold, cyan, dim, green, red, yellow } from "./style.ts";
import { cut, pad } from "./terminal-text.ts";
import { count, durationBetween, inline, timeOfDay, tokens } from "./words.ts";

export type RunTeller = (event: RunEvent | LiveEvent) => string | undefined;

type Seen = { acceptedAt?: string; usage: TaskUsage; lists: LongLists };
/** A word for what happened, and what there is to say about it. */
type Told = { word: string; paint?: (text: string) => string; about?: string };

/** What is quoted of inputs and outputs. */
const QUOTED = 60;
const WORD = 10;

/** Makes a teller; it remembers the runs that are under way. `named` puts the run's id into every line. */
export function runTeller({ named = false }: { named?: boolean } = {}): RunTeller {
  const seen = new Map<string, Seen>();
  return (event) => {
    const run = seen.get(event.runId) ?? {
      usage: { inputTokens: 0, outputTokens: 0, modelCalls: 0 },
      lists: longLists(),
    };
    seen.set(event.runId, run);
    if (event.n !== undefined) note(run, event);
    const told = event.n === undefined ? tellLive(event) : tell(event, run);
    if (event.n !== undefined && isTerminal(event.type)) seen.delete(event.runId);
    if (!told) return undefined;
    const { word, paint = (text) => text, about = "" } = told;
    const parts = [dim(event.at ? timeOfDay(event.at) : pad("", 12)), paint(pad(word, WORD)), about];
    return parts
      .toSpliced(1, 0, ...(named ? [dim(event.runId)] : []))
      .join("  ")
      .trimEnd();
  };
}

function note(run: Seen, event: RunEvent): void {
  if (event.type === "run.accepted") run.acceptedAt = event.at;
  const usage =
    event.type === "task.settled"
      ? event.data.outcome.usage
      : event.type === "agent.handoff"
        ? event.data.usage
        : undefined;
  if (!usage) return;
  run.usage.inputTokens += usage.inputTokens;
  run.usage.outputTokens += usage.outputTokens;
  run.usage.modelCalls += usage.modelCalls;
}

function tell(event: RunEvent, run: Seen): Told | undefined {
  const progress = run.lists.take(event);
  if (progress !== undefined) return { word: "progress", about: progress };
  if (run.lists.hides(event)) return undefined;
  switch (event.type) {
    case "run.accepted":
      return { word: "accepted", paint: bold, about: `${event.data.workflow}: ${quoted(event.data.input)}` };
    case "run.claimed":
      if (event.data.reason === "accepted") return undefined;
      return { word: "taken over", paint: yellow, about: `by ${event.data.host} (${event.data.reason})` };
    case "task.sent":
      return tellSent(event.data);
    case "task.waiting":
      return { word: "waiting", paint: yellow, about: `${event.data.agent}: ${event.data.reason}` };
    case "task.accepted":
      return { word: "at work", about: event.data.worker ? `on ${event.data.worker}` : "" };
    case "task.settled": {
      const { agent, outcome } = event.data;
      if (outcome.type === "failed") {
        return { word: "failed", paint: red, about: `${agent}: ${inline(outcome.error.message)}` };
      }
      return { word: "answered", about: `${agent}: ${quoted(outcome.output)}  ${dim(tokens(outcome.usage))}` };
    }
    case "agent.handoff": {
      const { from, to, reason, usage } = event.data;
      const why = reason ? `: ${inline(reason)}` : "";
      return { word: "handoff", paint: cyan, about: `${from} → ${to}${why}${usage ? `  ${dim(tokens(usage))}` : ""}` };
    }
    case "step.reused":
      return { word: "reused", paint: dim, about: `${event.data.step}: ${quoted(event.data.output)}` };
    case "step.retrying": {
      const { step, attempt, dueAt, error } = event.data;
      const about = `${step}: attempt ${attempt} at ${timeOfDay(dueAt)}, after ${inline(error.message)}`;
      return { word: "retrying", paint: yellow, about };
    }
    case "step.skipped":
      return { word: "skipped", paint: dim, about: `${event.data.step}: ${inline(event.data.reason)}` };
    case "step.failed": {
      const { step, error, continued } = event.data;
      if (!continued) return undefined;
      return { word: "goes on", paint: yellow, about: `without ${step}: ${inline(error.message)}` };
    }
    case "step.started":
      return event.data.group ? { word: "begun", about: `${event.data.step}: ${holds(event.data.group)}` } : undefined;
    case "step.cancelled":
      return event.data.taskId === undefined && event.data.kind === undefined
        ? undefined
        : { word: "called off", paint: dim, about: event.data.step };
    case "step.completed":
      return event.data.exhausted
        ? { word: "gives up", paint: yellow, about: `${event.data.step}: repeated as often as it may be` }
        : undefined;
    case "run.failing":
      return { word: "failing", paint: yellow, about: inline(event.data.error.message) };
    case "compensation.completed":
      return { word: "undone", paint: green, about: event.data.step };
    case "compensation.retrying": {
      const { step, attempt, dueAt, error } = event.data;
      const about = `undoing ${step}: attempt ${attempt} at ${timeOfDay(dueAt)}, after ${inline(error.message)}`;
      return { word: "retrying", paint: yellow, about };
    }
    case "compensation.failed":
      return { word: "not undone", paint: red, about: `${event.data.step}: ${inline(event.data.error.message)}` };
    case "compensation.abandoned":
      return { word: "not undone", paint: red, about: event.data.steps.join(", ") };
    case "approval.requested": {
      const { step, title, choices } = event.data;
      return { word: "approval", paint: yellow, about: `${step}: ${inline(title)} (${choices.join(", ")})` };
    }
    case "approval.resolved": {
      const { step, choice, by, comment } = event.data;
      const who = event.data.seq === undefined ? ", as nobody decided in time" : by === undefined ? "" : ` by ${by}`;
      return {
        word: "decided",
        about: `${step}: ${choice}${who}${comment === undefined ? "" : `: ${inline(comment)}`}`,
      };
    }
    case "wait.begun": {
      const { step, signal, dueAt } = event.data;
      const what = signal === undefined ? `until ${dueAt}` : `signal ${signal}`;
      return { word: "waiting", paint: yellow, about: `${step}: ${what}` };
    }
    case "signal.received":
      if (event.data.kind === "cancel") return undefined;
      return { word: "signal", about: `${event.data.name}: ${quoted(event.data.payload ?? null)}` };
    case "signal.refused":
      return { word: "refused", paint: yellow, about: inline(event.data.message) };
    case "timer.set":
      if (event.data.id !== "start") return undefined;
      return { word: "pending", about: `until ${timeOfDay(event.data.dueAt)}` };
    case "run.parked":
      return { word: "parked", paint: yellow, about: event.data.reason };
    case "run.cancelling":
      return { word: "cancelling", paint: yellow, about: event.data.reason ?? "" };
    case "run.completed":
      return { word: "completed", paint: green, about: summary(event, run) };
    case "run.failed":
      return { word: "failed", paint: red, about: `${summary(event, run)}: ${inline(event.data.error.message)}` };
    case "run.cancelled":
      return { word: "cancelled", paint: red, about: summary(event, run) };
    // Told by the task of the step, or by the run's end, or of interest to nobody but the host.
    case "timer.cleared":
    case "timer.fired":
    case "run.exceeded":
      return undefined;
  }
}

function holds({ type, size }: StepGroup): string {
  if (type === "steps") return count(size, "step");
  return type === "forEach" ? count(size, "item") : `up to ${count(size, "time")}`;
}

function tellSent({ agent, step, attempt, delivery, lost }: Extract<RunEvent, { type: "task.sent" }>["data"]): Told {
  const which = step !== undefined && step !== agent ? ` (step ${step})` : "";
  if (delivery > 1) {
    return { word: "sent again", paint: yellow, about: `${agent}${which}${lost ? `: ${lost.reason}` : ""}` };
  }
  return { word: "started", about: `${agent}${which}${attempt > 1 ? `, attempt ${attempt}` : ""}` };
}

function tellLive({ type, data }: LiveEvent): Told | undefined {
  switch (type) {
    case "tool.started":
      return { word: "tool", about: `${data.agent}: ${inline(data.tool)}` };
    case "tool.completed":
      return data.failed
        ? { word: "tool", paint: yellow, about: `${data.agent}: ${inline(data.tool)} failed` }
        : undefined;
    case "log.line":
      return data.level === "debug"
        ? undefined
        : { word: "log", paint: dim, about: `${data.agent}: ${inline(data.message)}` };
    case "model.restarted":
      return { word: "restarted", paint: yellow, about: `${data.agent} begins its answer anew` };
    case "model.fallback":
      return { word: "fallback", paint: yellow, about: `${data.agent} asks the next model: ${inline(data.error)}` };
    case "model.waiting":
      return { word: "waiting", paint: yellow, about: `${data.agent} waits for a provider: ${inline(data.reason)}` };
    default:
      return undefined;
  }
}

function summary({ at }: RunEvent, { acceptedAt, usage }: Seen): string {
  const took = acceptedAt === undefined ? [] : [`in ${durationBetween(acceptedAt, at)}`];
  const used = usage.modelCalls > 0 ? [count(usage.modelCalls, "model call"), tokens(usage)] : [];
  return [...took, ...used].join(", ");
}

function quoted(value: unknown): string {
  const text = inline(value);
  return typeof value === "string" ? `"${cut(text, QUOTED)}"` : cut(text, QUOTED);
}
