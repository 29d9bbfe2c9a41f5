/** The plan of handoff workflows: one agent has the run at a time and says who is next. */

import type { Task } from "../actors/task.ts";
import { nextTask } from "../actors/transfer.ts";
import type { ErrorRecord } from "../errors.ts";
import type { HandoffDefinition } from "./definition.ts";
import { deadlineOf, type Move, type Plan } from "./plan.ts";
import type { Fact } from "./run-events.ts";

/** Nothing has to be remembered beside the open task: hops and conversation travel with it. */
type State = null;

/** The id of a handoff run's first task; later ones are named by whoever hands off. */
const FIRST_HANDOFF_TASK = "h0";

/** Plans a handoff workflow. */
export function handoffPlan(definition: HandoffDefinition): Plan<State> {
  const { maxHandoffs, maxVisits } = definition;
  return {
    begin(setup) {
      const deadline = deadlineOf(setup);
      const task: Task = {
        v: 1,
        taskId: FIRST_HANDOFF_TASK,
        runId: setup.runId,
        workflow: definition.name,
        definition: definition.hash,
        agent: definition.entry,
        attempt: 1,
        delivery: 1,
        input: setup.request.input,
        ...(setup.request.sessionId && { sessionId: setup.request.sessionId }),
        handoffs: definition.agents[definition.entry] ?? [],
        hops: [],
        limits: { maxHandoffs, maxVisits },
        ...(deadline && { deadline }),
      };
      return { state: null, moves: [{ type: "ask", open: { task, forwarded: false } }] };
    },

    proceed(_setup, state, fact, open) {
      if (fact.type === "signal.received") {
        const message = "the agents of a handoff workflow wait for no signals";
        const data = { seq: fact.data.seq, code: "unknown_signal", message };
        return { state, moves: [{ type: "say", event: { type: "signal.refused", data } }] };
      }
      if (fact.type === "timer.fired" || !open) return { state, moves: [] };
      return { state, moves: [fact.type === "agent.handoff" ? handOver(fact, open.task) : settle(fact)] };
    },
  };

  function handOver({ data }: Fact & { type: "agent.handoff" }, task: Task): Move {
    const { to } = data;
    const edge = task.handoffs.find((option) => option.to === to);
    const targetHandoffs = definition.agents[to];
    if (!edge || !targetHandoffs) {
      const allowed = task.handoffs.map((option) => option.to).join(", ") || "none";
      return fail(
        "handoff_not_allowed",
        `${task.agent} may hand off to: ${allowed}; it handed off to ${JSON.stringify(to)}`,
      );
    }
    // Troupe's own workers tell the model at the limit; this holds for workers that do not count.
    if (task.hops.length >= maxHandoffs) {
      return fail("handoff_limit", `${task.agent} handed off to ${to} after the limit of ${maxHandoffs} handoffs`);
    }
    const visits = task.hops.filter((hop) => hop.to === to).length + (definition.entry === to ? 1 : 0);
    if (visits >= maxVisits) {
      return fail(
        "handoff_limit",
        `${task.agent} handed off to ${to}, which has had the run ${visits} times (the limit)`,
      );
    }
    return { type: "ask", open: { task: nextTask(task, data, edge, targetHandoffs), forwarded: data.next.forwarded } };
  }

  function settle({ data: { outcome } }: Fact & { type: "task.settled" }): Move {
    return outcome.type === "completed"
      ? { type: "complete", output: outcome.output }
      : { type: "fail", error: outcome.error };
  }

  function fail(code: string, message: string): Move {
    const error: ErrorRecord = { code, message };
    return { type: "fail", error };
  }
}
