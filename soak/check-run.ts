/**
 * The oracle: folds from what was asked of a run and from what the model server saw what must have happened, and says where
 * the journals tell another story. It knows the plan of the run and shares no code with the runtime.
 */
import { problemsOfJournal } from "../test/helpers/run-audit.ts";
import type { ModelCall } from "./calls.ts";
import { checkFlow } from "./check-flow.ts";
import { checkSeen } from "./check-seen.ts";
import { type RecordedReply, recordedReplies, replyKey } from "./recorded.ts";
import { endOf, eventsOf, type TrackedRun } from "./tracked-run.ts";

/**
 * How long a call may be on its way to the model when another one's reply is recorded: whoever was given the task has looked
 * whether it may begin, on a machine with all its processors busy.
 */
const CROSSED_MS = 250;
/**
 * How long the news that a task or a run is over may take to a worker that is at work on it: from the broker's disk to the
 * owner, from there to the worker, on a machine with all its processors busy.
 */
const NEWS_MS = 500;
/** How long a cancel that was stored may take to end its run, while the storm goes on. */
const CANCEL_WITHIN_MS = 30_000;

/** Everything that is wrong with a run that has ended, in words; none when all is well. */
export function checkRun(run: TrackedRun): string[] {
  const { runId } = run.plan;
  const { replies, problems } = recordedReplies(run);
  return [
    ...problemsOfJournal(runId, run.journal).map((problem) => problem.slice(runId.length + 2)),
    ...problems,
    ...checkRequest(run),
    ...checkReplies(run, replies),
    ...checkRepeats(run, replies),
    ...checkTools(run),
    ...checkSeen(run, replies),
    ...checkFlow(run),
    ...checkTimes(run),
    ...checkTold(run),
  ].map((problem) => `${runId}: ${problem}`);
}

/** The run is the one that was asked for. */
function checkRequest({ plan, notBefore, ...run }: TrackedRun): string[] {
  const [accepted] = eventsOf(run);
  if (accepted?.type !== "run.accepted") return [`expected run.accepted first, got ${accepted?.type}`];
  const { workflow, input, timeoutMs, notBefore: recorded } = accepted.data;
  const asked = { workflow: plan.workflow, input: plan.input, timeoutMs: plan.timeoutMs, notBefore };
  const got = { workflow, input, timeoutMs, notBefore: recorded };
  return same(asked, got) ? [] : [`expected the request ${JSON.stringify(asked)}, got ${JSON.stringify(got)}`];
}

/** What is on record is what the model server said, to the call it said it to. */
function checkReplies({ calls }: TrackedRun, replies: ReadonlyMap<string, RecordedReply>): string[] {
  const problems: string[] = [];
  const byNumber = new Map(calls.map((call) => [call.n, call]));
  for (const [key, { n, content, callIds }] of replies) {
    const call = byNumber.get(n);
    if (!call) problems.push(`${key}: reply ${n} is on record, and no such call was made for this run`);
    else if (replyKey(call) !== key) problems.push(`${key}: reply ${n} is on record, which was for ${replyKey(call)}`);
    else if (call.state !== "answered" || !call.reply)
      problems.push(`${key}: reply ${n} is on record, and its call was ${call.state}`);
    else {
      const ids = call.reply.toolCalls.map(({ id }) => id);
      const sameText = content === undefined || content === call.reply.content;
      if (!sameText || !same(ids, callIds))
        problems.push(`${key}: expected ${JSON.stringify(call.reply)} on record, got ${content} with calls ${callIds}`);
    }
  }
  return problems;
}

/** Nothing that is on record was asked for again by anybody who could know. */
function checkRepeats({ calls }: TrackedRun, replies: ReadonlyMap<string, RecordedReply>): string[] {
  return calls.flatMap((call) => {
    const before = replies.get(replyKey(call));
    if (!before || call.begunAt <= before.at || isCrossed(call, before, calls)) return [];
    const late = Math.ceil(call.begunAt - before.at);
    return [
      `${replyKey(call)}: process ${call.pid} made call ${call.n} ${late} ms after reply ${before.n} was recorded`,
    ];
  });
}

/** Whether the call of a process and the news that another one's reply is on record have crossed. */
export function isCrossed(call: ModelCall, recorded: RecordedReply, calls: readonly ModelCall[]): boolean {
  const { pid } = calls.find(({ n }) => n === recorded.n) ?? call;
  return call.begunAt > recorded.at && call.pid !== pid && call.begunAt <= recorded.at + CROSSED_MS;
}

/** Every tool result on record is what the tool said, once, and no tool ran again after that. */
function checkTools({ tasks, tools, plan }: TrackedRun): string[] {
  const problems: string[] = [];
  for (const [taskId, entries] of tasks) {
    const seen = new Set<string>();
    for (const { value, at } of entries) {
      if (value.type !== "tool") continue;
      const { turn, callId, content } = value;
      const key = `${plan.runId}.${taskId}.${turn}.${callId}`;
      const where = `${taskId} turn ${turn}: tool call ${callId}`;
      if (seen.has(callId)) problems.push(`${where} has two results on record`);
      seen.add(callId);
      const made = tools.filter((tool) => tool.key === key);
      if (!made.some(({ text }) => content === text || content === `error: ${text}`))
        problems.push(`${where}: expected what the tool said (${made.map(({ text }) => text)}), got ${content}`);
      for (const tool of made.filter(({ begunAt }) => begunAt > at))
        problems.push(
          `${where}: process ${tool.pid} ran the tool ${Math.ceil(tool.begunAt - at)} ms after its result was recorded`,
        );
    }
  }
  return problems;
}

/** Nothing too early, nothing too late, no cancel made up or overheard. */
function checkTimes(run: TrackedRun): string[] {
  const { calls, notBefore, cancelAskedAt, cancelledAt, endedAt } = run;
  const end = endOf(run);
  if (!end || endedAt === undefined) return [];
  const problems: string[] = [];
  const firstCall = calls[0]?.begunAt ?? Number.POSITIVE_INFINITY;
  if (notBefore !== undefined && firstCall < Date.parse(notBefore))
    problems.push(`a model was called ${Date.parse(notBefore) - firstCall} ms before notBefore`);
  const late = calls.filter(({ begunAt }) => begunAt > endedAt + NEWS_MS);
  for (const { n, begunAt, pid, taskId } of late)
    problems.push(`${taskId}: process ${pid} made call ${n} ${Math.ceil(begunAt - endedAt)} ms after the run's end`);
  if (end.type === "run.cancelled" && cancelAskedAt === undefined) problems.push("cancelled, and nobody asked for it");
  if (cancelledAt !== undefined && end.type !== "run.cancelled" && endedAt > cancelledAt + CANCEL_WITHIN_MS)
    problems.push(`${end.type} ${Math.ceil(endedAt - cancelledAt)} ms after a cancel was taken`);
  if (run.plan.cancel?.when === "before" && end.type !== "run.cancelled")
    problems.push(`expected run.cancelled, because the cancel was there before the request, got ${end.type}`);
  return problems;
}

/** Whoever was told a result was told the truth. */
function checkTold(run: TrackedRun): string[] {
  const end = endOf(run);
  if (!end) return [];
  return run.told.flatMap((result) => {
    const output = end.type === "run.completed" ? end.data.output : undefined;
    const isTrue = `run.${result.status}` === end.type && same(result.output, output);
    return isTrue ? [] : [`told ${JSON.stringify(result)}, and the journal says ${JSON.stringify(end)}`];
  });
}

function same(a: unknown, b: unknown): boolean {
  return canonical(a) === canonical(b);
}

function canonical(value: unknown): string {
  return JSON.stringify(value) ?? "undefined";
}
