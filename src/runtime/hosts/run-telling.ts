/**
 * Who has to know about a run's entries: the index, the live feed, the metrics, and whoever waits for the result.
 *
 * Invariants
 * H2  Whoever has to know about an entry hears of it after it is stored and in its order.
 */
import type { WithRefs } from "../../actors/value-ref.ts";
import type { Metrics } from "../../tracing/metrics.ts";
import type { RunSetup } from "../../workflows/plan.ts";
import { isTerminal, type RunEvent } from "../../workflows/run-events.ts";
import { refsOf } from "../../workflows/run-record.ts";
import type { Bus } from "../nats/connection.ts";
import type { Subjects } from "../subjects.ts";
import { crashPoints } from "./crash-points.ts";
import type { Results } from "./results.ts";

/** What is told about a run when it is over. The wire form of a result. */
export type RunResult = WithRefs & {
  runId: string;
  workflow: string;
  status: "completed" | "failed" | "cancelled";
  output?: unknown;
  error?: { code: string; message: string };
};

/** Hears of every entry this daemon stored. */
export type RunObserver = {
  entry(runId: string, workflow: string, events: readonly RunEvent[], seq: number): void;
};

/** As much of a run as telling others about it takes. */
type ToldRun = { runId: string; workflow: string; setup: RunSetup | undefined };

/** Tells of an entry that was just stored; `texts` are its events as they stand in it. */
export type TellRun = (run: ToldRun, events: readonly RunEvent[], texts: readonly Uint8Array[], seq: number) => void;

/** Opens what tells of the runs of one daemon. */
export function openRunTelling(options: {
  bus: Bus;
  subjects: Subjects;
  observer: RunObserver;
  metrics: Metrics;
  results: Results;
}): TellRun {
  const { bus, subjects, observer, metrics, results } = options;

  // H2
  return function tell(run, events, texts, seq) {
    const { runId, workflow } = run;
    observer.entry(runId, workflow, events, seq);
    for (let i = 0; i < events.length; i += 1) {
      const event = events[i] as RunEvent;
      bus.nc.publish(subjects.event(workflow, runId, event.type), texts[i]);
    }
    if (events[0]?.type === "run.accepted") metrics.runAccepted(workflow);
    const last = events.at(-1);
    if (!last || !isTerminal(last.type)) return;
    crashPoints.at("spans-waiting");
    sendResult(run, last);
    crashPoints.onceSent("after-result");
  };

  function sendResult({ runId, workflow, setup }: ToldRun, terminal: RunEvent) {
    const result = resultOf(workflow, runId, terminal);
    if (!result) return;
    if (setup?.request.replyTo) results.send(setup.request.replyTo, result);
    const since = Date.parse(setup?.acceptedAt ?? terminal.at);
    metrics.runEnded({
      workflow,
      status: result.status,
      seconds: (Date.parse(terminal.at) - since) / 1_000,
      ...(result.error && { error: result.error.code }),
    });
  }
}

/** The result a terminal event stands for. */
export function resultOf(workflow: string, runId: string, event: RunEvent): RunResult | undefined {
  switch (event.type) {
    case "run.completed":
      return { runId, workflow, status: "completed", output: event.data.output, ...refsOf(event) };
    case "run.failed":
      return { runId, workflow, status: "failed", error: event.data.error };
    case "run.cancelled":
      return {
        runId,
        workflow,
        status: "cancelled",
        error: { code: "cancelled", message: event.data.reason ?? "the run was cancelled" },
      };
    default:
      return undefined;
  }
}
