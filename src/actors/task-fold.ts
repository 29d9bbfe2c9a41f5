/**
 * Recovery of a task: its journal is folded with the pure `transition`, so nothing runs; the snapshot that comes out, when an
 * actor is started from it, runs exactly what has no recorded result.
 *
 * Invariants
 * F1  A recorded result is never asked for again.
 * F2  A journal that does not fit the agent as it is now stops with `TaskFoldError`; the task is never continued from a guess.
 */
import { initialTransition, type Snapshot, transition } from "xstate";
import { TroupeError } from "../errors.ts";
import type { Agent } from "./agent.ts";
import type { OutcomeMessage, Task, TaskEntry } from "./task.ts";
import { MODEL_CHILD, type TaskInput, taskMachine, toolChild } from "./task-machine.ts";
import type { TaskState } from "./task-state.ts";

/** A task's journal does not lead anywhere with the agent as it is defined now. */
export class TaskFoldError extends TroupeError {
  constructor(taskId: string, message: string) {
    super("cannot_fold", `task ${taskId}: ${message}`);
  }
}

export type FoldedTask =
  /** It had ended, and nobody had taken its outcome. */
  | { type: "ended"; outcome: OutcomeMessage }
  /** Start a task actor from this. */
  | { type: "open"; snapshot: Snapshot<unknown> };

/**
 * Folds a task's journal.
 *
 * @throws TaskFoldError when an entry does not fit where the task stands.
 */
export function foldTask(agent: Agent, task: Task, entries: readonly TaskEntry[]): FoldedTask {
  const last = entries.at(-1);
  if (last?.type === "outcome") return { type: "ended", outcome: last.outcome };
  const input: TaskInput = { agent: () => agent, task };
  let [snapshot] = initialTransition(taskMachine, input);
  for (const entry of entries) {
    if (isMark(entry)) continue;
    const event = eventOf(entry, snapshot.context);
    // F2
    if (!event || !(event.actorId in snapshot.children)) {
      throw new TaskFoldError(
        task.taskId,
        `its journal has a ${entry.type} where ${JSON.stringify(snapshot.value)} expects none`,
      );
    }
    // The event is the one a child of this id sends when it is done; the machine's types know it only by pattern.
    [snapshot] = transition(taskMachine, snapshot, event as never);
  }
  return { type: "open", snapshot: taskMachine.getPersistedSnapshot(snapshot) };
}

/** Said for those who go on with the task, and nothing to its machine. */
function isMark(entry: TaskEntry): entry is Mark {
  return entry.type === "begun" || entry.type === "returned" || entry.type === "calling";
}

type Mark = Extract<TaskEntry, { type: "begun" | "returned" | "calling" }>;

type DoneEvent = { type: `xstate.done.actor.${string}`; output: unknown; actorId: string };

function eventOf(entry: Exclude<TaskEntry, Mark>, state: TaskState): DoneEvent | undefined {
  switch (entry.type) {
    case "turn":
      return entry.turn === state.turn ? done(MODEL_CHILD, entry.reply) : undefined;
    case "tool": {
      if (entry.turn !== state.turn) return undefined;
      return done(toolChild(state, entry.callId), { callId: entry.callId, content: entry.content });
    }
    case "outcome":
      return undefined;
  }
}

function done(actorId: string, output: unknown): DoneEvent {
  return { type: `xstate.done.actor.${actorId}`, output, actorId };
}
