/** The approvals that wait for a person's decision, over all runs. */
import type { RunIndex } from "../hosts/run-index.ts";
import type { ApiRequest } from "./api-requests.ts";

/** An approval as `approvals.list` shows it. */
export type OpenApproval = {
  runId: string;
  workflow: string;
  step: string;
  title: string;
  prompt?: string;
  choices: readonly string[];
  /** Who may decide; anybody where it is missing. */
  assignees?: readonly string[];
  /** When it was asked for. */
  since: string;
  /** When it is decided by itself. */
  dueAt?: string;
};

/** The open approvals of the runs that are there the longest, those of the first run first. */
export function openApprovals(
  index: Pick<RunIndex, "awaitingApproval">,
  { workflow, assignee, limit }: ApiRequest<"approvals.list">,
): OpenApproval[] {
  const found: OpenApproval[] = [];
  for (const { runId, workflow: name, current } of index.awaitingApproval(workflow)) {
    for (const work of current) {
      if (work.kind !== "approval") continue;
      const { step, title, prompt, choices, assignees, since, dueAt } = work;
      if (assignee !== undefined && assignees && !assignees.includes(assignee)) continue;
      found.push({
        ...{ runId, workflow: name, step, title },
        ...(prompt !== undefined && { prompt }),
        choices,
        ...(assignees && { assignees }),
        since,
        ...(dueAt !== undefined && { dueAt }),
      });
    }
    if (found.length >= limit) break;
  }
  return found.slice(0, limit);
}
