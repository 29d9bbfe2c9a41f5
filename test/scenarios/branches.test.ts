import { expect, test } from "vitest";
import { byRun } from "../helpers/raw-journals.ts";
import { problemsOfJournal } from "../helpers/run-audit.ts";
import { openStage } from "../helpers/stage.ts";
import { requestRuns, runsEnded } from "../helpers/start-runs.ts";
import { checkTraces } from "../helpers/trace-checker.ts";
import { until } from "../helpers/until.ts";

/** Tasks of the run `valid` at whose first call the daemon is killed. */
const KILLED_AT = ["check-1", "risky-1", "rescue-1", "sum-1"];

test("a run takes its branches, and goes on after an error, the same however often its daemon is killed", {
  timeout: 120_000,
}, async () => {
  const inputs = new Map<string, string>();
  const seen = new Set<string>();
  const misstep = { content: null, toolCalls: [{ id: "x", name: "no-such-tool", arguments: "{" }] };
  await using stage = await openStage({
    traced: true,
    model: {
      delayMs({ runId, taskId }) {
        // The call the daemon dies at is never answered; the one that is made again is.
        const isFirst = runId === "valid" && KILLED_AT.includes(taskId) && !seen.has(taskId);
        seen.add(taskId);
        return isFirst ? 600_000 : 0;
      },
      reply({ runId, taskId, texts }) {
        inputs.set(`${runId} ${taskId}`, texts.at(-1) ?? "");
        if (taskId === "check-1") return { content: runId, toolCalls: [] };
        if (taskId === "risky-1") return misstep;
        return { content: `${taskId} done`, toolCalls: [] };
      },
    },
  });
  const { daemon, journals, model, collector } = stage;
  await requestRuns(journals, ["valid"], ["branching"]);
  const met = new Set<string>();
  while (met.size < KILLED_AT.length) {
    const call = await until("a call to die at", () => model.open().find(({ taskId }) => KILLED_AT.includes(taskId)), {
      withinMs: 30_000,
    });
    for (const { taskId } of model.open()) met.add(taskId);
    await daemon.kill();
    await until("the call to be over", () => !model.open().includes(call));
    await daemon.start();
  }
  await requestRuns(journals, ["invalid"], ["branching"]);
  await runsEnded(journals, ["valid", "invalid"], 60_000);

  const runs = byRun(await journals.runs());
  const decided = (runId: string) => {
    const entries = runs.get(runId) ?? [];
    expect(problemsOfJournal(runId, entries)).toEqual([]);
    return entries.flatMap(({ value }) =>
      value.flatMap((event) => (event.type.startsWith("step.") ? [wordsOf(event.type, event.data)] : [])),
    );
  };
  expect(decided("valid").sort()).toEqual([
    "step.completed check",
    "step.completed rescue",
    "step.completed sum",
    "step.completed valid",
    "step.failed risky, the run goes on",
    'step.skipped invalid: when: steps.check.output == "invalid" is false',
    "step.started check",
    "step.started rescue",
    "step.started risky",
    "step.started sum",
    "step.started valid",
  ]);
  expect(runs.get("valid")?.at(-1)?.value.at(-1)).toMatchObject({
    type: "run.completed",
    data: { output: { rescue: "rescue-1 done", sum: "sum-1 done" } },
  });
  expect(inputs.get("valid sum-1")).toBe("valid completed, invalid skipped, risky failed");
  expect(JSON.parse(inputs.get("valid rescue-1") ?? "")).toMatchObject({ code: expect.stringMatching(/./) });

  expect(decided("invalid").filter((words) => words.startsWith("step.skipped"))).toEqual([
    'step.skipped valid: when: steps.check.output == "valid" is false',
    "step.skipped risky: when: steps.check.output == 'valid' is false",
    "step.skipped rescue: nothing to handle: risky did not fail",
  ]);
  expect(runs.get("invalid")?.at(-1)?.value.at(-1)).toMatchObject({
    type: "run.completed",
    data: { output: { sum: "sum-1 done" } },
  });

  const ended = () => collector.spans.filter(({ name }) => name === "invoke_workflow branching");
  await until("both ends", () => new Set(ended().map(({ traceId }) => traceId)).size === 2);
  expect(checkTraces(collector.spans, { runIds: ["valid", "invalid"] })).toEqual([]);
  expect(ended().map(({ attributes }) => attributes["troupe.run.steps_skipped"])).toEqual(
    expect.arrayContaining([1, 3]),
  );
});

function wordsOf(type: string, data: object): string {
  const { step, reason, continued } = data as { step: string; reason?: string; continued?: true };
  return `${type} ${step}${reason === undefined ? "" : `: ${reason}`}${continued ? ", the run goes on" : ""}`;
}
