/** Reads what a run's transcript is made of: its journal, those of its tasks, and the order of its steps. */
import type { TaskEntry } from "../../actors/task.ts";
import { NotFoundError } from "../../errors.ts";
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import { hashOf, type RunEvent } from "../../workflows/run-events.ts";
import { renderTranscript, talkedTasks } from "../../workflows/run-transcript.ts";
import type { TaskJournalPage } from "./task-pages.ts";

export type TranscriptReads = {
  journal(): Promise<RunEvent[]>;
  taskPage(taskId: string, from: number): Promise<TaskJournalPage>;
  /** An entry with all of its values. */
  whole(entry: TaskEntry): Promise<TaskEntry>;
  workflow(name: string): Promise<WorkflowDefinition>;
};

/** Reads a run and tells it as text. */
export async function readTranscript(reads: TranscriptReads): Promise<string> {
  const events = await reads.journal();
  const journals = new Map<string, TaskEntry[]>();
  for (const taskId of talkedTasks(events)) journals.set(taskId, await readTask(taskId, reads));
  const order = await orderOf(events, reads);
  return renderTranscript({ events, entriesOf: (taskId) => journals.get(taskId) ?? [], order });
}

async function readTask(taskId: string, { taskPage, whole }: TranscriptReads): Promise<TaskEntry[]> {
  const all: TaskEntry[] = [];
  for (let next: number | undefined = 1; next !== undefined; ) {
    const page: TaskJournalPage = await taskPage(taskId, next);
    for (const entry of page.entries) all.push(await whole(entry));
    next = page.next;
  }
  return all;
}

/** As the definition has the steps, where a daemon still has the one that the run is bound to. */
async function orderOf(events: readonly RunEvent[], { workflow }: TranscriptReads): Promise<string[]> {
  const [first] = events;
  if (first?.type !== "run.accepted" || first.data.kind !== "deterministic") return [];
  try {
    const definition = await workflow(first.data.workflow);
    if (definition.kind !== "deterministic" || definition.hash !== hashOf(events)) return [];
    return pathsOf(definition.steps, "");
  } catch (error) {
    if (error instanceof NotFoundError) return [];
    throw error;
  }
}

/** A step as far as its place matters; one that holds others has them. */
type Placed = { id: string; steps?: readonly Placed[] };

function pathsOf(steps: readonly Placed[], parent: string): string[] {
  return steps.flatMap(({ id, steps: inner = [] }) => [parent + id, ...pathsOf(inner, `${parent}${id}/`)]);
}
