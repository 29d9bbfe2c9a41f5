/** Whether a run went the way its plan and the outcomes on record lead: steps, attempts, handoffs, and the one right end. */
import type { ErrorRecord } from "../src/errors.ts";
import type { RunEvent } from "../src/workflows/run-events.ts";
import { taskName } from "./calls.ts";
import { answersIn } from "./marks.ts";
import type { TaskPlan } from "./run-plan.ts";
import { HANDOFFS, STEPS, type StepShape } from "./shapes.ts";
import { StepFold } from "./step-fold.ts";
import { endOf, eventsOf, type TrackedRun } from "./tracked-run.ts";

/** Checks every outcome and the end; the steps of deterministic runs as well. */
export function checkFlow(run: TrackedRun): string[] {
  return [...checkTasks(run), ...checkSteps(run), ...checkEnd(run)];
}

type Settled = Extract<RunEvent, { type: "task.settled" }>;
type HandedOver = Extract<RunEvent, { type: "agent.handoff" }>;

/** Tasks are sent before they end, end once, and end as planned unless something that is on record interrupted them. */
function checkTasks(run: TrackedRun): string[] {
  const problems: string[] = [];
  const deliveries = new Map<string, number>();
  const ended = new Set<string>();
  let cancelling = false;
  for (const event of eventsOf(run)) {
    if (event.type === "run.cancelling") cancelling = true;
    if (event.type === "run.parked") problems.push(`parked: ${event.data.reason}`);
    if (event.type === "task.sent") {
      const { taskId, delivery } = event.data;
      const expected = (deliveries.get(taskId) ?? 0) + 1;
      if (delivery !== expected) problems.push(`${taskId}: expected delivery ${expected}, got ${delivery}`);
      if (ended.has(taskId)) problems.push(`${taskId}: sent after its outcome was recorded`);
      deliveries.set(taskId, delivery);
    }
    if (event.type !== "task.settled" && event.type !== "agent.handoff") continue;
    const { taskId } = event.data;
    if (!deliveries.has(taskId)) problems.push(`${taskId}: an outcome before it was sent`);
    if (ended.has(taskId)) problems.push(`${taskId}: a second outcome, ${JSON.stringify(event.data)}`);
    ended.add(taskId);
    const planned = run.plan.tasks.get(taskName(taskId));
    if (!planned) problems.push(`${taskId}: nobody planned this task`);
    else problems.push(...checkOutcome(run, event, planned, cancelling).map((problem) => `${taskId}: ${problem}`));
  }
  return problems;
}

function checkOutcome(
  run: TrackedRun,
  event: Settled | HandedOver,
  { agent, turns, end }: TaskPlan,
  cancelling: boolean,
): string[] {
  const expected = `expected ${JSON.stringify(end)}`;
  if (event.type === "agent.handoff") {
    if (end.type === "handoff" && end.to === event.data.to && event.data.from === agent) return [];
    return [`${expected} of ${agent}, got a handoff from ${event.data.from} to ${event.data.to}`];
  }
  const { outcome } = event.data;
  if (outcome.type === "completed") {
    if (end.type !== "completed") return [`${expected}, got ${JSON.stringify(outcome)}`];
    const made = outcome.usage.modelCalls;
    return made === turns.length ? [] : [`expected ${turns.length} turns, got ${made}`];
  }
  const { code } = outcome.error;
  if (end.type === "failed" && end.code === code) return [];
  if (code === "cancelled" && cancelling) return [];
  if (code === "timeout" && isOverdue(run, event)) return [];
  return [`${expected}, got ${JSON.stringify(outcome.error)}`];
}

/** Whether a task's own time, or its run's, was really over when it ended. */
function isOverdue(run: TrackedRun, { at, data }: Settled): boolean {
  const events = eventsOf(run);
  const sent = events.find((event) => event.type === "task.sent" && event.data.taskId === data.taskId);
  const steps: readonly StepShape[] = STEPS[run.plan.workflow as keyof typeof STEPS] ?? [];
  const step = sent?.type === "task.sent" ? steps.find(({ id }) => id === sent.data.step) : undefined;
  const now = Date.parse(at);
  if (sent && step?.timeoutMs !== undefined && now >= Date.parse(sent.at) + step.timeoutMs) return true;
  return isPastDeadline(run, now);
}

function isPastDeadline(run: TrackedRun, at: number): boolean {
  const { timeoutMs } = run.plan;
  const [accepted] = eventsOf(run);
  return timeoutMs !== undefined && accepted !== undefined && at >= Date.parse(accepted.at) + timeoutMs;
}

function checkSteps(run: TrackedRun): string[] {
  const steps: readonly StepShape[] | undefined = STEPS[run.plan.workflow as keyof typeof STEPS];
  if (!steps) return checkHandoffs(run);
  const fold = new StepFold(steps);
  for (const event of eventsOf(run)) fold.take(event);
  return fold.problems;
}

/** Each task is sent to whom the one before handed over, and to nobody else. */
function checkHandoffs(run: TrackedRun): string[] {
  const workflow = HANDOFFS[run.plan.workflow as keyof typeof HANDOFFS];
  if (!workflow) return [];
  const problems: string[] = [];
  let next: { taskId: string; agent: string } = { taskId: "h0", agent: workflow.entry };
  for (const event of eventsOf(run)) {
    if (event.type === "agent.handoff") {
      if (event.data.taskId !== next.taskId)
        problems.push(`expected the run with ${next.taskId}, got a handoff by ${event.data.taskId}`);
      next = { taskId: event.data.next.taskId, agent: event.data.to };
    }
    if (event.type !== "task.sent") continue;
    const { taskId, agent } = event.data;
    if (taskId !== next.taskId || agent !== next.agent)
      problems.push(`expected ${next.taskId} to be sent to ${next.agent}, got ${taskId} to ${agent}`);
  }
  return problems;
}

/** The end that the outcomes on record lead to. */
function checkEnd(run: TrackedRun): string[] {
  const end = endOf(run);
  if (!end) return [];
  const { kind } = run.plan;
  switch (end.type) {
    case "run.cancelled":
      return [];
    case "run.completed":
      return checkOutput(run, end.data.output);
    case "run.failed":
      return isRightFailure(run, end.data.error, end.at) ? [] : [`a ${kind} run failed: ${JSON.stringify(end.data)}`];
    default:
      return [`expected an end, got ${end.type}`];
  }
}

function checkOutput(run: TrackedRun, output: unknown): string[] {
  const last = eventsOf(run).findLast(
    (event) => event.type === "task.settled" && event.data.outcome.type === "completed",
  );
  const outcome = last?.type === "task.settled" ? last.data.outcome : undefined;
  if (outcome?.type !== "completed") return ["completed, and no task was"];
  const [expected, got] = [outcome.output, output].map((value) => JSON.stringify(value));
  if (expected !== got) return [`expected the output ${expected}, got ${got}`];
  return answersIn(String(got)).length === 1 ? [] : [`expected an output with one mark, got ${got}`];
}

function isRightFailure(run: TrackedRun, error: ErrorRecord, at: string): boolean {
  if (run.plan.kind === "bad input") return error.code === "invalid_input";
  if (run.plan.kind === "no workflow") return error.code === "unknown_workflow";
  if (error.code === "timeout" && isPastDeadline(run, Date.parse(at))) return true;
  const last = eventsOf(run).findLast((event) => event.type === "task.settled");
  const outcome = last?.type === "task.settled" ? last.data.outcome : undefined;
  return outcome?.type === "failed" && outcome.error.code === error.code;
}
