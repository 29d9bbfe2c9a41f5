/**
 * How a task leaves its owner for its agent's mailbox: encoded, marked where it was sent before, and without its large values.
 *
 * Invariants
 * E1  A task that is too long for a message is sent without its large values, once they are stored; what is to be sent
 *     meanwhile is that.
 * E2  What was sent before says so, so that whoever takes it looks into its journal first.
 */
import type { Bus } from "../nats/connection.ts";
import { rawHeaders } from "../nats/nats.ts";
import { LARGE, type Payloads } from "../nats/payloads.ts";
import { SENT_AGAIN_HEADER, SENT_AT_HEADER, type Subjects, TRACEPARENT_HEADER } from "../subjects.ts";
import { crashPoints } from "./crash-points.ts";
import type { Tracked } from "./tracked-task.ts";

export type DispatchOptions = {
  bus: Pick<Bus, "nc">;
  subjects: Subjects;
  payloads: Payloads;
  /** Answers come under `<inbox>.<runId>.<taskId>`. */
  inbox: string;
  /** Aborts when nothing is to be sent any more. */
  signal: AbortSignal;
  /** Whether somebody still wants the task sent. */
  isTracked: (entry: Tracked) => boolean;
  unsendable: (entry: Tracked, error: unknown) => void;
};

// Room for the trace context and a mark.
const HEADER_ROOM = 256;

/** Gives the function that puts a task into its agent's mailbox. */
export function dispatcherOf(options: DispatchOptions): (entry: Tracked) => void {
  const { bus, subjects, payloads, inbox, signal, isTracked, unsendable } = options;
  const encoder = new TextEncoder();
  return dispatch;

  function dispatch(entry: Tracked) {
    const { task, made } = entry;
    // E1
    if (made === "being made") return;
    try {
      const body = made ?? encoder.encode(JSON.stringify(task));
      if (body.length <= payloads.room(HEADER_ROOM)) return send(entry, body);
      entry.made = "being made";
      void detach(entry, body.length);
    } catch (error) {
      // Values that are allowed one by one may come to more together than a text can hold.
      unsendable(entry, error);
    }
  }

  // E1
  async function detach(entry: Tracked, bytes: number) {
    const { runId, taskId, agent } = entry.task;
    const what = `task ${taskId} for ${agent}`;
    const about = { what, fields: LARGE.task, bytes, room: payloads.room(HEADER_ROOM), runId, signal };
    try {
      const [left] = await payloads.detach([entry.task], about);
      if (!isTracked(entry)) return;
      entry.made = encoder.encode(JSON.stringify(left));
      // Nobody could answer for it before now.
      if (entry.state.is === "sent") entry.state = { is: "sent", at: performance.now(), tries: entry.state.tries };
      if (entry.state.is === "sent" || entry.state.is === "held") send(entry, entry.made);
    } catch (error) {
      delete entry.made;
      if (isTracked(entry) && !signal.aborted) unsendable(entry, error);
    }
  }

  function send(entry: Tracked, body: Uint8Array) {
    const { task, traceparent, again } = entry;
    const trace = [TRACEPARENT_HEADER, traceparent] as const;
    const sentAt = [SENT_AT_HEADER, String(Date.now())] as const;
    // E2
    const headers = again ? rawHeaders(trace, sentAt, [SENT_AGAIN_HEADER, "1"]) : rawHeaders(trace, sentAt);
    try {
      crashPoints.at("before-task-sent");
      const mailbox = task.kind === "tool" ? subjects.toolMailbox(task.agent) : subjects.mailbox(task.agent);
      bus.nc.publish(mailbox, body, { headers, reply: `${inbox}.${task.runId}.${task.taskId}` });
      crashPoints.onceSent("after-task-sent");
    } catch (error) {
      unsendable(entry, error);
    }
  }
}
