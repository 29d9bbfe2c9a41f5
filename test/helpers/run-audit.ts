/**
 * Says what is wrong with finished runs, from the raw journals and from what the model server saw. It shares no code with the
 * runtime, so a mistake there does not hide here.
 */
import type { TaskEntry } from "../../src/actors/task.ts";
import type { RunEvent } from "../../src/workflows/run-events.ts";
import { type NumberedAnswer, type NumberedCall, numberOfToolCall } from "./numbered-model-server.ts";
import { byRun, type Stored } from "./raw-journals.ts";

/** A daemon's process that was killed or stopped. */
export type Loss = { at: number; pid: number; incarnation: string };

export type AuditInput = {
  runIds: readonly string[];
  runs: readonly Stored<RunEvent[]>[];
  tasks: readonly Stored<TaskEntry>[];
  calls: readonly NumberedCall[];
};

export type Audit = {
  /** In words; none when all is well. */
  problems: string[];
  /** Calls whose reply is on record. */
  recorded: number;
  /** Calls beyond those: made again, or made for nothing. */
  repeated: number;
};

/** A reply on record: which call it came from, and when the broker stored it. */
type Recorded = { n: number; at: number };

/** Audits runs of the workflows `diamond`, `relay` and `single`, all of which have to be completed. */
export function auditRuns({ runIds, runs, tasks, calls }: AuditInput): Audit {
  const problems: string[] = [];
  const recorded = new Map<string, Recorded>();
  const journals = byRun(runs);
  for (const { value: entry, subject, at } of tasks) {
    const [runId = "", taskId = ""] = subject.split(".").slice(-2);
    if (entry.type === "turn") record(keyOf(runId, taskId, entry.turn), numberIn(entry.reply), at);
  }
  for (const runId of runIds) {
    const entries = journals.get(runId) ?? [];
    problems.push(...problemsOfJournal(runId, entries), ...recordOutcomes(runId, entries));
    problems.push(
      ...problemsOfOutput(
        runId,
        entries.flatMap(({ value }) => value),
        turnsOf,
      ),
    );
  }
  for (const runId of journals.keys())
    if (!runIds.includes(runId)) problems.push(`${runId}: nobody asked for this run`);

  for (const [key, { n }] of recorded) {
    const call = calls[n - 1];
    if (!call || keyOf(call.runId, call.taskId, call.turn) !== key)
      problems.push(`${key}: call ${n} was for something else`);
    else if (call.state !== "answered") problems.push(`${key}: call ${n} is on record and was ${call.state}`);
  }
  for (const call of calls) {
    const key = keyOf(call.runId, call.taskId, call.turn);
    const before = recorded.get(key);
    if (before && call.at > before.at) {
      const [early, late] = [calls[before.n - 1]?.pid, call.pid];
      const ms = Math.ceil(call.at - before.at);
      problems.push(
        `${key}: process ${late} made call ${call.n} ${ms} ms after reply ${before.n} (of ${early}) was recorded`,
      );
    }
  }
  return { problems, recorded: recorded.size, repeated: calls.length - recorded.size };

  function record(key: string, n: number, at: number) {
    const before = recorded.get(key);
    if (before && before.n !== n) problems.push(`${key}: two replies are on record, ${before.n} and ${n}`);
    if (!before) recorded.set(key, { n, at });
  }

  function recordOutcomes(runId: string, entries: readonly Stored<RunEvent[]>[]): string[] {
    const twice: string[] = [];
    const settled = new Set<string>();
    for (const { value: events, at } of entries) {
      for (const event of events) {
        if (event.type !== "task.settled" && event.type !== "agent.handoff") continue;
        const { taskId } = event.data;
        if (settled.has(taskId)) twice.push(`${runId}: task ${taskId} has two outcomes`);
        settled.add(taskId);
        const reply = replyIn(event);
        if (reply) record(keyOf(runId, taskId, reply.turn), reply.n, at);
        else twice.push(`${runId}: task ${taskId} ended without an answer: ${JSON.stringify(event.data)}`);
      }
    }
    return twice;
  }

  function turnsOf(runId: string, taskId: string): number[] {
    const numbers: number[] = [];
    for (let turn = 1; ; turn += 1) {
      const reply = recorded.get(keyOf(runId, taskId, turn));
      if (!reply) return numbers;
      numbers.push(reply.n);
    }
  }
}

function keyOf(runId: string, taskId: string, turn: number): string {
  return `${runId} ${taskId} turn ${turn}`;
}

function replyIn(
  event: Extract<RunEvent, { type: "task.settled" | "agent.handoff" }>,
): { n: number; turn: number } | undefined {
  if (event.type === "agent.handoff") {
    const said = event.data.transcript.findLast((message) => message.role === "assistant");
    const id = said?.role === "assistant" ? said.toolCalls?.[0]?.id : undefined;
    return id === undefined ? undefined : { n: numberOfToolCall(id), turn: event.data.usage?.modelCalls ?? 0 };
  }
  const { outcome } = event.data;
  if (outcome.type !== "completed") return undefined;
  return { n: answerIn(outcome.output).n, turn: outcome.usage.modelCalls };
}

function numberIn(reply: { content: string | null; toolCalls: { id: string }[] }): number {
  const [call] = reply.toolCalls;
  return call ? numberOfToolCall(call.id) : answerIn(reply.content).n;
}

function answerIn(output: unknown): NumberedAnswer {
  return JSON.parse(String(output)) as NumberedAnswer;
}

/** Numbers without gaps, epochs that only claims raise, one end. */
export function problemsOfJournal(runId: string, entries: readonly Stored<RunEvent[]>[]): string[] {
  const problems: string[] = [];
  let n = 0;
  let epoch = 0;
  let end: string | undefined;
  for (const event of entries.flatMap(({ value }) => value)) {
    n += 1;
    if (event.n !== n) problems.push(`${runId}: expected event ${n}, got ${event.n} (${event.type})`);
    if (end) problems.push(`${runId}: ${event.type} after ${end}`);
    // The claim of a new run comes after its acceptance, in the same epoch.
    if (event.type === "run.claimed" && event.n !== 2) epoch += 1;
    if (event.n === 1) epoch = 1;
    if (event.epoch !== epoch) problems.push(`${runId}: expected epoch ${epoch} at event ${n}, got ${event.epoch}`);
    if (/^run\.(completed|failed|cancelled)$/.test(event.type)) end = event.type;
  }
  if (!end) problems.push(`${runId}: expected an end, got ${entries.at(-1)?.value.at(-1)?.type ?? "no journal"}`);
  return problems;
}

/** The output is that of the recorded replies: each answer names exactly the answers it was made from. */
function problemsOfOutput(
  runId: string,
  events: readonly RunEvent[],
  turnsOf: (runId: string, taskId: string) => number[],
): string[] {
  const last = events.at(-1);
  if (last?.type !== "run.completed") return [`${runId}: expected run.completed, got ${JSON.stringify(last)}`];
  const tasks = events.flatMap((event) =>
    event.type === "agent.handoff" ? [event.data.taskId] : event.type === "task.settled" ? [event.data.taskId] : [],
  );
  const answers = new Map<string, NumberedAnswer>();
  for (const event of events) {
    if (event.type !== "task.settled" || event.data.outcome.type !== "completed") continue;
    answers.set(event.data.agent, answerIn(event.data.outcome.output));
  }
  const [accepted] = events;
  const workflow = accepted?.type === "run.accepted" ? accepted.data.workflow : "";
  const expected: { [agent: string]: number[] } = {};
  switch (workflow) {
    case "diamond":
      expected.planner = turnsOf(runId, "plan-1").slice(0, -1);
      expected.left = numbersOf(answers, "planner");
      expected.right = numbersOf(answers, "planner");
      expected.joiner = numbersOf(answers, "left", "right");
      break;
    case "relay":
      expected.solver = tasks.slice(0, -1).flatMap((taskId) => turnsOf(runId, taskId));
      break;
    default:
      expected.left = [];
  }
  const problems: string[] = [];
  for (const [agent, saw] of Object.entries(expected)) {
    const got = answers.get(agent)?.saw;
    if (JSON.stringify(got) !== JSON.stringify(saw.sort((a, b) => a - b))) {
      problems.push(`${runId}: expected ${agent} to have seen ${saw}, got ${got}`);
    }
  }
  const final = [...answers.values()].at(-1);
  if (answerIn(last.data.output).n !== final?.n)
    problems.push(`${runId}: expected the output of call ${final?.n}, got ${last.data.output}`);
  return problems;
}

function numbersOf(answers: ReadonlyMap<string, NumberedAnswer>, ...agents: string[]): number[] {
  return agents.map((agent) => answers.get(agent)?.n ?? -1);
}

// What a process has sent when it is lost reaches the model server a moment later.
const ARRIVAL_MS = 50;

/** Tasks that were in flight in a process when it was lost: it had called the model for them, and their outcome was not on record. */
export function tasksInFlight({ at, pid }: Loss, { runs, calls }: Pick<AuditInput, "runs" | "calls">): number {
  const settledAt = new Map<string, number>();
  for (const { value: events, at: storedAt } of runs) {
    for (const event of events) {
      if (event.type === "task.settled" || event.type === "agent.handoff") {
        settledAt.set(`${event.runId} ${event.data.taskId}`, storedAt);
      }
    }
  }
  const lastPid = new Map<string, number>();
  for (const call of calls) if (call.at <= at + ARRIVAL_MS) lastPid.set(`${call.runId} ${call.taskId}`, call.pid);
  return [...lastPid].filter(([task, by]) => by === pid && (settledAt.get(task) ?? Number.POSITIVE_INFINITY) > at)
    .length;
}

/** How long a run stood still, in milliseconds, and its journal from before to after. */
export type Standstill = { ms: number; story: string };

/** Tasks without an outcome in runs that a process owned when it was lost: it may have sent them. */
export function tasksOpen({ at, incarnation }: Loss, runs: readonly Stored<RunEvent[]>[]): number {
  let count = 0;
  for (const entries of byRun(runs).values()) {
    const before = entries.filter((entry) => entry.at <= at).flatMap(({ value }) => value);
    const claim = before.findLast((event) => event.type === "run.claimed");
    if (claim?.type !== "run.claimed" || claim.data.incarnation !== incarnation) continue;
    const open = new Set<string>();
    for (const event of before) {
      if (event.type === "task.sent") open.add(event.data.taskId);
      else if (event.type === "task.settled" || event.type === "agent.handoff") open.delete(event.data.taskId);
    }
    count += open.size;
  }
  return count;
}

/**
 * How long each run of a lost daemon stood still, in milliseconds: from the loss to the first entry of another owner that
 * does more than claim. Runs whose next owner was lost before it got so far are left out: they count from that loss on.
 */
export function standstills(losses: readonly Loss[], runs: readonly Stored<RunEvent[]>[]): Standstill[] {
  const times: Standstill[] = [];
  for (const entries of byRun(runs).values()) {
    const owners = entries.flatMap(({ value, at }) =>
      value.flatMap((event) => (event.type === "run.claimed" ? [{ at, incarnation: event.data.incarnation }] : [])),
    );
    for (const { at, incarnation } of losses) {
      const last = entries.findLast((entry) => entry.at <= at);
      const owner = owners.findLast((claim) => claim.at <= at);
      if (
        !last ||
        owner?.incarnation !== incarnation ||
        /^run\.(completed|failed|cancelled)$/.test(last.value.at(-1)?.type ?? "")
      )
        continue;
      const step = entries.find(
        (entry) =>
          entry.at > at &&
          (entry.value[0]?.epoch ?? 0) > (last.value[0]?.epoch ?? 0) &&
          entry.value.some(({ type }) => type !== "run.claimed"),
      );
      if (!step) continue;
      const between = owners.filter((claim) => claim.at > at && claim.at <= step.at).slice(0, -1);
      const again = between.some((claim) =>
        losses.some((loss) => loss.incarnation === claim.incarnation && loss.at <= step.at),
      );
      if (again) continue;
      const story = entries
        .filter((entry) => entry.at >= last.at && entry.at <= step.at)
        .map((entry) => `${Math.round(entry.at - at)} ms: ${entry.value.map(tell).join(", ")}`);
      times.push({ ms: step.at - at, story: `${step.subject} ${story.join("; ")}` });
    }
  }
  return times.sort((a, b) => a.ms - b.ms);
}

function tell(event: RunEvent): string {
  switch (event.type) {
    case "run.claimed":
      return `claimed by ${event.data.host}/${event.data.incarnation.slice(-4)} (${event.data.reason})`;
    case "task.sent":
      return `sent ${event.data.taskId} #${event.data.delivery} ${event.data.lost?.reason ?? ""}`;
    default:
      return event.type;
  }
}

/** A quantile of ascending numbers, `0.99` for p99. */
export function quantile(ascending: readonly number[], q: number): number {
  return ascending[Math.min(ascending.length - 1, Math.floor(ascending.length * q))] ?? Number.NaN;
}
