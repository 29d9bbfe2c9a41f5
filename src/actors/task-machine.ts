/**
 * One task of one agent.
 *
 *   weighing ──▶ thinking ──reply──▶ weighing ──▶ acting ──last answer──▶ weighing ──▶ … ──▶ ended
 *
 * It only decides. The host provides `callModel` and `runTool`; both journal what they got before they give it back, so a
 * journal of their results folds to where the task stood (`task-fold.ts`). Time is the host's: it sends `stop`.
 */
import { assign, enqueueActions, fromPromise, setup, stopChild } from "xstate";
import { type ErrorRecord, toErrorRecord } from "../errors.ts";
import type { Agent } from "./agent.ts";
import type { ModelReply } from "./model.ts";
import type { Outcome, Task } from "./task.ts";
import {
  afterOnlyTool,
  afterReply,
  afterTool,
  beginTask,
  stopTask,
  type TaskState,
  type ToolRun,
} from "./task-state.ts";

export type TaskInput = { agent: () => Agent; task: Task };

/**
 * What `runTool` gives back; a tool that failed answers too. Of a tool's own task, which no model reads, it gives the value or
 * the error itself.
 */
export type ToolResult = { callId: string; content: string; output?: unknown; error?: ErrorRecord };

export type ToolInput = { task: Task; run: ToolRun };

/** Ends the task from outside, `failed` with this error: cancelled, timed out. */
type StopTask = { type: "stop"; error: ErrorRecord };

type ToolDone = { type: `xstate.done.actor.tool.${string}`; output: ToolResult; actorId: string };
type ToolFailed = { type: `xstate.error.actor.tool.${string}`; error: unknown; actorId: string };
export type TaskEvent = StopTask | ToolDone | ToolFailed;

const TOOL_CHILD = "tool.";
export const MODEL_CHILD = "model";

/**
 * The name of the child that executes a call: its place in the turn, because XState remembers every type of event it has
 * seen, those of children carry their names, and call ids are new every time.
 */
export function toolChild(state: Pick<TaskState, "calls">, callId: string): string {
  return `${TOOL_CHILD}${state.calls.findIndex((call) => call.id === callId)}`;
}

const byHost = () => Promise.reject(new Error("provide callModel and runTool before starting a task"));

type Replied = { output: ModelReply };

/** What a reply leads to, once per reply although guards and action ask for it; events are new objects each time. */
function replied(context: TaskState, event: Replied): TaskState {
  let next = afterReplies.get(event);
  if (!next) {
    next = afterReply(context, event.output);
    afterReplies.set(event, next);
  }
  return next;
}

const afterReplies = new WeakMap<Replied, TaskState>();

/** The statechart of every task of every agent; make it runnable with `provide({ actors: { callModel, runTool } })`. */
export const taskMachine = setup({
  types: {
    context: {} as TaskState,
    events: {} as TaskEvent,
    input: {} as TaskInput,
    output: {} as Outcome,
  },
  actors: {
    callModel: fromPromise<ModelReply, TaskState>(byHost),
    runTool: fromPromise<ToolResult, ToolInput>(byHost),
  },
  guards: {
    hasOutcome: ({ context }) => context.outcome !== undefined,
    hasToolsToRun: ({ context }) => context.runs.length > 0,
  },
  actions: {
    stop: assign(({ context, event }) => (event.type === "stop" ? stopTask(context, event.error) : context)),
    runTools: enqueueActions(({ context, enqueue }) => {
      for (const run of context.runs) {
        enqueue.spawnChild("runTool", { id: toolChild(context, run.call.id), input: { task: context.task, run } });
      }
    }),
    forgetChild: stopChild(({ event }) => ("actorId" in event ? event.actorId : "")),
    takeAnswer: assign(({ context, event }) => {
      if (!("output" in event)) return context;
      const { callId, content } = event.output;
      return context.task.kind === "tool" ? afterOnlyTool(context, event.output) : afterTool(context, callId, content);
    }),
    // The host makes answers of what goes wrong with a tool; this is for hosts that do not.
    takeFailure: assign(({ context, event }) => {
      if (!("error" in event) || !("actorId" in event)) return context;
      if (context.task.kind === "tool")
        return afterOnlyTool(context, { error: toErrorRecord(event.error, "tool_failed") });
      const call = context.calls[Number(event.actorId.slice(TOOL_CHILD.length))];
      return call ? afterTool(context, call.id, `error: ${toErrorRecord(event.error).message}`) : context;
    }),
  },
}).createMachine({
  id: "task",
  context: ({ input }) => beginTask(input.agent, input.task),
  initial: "weighing",
  on: {
    stop: { target: ".ended", actions: "stop" },
  },
  states: {
    weighing: {
      always: [
        { guard: "hasOutcome", target: "ended" },
        { guard: "hasToolsToRun", target: "acting" },
        { target: "thinking" },
      ],
    },
    thinking: {
      invoke: {
        id: MODEL_CHILD,
        src: "callModel",
        input: ({ context }) => context,
        // Straight on from here: the detour over `weighing` would be two more steps for every reply.
        onDone: [
          {
            guard: ({ context, event }) => replied(context, event).outcome !== undefined,
            target: "ended",
            actions: assign(({ context, event }) => replied(context, event)),
          },
          {
            guard: ({ context, event }) => replied(context, event).runs.length > 0,
            target: "acting",
            actions: assign(({ context, event }) => replied(context, event)),
          },
          { target: "thinking", reenter: true, actions: assign(({ context, event }) => replied(context, event)) },
        ],
        onError: {
          target: "ended",
          actions: assign(({ context, event }) => stopTask(context, toErrorRecord(event.error, "model_failed"))),
        },
      },
    },
    acting: {
      entry: "runTools",
      on: {
        "xstate.done.actor.tool.*": { actions: ["forgetChild", "takeAnswer"] },
        "xstate.error.actor.tool.*": { actions: ["forgetChild", "takeFailure"] },
      },
      always: { guard: ({ context }) => context.runs.length === 0, target: "weighing" },
    },
    ended: { type: "final" },
  },
  output: ({ context }) => context.outcome as Outcome,
});
