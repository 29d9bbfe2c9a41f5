/**
 * What travels when an agent hands over: the next agent's task, and what of the conversation it shows. The handing agent's
 * host and the run's owner both make it, from the same outcome, and must come to the same.
 */
import { asText, closeOpenCalls, type Message } from "./conversation.ts";
import { handoffToolName } from "./names.ts";
import type { HandoffOption, Outcome, Task } from "./task.ts";
import { readArguments } from "./tool-calls.ts";

/** The part of a handoff's outcome, or of its journal event, that the next task is made from. */
export type HandedOver = Pick<
  Extract<Outcome, { type: "handoff" }>,
  "to" | "input" | "reason" | "transcript" | "messages"
> & {
  next: { taskId: string; forwarded: boolean };
};

export type HandoverView = {
  /** What the run was asked for. */
  request: string;
  /** Everything said so far. */
  messages: readonly Message[];
  /** The agent that hands over. */
  from: string;
  input?: unknown;
  reason?: string;
  /** What the handing model wrote for a `summary` edge. */
  summary?: string;
};

/** The conversation a task starts from: what came before it, or its input as the user's words. */
export function openingMessages({ input, messages }: Pick<Task, "input" | "messages">): Message[] {
  if (!messages || messages.length === 0) return [{ role: "user", content: asText(input) }];
  return closeOpenCalls(messages, "not executed: interrupted");
}

/**
 * The task that goes to the agent the run is handed to.
 *
 * `input` stays the run's original request, so that later handoffs can still show it; where the edge shows none of the
 * conversation it is the payload, so that nothing else leaks.
 */
export function nextTask(
  task: Task,
  handed: HandedOver,
  edge: HandoffOption,
  targetHandoffs: readonly HandoffOption[],
): Task {
  const transcript = handed.transcript ?? [];
  const summary = summaryIn(transcript, handed.to);
  const view: HandoverView = {
    request: asText(task.input),
    messages: [...openingMessages(task), ...transcript],
    from: task.agent,
    ...("input" in handed && { input: handed.input }),
    ...(handed.reason !== undefined && { reason: handed.reason }),
    ...(summary !== undefined && { summary }),
  };
  const { sessionId, deadline } = task;
  return {
    v: 1,
    taskId: handed.next.taskId,
    runId: task.runId,
    workflow: task.workflow,
    ...(task.definition !== undefined && { definition: task.definition }),
    agent: handed.to,
    attempt: 1,
    delivery: 1,
    input: edge.context === "none" ? (handed.input ?? handed.reason ?? plainHandover(task.agent)) : task.input,
    messages: handed.messages ?? contextFor(edge, view),
    ...(sessionId !== undefined && { sessionId }),
    handoffs: [...targetHandoffs],
    hops: [...task.hops, { from: task.agent, to: handed.to }],
    limits: task.limits,
    ...(handed.next.forwarded && { forwarded: true }),
    ...(deadline !== undefined && { deadline }),
  };
}

/** What the next agent sees of the conversation, as its edge says. */
export function contextFor(edge: Pick<HandoffOption, "context">, view: HandoverView): Message[] {
  const context = edge.context ?? "full";
  switch (context) {
    case "full":
      return fullContext(view);
    case "summary":
      return [note(view, [`Original request:\n${view.request}`, `So far:\n${view.summary ?? ""}`])];
    case "last": {
      const last = lastWords(view.messages);
      return [note(view, [`Original request:\n${view.request}`, ...(last ? [`So far:\n${last}`] : [])])];
    }
    case "none":
      return [note(view, [])];
    default:
      return unknownContext(context);
  }
}

function fullContext(view: HandoverView): Message[] {
  const messages = closeOpenCalls(view.messages, "not executed: interrupted");
  // The call that handed over tells the rest, except where a worker gave no transcript.
  return messages.at(-1)?.role === "tool" ? messages : [...messages, note(view, [])];
}

function note({ from, input, reason }: HandoverView, before: string[]): Message {
  const parts = [...before];
  if (reason !== undefined) parts.push(`${from} hands over to you: ${reason}`);
  if (input !== undefined) parts.push(asText(input));
  if (parts.length === before.length) parts.push(plainHandover(from));
  return { role: "user", content: parts.join("\n\n") };
}

function plainHandover(from: string): string {
  return `${from} hands over to you.`;
}

function lastWords(messages: readonly Message[]): string | undefined {
  return messages.findLast((message) => message.role === "assistant" && message.content)?.content ?? undefined;
}

/** The summary stands in the call that handed over, which is the last thing the handing model said. */
function summaryIn(transcript: readonly Message[], to: string): string | undefined {
  const said = transcript.findLast((message) => message.role === "assistant");
  const calls = said?.role === "assistant" ? (said.toolCalls ?? []) : [];
  for (const call of calls) {
    const summary = call.name === handoffToolName(to) ? readArguments(call.arguments)?.summary : undefined;
    if (typeof summary === "string") return summary;
  }
  return undefined;
}

function unknownContext(context: never): Message[] {
  throw new TypeError(`handoff context: expected full, summary, last or none, got ${JSON.stringify(context)}`);
}
