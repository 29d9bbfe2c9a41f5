/**
 * The runs of a soak: takes what comes from the journals and from the model server, and checks each run when it is over.
 *
 * Invariants
 * K1  A run is checked once, when it has ended, nothing is to be done to it any more, and late writers had their chance.
 * K2  Whatever comes for a run after that is a problem. Of a checked run only its id is kept.
 * K3  A run that stands still without a reason is a problem; it is dumped and given up.
 */
import type { TaskEntry } from "../src/actors/task.ts";
import { isTerminal, type RunEvent } from "../src/workflows/run-events.ts";
import type { Stored } from "../test/helpers/raw-journals.ts";
import type { ModelCall, ToolRunCall } from "./calls.ts";
import { checkRun, isCrossed } from "./check-run.ts";
import { countRun, type Figures, repeatedCalls } from "./figures.ts";
import { recordedReplies, replyKey } from "./recorded.ts";
import { type Loss, recoveriesOf } from "./recovery.ts";
import type { RunPlan } from "./run-plan.ts";
import { reasonToWait, STUCK_SECONDS } from "./stuck.ts";
import { endOf, type ToldResult, type TrackedRun, trackRun } from "./tracked-run.ts";

export type LedgerOptions = {
  figures: Figures;
  losses: readonly Loss[];
  /** A problem of a run, with all that is known of it. */
  onProblem(problem: string, run?: TrackedRun): void;
  /** The run was checked and is forgotten here. */
  onChecked(runId: string): void;
};

export type Ledger = {
  add(plan: RunPlan): TrackedRun;
  planOf(runId: string): RunPlan | undefined;
  runEntry(entry: Stored<RunEvent[]>): void;
  taskEntry(entry: Stored<TaskEntry>): void;
  call(call: ModelCall): void;
  tool(call: ToolRunCall): void;
  told(result: ToldResult): void;
  /** Runs that have not ended. */
  goingOn(): number;
  /** Runs that are not checked yet, the ones going on among them. */
  unchecked(): number;
  /** Called every second; `isWhole` says whether a run that can go on should. */
  tick(isWhole: boolean): void;
};

/** For how long after a run's end somebody may wake up who does not know of it: longer than any stop of a process. */
const LATE_MS = 9_000;

/** Opens the ledger. */
export function openLedger(options: LedgerOptions): Ledger {
  const { figures, losses, onProblem, onChecked } = options;
  const runs = new Map<string, TrackedRun>();
  const checked = new Set<string>();

  return {
    add(plan) {
      const run = trackRun(plan, Date.now());
      runs.set(plan.runId, run);
      return run;
    },
    planOf: (runId) => runs.get(runId)?.plan,
    runEntry(entry) {
      const runId = entry.subject.slice(entry.subject.lastIndexOf(".") + 1);
      const run = progressOf(runId, `journal entry ${entry.seq} (${entry.value.map(({ type }) => type)})`);
      run?.journal.push(entry);
      if (run && entry.value.some(({ type }) => isTerminal(type))) run.endedAt ??= entry.at;
    },
    taskEntry(entry) {
      const [runId = "", taskId = ""] = entry.subject.split(".").slice(-2);
      // What a worker stores of a task that is over harms nobody: nothing reads it.
      const run = checked.has(runId) ? undefined : progressOf(runId, `an entry of task ${taskId}`);
      run?.tasks.set(taskId, [...(run.tasks.get(taskId) ?? []), entry]);
    },
    call: (call) => void progressOf(call.runId, `call ${call.n}`)?.calls.push(call),
    tool: (call) => void progressOf(call.runId, `tool ${call.n}`)?.tools.push(call),
    told: (result) => void runs.get(result.runId)?.told.push(result),
    goingOn: () => [...runs.values()].filter(({ endedAt }) => endedAt === undefined).length,
    unchecked: () => runs.size,
    tick(isWhole) {
      const now = Date.now();
      for (const run of [...runs.values()]) {
        if (run.endedAt !== undefined) {
          if (run.pending === 0 && now > run.endedAt + LATE_MS) check(run);
        } else if (isWhole) watch(run, now);
      }
    },
  };

  // K2
  function progressOf(runId: string, what: string): TrackedRun | undefined {
    const run = runs.get(runId);
    if (run) run.idleSeconds = 0;
    else onProblem(`${runId}: ${what} ${checked.has(runId) ? "long after its end" : "of a run nobody asked for"}`);
    return run;
  }

  // K3
  function watch(run: TrackedRun, now: number): void {
    if (reasonToWait(run, now) !== undefined) return;
    run.idleSeconds += 1;
    if (run.idleSeconds < STUCK_SECONDS) return;
    const seconds = `${run.idleSeconds} s without progress`;
    onProblem(`${run.plan.runId}: ${run.journal.length > 0 ? "stuck" : "lost"}, ${seconds}`, run);
    countRun(figures, run.plan.kind, "stuck");
    forget(run);
  }

  // K1
  function check(run: TrackedRun): void {
    const problems = checkRun(run);
    for (const problem of problems) onProblem(problem, run);
    const { kind, replyTo } = run.plan;
    countRun(figures, kind, endOf(run)?.type.slice("run.".length) ?? "none");
    figures.calls += run.calls.length;
    figures.faults += run.calls.filter(({ fault }) => fault !== undefined).length;
    const { replies } = recordedReplies(run);
    figures.recorded += replies.size;
    figures.crossed += run.calls.filter((call) => {
      const recorded = replies.get(replyKey(call));
      return recorded && isCrossed(call, recorded, run.calls);
    }).length;
    figures.tools += run.tools.length;
    figures.repeated += repeatedCalls(run.calls);
    figures.recoveries.push(...recoveriesOf(run, losses));
    if (replyTo) figures.resultsAsked += 1;
    if (replyTo && run.told.length > 0) figures.resultsTold += 1;
    forget(run);
  }

  function forget({ plan }: TrackedRun): void {
    runs.delete(plan.runId);
    checked.add(plan.runId);
    onChecked(plan.runId);
  }
}
