/** How long the steps of one run take, for the metrics; not on record, so a run that is taken over starts without. */
import type { Metrics } from "../../tracing/metrics.ts";
import type { RunEvent } from "../../workflows/run-events.ts";
import type { Clock } from "./clock.ts";

export type StepTimes = {
  /** A task is on its way; `step` is the one it is an attempt at. */
  sent(taskId: string, step: string | undefined): void;
  /** Tells of the tasks that these events settle. */
  recorded(events: readonly RunEvent[]): void;
  forget(taskId: string): void;
};

/** Keeps the times of a run of `workflow`. */
export function keepStepTimes(workflow: string, clock: Clock, metrics: Metrics): StepTimes {
  /** When each open task was sent, in milliseconds of the clock. */
  const open = new Map<string, { at: number; step: string | undefined }>();
  return {
    sent: (taskId, step) => void open.set(taskId, { at: clock.now(), step }),
    recorded(events) {
      for (const { type, data } of events) {
        if (type !== "task.settled") continue;
        const { taskId, agent, outcome } = data;
        const sent = open.get(taskId);
        // A task this process did not send was taken over; its length is not known here.
        if (!sent) continue;
        metrics.stepEnded({
          workflow,
          // Ids of handed-off tasks are random; as a label each would be a series of its own.
          step: sent.step === undefined ? agent : withoutNumbers(sent.step),
          agent,
          seconds: (clock.now() - sent.at) / 1_000,
          ...(outcome.type === "failed" && { error: outcome.error.code }),
        });
      }
    },
    forget: (taskId) => void open.delete(taskId),
  };
}

/** The step of all items and iterations: as labels their paths would each be a series of its own. */
function withoutNumbers(path: string): string {
  return path.replaceAll(/\/\d+(?=\/|$)/g, "");
}
