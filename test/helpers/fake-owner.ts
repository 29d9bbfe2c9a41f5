/** A run's owner as a worker sees it: sends tasks, hears what is said on their reply subjects, answers outcomes. */
import type { OutcomeMessage, OutcomeReceipt, Task, TaskAnswer, TaskControl } from "../../src/actors/task.ts";
import type { Bus } from "../../src/runtime/nats/connection.ts";
import { createInbox, headers, type Msg } from "../../src/runtime/nats/nats.ts";
import { type Subjects, TRACEPARENT_HEADER } from "../../src/runtime/subjects.ts";
import type { RunEvent } from "../../src/workflows/run-events.ts";
import { eventsOf } from "./run-events.ts";
import { until } from "./until.ts";

export type Heard = { taskId: string; type: string; answer: TaskAnswer; control: string | undefined };

export type FakeOwner = {
  /** Answers come to `<reply>.<taskId>`. */
  readonly reply: string;
  readonly heard: Heard[];
  send(task: Task, traceparent?: string): void;
  /** Waits for something said about a task: its type, and the outcome's where it is one. */
  hears(taskId: string, type: string, nth?: number): Promise<Heard>;
  outcome(taskId: string): Promise<OutcomeMessage>;
  tell(control: TaskControl): void;
  /** Stops listening, as an owner that died. */
  die(): void;
};

export type OwnerPolicy = (outcome: OutcomeMessage) => OutcomeReceipt["type"] | "silence";

export function startFakeOwner(bus: Bus, subjects: Subjects, answer: OwnerPolicy = () => "recorded"): FakeOwner {
  const reply = createInbox();
  const heard: Heard[] = [];
  const begun = new Set<string>();
  const subscription = bus.nc.subscribe(`${reply}.>`, {
    callback: (_, msg) => onAnswer(msg),
  });
  return {
    reply,
    heard,
    send(task, traceparent) {
      // Journal, then act: a worker that may have been missed looks its run up.
      if (!begun.has(task.runId)) bus.nc.publish(subjects.run(task.runId), JSON.stringify([acceptedOf(task)]));
      begun.add(task.runId);
      const hdrs = headers();
      if (traceparent) hdrs.set(TRACEPARENT_HEADER, traceparent);
      const message = JSON.stringify(task);
      bus.nc.publish(subjects.mailbox(task.agent), message, { reply: `${reply}.${task.taskId}`, headers: hdrs });
    },
    async hears(taskId, type, nth = 1) {
      const found = () => heard.filter((said) => said.taskId === taskId && said.type === type)[nth - 1];
      await until(`${type} of task ${taskId}`, () => found() !== undefined);
      return found() as Heard;
    },
    async outcome(taskId) {
      await until(`the outcome of task ${taskId}`, () => outcomeOf(taskId) !== undefined);
      return outcomeOf(taskId) as OutcomeMessage;
    },
    tell(control) {
      const to = heard.findLast((said) => said.taskId === control.taskId && said.control)?.control;
      if (!to) throw new Error(`nobody has accepted task ${control.taskId}`);
      bus.nc.publish(to, JSON.stringify(control));
    },
    die: () => subscription.unsubscribe(),
  };

  function outcomeOf(taskId: string): TaskAnswer | undefined {
    return heard.find((said) => said.taskId === taskId && isOutcome(said.answer))?.answer;
  }

  function onAnswer(msg: Msg): void {
    const said = msg.json<TaskAnswer>();
    const taskId = msg.subject.slice(reply.length + 1);
    heard.push({ taskId, type: said.type, answer: said, control: msg.reply || undefined });
    if (!isOutcome(said)) return;
    const type = answer(said);
    if (type !== "silence") msg.respond(JSON.stringify({ type }));
  }
}

function acceptedOf({ runId, workflow, input }: Task): RunEvent {
  const trace = { traceId: "0".repeat(32), sampled: false };
  return eventsOf(runId).next({ type: "run.accepted", data: { workflow, input, trace } });
}

function isOutcome(answer: TaskAnswer): answer is OutcomeMessage {
  return answer.type === "completed" || answer.type === "handoff" || answer.type === "failed";
}
