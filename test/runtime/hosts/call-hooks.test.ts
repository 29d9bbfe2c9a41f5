/** The functions of a workflow that hear of what fails. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { checkConfig } from "../../../src/runtime/config/load-config.ts";
import { defineWorkflow, type StepOptions } from "../../../src/workflows/define-workflow.ts";
import type { WorkflowDefinition } from "../../../src/workflows/definition.ts";
import { hooksOf, type RunFailure, type TaskFailure, type WorkflowHooks } from "../../../src/workflows/hooks.ts";
import { type RunBench, startRunBench } from "../../helpers/run-host-bench.ts";
import { until } from "../../helpers/until.ts";

type AgentStepOptions = Omit<Extract<StepOptions, { agent: unknown }>, "steps">;
let bench: RunBench;
beforeAll(async () => {
  bench = await startRunBench();
});
afterAll(() => bench[Symbol.asyncDispose]());

const failed = (code: string) => ({ type: "failed", error: { code, message: `${code}!` } });
const retry = { maxAttempts: 2, backoff: "fixed", delayMs: 1 } as const;

/** A workflow of one step, with or without hooks. */
function workflowOf(name: string, step: Partial<AgentStepOptions>, hooks: WorkflowHooks = {}) {
  return defineWorkflow({ name, steps: [{ id: "a", agent: name, retry, ...step }], ...hooks });
}

function listener() {
  const tasks: TaskFailure[] = [];
  const runs: RunFailure[] = [];
  const hooks: WorkflowHooks = {
    onTaskFailure: (failure) => tasks.push(failure),
    onError: (failure) => runs.push(failure),
  };
  return { tasks, runs, hooks };
}

describe("hooks", () => {
  test("hear of every attempt that failed and of the run, once each is on record", async () => {
    const { tasks, runs, hooks } = listener();
    const recorded: Promise<string[]>[] = [];
    const definition = workflowOf(
      "heard",
      {},
      {
        onTaskFailure: (failure) => {
          hooks.onTaskFailure?.(failure);
          recorded.push(bench.told(failure.runId));
        },
        onError: (failure) => hooks.onError?.(failure),
      },
    );
    const host = await bench.host("h1", [definition]);
    const worker = await bench.worker("heard");
    const runId = await bench.start(host, "heard");
    await worker.gets("a-1");
    await worker.settle("a-1", failed("busy"));
    await worker.gets("a-2");
    await worker.settle("a-2", failed("gone"));
    await bench.end(runId);
    const about = { runId, workflow: "heard", agent: "heard", step: "a", at: expect.any(String) };
    expect(tasks).toEqual([
      { ...about, taskId: "a-1", error: { code: "busy", message: "busy!" }, retrying: true },
      { ...about, taskId: "a-2", error: { code: "gone", message: "gone!" }, retrying: false },
    ]);
    expect(runs).toEqual([
      { runId, workflow: "heard", error: { code: "gone", message: "step a: gone!" }, at: expect.any(String) },
    ]);
    expect(await recorded[0]).toContain("task.settled a-1");
  });

  test("hear of an output that does not fit, and of what undoes a step, but not of what was called off", async () => {
    const { tasks, runs, hooks } = listener();
    const definition = defineWorkflow({
      name: "undone",
      steps: [
        { id: "a", agent: "undone", compensate: { agent: "undone" } },
        { id: "b", agent: "undone", after: "a", output: z.object({ n: z.number() }) },
        { id: "c", agent: "undone", after: "a" },
      ],
      ...hooks,
    });
    const host = await bench.host("h2", [definition]);
    const worker = await bench.worker("undone");
    const runId = await bench.start(host, "undone");
    await worker.gets("a-1");
    await worker.completes("a-1");
    await Promise.all([worker.gets("b-1"), worker.gets("c-1")]);
    worker.say("accepted", "c-1");
    await worker.completes("b-1", { n: "seven" });
    await worker.controlled("cancel", "c-1");
    await worker.settle("c-1", failed("cancelled"));
    await worker.gets("a/compensate-1");
    await worker.settle("a/compensate-1", failed("gone"));
    await bench.end(runId);
    expect(tasks.map(({ step, error, retrying }) => [step, error.code, retrying])).toEqual([
      ["b", "bad_output", false],
      ["a/compensate", "gone", false],
    ]);
    expect(runs.map(({ error }) => error.code)).toEqual(["compensation_failed"]);
  });

  test("that throw or reject harm nothing", async () => {
    const definition = workflowOf(
      "thrown",
      {},
      {
        onTaskFailure: () => {
          throw new Error("the hook is broken");
        },
        onError: () => Promise.reject(new Error("and so is this one")),
      },
    );
    const host = await bench.host("h3", [definition]);
    const worker = await bench.worker("thrown");
    const runId = await bench.start(host, "thrown");
    for (const taskId of ["a-1", "a-2"]) {
      await worker.gets(taskId);
      await worker.settle(taskId, failed("busy"));
    }
    expect(await bench.end(runId)).toMatchObject({ type: "run.failed", data: { error: { code: "busy" } } });
  });

  test("are told by an heir what the owner before may not have told: of the newest entry", async () => {
    const { tasks, hooks } = listener();
    const slow = { retry: { ...retry, maxAttempts: 3, delayMs: 600_000 } };
    const before = await bench.host("h4", [workflowOf("inherited", slow)]);
    const worker = await bench.worker("inherited");
    const runId = await bench.start(before, "inherited");
    await worker.gets("a-1");
    await worker.settle("a-1", failed("busy"));
    before.stop();
    const heir = await bench.host("h5", [workflowOf("inherited", slow, hooks)]);
    expect(await heir.adopt(runId, "takeover")).toBe("adopted");
    await until("the heir's hook", () => tasks.length > 0);
    expect(tasks).toMatchObject([{ runId, taskId: "a-1", step: "a", retrying: true, error: { code: "busy" } }]);
    heir.stop();
    const next = await bench.host("h6", [workflowOf("inherited", slow, hooks)]);
    expect(await next.adopt(runId, "takeover")).toBe("adopted");
    expect(tasks).toHaveLength(2);
  });

  test("change nothing about a definition, and are no part of it", () => {
    const { hooks } = listener();
    const [bare, hooked] = [workflowOf("w", {}), workflowOf("w", {}, hooks)];
    expect(hooked).toEqual(bare);
    expect([hooksOf(bare), hooksOf(hooked)]).toEqual([undefined, hooks]);
  });

  test("may stand in a configuration of TypeScript without defineWorkflow, and have to be functions", async () => {
    const { hooks } = listener();
    const agents = { x: { instructions: "i", model: "m" } };
    const place = { fileName: "troupe.ts", dir: "." };
    const { workflows } = await checkConfig({ agents, workflows: { w: { agents: ["x"], ...hooks } } }, place);
    expect(workflows.get("w")).toSatisfy((made: WorkflowDefinition) => hooksOf(made)?.onError === hooks.onError);
    expect(() => defineWorkflow({ name: "w", agents: ["x"], onError: "ring" as never })).toThrow(
      /workflows\.w\.onError: expected one of the keys/,
    );
  });
});
