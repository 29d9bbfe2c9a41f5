/** Runs that one case asks for, and what has to be true of them when they are over, whatever died meanwhile. */
import { expect } from "vitest";
import type { RunEvent } from "../../src/workflows/run-events.ts";
import { byRun, type Stored } from "./raw-journals.ts";
import { auditRuns, problemsOfJournal } from "./run-audit.ts";
import type { Stage } from "./stage.ts";
import { runsEnded } from "./start-runs.ts";
import { checkTraces } from "./trace-checker.ts";
import { until } from "./until.ts";

export type AskedRuns = {
  readonly runIds: readonly string[];
  /** Puts one request on the door for each workflow. */
  ask(workflows: readonly string[]): Promise<void>;
  /** Whether whoever asked was told the result of every run. */
  allTold(): boolean;
  /** All were completed exactly once, with the right output and whole traces, and no recorded reply was asked for again. */
  expectCompleted(): Promise<void>;
  /** All came to the same other end exactly once, told and traced as well. */
  expectEnded(status: "failed" | "cancelled"): Promise<void>;
};

type Told = { runId: string; status: string; output?: unknown };

/** Opens the runs of a case; their ids begin with `prefix`. */
export function askRuns(stage: Stage, prefix: string): AskedRuns {
  const { journals, model, collector } = stage;
  const runIds: string[] = [];
  const told = new Map<string, Told[]>();
  const js = journals.nc.jetstream();
  journals.nc.subscribe(`results.${prefix}.*`, {
    callback(_error, message) {
      const result = message.json<Told>();
      told.set(result.runId, [...(told.get(result.runId) ?? []), result]);
    },
  });
  const allTold = () => runIds.every((runId) => told.has(runId));

  return {
    runIds,
    async ask(workflows) {
      const requests = workflows.map((workflow) => {
        const runId = `${prefix}-${runIds.length + 1}`;
        runIds.push(runId);
        const request = { input: { topic: runId }, runId, replyTo: `results.${prefix}.${runId}` };
        return js.publish(`troupe.requests.${workflow}`, JSON.stringify(request));
      });
      await Promise.all(requests);
    },
    allTold,
    async expectCompleted() {
      const runs = await ended();
      const mine = new Set(runIds);
      const tasks = (await journals.tasks()).filter(({ subject }) => mine.has(subject.split(".").at(-2) ?? ""));
      // Calls are known by their number, so those of others stay in their places.
      const calls = model.calls.map((call) =>
        mine.has(call.runId) ? call : { ...call, runId: `other ${call.runId}` },
      );
      expect(auditRuns({ runIds, runs, tasks, calls }).problems).toEqual([]);
      await expectToldAndTraced(runs, "completed");
    },
    async expectEnded(status) {
      const runs = await ended();
      for (const [runId, entries] of byRun(runs)) expect(problemsOfJournal(runId, entries)).toEqual([]);
      await expectToldAndTraced(runs, status);
    },
  };

  /** The journals of these runs, once all are over. */
  async function ended(): Promise<Stored<RunEvent[]>[]> {
    await until("every result", allTold).catch(() => {});
    await runsEnded(journals, runIds, 10_000);
    return (await journals.runs()).filter(({ subject }) =>
      runIds.includes(subject.slice(subject.lastIndexOf(".") + 1)),
    );
  }

  async function expectToldAndTraced(runs: readonly Stored<RunEvent[]>[], status: string) {
    expect(runIds.filter((runId) => !told.has(runId))).toEqual([]);
    for (const [runId, entries] of byRun(runs)) {
      const last = entries.at(-1)?.value.at(-1);
      expect(last?.type).toBe(`run.${status}`);
      const output = last?.type === "run.completed" ? { output: last.data.output } : {};
      // A result may be told twice, but never otherwise.
      for (const result of told.get(runId) ?? []) expect(result).toMatchObject({ runId, status, ...output });
    }
    const problems = () => problemsOfTraces(runs);
    await until("whole traces", () => problems().length === 0).catch(() => {});
    expect(problems()).toEqual([]);
  }

  function problemsOfTraces(runs: readonly Stored<RunEvent[]>[]): string[] {
    const expected = [...byRun(runs).values()].map((entries) => expectedSpans(entries.flatMap(({ value }) => value)));
    const traceIds = new Set(expected.map(({ traceId }) => traceId));
    const spans = collector.spans.filter(({ traceId }) => traceIds.has(traceId));
    const ids = new Map<string, Set<string>>();
    for (const { traceId, spanId, name } of spans) {
      const key = `${traceId} ${name}`;
      ids.set(key, (ids.get(key) ?? new Set()).add(spanId));
    }
    const lacking = expected.flatMap(({ traceId, names }) =>
      [...names].flatMap(([name, count]) => {
        const got = ids.get(`${traceId} ${name}`)?.size ?? 0;
        return got === count ? [] : [`trace ${traceId}: expected ${count} spans "${name}", got ${got}`];
      }),
    );
    return [...checkTraces(spans, { runIds }), ...lacking];
  }
}

/** The structural spans that a journal stands for: the run's two, and one for every time a task was sent. */
function expectedSpans(events: readonly RunEvent[]): { traceId: string; names: Map<string, number> } {
  const [accepted] = events;
  if (accepted?.type !== "run.accepted") throw new Error(`expected run.accepted first, got ${accepted?.type}`);
  const { workflow, trace } = accepted.data;
  const names = new Map([
    [`run ${workflow}`, 1],
    [`invoke_workflow ${workflow}`, 1],
  ]);
  for (const event of events) {
    if (event.type !== "task.sent") continue;
    const name = `invoke_agent ${event.data.agent}`;
    names.set(name, (names.get(name) ?? 0) + 1);
  }
  return { traceId: trace.traceId, names };
}
