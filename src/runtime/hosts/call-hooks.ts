/**
 * Calls the functions of a workflow about what failed.
 *
 * Invariants
 * K1  They are called after the entry that records the failure and before another one of the run can be: so only those of a
 *     journal's newest entry can have been missed by an owner that died, and whoever takes over calls these again.
 * K2  Whatever they do, the run goes on as it would have: nothing waits for them, and what they throw is logged.
 */
import type { Logger } from "pino";
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import { hooksOf, type RunFailure, type TaskFailure } from "../../workflows/hooks.ts";
import type { RunEvent } from "../../workflows/run-events.ts";

/** Whose failures these are. */
export type HookedRun = { runId: string; definition: WorkflowDefinition; logger: Logger };

/** Tells of the failures in one entry; `stepOf` gives the step of a task that was open before it. */
export function callHooks(
  { runId, definition, logger }: HookedRun,
  entry: readonly RunEvent[],
  stepOf: (taskId: string) => string | undefined,
): void {
  const hooks = hooksOf(definition);
  if (!hooks) return;
  const workflow = definition.name;
  for (const event of entry) {
    if (event.type === "task.settled") {
      const failure = failureOf(event, entry, stepOf(event.data.taskId));
      if (failure) call("onTaskFailure", () => hooks.onTaskFailure?.({ runId, workflow, ...failure }));
    } else if (event.type === "run.failed") {
      const failure: RunFailure = { runId, workflow, error: event.data.error, at: event.at };
      call("onError", () => hooks.onError?.(failure));
    }
  }

  // K2
  function call(hook: string, run: () => unknown): void {
    const failed = (error: unknown) =>
      logger.error({ runId, workflow, hook, err: error }, "a hook of the workflow failed");
    try {
      const returned = run();
      if (returned instanceof Promise) returned.catch(failed);
    } catch (error) {
      failed(error);
    }
  }
}

type Settled = Extract<RunEvent, { type: "task.settled" }>;

/** An attempt that failed, or whose output did not fit; one that was called off has not failed. */
function failureOf(
  { at, data: { taskId, agent, outcome } }: Settled,
  entry: readonly RunEvent[],
  step: string | undefined,
): Omit<TaskFailure, "runId" | "workflow"> | undefined {
  const verdict = entry.find((event) => isVerdictOn(event, taskId, step));
  const said = verdict && "error" in verdict.data ? verdict.data.error : undefined;
  const error = outcome.type === "failed" ? outcome.error : said;
  if (!error || error.code === "cancelled") return undefined;
  return {
    taskId,
    agent,
    ...(step !== undefined && { step }),
    error,
    at,
    retrying: verdict?.type.endsWith("retrying") ?? false,
  };
}

/** What an entry says of an attempt: that it is made again, or that it failed for good. */
function isVerdictOn({ type, data }: RunEvent, taskId: string, step: string | undefined): boolean {
  switch (type) {
    case "step.failed":
    case "compensation.failed":
      return data.taskId === taskId;
    case "step.retrying":
      return data.step === step;
    case "compensation.retrying":
      return (step ?? "").startsWith(`${data.step}/`);
    default:
      return false;
  }
}

/** The entry that an owner that died may not have told of. */
export function newestOf(entries: readonly { value: readonly RunEvent[] }[]): readonly RunEvent[] {
  return entries.findLast(({ value }) => value.some(({ type }) => type !== "run.claimed"))?.value ?? [];
}

/** The step of each task that a journal says was sent. */
export function stepsIn(events: readonly RunEvent[]): (taskId: string) => string | undefined {
  const steps = new Map(
    events.map(({ type, data }) => (type === "task.sent" ? [data.taskId, data.step] : ["", undefined])),
  );
  return (taskId) => steps.get(taskId);
}
