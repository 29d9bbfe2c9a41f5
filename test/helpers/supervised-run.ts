/** A run whose host is the test: it tells the supervisor what happened and keeps the journal a daemon would have written. */
import type { Outcome } from "../../src/actors/task.ts";
import type { ErrorRecord } from "../../src/errors.ts";
import type { WorkflowDefinition } from "../../src/workflows/definition.ts";
import type { OpenTask } from "../../src/workflows/plan.ts";
import type { ReusedStep } from "../../src/workflows/reused-steps.ts";
import {
  type Fact,
  type FactBody,
  isTerminal,
  type RunEvent,
  type RunEventBody,
  type RunRequest,
} from "../../src/workflows/run-events.ts";
import { begin, type Decided, decide, type Effect, type SupervisorSnapshot } from "../../src/workflows/supervisor.ts";
import { USAGE } from "./run-events.ts";

/** Every entry is one second after the one before; the first is at this instant. */
export const RUN_START = Date.UTC(2026, 0, 1);

export type SupervisedRun = {
  /** As JSON has it: what another process would read. */
  readonly journal: RunEvent[][];
  readonly snapshot: SupervisorSnapshot;
  /** What the last fact led to. */
  readonly decisions: RunEventBody[];
  readonly effects: Effect[];
  fact(body: FactBody): void;
  completes(taskId: string, output?: unknown): void;
  fails(taskId: string, error?: ErrorRecord): void;
  handsOff(taskId: string, handoff: Partial<Outcome & { type: "handoff" }> & { to: string }): void;
  fires(timer: string): void;
  /** With `force` nothing is waited for nor undone. */
  cancel(reason?: string, options?: { force?: true }): void;
  /** Ids of the tasks somebody has or should have. */
  open(): string[];
  task(taskId: string): OpenTask["task"];
  /** All decisions so far as short words: `step.started facts`, `task.sent facts-1`, `run.completed`. */
  told(): string[];
  end(): RunEvent | undefined;
};

/**
 * Begins a run of `definition`; `input` is "bees" unless the request says something else, `reused` is what it takes over of
 * another run.
 */
export function superviseRun(
  definition: WorkflowDefinition,
  request: Partial<RunRequest> = {},
  reused: readonly ReusedStep[] = [],
): SupervisedRun {
  const runId = "r1";
  let entries = 0;
  let n = 0;
  const journal: RunEvent[][] = [];
  const instant = () => new Date(RUN_START + entries * 1_000).toISOString();
  const trace = { traceId: "0af7651916cd43dd8448eb211c80319c", sampled: true };
  const { name: workflow, version, hash, kind } = definition;
  const data = { input: "bees", ...request, workflow, version, hash, kind, trace };
  let decided = begin(definition, { runId, request: data, acceptedAt: instant() }, reused);
  record(
    { type: "run.accepted", data },
    { type: "run.claimed", data: { host: "a", incarnation: "a1", reason: "accepted" } },
    ...reused,
    ...decided.decisions,
  );

  const run: SupervisedRun = {
    journal,
    get snapshot() {
      return decided.snapshot;
    },
    get decisions() {
      return decided.decisions;
    },
    get effects() {
      return decided.effects;
    },
    fact(body) {
      const at = instant();
      decided = decide(decided.snapshot, JSON.parse(JSON.stringify({ ...body, at })) as Fact) satisfies Decided;
      record(body, ...decided.decisions);
    },
    completes(taskId, output = `output of ${taskId}`) {
      const outcome = { type: "completed", output, usage: USAGE } as const;
      run.fact({ type: "task.settled", data: { taskId, agent: "any", outcome } });
    },
    fails(taskId, error = { code: "model_error", message: "no" }) {
      run.fact({ type: "task.settled", data: { taskId, agent: "any", outcome: { type: "failed", error } } });
    },
    handsOff(taskId, { to, input, reason, transcript = [], messages, next }) {
      const { agent: from, hops } = run.task(taskId);
      run.fact({
        type: "agent.handoff",
        data: {
          taskId,
          from,
          to,
          ...(input !== undefined && { input }),
          ...(reason !== undefined && { reason }),
          transcript,
          ...(messages && { messages }),
          next: next ?? { taskId: `h${hops.length + 1}`, forwarded: false },
        },
      });
    },
    fires: (id) => run.fact({ type: "timer.fired", data: { id } }),
    cancel(reason, options = {}) {
      const data = { ...(reason !== undefined && { reason }), graceMs: 5_000, ...options };
      run.fact({ type: "run.cancelling", data });
    },
    open: () => Object.keys(decided.snapshot.context.open),
    task(taskId) {
      const task = decided.snapshot.context.open[taskId]?.task;
      if (!task) throw new Error(`expected an open task, got ${taskId}; open are ${run.open().join(", ") || "none"}`);
      return task;
    },
    told: () => journal.flat().filter(isDecision).map(words),
    end: () => journal.flat().find(({ type }) => isTerminal(type)),
  };
  return run;

  function record(...bodies: RunEventBody[]): void {
    const at = instant();
    const events = bodies.map((body) => {
      n += 1;
      return { v: 1, id: `e${n}`, runId, n, at, epoch: 1, ...body };
    });
    journal.push(JSON.parse(JSON.stringify(events)) as RunEvent[]);
    entries += 1;
  }
}

const OTHERS = new Set<RunEvent["type"]>([
  "run.accepted",
  "run.claimed",
  "task.settled",
  "agent.handoff",
  "timer.fired",
  "run.cancelling",
]);

function isDecision({ type }: RunEvent): boolean {
  return !OTHERS.has(type);
}

function words({ type, data }: RunEvent): string {
  const { taskId, step, id } = data as { taskId?: string; step?: string; id?: string };
  return [type, taskId ?? step ?? id].filter((part) => part !== undefined).join(" ");
}
