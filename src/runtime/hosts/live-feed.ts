/** What watchers of a run see beside its journal: the model's words as they come, tools as they run. Never waited for. */

import type { Bus } from "../nats/connection.ts";
import type { Subjects } from "../subjects.ts";
import type { TaskWork } from "./task-work.ts";

/** About what an eye can follow; token by token would cost more than the model call. */
const COALESCE_MS = 25;

/** What is said in pieces. */
type Stream = "model.delta" | "model.reasoning";

type LiveEventType =
  | Stream
  | "model.restarted"
  | "model.fallback"
  | "model.waiting"
  | "tool.started"
  | "tool.progress"
  | "tool.completed";

export type LiveFeed = {
  /** Takes a piece of a model's answer, or of what is told of its reasoning; pieces of one turn are sent together. */
  delta(work: TaskWork, turn: number, text: string, stream?: Stream): void;
  /** Sends what is kept back of a task, then the event. */
  say(work: TaskWork, type: Exclude<LiveEventType, Stream>, data: object): void;
  /** Sends what is kept back of a task. */
  flush(work: TaskWork): void;
  stop(): void;
};

/** Opens the live feed of this host. */
export function openLiveFeed(bus: Bus, subjects: Subjects): LiveFeed {
  const kept = new Map<TaskWork, { turn: number; text: string; stream: Stream }>();
  let timer: NodeJS.Timeout | undefined;

  return {
    delta(work, turn, text, stream = "model.delta") {
      const pending = kept.get(work);
      if (pending?.turn === turn && pending.stream === stream) pending.text += text;
      else {
        flush(work);
        kept.set(work, { turn, text, stream });
      }
      timer ??= setTimeout(flushAll, COALESCE_MS);
    },
    say(work, type, data) {
      flush(work);
      publish(work, type, data);
    },
    flush,
    stop() {
      clearTimeout(timer);
      kept.clear();
    },
  };

  function flush(work: TaskWork): void {
    const pending = kept.get(work);
    if (!pending) return;
    kept.delete(work);
    const { stream, turn, text } = pending;
    publish(work, stream, { turn, text });
  }

  function flushAll(): void {
    timer = undefined;
    for (const work of kept.keys()) flush(work);
  }

  function publish({ task, agent }: TaskWork, type: LiveEventType, data: object): void {
    const { runId, taskId, workflow } = task;
    const event = { v: 1, type, runId, at: new Date().toISOString(), data: { taskId, agent: agent.name, ...data } };
    try {
      bus.nc.publish(subjects.event(workflow, runId, type), JSON.stringify(event));
    } catch {
      // Nobody waits for it: a closed connection or a piece beyond the broker's limit loses it.
    }
  }
}
