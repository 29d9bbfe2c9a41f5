/** Writes journals for tracing tests. */
import { runTrace } from "../../src/tracing/traceparent.ts";
import type { RunEvent, RunEventBody, RunTrace } from "../../src/workflows/run-events.ts";

export const START = Date.parse("2026-03-01T10:00:00.000Z");
export const USAGE = { inputTokens: 10, outputTokens: 5, modelCalls: 1 };

export type TestJournal = {
  runId: string;
  trace: RunTrace;
  /** The next entry: its events happen `ms` after the start of the run. */
  entry(ms: number, ...bodies: RunEventBody[]): { events: RunEvent[]; seq: number };
};

/** A journal whose entries have the sequences `firstSeq`, `firstSeq + 1`, ... */
export function newJournal(runId: string, { trace = runTrace(runId), firstSeq = 1 } = {}): TestJournal {
  let n = 0;
  let seq = firstSeq - 1;
  return {
    runId,
    trace,
    entry(ms, ...bodies) {
      seq += 1;
      const at = new Date(START + ms).toISOString();
      const events = bodies.map((body): RunEvent => {
        n += 1;
        return { v: 1, id: `${runId}-${n}`, runId, n, at, epoch: 1, ...body };
      });
      return { events, seq };
    },
  };
}

export function accepted(trace: RunTrace, workflow = "article"): RunEventBody {
  return { type: "run.accepted", data: { input: "x", workflow, version: "1", kind: "deterministic", trace } };
}

export function sent(
  taskId: string,
  agent: string,
  more: { step?: string; attempt?: number; delivery?: number; lost?: { worker: string; reason: string } } = {},
): RunEventBody {
  return { type: "task.sent", data: { taskId, agent, attempt: 1, delivery: 1, ...more } };
}

export function settled(taskId: string, agent: string, worker = "host-1"): RunEventBody {
  return {
    type: "task.settled",
    data: { taskId, agent, worker, outcome: { type: "completed", output: "done", usage: USAGE } },
  };
}

export function failed(taskId: string, agent: string, code: string): RunEventBody {
  return {
    type: "task.settled",
    data: { taskId, agent, outcome: { type: "failed", error: { code, message: `${code} happened` }, usage: USAGE } },
  };
}

export function handedOff(taskId: string, from: string, to: string, nextTaskId: string): RunEventBody {
  return {
    type: "agent.handoff",
    data: { taskId, from, to, transcript: [], next: { taskId: nextTaskId, forwarded: true }, usage: USAGE },
  };
}

export const completed: RunEventBody = { type: "run.completed", data: { output: "done" } };
