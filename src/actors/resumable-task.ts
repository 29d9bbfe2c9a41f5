/**
 * The task machine as an actor that can begin in the middle. XState restores from a snapshot only at `createActor`; a spawned
 * child begins from its input, so here the input may carry the snapshot.
 */
import type { ActorLogic, Snapshot, SnapshotFrom } from "xstate";
import type { TaskEvent, TaskInput, taskMachine } from "./task-machine.ts";

type TaskMachine = typeof taskMachine;

/** What a task actor begins from; `snapshot` is what `foldTask` made of its journal. */
export type TaskStart = TaskInput & { snapshot?: Snapshot<unknown> };

export type ResumableTask = ActorLogic<SnapshotFrom<TaskMachine>, TaskEvent, TaskStart>;

/** Lets `machine` begin from the snapshot in its input; children that were outstanding there run again. */
export function resumable(machine: TaskMachine): ResumableTask {
  const getInitialSnapshot: TaskMachine["getInitialSnapshot"] = (scope, input) => {
    const { snapshot } = (input ?? {}) as Partial<TaskStart>;
    return snapshot
      ? machine.restoreSnapshot(snapshot as Parameters<TaskMachine["restoreSnapshot"]>[0], scope)
      : machine.getInitialSnapshot(scope, input);
  };
  return Object.create(machine, { getInitialSnapshot: { value: getInitialSnapshot } }) as ResumableTask;
}
