/**
 * Handed-off tasks are numbered by hop (`h3-x7f2q1` is of the third), so that one which a run's journal has not reached yet
 * can be told from one that it has passed.
 */
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import type { SupervisorSnapshot } from "../../workflows/supervisor.ts";

/** Whether a task belongs to a handoff that comes after everything `snapshot` knows of. */
export function isAhead(
  { kind }: WorkflowDefinition,
  snapshot: SupervisorSnapshot | undefined,
  taskId: string,
): boolean {
  const hop = kind === "handoff" ? hopOf(taskId) : undefined;
  if (hop === undefined || !snapshot) return false;
  return Object.keys(snapshot.context.open).every((current) => (hopOf(current) ?? Number.POSITIVE_INFINITY) < hop);
}

function hopOf(taskId: string): number | undefined {
  const match = /^h(\d+)(?:-|$)/.exec(taskId);
  return match ? Number(match[1]) : undefined;
}
