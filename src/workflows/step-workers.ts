/** Who does a step, and the task that somebody is asked for it. */
import type { Task } from "../actors/task.ts";
import { TroupeError } from "../errors.ts";
import { childRunIdOf, MAX_DEPTH } from "./child-run-id.ts";
import type { AskedStep, CompensationDefinition, DeterministicDefinition, StepDefinition } from "./definition.ts";
import { deadlineOf, type RunSetup } from "./plan.ts";
import type { NamedKind, StepWorker } from "./run-events.ts";

/** Whose a step is, as events say it. */
export function workerOf(step: AskedStep): { agent: string; kind?: NamedKind };
export function workerOf(step: StepDefinition): StepWorker;
export function workerOf(step: StepDefinition): StepWorker {
  switch (step.kind) {
    case "agent":
      return { agent: step.agent };
    case "tool":
      return { agent: step.tool, kind: "tool" };
    case "workflow":
      return { agent: step.workflow, kind: "workflow" };
    case "approval":
    case "wait":
      return { kind: step.kind };
    case "group":
      return {};
  }
}

/** Who undoes a step, as events say it. */
export function undoerOf({ agent, tool }: CompensationDefinition): { agent: string; kind?: "tool" } {
  return tool === undefined ? { agent: agent ?? "" } : { agent: tool, kind: "tool" };
}

type Asked = { step: AskedStep; taskId: string; attempt: number; input: unknown; setup: RunSetup };

/**
 * The task of an attempt at a step.
 *
 * @throws TroupeError `too_deep` where it were a run below too many others.
 */
export function taskFor({ name, hash }: DeterministicDefinition, { step, taskId, attempt, input, setup }: Asked): Task {
  const { runId, request } = setup;
  const deadline = deadlineOf(setup);
  const task: Task = {
    v: 1,
    taskId,
    runId,
    workflow: name,
    definition: hash,
    ...workerOf(step),
    attempt,
    delivery: 1,
    input,
    handoffs: [],
    hops: [],
    limits: {},
  };
  if (step.kind === "workflow") task.childId = childIn(setup, step.workflow, taskId);
  if (request.sessionId !== undefined) task.sessionId = request.sessionId;
  if (step.timeoutMs !== undefined) task.timeoutMs = step.timeoutMs;
  if (deadline !== undefined) task.deadline = deadline;
  return task;
}

function childIn({ runId, request: { parent } }: RunSetup, workflow: string, taskId: string): string {
  const depth = (parent?.depth ?? 0) + 1;
  if (depth >= MAX_DEPTH) {
    const message = `expected at most ${MAX_DEPTH} runs one below the other, got one more, of ${workflow}`;
    throw new TroupeError("too_deep", message);
  }
  return childRunIdOf(runId, taskId);
}
