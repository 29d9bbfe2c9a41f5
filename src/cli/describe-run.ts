/** A run in full, for people. */
import type { RunRecord, StepRecord } from "../workflows/run-record.ts";
import { stepRows } from "./step-rows.ts";
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
    [
      "progress",
      progress.total > 1 ? `${progress.completed} of ${progress.total} steps, ${progress.percent}%` : undefined,
    ],
    ["retry of", run.retryOf && `${run.retryOf.runId}${run.retryOf.from ? ` from ${run.retryOf.from}` : ""}`],
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
  const sections = [describeSteps(run), describeCompensations(run), describeHandoffs(run), describeEnd(run)].filter(
    (section) => section !== "",
  );
  return [facts, ...sections].join("\n\n");
}

function describeSteps(run: RunRecord): string {
  const { steps, kind } = run;
  if (steps.length === 0) return "";
  const rows = stepRows(run).map(({ step, done }) => describeStep(step, done));
  return renderTable([kind === "handoff" ? "TASK" : "STEP", "AGENT", "STATUS", "ATTEMPTS", "TOOK", "OUTPUT"], rows);
}

function describeStep(step: StepRecord, done: string | undefined): string[] {
  const { id, runId, status, attempts, startedAt, endedAt, output, error, continued, reused, reason } = step;
  return [
    id,
    whoDoes(step),
    `${paintStatus(status)}${continued ? dim(", went on") : ""}${reused ? dim(", reused") : ""}`,
    attempts > 1 ? String(attempts) : "",
    startedAt === undefined ? "" : durationBetween(startedAt, endedAt),
    reason !== undefined
      ? dim(cut(inline(reason), 60))
      : error && status !== "completed"
        ? red(cut(inline(error.message), 60))
        : (done ?? cut(inline(output ?? (runId === undefined ? "" : `run ${runId}`)), 60)),
  ];
}

function whoDoes({ agent = "", kind }: Pick<StepRecord, "agent" | "kind">): string {
  return kind === undefined ? agent : `${kind} ${agent}`.trimEnd();
}

/** What was undone, and what was not. */
function describeCompensations({ compensations }: RunRecord): string {
  if (compensations.length === 0) return "";
  const rows = compensations.map(({ step, agent, kind, status, attempts, startedAt, endedAt, output, error }) => [
    step,
    whoDoes({ ...(agent !== undefined && { agent }), ...(kind && { kind }) }),
    paintStatus(status),
    attempts > 1 ? String(attempts) : "",
    startedAt === undefined ? "" : durationBetween(startedAt, endedAt),
    error && status !== "completed" ? red(cut(inline(error.message), 60)) : cut(inline(output ?? ""), 60),
  ]);
  return renderTable(["UNDOES", "AGENT", "STATUS", "ATTEMPTS", "TOOK", "OUTPUT"], rows);
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
