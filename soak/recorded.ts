/** Which of the model's replies a run has on record, and since when. */
import type { ModelReply } from "../src/actors/model.ts";
import type { TaskEntry } from "../src/actors/task.ts";
import type { RunEvent } from "../src/workflows/run-events.ts";
import { answerOfCall, answersIn } from "./marks.ts";
import { eventsOf, type TrackedRun } from "./tracked-run.ts";

export type RecordedReply = {
  taskId: string;
  turn: number;
  /** The number of the call it came from. */
  n: number;
  /** When the broker first stored it, in milliseconds since the epoch. */
  at: number;
  /** What was recorded, as far as it is there. */
  content?: string | null;
  callIds: string[];
};

type OutcomeEvent = Extract<RunEvent, { type: "task.settled" | "agent.handoff" }>;

/** Every recorded reply by task and turn; `problems` says where two different ones are on record. */
export function recordedReplies(run: TrackedRun): { replies: Map<string, RecordedReply>; problems: string[] } {
  const replies = new Map<string, RecordedReply>();
  const problems: string[] = [];
  for (const [taskId, entries] of run.tasks) {
    for (const { value, at } of entries) if (value.type === "turn") add(ofTurn(taskId, value.turn, value.reply, at));
  }
  for (const { value: events, at } of run.journal) {
    for (const event of events) {
      if (event.type === "task.settled" || event.type === "agent.handoff") add(ofOutcome(event, at));
    }
  }
  for (const [taskId, entries] of run.tasks) for (const { value, at } of entries) predate(taskId, value, at);
  return { replies, problems };

  function add(reply: RecordedReply | undefined): void {
    if (!reply) return;
    const key = replyKey(reply);
    const before = replies.get(key);
    if (before && before.n !== reply.n) problems.push(`${key}: two replies are on record, ${before.n} and ${reply.n}`);
    if (!before) replies.set(key, reply);
  }

  /** An outcome that its worker stored is on record since then, if it is the one the run went on with. */
  function predate(taskId: string, entry: TaskEntry, at: number): void {
    if (entry.type !== "outcome" || entry.outcome.type !== "completed") return;
    const n = answersIn(JSON.stringify(entry.outcome.output) ?? "")[0];
    const reply = replies.get(replyKey({ taskId, turn: entry.outcome.usage.modelCalls }));
    if (reply && reply.n === n) reply.at = Math.min(reply.at, at);
  }
}

/** What a reply is known by. */
export function replyKey({ taskId, turn }: { taskId: string; turn: number }): string {
  return `${taskId} turn ${turn}`;
}

/** How many turns each task had when its outcome was recorded. */
export function turnsOf(run: TrackedRun): Map<string, number> {
  const turns = new Map<string, number>();
  for (const event of eventsOf(run)) {
    if (event.type === "agent.handoff") turns.set(event.data.taskId, event.data.usage?.modelCalls ?? 0);
    if (event.type !== "task.settled") continue;
    turns.set(event.data.taskId, event.data.outcome.usage?.modelCalls ?? 0);
  }
  return turns;
}

function ofTurn(taskId: string, turn: number, reply: ModelReply, at: number): RecordedReply {
  const callIds = reply.toolCalls.map(({ id }) => id);
  const n = callIds[0] === undefined ? answersIn(reply.content ?? "")[0] : answerOfCall(callIds[0]);
  return { taskId, turn, n: n ?? Number.NaN, at, content: reply.content, callIds };
}

function ofOutcome(event: OutcomeEvent, at: number): RecordedReply | undefined {
  if (event.type === "agent.handoff") {
    const { taskId, transcript, usage } = event.data;
    const said = transcript.findLast((message) => message.role === "assistant");
    const callIds = said?.role === "assistant" ? (said.toolCalls ?? []).map(({ id }) => id) : [];
    return { taskId, turn: usage?.modelCalls ?? 0, n: answerOfCall(callIds[0] ?? ""), at, callIds };
  }
  const { taskId, outcome } = event.data;
  if (outcome.type !== "completed") return undefined;
  const content = typeof outcome.output === "string" ? outcome.output : JSON.stringify(outcome.output);
  return { taskId, turn: outcome.usage.modelCalls, n: answersIn(content)[0] ?? Number.NaN, at, content, callIds: [] };
}
