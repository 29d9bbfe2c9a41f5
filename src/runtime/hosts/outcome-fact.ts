/** What a worker's outcome is in the words of the run's journal. */
import type { OutcomeMessage } from "../../actors/task.ts";
import type { ErrorRecord } from "../../errors.ts";
import type { OpenTask } from "../../workflows/plan.ts";
import type { FactBody } from "../../workflows/run-events.ts";

const NO_USAGE = { inputTokens: 0, outputTokens: 0, modelCalls: 0 };

/**
 * The fact an open task's outcome stands for. `nextTask` gives the task that a handoff leads to: the one the worker has sent,
 * where that can be, or a new one.
 */
export function factOf(
  { task }: OpenTask,
  message: OutcomeMessage,
  nextTask: (sent: HandoffNext | undefined) => HandoffNext,
): FactBody {
  const { agent } = task;
  const { taskId, worker, usage } = message;
  const base = { taskId, ...(worker !== undefined && { worker }) };
  switch (message.type) {
    case "completed": {
      const { output, transcript } = message;
      const outcome = {
        type: "completed",
        output,
        usage: usage ?? NO_USAGE,
        ...(transcript && { transcript }),
      } as const;
      return { type: "task.settled", data: { ...base, agent, outcome } };
    }
    case "failed": {
      const outcome = { type: "failed", error: message.error, ...(usage && { usage }) } as const;
      return { type: "task.settled", data: { ...base, agent, outcome } };
    }
    case "handoff": {
      const { to, input, reason, transcript = [], messages, next } = message;
      return {
        type: "agent.handoff",
        data: {
          ...base,
          from: agent,
          to,
          ...(input !== undefined && { input }),
          ...(reason !== undefined && { reason }),
          transcript,
          ...(messages && { messages }),
          next: nextTask(next),
          ...(usage && { usage }),
        },
      };
    }
    default:
      return message satisfies never;
  }
}

/** The task after a handoff, and whether the worker that hands off has sent it already. */
export type HandoffNext = { taskId: string; forwarded: boolean };

/** A task that failed without a worker saying so. */
export function taskFailed(taskId: string, agent: string, error: ErrorRecord): FactBody {
  return { type: "task.settled", data: { taskId, agent, outcome: { type: "failed", error } } };
}

/** A task that was cancelled while nobody had it. */
export function taskStopped(taskId: string, agent: string): FactBody {
  return taskFailed(taskId, agent, { code: "cancelled", message: "stopped before a worker had it" });
}
