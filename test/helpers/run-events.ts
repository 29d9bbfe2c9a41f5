/** Hand-made run events: numbered, dated, with unique ids. */
import type { TaskUsage } from "../../src/actors/task.ts";
import { nuid } from "../../src/runtime/nats/nats.ts";
import type { RunEvent, RunEventBody, RunRequest } from "../../src/workflows/run-events.ts";

export type EventMaker = {
  readonly runId: string;
  /** The next event of the run, one second after the one before. */
  next<T extends RunEventBody>(body: T, epoch?: number): RunEvent;
  /** `run.accepted` and `run.claimed`, as a daemon writes them. */
  open(
    request?: Partial<RunRequest>,
    how?: { kind?: "deterministic" | "handoff"; steps?: number; workflow?: string },
  ): RunEvent[];
};

export const USAGE: TaskUsage = { inputTokens: 10, outputTokens: 5, modelCalls: 1 };

export const OWNER = { host: "here", incarnation: "here-1" };

/** Events for one run, the first of them at `startAt` (milliseconds since the epoch). */
export function eventsOf(runId = nuid.next(), startAt = Date.UTC(2026, 0, 1)): EventMaker {
  let n = 0;
  return {
    runId,
    next: (body, epoch = 1) => {
      n += 1;
      return { v: 1, id: nuid.next(), runId, n, at: new Date(startAt + (n - 1) * 1_000).toISOString(), epoch, ...body };
    },
    open(request = {}, { kind = "deterministic", steps = 2, workflow = "article" } = {}) {
      const trace = { traceId: "0af7651916cd43dd8448eb211c80319c", sampled: true };
      const definition = { workflow, version: "1", hash: "abc", kind, ...(kind === "deterministic" && { steps }) };
      return [
        this.next({ type: "run.accepted", data: { input: "bees", ...request, ...definition, trace } }),
        this.next({ type: "run.claimed", data: { ...OWNER, reason: "accepted" } }),
      ];
    },
  };
}

/** A whole run of one step, in two entries. */
export function finishedRun(
  make: EventMaker,
  output: unknown = "text",
  request: Partial<RunRequest> = {},
): RunEvent[][] {
  return [
    [
      ...make.open(request, { steps: 1 }),
      make.next({ type: "step.started", data: { step: "write", agent: "writer" } }),
      make.next({
        type: "task.sent",
        data: { taskId: "write-1", agent: "writer", step: "write", attempt: 1, delivery: 1 },
      }),
    ],
    [
      make.next({
        type: "task.settled",
        data: { taskId: "write-1", agent: "writer", outcome: { type: "completed", output, usage: USAGE } },
      }),
      make.next({ type: "step.completed", data: { step: "write", taskId: "write-1" } }),
      make.next({ type: "run.completed", data: { output } }),
    ],
  ];
}
