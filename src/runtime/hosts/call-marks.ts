/** Which calls of tools with the effect `once` were about to be executed, by the journal of their task. */
import type { TaskEntry } from "../../actors/task.ts";

/** What tells a call from the others of its task: ids of calls are unique in their turn only. */
export function callKey(turn: number, callId: string): string {
  return `${turn}.${callId}`;
}

/** The calls nobody knows the outcome of: a mark, and no result. */
export function unansweredCalls(entries: readonly TaskEntry[]): Set<string> {
  const open = new Set<string>();
  for (const entry of entries) {
    if (entry.type === "calling") open.add(callKey(entry.turn, entry.callId));
    else if (entry.type === "tool") open.delete(callKey(entry.turn, entry.callId));
  }
  return open;
}
