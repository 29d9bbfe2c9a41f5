import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { createActor, fromPromise } from "xstate";
import { type AgentNews, agentMachine } from "../../src/actors/agent-machine.ts";
import { defineAgent } from "../../src/actors/define-agent.ts";
import type { ModelReply } from "../../src/actors/model.ts";
import { resumable } from "../../src/actors/resumable-task.ts";
import { foldTask } from "../../src/actors/task-fold.ts";
import { type ToolInput, type ToolResult, taskMachine } from "../../src/actors/task-machine.ts";
import type { TaskState } from "../../src/actors/task-state.ts";
import { call, echo, say, taskFor } from "../helpers/task-driver.ts";
import { until } from "../helpers/until.ts";

const agent = defineAgent({
  name: "writer",
  instructions: "Write.",
  model: "m",
  tools: [echo],
  concurrency: 2,
  maxWaiting: 1,
});

/** An agent whose model answers when it is told to. */
function start() {
  const asked = new Map<string, { reply: (reply: ModelReply) => void; signal: AbortSignal }>();
  const machine = agentMachine.provide({
    actors: {
      runTask: resumable(
        taskMachine.provide({
          actors: {
            callModel: fromPromise<ModelReply, TaskState>(
              ({ input, signal }) => new Promise((reply) => asked.set(input.task.taskId, { reply, signal })),
            ),
          },
        }),
      ),
    },
  });
  const actor = createActor(machine, { input: agent });
  const news: string[] = [];
  const settled = new Map<string, () => void>();
  const outcomes = new Map<string, Extract<AgentNews, { type: "settled" }>["outcome"]>();
  for (const type of ["accepted", "refused", "begun", "settled"] as const) {
    actor.on(type, (said) => {
      news.push(`${said.type} ${said.id}`);
      if (said.type !== "settled") return;
      outcomes.set(said.id, said.outcome);
      settled.get(said.id)?.();
    });
  }
  actor.start();
  const give = (id: string, snapshot?: ReturnType<typeof foldTask>) =>
    actor.send({
      type: "task",
      given: {
        id,
        start: {
          agent: () => agent,
          task: taskFor("writer", { taskId: id }),
          ...(snapshot?.type === "open" && { snapshot: snapshot.snapshot }),
        },
      },
    });
  const answer = async (id: string, reply = say("ok")) => {
    const done = new Promise<void>((resolve) => settled.set(id, resolve));
    asked.get(id)?.reply(reply);
    await done;
  };
  return { actor, asked, news, outcomes, give, answer, state: () => actor.getSnapshot().value };
}

test("an agent takes tasks once it is started", () => {
  const { actor, give, news, state } = start();
  give("early");
  actor.send({ type: "started" });
  give("a");
  expect(news).toEqual(["refused early", "accepted a", "begun a"]);
  expect(state()).toBe("ready");
});

test("beyond its concurrency tasks wait, beyond its waiting room it is busy, and a freed place is taken at once", async () => {
  const { actor, give, news, answer, state } = start();
  actor.send({ type: "started" });
  for (const id of ["a", "b", "c", "d"]) give(id);
  expect(news).toEqual(["accepted a", "begun a", "accepted b", "begun b", "accepted c", "refused d"]);
  expect(state()).toBe("busy");
  await answer("b");
  expect(news.slice(6)).toEqual(["settled b", "begun c"]);
  await answer("a");
  expect(state()).toBe("ready");
  await answer("c");
  expect(actor.getSnapshot().context).toMatchObject({ count: 0, waiting: [] });
});

test("stopping a task aborts its model call; stopping one that waits ends it where it stands", async () => {
  const { actor, asked, give, outcomes, news } = start();
  actor.send({ type: "started" });
  for (const id of ["a", "b", "c"]) give(id);
  const error = { code: "cancelled", message: "enough" };
  actor.send({ type: "stopTask", id: "c", error });
  actor.send({ type: "stopTask", id: "a", error });
  actor.send({ type: "stopTask", id: "nobody", error });
  expect(outcomes.get("c")).toEqual({ type: "failed", error });
  expect(outcomes.get("a")).toMatchObject({ type: "failed", error });
  expect(asked.get("a")?.signal.aborted).toBe(true);
  expect(asked.get("b")?.signal.aborted).toBe(false);
  expect(news).not.toContain("begun c");
});

test("a forgotten task says nothing more and frees its place", async () => {
  const { actor, asked, give, news } = start();
  actor.send({ type: "started" });
  for (const id of ["a", "b", "c"]) give(id);
  actor.send({ type: "forget", id: "a" });
  expect(asked.get("a")?.signal.aborted).toBe(true);
  expect(news).toContain("begun c");
  expect(news).not.toContain("settled a");
});

test("a draining agent refuses what waits and what comes, finishes what is at work, and stops", async () => {
  const { actor, give, news, answer } = start();
  actor.send({ type: "started" });
  for (const id of ["a", "b", "c"]) give(id);
  actor.send({ type: "drain" });
  actor.send({ type: "drain" });
  give("late");
  expect(news.slice(5)).toEqual(["refused c", "refused late"]);
  await answer("a");
  expect(actor.getSnapshot().status).toBe("active");
  await answer("b");
  expect(actor.getSnapshot()).toMatchObject({ status: "done", value: "stopped" });
});

test("a tripped agent refuses what comes, lets wait what waits, and begins it once a provider is back", async () => {
  const { actor, give, news, outcomes, answer, state } = start();
  actor.send({ type: "started" });
  for (const id of ["a", "b", "c"]) give(id);
  actor.send({ type: "trip" });
  expect(state()).toBe("tripped");
  give("d");
  await answer("a");
  expect(news.slice(4)).toEqual(["accepted c", "refused d", "settled a"]);
  expect(outcomes.get("a")).toMatchObject({ type: "completed" });
  actor.send({ type: "resume" });
  expect(news.at(-1)).toBe("begun c");
  expect(state()).toBe("busy");
  await answer("b");
  expect(state()).toBe("ready");
});

test("a tripped agent stops its tasks, waiting or at work, and drains", async () => {
  const { actor, give, asked, outcomes, answer } = start();
  actor.send({ type: "started" });
  for (const id of ["a", "b", "c"]) give(id);
  actor.send({ type: "trip" });
  const error = { code: "timeout", message: "late" };
  actor.send({ type: "stopTask", id: "c", error });
  actor.send({ type: "stopTask", id: "a", error });
  expect(outcomes.get("c")).toEqual({ type: "failed", error });
  expect(asked.get("a")?.signal.aborted).toBe(true);
  actor.send({ type: "drain" });
  await answer("b");
  expect(actor.getSnapshot()).toMatchObject({ status: "done", value: "stopped" });
});

test("an idle agent that drains stops at once", () => {
  const { actor } = start();
  actor.send({ type: "started" });
  actor.send({ type: "drain" });
  expect(actor.getSnapshot().status).toBe("done");
});

test("a task goes on from a fold inside its agent", async () => {
  const { actor, asked, give, answer, outcomes } = start();
  actor.send({ type: "started" });
  const reply = call({ name: "echo", args: "{" });
  const at = "2026-01-01T00:00:00.000Z";
  const folded = foldTask(agent, taskFor("writer", { taskId: "a" }), [
    { v: 1, id: "e", at, type: "turn", turn: 1, reply },
  ]);
  give("a", folded);
  await until("the second turn is asked", () => asked.has("a"));
  await answer("a");
  expect(outcomes.get("a")).toMatchObject({ type: "completed", usage: { modelCalls: 2 } });
});

test("10,000 tasks with tools leave memory where it was after 1,000", async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const machine = agentMachine.provide({
    actors: {
      runTask: resumable(
        taskMachine.provide({
          actors: {
            callModel: fromPromise<ModelReply, TaskState>(async ({ input: { turn, task } }) => {
              return turn === 1 ? call({ name: "echo", args: { text: "a" }, id: `call_${task.taskId}` }) : say("ok");
            }),
            runTool: fromPromise<ToolResult, ToolInput>(async ({ input }) => ({
              callId: input.run.call.id,
              content: "a",
            })),
          },
        }),
      ),
    },
  });
  const actor = createActor(machine, { input: agent });
  let done = () => {};
  actor.on("settled", ({ outcome }) => {
    expect(outcome.type).toBe("completed");
    done();
  });
  actor.start();
  actor.send({ type: "started" });
  const heapAfter = async (from: number, to: number) => {
    for (let n = from; n < to; n += 1) {
      const settled = new Promise<void>((resolve) => {
        done = resolve;
      });
      const task = taskFor("writer", { taskId: `task${n}` });
      actor.send({ type: "task", given: { id: task.taskId, start: { agent: () => agent, task } } });
      await settled;
    }
    collect();
    return process.memoryUsage().heapUsed;
  };
  const early = await heapAfter(0, 1_000);
  const late = await heapAfter(1_000, 10_000);
  // 100 bytes a task would be a leak; what code and caches take once is less.
  expect(late - early).toBeLessThan(900_000);
});

test("finished tasks leave nothing behind in the agent", async () => {
  const { actor, give, answer } = start();
  actor.send({ type: "started" });
  for (let n = 0; n < 500; n += 1) {
    give(`t${n}`);
    await answer(`t${n}`);
  }
  const { children, context } = actor.getSnapshot();
  expect(Object.keys(children)).toEqual([]);
  expect(context).toMatchObject({ count: 0, waiting: [] });
});
