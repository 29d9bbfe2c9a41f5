/** What a long list of one run is told as: not a line for every item, but how far it is, now and then. */
import type { RunEvent } from "../workflows/run-events.ts";

/** A list of more items is summed up. */
const MANY_ITEMS = 12;
/** How often it is told how far a list is. */
const TOLD_TIMES = 10;

const NUMBER = new Intl.NumberFormat("en");

export type LongLists = {
  /** Takes note of an event; gives how far a list is, where there is something new to say. */
  take(event: RunEvent): string | undefined;
  /** Whether an event is about an item of a long list, and went well. */
  hides(event: RunEvent): boolean;
};

/** Watches over the lists of one run. */
export function longLists(): LongLists {
  const lists = new Map<string, { size: number; ended: number }>();
  return {
    take(event) {
      if (event.type === "step.started") {
        const { step, group } = event.data;
        if (group?.type === "forEach" && group.size > MANY_ITEMS) lists.set(step, { size: group.size, ended: 0 });
        return undefined;
      }
      const path = endedStep(event);
      if (path === undefined) return undefined;
      const step = path.slice(0, Math.max(0, path.lastIndexOf("/")));
      const list = lists.get(step);
      if (!list) return undefined;
      const { size } = list;
      list.ended += 1;
      const tenth = (ended: number) => Math.floor((ended * TOLD_TIMES) / size);
      if (tenth(list.ended) === tenth(list.ended - 1)) return undefined;
      return `${step} ${NUMBER.format(list.ended)}/${NUMBER.format(size)}`;
    },
    hides(event) {
      if (event.type === "step.failed" || event.type === "step.retrying") return false;
      const { step, taskId } = event.data as { step?: string; taskId?: string };
      const path = step ?? taskId;
      return path !== undefined && [...lists.keys()].some((list) => path.startsWith(`${list}/`));
    },
  };
}

function endedStep(event: RunEvent): string | undefined {
  switch (event.type) {
    case "step.completed":
    case "step.failed":
    case "step.skipped":
      return event.data.step;
    default:
      return undefined;
  }
}
