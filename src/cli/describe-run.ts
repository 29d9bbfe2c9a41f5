/** A run in full, for people. */
import type { RunRecord } from "../workflows/run-record.ts";
import { bold, dim, paintStatus, red } from "./style.ts";
import { renderFacts, renderTable } from "./table.ts";
import { cut, harmless } from "./terminal-text.ts";
import { count, dateAndTime, durationBetween, inline, tokens } from "./words.ts";

/** Describes a run: what it is, its steps, its handoffs, and what came out. */
export function describeRun(run: RunRecord): string {
  const { runId, workflow, kind, version, status, waitingFor, progress, input, createdAt, endedAt, usage } = run;
  const facts = renderFacts([
    ["run", bold(runId)],
    ["workflow", `${workflow}${kind ? ` (${kind}, version ${version})` : ""}`],
    ["status", paintStatus(status)],
    ["waiting", waitingFor && inline(waitingFor)],
    ["progress", progress.total > 1 ? `${progress.completed} of ${progress.total} steps` : undefined],
    ["input", cut(inline(input), 100)],
    ["created", dateAndTime(createdAt)],
    ["not before", run.notBefore],
    [endedAt ? "took" : "for", durationBetween(createdAt, endedAt)],
    ["used", usage.modelCalls > 0 ? `${count(usage.modelCalls, "model call")}, ${tokens(usage)}` : undefined],
    ["parent", run.parent && `${run.parent.runId} (step ${run.parent.step})`],
    ["session", run.sessionId],
    ["user", run.userId],
    ["metadata", run.metadata && JSON.stringify(run.metadata)],
    ["owner", run.owner && `${run.owner.host} (claim ${run.owner.epoch})`],
    ["trace", run.traceId],
  ]);
  const sections = [describeSteps(run), describeHandoffs(run), describeEnd(run)].filter((section) => section !== "");
  return [facts, ...sections].join("\n\n");
}

function describeSteps({ steps, kind: of }: RunRecord): string {
  if (steps.length === 0) return "";
  const rows = steps.map(
    ({ id, agent = "", kind, runId, status, attempts, startedAt, endedAt, output, error, continued, reason }) => [
      id,
      kind === undefined ? agent : `${kind} ${agent}`.trimEnd(),
      `${paintStatus(status)}${continued ? dim(", went on") : ""}`,
      attempts > 1 ? String(attempts) : "",
      startedAt === undefined ? "" : durationBetween(startedAt, endedAt),
      reason !== undefined
        ? dim(cut(inline(reason), 60))
        : error && status !== "completed"
          ? red(cut(inline(error.message), 60))
          : cut(inline(output ?? (runId === undefined ? "" : `run ${runId}`)), 60),
    ],
  );
  return renderTable([of === "handoff" ? "TASK" : "STEP", "AGENT", "STATUS", "ATTEMPTS", "TOOK", "OUTPUT"], rows);
}

function describeHandoffs({ handoffs }: RunRecord): string {
  return handoffs
    .map(({ from, to, reason }) => `${from} → ${to}${reason ? dim(`  ${inline(reason)}`) : ""}`)
    .join("\n");
}

function describeEnd({ status, output, error }: RunRecord): string {
  if (status === "completed") return harmless(typeof output === "string" ? output : JSON.stringify(output, null, 2));
  return error ? red(harmless(error.message)) : "";
}
