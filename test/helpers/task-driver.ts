/** Drives the pure task machine with a scripted model, and keeps the journal a host would have kept. */
import { createActor, fromPromise, toPromise } from "xstate";
import { z } from "zod";
import type { Agent } from "../../src/actors/agent.ts";
import { checkConversation } from "../../src/actors/conversation.ts";
import { defineTool } from "../../src/actors/define-tool.ts";
import type { ModelReply, ModelRequest } from "../../src/actors/model.ts";
import { modelRequest } from "../../src/actors/model-request.ts";
import type { Outcome, Task, TaskEntry } from "../../src/actors/task.ts";
import type { FoldedTask } from "../../src/actors/task-fold.ts";
import { type ToolInput, type ToolResult, taskMachine } from "../../src/actors/task-machine.ts";
import { goesOn, type TaskState } from "../../src/actors/task-state.ts";

const USAGE = { inputTokens: 10, outputTokens: 5 };

export function say(content: string, more: Partial<ModelReply> = {}): ModelReply {
  return { content, toolCalls: [], finishReason: "stop", usage: USAGE, model: "scripted", ...more };
}

export type Call = { name: string; args?: unknown; id?: string };

export function call(...calls: Call[]): ModelReply {
  const toolCalls = calls.map(({ name, args = {}, id }, index) => ({
    id: id ?? `c${index + 1}`,
    name,
    arguments: typeof args === "string" ? args : JSON.stringify(args),
  }));
  return say("", { content: null, toolCalls, finishReason: "tool_calls" });
}

export function taskFor(agent: string, more: Partial<Task> = {}): Task {
  return {
    v: 1,
    taskId: "t1",
    runId: "run1",
    workflow: "flow",
    agent,
    attempt: 1,
    delivery: 1,
    input: "hello",
    handoffs: [],
    hops: [],
    limits: {},
    ...more,
  };
}

export const echo = defineTool({
  name: "echo",
  description: "Says it again.",
  parameters: z.object({ text: z.string() }),
  execute: ({ text }) => text,
});

export type Driven = {
  outcome: Outcome;
  /** What the model was asked, in order. */
  requests: ModelRequest[];
  /** The calls that were executed, as `<turn>.<call id>`. */
  executed: string[];
  journal: TaskEntry[];
  /** The conversation as the task left it. */
  conversation: TaskState["transcript"];
};

export type DriveOptions = {
  from?: FoldedTask;
  /** Entries recorded before. */
  journal?: readonly TaskEntry[];
  /** By default tools are executed one after the other as they are called. */
  runTool?: (input: ToolInput, signal: AbortSignal) => Promise<string>;
};

/** The model's replies by turn, so that a resumed task goes on with the reply of its turn. */
export async function driveTask(
  agent: Agent,
  task: Task,
  script: readonly (ModelReply | Error)[],
  { from, journal: recorded = [], runTool }: DriveOptions = {},
): Promise<Driven> {
  const requests: ModelRequest[] = [];
  const executed: string[] = [];
  const journal: TaskEntry[] = [...recorded];
  const record = (body: object) => {
    journal.push({ v: 1, id: `e${journal.length + 1}`, at: "2026-01-01T00:00:00.000Z", ...body } as TaskEntry);
  };
  const machine = taskMachine.provide({
    actors: {
      callModel: fromPromise<ModelReply, TaskState>(async ({ input }) => {
        const request = modelRequest(input);
        const problem = checkConversation(request.messages);
        if (problem) throw new Error(`the model was asked with an illegal conversation: ${problem}`);
        requests.push(request);
        const reply = script[input.turn - 1];
        if (!reply) throw new Error(`no reply for turn ${input.turn}`);
        if (reply instanceof Error) throw reply;
        if (goesOn(input, reply)) record({ type: "turn", turn: input.turn, reply });
        return reply;
      }),
      runTool: fromPromise<ToolResult, ToolInput>(async ({ input, signal }) => {
        const { turn, call: made, tool, args } = input.run;
        executed.push(`${turn}.${made.id}`);
        const content = runTool
          ? await runTool(input, signal)
          : String(await tool?.execute(args as never, {} as never));
        record({ type: "tool", turn, callId: made.id, content, failed: false });
        return { callId: made.id, content };
      }),
    },
  });
  if (from?.type === "ended") throw new Error("the task had ended");
  const actor = from
    ? createActor(machine, { snapshot: from.snapshot as never, input: undefined as never })
    : createActor(machine, { input: { agent: () => agent, task } });
  actor.start();
  const outcome = await toPromise(actor);
  const { opening, transcript } = actor.getSnapshot().context;
  const problem = transcript.length > 0 ? checkConversation([...opening, ...transcript]) : undefined;
  if (problem) throw new Error(`the task left an illegal conversation: ${problem}`);
  return { outcome, requests, executed, journal, conversation: [...opening, ...transcript] };
}
