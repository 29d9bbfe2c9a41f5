/** Tasks that run a tool and nothing else. */
import { describe, expect, it } from "vitest";
import { createActor, fromPromise, toPromise } from "xstate";
import { z } from "zod";
import { defineTool } from "../../src/actors/define-tool.ts";
import { readTask } from "../../src/actors/read-task.ts";
import { resumable } from "../../src/actors/resumable-task.ts";
import type { Outcome, Task, TaskEntry } from "../../src/actors/task.ts";
import { foldTask } from "../../src/actors/task-fold.ts";
import { type ToolInput, type ToolResult, taskMachine } from "../../src/actors/task-machine.ts";
import { toolHost } from "../../src/actors/tool-task.ts";
import { taskFor } from "../helpers/task-driver.ts";

const add = defineTool({
  name: "add",
  description: "Adds.",
  parameters: z.object({ a: z.number(), b: z.number().default(1) }),
  timeoutMs: 500,
  execute: ({ a, b }) => a + b,
});
const host = toolHost(add);
const task = (input: unknown): Task => ({ ...taskFor("add"), kind: "tool", input });

function machineWith(runTool: (input: ToolInput) => Promise<ToolResult>) {
  return taskMachine.provide({
    actors: { runTool: fromPromise<ToolResult, ToolInput>(({ input }) => runTool(input)) },
  });
}

function outcomeOf(given: Task, runTool: (input: ToolInput) => Promise<ToolResult>): Promise<Outcome> {
  const actor = createActor(machineWith(runTool), { input: { agent: () => host, task: given } });
  return toPromise(actor.start()) as Promise<Outcome>;
}

const ONE_CALL = { inputTokens: 0, outputTokens: 0, modelCalls: 0, toolCalls: 1 };

describe("a tool's task", () => {
  it("runs the tool once with its arguments as the schema has them, and its value is the outcome", async () => {
    const runs: unknown[] = [];
    const outcome = await outcomeOf(task({ a: 2 }), async ({ run }) => {
      runs.push(run.args);
      return { callId: run.call.id, content: "", output: { sum: 3 } };
    });
    expect(runs).toEqual([{ a: 2, b: 1 }]);
    expect(outcome).toEqual({ type: "completed", output: { sum: 3 }, usage: ONE_CALL });
  });

  it("fails with the tool's error", async () => {
    const error = { code: "tool_failed", message: "no" };
    const outcome = await outcomeOf(task({ a: 2 }), async ({ run }) => ({ callId: run.call.id, content: "", error }));
    expect(outcome).toEqual({ type: "failed", error, usage: ONE_CALL });
  });

  it("fails for good, with the place, where the arguments do not fit, and runs nothing", async () => {
    const outcome = await outcomeOf(task({ a: "two" }), () => Promise.reject(new Error("it ran")));
    expect(outcome).toMatchObject({
      type: "failed",
      error: { code: "bad_arguments", message: 'input.a: expected a number, got "two"', retryable: false },
    });
    expect(await outcomeOf(task("text"), () => Promise.reject(new Error("it ran")))).toMatchObject({
      error: { code: "bad_arguments" },
    });
  });

  it("ends when it is stopped", async () => {
    const actor = createActor(
      machineWith(() => new Promise(() => {})),
      { input: { agent: () => host, task: task({ a: 1 }) } },
    );
    const outcome = toPromise(actor.start());
    actor.send({ type: "stop", error: { code: "cancelled", message: "enough" } });
    expect(await outcome).toMatchObject({ type: "failed", error: { code: "cancelled" } });
  });

  it("is run again from a journal in which it was only begun", async () => {
    const entries = [{ v: 1, id: "1", at: "now", type: "begun", delivery: 1, worker: "w" }] as TaskEntry[];
    const folded = foldTask(host, task({ a: 4 }), entries);
    if (folded.type !== "open") throw new Error("expected it to be open");
    const machine = resumable(machineWith(async ({ run }) => ({ callId: run.call.id, content: "", output: run.args })));
    const actor = createActor(machine, {
      input: { agent: () => host, task: task({ a: 4 }), snapshot: folded.snapshot },
    });
    expect(await toPromise(actor.start())).toMatchObject({ output: { a: 4, b: 1 } });
  });

  it("is none for an agent's mailbox, nor an agent's for a tool's", () => {
    const text = JSON.stringify(task({ a: 1 }));
    expect(readTask(text, "add", "tool").ok).toBe(true);
    expect(readTask(text, "add")).toMatchObject({ ok: false, problem: 'task.kind: expected none, got "tool"' });
    const agents = JSON.stringify(taskFor("add"));
    expect(readTask(agents, "add", "tool")).toMatchObject({ ok: false, problem: expect.stringContaining("task.kind") });
  });

  it("has the tool's own time, where its step does not say", () => {
    expect(host.timeoutMs).toBe(500);
  });
});
