/** What comes back on a task's reply subject; anybody may write there, so nothing is taken for granted. */
import { checkOutcome } from "../../actors/check-outcome.ts";
import type { TaskAnswer } from "../../actors/task.ts";
import type { Msg } from "../nats/nats.ts";

/** Reads an answer; undefined when it is none. An outcome with values elsewhere is checked when they are there. */
export function readTaskAnswer(message: Msg): TaskAnswer | undefined {
  try {
    const answer = message.json<TaskAnswer>();
    switch (answer.type) {
      case "accepted":
      case "working":
      case "busy":
      case "unknown":
        return typeof answer.taskId === "string" ? answer : undefined;
      case "completed":
      case "handoff":
      case "failed":
        return answer.refs === undefined || typeof answer.taskId !== "string" ? checkOutcome(answer) : answer;
      default:
        answer satisfies never;
        return undefined;
    }
  } catch {
    return undefined;
  }
}
