/**
 * When a worker says that it has a task: a moment after it took it in, and not at all where the outcome is there by then, which
 * says as much. So short tasks are two messages, not three, and what came together is acknowledged together.
 *
 * Invariants
 * C1  Every task that is still here `SAY_WITHIN_MS` after it was taken in is acknowledged then; that is far below the time
 *     after which owners send tasks again.
 * C2  What has left meanwhile, in whichever way, is not acknowledged; but what was begun and is given back is, before that
 *     (`agent-host.ts`): there may be something on record of it.
 */
import { crashPoints } from "./crash-points.ts";
import type { TaskAnswers } from "./task-answers.ts";
import type { TaskWork } from "./task-work.ts";

export type Acceptances = {
  /** The task was taken in. */
  add(work: TaskWork): void;
  stop(): void;
};

const SAY_WITHIN_MS = 10;

/** Opens the acknowledging of one worker; `isTaken` tells whether a task waits or is at work here. */
export function openAcceptances(answers: Pick<TaskAnswers, "say">, isTaken: (work: TaskWork) => boolean): Acceptances {
  let taken: TaskWork[] = [];
  let timer: NodeJS.Timeout | undefined;
  return {
    add(work) {
      taken.push(work);
      timer ??= setTimeout(say, SAY_WITHIN_MS);
    },
    stop: () => clearTimeout(timer),
  };

  function say() {
    const due = taken;
    taken = [];
    timer = undefined;
    for (const work of due) {
      // C2
      if (!isTaken(work)) continue;
      crashPoints.at("before-task-accepted");
      answers.say("accepted", work);
      crashPoints.onceSent("after-task-accepted");
    }
  }
}
