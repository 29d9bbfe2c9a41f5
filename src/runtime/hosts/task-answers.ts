/** What a worker says on the reply subjects of tasks, and where it takes control messages about them. */
import type { Logger } from "pino";
import type { OutcomeMessage } from "../../actors/task.ts";
import type { Bus } from "../nats/connection.ts";
import { createInbox, type Msg } from "../nats/nats.ts";
import type { TaskWork } from "./task-work.ts";

export type TaskAnswers = {
  /** One wildcard subscription takes the control messages of all tasks. */
  readonly controlSubject: string;
  /** The id of the task a control message is about. */
  controlled(msg: Msg): string;
  say(type: "accepted" | "working", work: TaskWork): void;
  /** Not here: the owner sends it elsewhere. */
  busy(work: Pick<TaskWork, "task" | "delivery" | "reply">): void;
  /** To an owner that looks for a task which is not here. */
  unknown(taskId: string, reply: string): void;
  /** Sends an outcome that is made already; whether it is still wanted is the affair of whoever asked. */
  outcome(bytes: Uint8Array, reply: string | undefined): void;
  malformed(msg: Msg, problem: string, taskId: string | undefined): void;
};

/** No task has it: what comes back there is not read. */
const NO_TASK = "0";

/** Opens the worker's voice; `inboxPrefix` is the connection's own. */
export function openTaskAnswers(bus: Bus, worker: string, logger: Logger, inboxPrefix?: string): TaskAnswers {
  const inbox = createInbox(inboxPrefix);
  return {
    controlSubject: `${inbox}.*`,
    controlled: (msg) => msg.subject.slice(inbox.length + 1),
    say(type, work) {
      work.acknowledged = true;
      publish(work.reply, status(type, work), work.id);
    },
    busy: (work) => publish(work.reply, status("busy", work)),
    unknown: (taskId, reply) => publish(reply, JSON.stringify({ type: "unknown", taskId, worker })),
    outcome,
    malformed(msg, problem, taskId) {
      if (!msg.reply) return;
      const outcome: OutcomeMessage = {
        v: 1,
        // By the protocol a reply subject ends in the id of its task.
        taskId: taskId ?? msg.reply.slice(msg.reply.lastIndexOf(".") + 1),
        attempt: 1,
        worker,
        type: "failed",
        error: { code: "bad_task", message: problem },
      };
      publish(msg.reply, JSON.stringify(outcome), NO_TASK);
    },
  };

  function outcome(bytes: Uint8Array, reply: string | undefined): void {
    // The owner answers outcomes; without a reply subject it could not.
    publish(reply, bytes, NO_TASK);
  }

  function status(
    type: "accepted" | "working" | "busy",
    { task, delivery }: Pick<TaskWork, "task" | "delivery">,
  ): string {
    return JSON.stringify({ type, taskId: task.taskId, delivery, worker });
  }

  function publish(subject: string | undefined, payload: string | Uint8Array, controlId?: string): void {
    if (!subject) return;
    try {
      bus.nc.publish(subject, payload, controlId ? { reply: `${inbox}.${controlId}` } : {});
    } catch (error) {
      // The connection is closed: the owner finds out by the silence.
      logger.debug({ err: error, subject }, "cannot answer");
    }
  }
}
