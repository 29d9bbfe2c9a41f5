/** The tasks that are at this host, found by what they are and by what its actors and its control inbox call them. */
import type { Tracing } from "../../tracing/tracing.ts";
import { TransientMap } from "../transient-map.ts";
import type { TaskWork } from "./task-work.ts";

export type TaskRegistry = {
  add(work: TaskWork): void;
  byKey(key: string): TaskWork | undefined;
  byId(id: string): TaskWork | undefined;
  all(): TaskWork[];
  /** The task is not here any more; `leaves` says what becomes of leaves that were held back. */
  remove(work: TaskWork, leaves: "release" | "discard"): void;
  /** Lets go of leaves that were held back, once it is known whether a journal knows their segment. */
  letGo(work: TaskWork, leaves: "release" | "discard"): void;
};

/** Opens an empty registry. */
export function openTaskRegistry(tracing: Tracing): TaskRegistry {
  const works = new TransientMap<string, TaskWork>();
  const ids = new TransientMap<string, TaskWork>();
  return {
    add(work) {
      works.set(work.key, work);
      ids.set(work.id, work);
      if (work.held) tracing.hold(work.segment);
    },
    byKey: (key) => works.get(key),
    byId: (id) => ids.get(id),
    all: () => [...works.values()],
    remove(work, leaves) {
      letGo(work, leaves);
      clearTimeout(work.timer);
      work.passOn?.();
      works.delete(work.key);
      ids.delete(work.id);
    },
    letGo,
  };

  function letGo(work: TaskWork, leaves: "release" | "discard"): void {
    if (!work.held) return;
    work.held = false;
    tracing[leaves](work.segment);
  }
}
