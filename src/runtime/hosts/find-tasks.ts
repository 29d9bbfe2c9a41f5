/** Where the open tasks of a run are that was just taken over: done, at work somewhere, or to be sent again. */
import type { OutcomeMessage, TaskEntry } from "../../actors/task.ts";
import type { Journals } from "../nats/journal.ts";
import type { ActiveRun, RunHostParts } from "./active-run.ts";
import type { ChildRuns } from "./child-runs.ts";
import { wholeOutcome } from "./whole-outcome.ts";

export type FindTasksParts = {
  host: Pick<RunHostParts, "desk" | "logger" | "payloads">;
  children: Pick<ChildRuns, "lookAfter">;
  taskJournals: Journals<TaskEntry>;
  taskSubject: (runId: string, taskId: string) => string;
};

/** Looks for a run's tasks; `leaver` is a worker that answers although it does not count as living any more. */
export async function findTasks(parts: FindTasksParts, run: ActiveRun, leaver: string | undefined): Promise<void> {
  const { desk } = parts.host;
  const { runId } = run;
  const all = run.openTasks();
  // Workers that answered, and children, are told once more what their run has come to.
  const tellCancelled = () => {
    if (run.callingOff) for (const { task } of all) run.accepted(task.taskId, undefined);
  };
  void parts.children.lookAfter(run);
  const open = all.filter(({ task }) => task.kind !== "workflow");
  if (open.length === 0) return tellCancelled();
  const sought = open.map(({ task }) => ({ task, traceparent: run.traceparent(task.taskId) }));
  const found = desk.whereAre(runId, sought, leaver);
  const stored = await Promise.all(open.map(({ task }) => storedOutcome(parts, runId, task.taskId)));
  for (const outcome of stored) if (outcome) run.outcome(outcome, () => {});
  await found;
  for (const { task } of open) {
    if (!run.isOpen || desk.isTaken(runId, task.taskId)) continue;
    run.redeliver(task.taskId, { reason: "not found after a takeover" });
  }
  tellCancelled();
}

async function storedOutcome(
  { host, taskJournals, taskSubject }: FindTasksParts,
  runId: string,
  taskId: string,
): Promise<OutcomeMessage | undefined> {
  try {
    const entry = (await taskJournals.last(taskSubject(runId, taskId)))?.value;
    return entry?.type === "outcome" ? await wholeOutcome(host.payloads, runId, entry.outcome) : undefined;
  } catch (error) {
    host.logger.debug({ runId, taskId, err: error }, "could not look for a stored outcome");
    return undefined;
  }
}
