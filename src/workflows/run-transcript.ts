/**
 * A run as people retell it: who said what, which tools were called, who handed over to whom. Without ids, times and the order
 * in which things happened to come, so that the same run told twice is the same text.
 */
import type { Message, ToolCall } from "../actors/conversation.ts";
import type { TaskEntry, TaskUsage } from "../actors/task.ts";
import { isTransferTool } from "../actors/transfer-tools.ts";
import type { ErrorRecord } from "../errors.ts";
import type { RunEvent } from "./run-events.ts";

export type TranscriptSources = {
  /** The run's journal. */
  events: readonly RunEvent[];
  /** The journals of those tasks that have one. */
  entriesOf(taskId: string): readonly TaskEntry[];
  /** The steps in the order of the definition, those within others as paths; steps that are not in it come after, as they began. */
  order?: readonly string[];
};

/** One agent's part: a step, or a task of a handoff run. */
type Part = { step: string | undefined; agent: string; lines: string[] };

/** What has been told so far. */
type Telling = {
  parts: Part[];
  partOfTask: Map<string, Part>;
  entriesOf: TranscriptSources["entriesOf"];
  end: string;
};

/** Tells a run. */
export function renderTranscript({ events, entriesOf, order = [] }: TranscriptSources): string {
  const telling: Telling = { parts: [], partOfTask: new Map(), entriesOf, end: "not finished" };
  for (const event of events) take(telling, event);
  const told = inOrder(telling.parts, order).map(({ step, agent, lines }) => {
    const head = step === undefined || step === agent ? agent : `${agent} (${step})`;
    return [head, ...lines.map(indent)].join("\n");
  });
  return masked([opening(events), ...told, telling.end].join("\n\n"), events);
}

/** Tasks whose journals say more than the run's: those with more than one answer of a model, and those that failed. */
export function talkedTasks(events: readonly RunEvent[]): string[] {
  return events.flatMap((event) => {
    if (event.type !== "task.settled") return [];
    const { taskId, outcome } = event.data;
    return outcome.type === "failed" || outcome.usage.modelCalls > 1 ? [taskId] : [];
  });
}

function take(telling: Telling, event: RunEvent): void {
  const { parts, partOfTask } = telling;
  switch (event.type) {
    case "task.sent": {
      const { taskId, agent, step, attempt, delivery } = event.data;
      // That a worker was lost is not what was said.
      if (delivery > 1) return;
      const part = partOf(parts, step, agent);
      if (attempt > 1) part.lines.push(`tries again (attempt ${attempt})`);
      partOfTask.set(taskId, part);
      return;
    }
    case "task.settled":
      takeSettled(telling, event.data);
      return;
    case "agent.handoff": {
      const { taskId, from, to, reason, input, transcript, usage } = event.data;
      const { lines } = partOfTask.get(taskId) ?? partOf(parts, undefined, from);
      lines.push(...tellMessages(transcript), tell(`hands over to ${to}`, reason));
      if (input !== undefined) lines.push(tell("with", input));
      lines.push(...tellModels(usage));
      return;
    }
    case "step.skipped":
      partOf(parts, event.data.step, event.data.agent).lines.push(tell("is skipped", event.data.reason));
      return;
    case "step.failed":
      takeStepFailed(parts, event.data);
      return;
    case "run.completed":
      telling.end = tell("completed", event.data.output);
      return;
    case "run.failed":
      telling.end = tellError("failed", event.data.error);
      return;
    case "run.cancelled":
      telling.end = tell("cancelled", event.data.reason);
      return;
    // Of interest to hosts, or told by what follows from it.
    default:
      return;
  }
}

function takeSettled(
  { parts, partOfTask, entriesOf }: Telling,
  { taskId, agent, outcome }: Extract<RunEvent, { type: "task.settled" }>["data"],
): void {
  const { lines } = partOfTask.get(taskId) ?? partOf(parts, undefined, agent);
  const kept = outcome.type === "completed" ? outcome.transcript : undefined;
  // The last of what is kept is the output.
  lines.push(...tellMessages(kept?.slice(0, -1) ?? messagesOf(entriesOf(taskId))));
  lines.push(outcome.type === "completed" ? tell("says", outcome.output) : tellError("fails", outcome.error));
  lines.push(...tellModels(outcome.usage));
}

function takeStepFailed(parts: Part[], data: Extract<RunEvent, { type: "step.failed" }>["data"]): void {
  const { step, error, continued } = data;
  // Where its input could not be made, no agent has heard of it.
  if (!parts.some((part) => part.step === step)) partOf(parts, step, step).lines.push(tellError("fails", error));
  if (continued) partOf(parts, step, step).lines.push("the run goes on without it");
}

function opening(events: readonly RunEvent[]): string {
  const [first] = events;
  return first?.type === "run.accepted" ? tell(first.data.workflow, first.data.input) : "";
}

/** A step has one part whatever its attempts; in a handoff run each task has its own. */
function partOf(parts: Part[], step: string | undefined, agent: string | undefined): Part {
  const known = step === undefined ? undefined : parts.find((part) => part.step === step);
  if (known) return known;
  const part: Part = { step, agent: agent ?? step ?? "", lines: [] };
  parts.push(part);
  return part;
}

/** Steps within others have paths, as in `revise/2/score`: which round or item it is counts before the step in it. */
function inOrder(parts: readonly Part[], order: readonly string[]): Part[] {
  const rank = (template: string) => {
    const place = order.indexOf(template);
    return place === -1 ? order.length : place;
  };
  return [...parts].sort((a, b) => {
    const [one, other] = [segmentsOf(a), segmentsOf(b)];
    for (let depth = 0; depth < Math.max(one.length, other.length); depth += 1) {
      const [left, right] = [one[depth], other[depth]];
      // What holds others comes before them.
      if (!left || !right) return left ? 1 : -1;
      const difference = left.round - right.round || rank(left.template) - rank(right.template);
      if (difference !== 0) return difference;
      if (left.template !== right.template) return 0;
    }
    return 0;
  });
}

/** Each part of a step's path: its number where it is one, and its place in the definition, which has no numbers. */
function segmentsOf({ step = "" }: Part): { round: number; template: string }[] {
  const names: string[] = [];
  return step.split("/").map((segment) => {
    const isRound = /^\d+$/.test(segment) && names.length > 0;
    if (!isRound) names.push(segment);
    return { round: isRound ? Number(segment) : 0, template: names.join("/") };
  });
}

/** A task's journal as the conversation it stands for; answers in the order of the calls, whichever came first. */
function messagesOf(entries: readonly TaskEntry[]): Message[] {
  const answers = new Map<string, string>();
  for (const entry of entries) if (entry.type === "tool") answers.set(`${entry.turn}/${entry.callId}`, entry.content);
  return entries.flatMap((entry): Message[] => {
    if (entry.type !== "turn") return [];
    const { content, toolCalls } = entry.reply;
    const answered = toolCalls.flatMap(({ id: toolCallId }): Message[] => {
      const answer = answers.get(`${entry.turn}/${toolCallId}`);
      return answer === undefined ? [] : [{ role: "tool", toolCallId, content: answer }];
    });
    return [{ role: "assistant", content, toolCalls }, ...answered];
  });
}

function tellMessages(messages: readonly Message[]): string[] {
  const names = new Map<string, string>();
  const lines: string[] = [];
  for (const message of messages) {
    if (message.role === "user") lines.push(tell("is told", message.content));
    else if (message.role === "assistant") {
      const calls = message.toolCalls ?? [];
      for (const { id, name } of calls) names.set(id, name);
      if (message.content) lines.push(tell("says", message.content));
      // The handoff is told by itself.
      lines.push(...calls.filter(({ name }) => !isTransferTool(name)).map(tellCall));
    } else {
      const name = names.get(message.toolCallId) ?? "a tool";
      if (!isTransferTool(name)) lines.push(tell(`${name} answers`, message.content));
    }
  }
  return lines;
}

function tellCall({ name, arguments: args }: ToolCall): string {
  return `calls ${name} ${compact(args)}`;
}

/** Which models answered, where the agent has several. */
function tellModels(usage: TaskUsage | undefined): string[] {
  if (!usage?.models) return [];
  const names = usage.models.map(({ provider, model, modelCalls }) => `${provider}/${model} (${modelCalls})`);
  return [tell("answered by", names.join(", "))];
}

/** Arguments are JSON as a model wrote it; spaces are not what matters. */
function compact(args: string): string {
  try {
    return JSON.stringify(JSON.parse(args));
  } catch {
    return args;
  }
}

function tellError(what: string, { code, message }: ErrorRecord): string {
  return tell(what, `${code}: ${message}`);
}

/** `what: value`; of several lines all but the first stand under it. */
function tell(what: string, value: unknown): string {
  if (value === undefined || value === "") return what;
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return `${what}: ${text.trimEnd().replaceAll("\n", "\n  ")}`;
}

function indent(text: string): string {
  return text.replaceAll(/^(?=.)/gm, "  ");
}

/** Ids that were made by chance are as long as this; shorter ones were chosen and may be words. */
const LEAST_RANDOM = 16;

/** Errors name the run and its tasks. */
function masked(text: string, events: readonly RunEvent[]): string {
  const runId = events[0]?.runId ?? "";
  const handedTo = events.flatMap((event) => (event.type === "agent.handoff" ? [event.data.next.taskId] : []));
  let hidden = runId.length < LEAST_RANDOM ? text : text.replaceAll(runId, "<run>");
  for (const taskId of handedTo) hidden = hidden.replaceAll(taskId, "<task>");
  return hidden;
}
