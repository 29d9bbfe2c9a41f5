/** A run of the workflow `chain` as it should be: what was planned, what the journal has, what the model server saw. */

import { answerTo } from "../../soak/answers.ts";
import type { RunPlan, TaskPlan, TurnPlan } from "../../soak/run-plan.ts";
import { STEPS } from "../../soak/shapes.ts";
import { type TrackedRun, trackRun } from "../../soak/tracked-run.ts";
import type { RunEventBody } from "../../src/workflows/run-events.ts";
import { eventsOf } from "../helpers/run-events.ts";

export const RUN_ID = "chain-1-1";
/** When the run was accepted, in milliseconds since the epoch; each entry comes a second after the one before. */
export const BEGAN_AT = Date.UTC(2026, 0, 1);

const ANSWER: TurnPlan = { says: { type: "answer" }, delayMs: 100, pieceMs: 0, faults: [] };

const PLAN: RunPlan = {
  runId: RUN_ID,
  kind: "chain",
  workflow: "chain",
  input: { topic: `the topic #run:${RUN_ID}#` },
  tasks: new Map(
    STEPS.chain.map(({ id, agent }): [string, TaskPlan] => [
      `${id}-1`,
      { agent, turns: [ANSWER], end: { type: "completed" } },
    ]),
  ),
  duplicatesMs: [],
  byClient: false,
  replyTo: true,
};

/** Makes the run; `plan` changes what was asked of it. */
export function rightRun(plan: Partial<RunPlan> = {}): TrackedRun {
  const run = trackRun({ ...PLAN, ...plan }, BEGAN_AT);
  const maker = eventsOf(RUN_ID, BEGAN_AT);
  const add = (...bodies: RunEventBody[]) => {
    const at = BEGAN_AT + run.journal.length * 1_000;
    const value = bodies.map((body) => ({ ...maker.next(body), at: new Date(at).toISOString() }));
    run.journal.push({ seq: run.journal.length + 1, subject: `troupe.runs.${RUN_ID}`, at, value });
  };
  const { workflow, input, timeoutMs } = run.plan;
  const request = { workflow, input, ...(timeoutMs !== undefined && { timeoutMs }) };
  const begin = (i: number): RunEventBody[] => {
    const step = STEPS.chain[i];
    if (!step) return [];
    const { id, agent } = step;
    return [
      { type: "step.started", data: { step: id, agent } },
      { type: "task.sent", data: { taskId: `${id}-1`, agent, step: id, attempt: 1, delivery: 1 } },
    ];
  };
  add(
    { type: "run.accepted", data: { ...request, trace: { traceId: "0".repeat(32), sampled: true } } },
    { type: "run.claimed", data: { host: "here", incarnation: "here-1", reason: "accepted" } },
    ...begin(0),
  );
  for (const [i, { id, agent }] of STEPS.chain.entries()) {
    const n = i + 1;
    const taskId = `${id}-1`;
    const reply = answerTo({ type: "answer" }, { agent, n, edges: [] });
    run.calls.push({
      runId: RUN_ID,
      taskId,
      agent,
      turn: 1,
      n,
      pid: 1,
      at: BEGAN_AT + i * 1_000 + 500,
      begunAt: BEGAN_AT + i * 1_000 + 500,
      state: "answered",
      plannedMs: 100,
      ...(reply && { reply }),
      saw: { answers: i === 0 ? [] : [i], tools: [], runs: [RUN_ID] },
    });
    const output = reply?.content;
    const usage = { inputTokens: 1, outputTokens: 1, modelCalls: 1 };
    add(
      { type: "task.settled", data: { taskId, agent, outcome: { type: "completed", output, usage } } },
      { type: "step.completed", data: { step: id, taskId } },
      ...(i === 2 ? [{ type: "run.completed", data: { output } } as const] : begin(i + 1)),
    );
  }
  run.storedAt = BEGAN_AT;
  run.endedAt = BEGAN_AT + 3_000;
  return run;
}
