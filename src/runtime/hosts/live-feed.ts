/** What watchers of a run see beside its journal: the model's words as they come, tools as they run. Never waited for. */

import type { Bus } from "../nats/connection.ts";
import type { Subjects } from "../subjects.ts";
import type { TaskWork } from "./task-work.ts";

/** About what an eye can follow; token by token would cost more than the model call. */
const COALESCE_MS = 25;

type LiveEventType = "model.delta" | "model.restarted" | "tool.started" | "tool.progress" | "tool.completed";

export type LiveFeed = {
  /** Takes a piece of a model's answer; pieces of one turn are sent together. */
  delta(work: TaskWork, turn: number, text: string): void;
  /** Sends what is kept back of a task, then the event. */
  say(work: TaskWork, type: Exclude<LiveEventType, "model.delta">, data: object): void;
  /** Sends what is kept back of a task. */
  flush(work: TaskWork): void;
  stop(): void;
};

/** Opens the live feed of this host. */
export function openLiveFeed(bus: Bus, subjects: Subjects): LiveFeed {
  const kept = new Map<TaskWork, { turn: number; text: string }>();
  let timer: NodeJS.Timeout | undefined;

  return {
    delta(work, turn, text) {
      const pending = kept.get(work);
      if (pending && pending.turn === turn) pending.text += text;
      else {
        flush(work);
        kept.set(work, { turn, text });
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
    publish(work, "model.delta", pending);
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
