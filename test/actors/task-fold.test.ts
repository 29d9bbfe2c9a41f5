import { describe, expect, test } from "vitest";
import { z } from "zod";
import { defineAgent } from "../../src/actors/define-agent.ts";
import type { ModelReply } from "../../src/actors/model.ts";
import type { TaskEntry } from "../../src/actors/task.ts";
import { foldTask, TaskFoldError } from "../../src/actors/task-fold.ts";
import { call, driveTask, echo, say, taskFor } from "../helpers/task-driver.ts";

const agent = defineAgent({
  name: "writer",
  instructions: "Write.",
  model: "m",
  tools: [echo],
  output: z.object({ score: z.number() }),
});
const task = taskFor("writer", { handoffs: [{ to: "editor" }], limits: { maxHandoffs: 0 } });

/** Two tools at once, a refused handoff beside a bad call, an output to repair, and the answer. */
const script: ModelReply[] = [
  call({ name: "echo", args: { text: "a" } }, { name: "echo", args: { text: "b" } }),
  call({ name: "transfer_to_editor" }, { name: "echo", args: "{" }),
  call({ name: "echo", args: { text: "c" } }),
  say("no score"),
  say('{"score": 1}'),
];

const straight = await driveTask(agent, task, script);

test("the straight run is what the prefixes are compared with", () => {
  expect(straight.outcome).toMatchObject({ type: "completed", output: { score: 1 }, usage: { modelCalls: 5 } });
  expect(straight.journal.map((entry) => entry.type)).toEqual(["turn", "tool", "tool", "turn", "turn", "tool", "turn"]);
});

describe.each(straight.journal.map((_, length) => length).concat(straight.journal.length))(
  "after %i entries",
  (length) => {
    const prefix = straight.journal.slice(0, length);
    /** As it comes back from the broker. */
    const stored = JSON.parse(JSON.stringify(prefix)) as TaskEntry[];

    test("the task ends as it would have, and nothing recorded is done again", async () => {
      const resumed = await driveTask(agent, task, script, { from: foldTask(agent, task, stored), journal: prefix });
      expect(resumed.outcome).toEqual(straight.outcome);
      expect(resumed.conversation).toEqual(straight.conversation);
      const turns = prefix.filter((entry) => entry.type === "turn").length;
      const tools = prefix.filter((entry) => entry.type === "tool").length;
      expect(resumed.requests).toEqual(straight.requests.slice(turns));
      expect(resumed.executed).toEqual(straight.executed.slice(tools));
    });

    test("folding runs nothing by itself", () => {
      const before = JSON.stringify(stored);
      foldTask(agent, task, stored);
      foldTask(agent, task, stored);
      expect(JSON.stringify(stored)).toBe(before);
    });
  },
);

test("only the tool without a recorded result runs again, whichever of the two it is", async () => {
  const [turn, first, second] = straight.journal as [TaskEntry, TaskEntry, TaskEntry];
  const one = await driveTask(agent, task, script, {
    from: foldTask(agent, task, [turn, second]),
    journal: [turn, second],
  });
  expect(one.executed[0]).toBe("1.c1");
  expect(one.executed).not.toContain("1.c2");
  const other = await driveTask(agent, task, script, {
    from: foldTask(agent, task, [turn, first]),
    journal: [turn, first],
  });
  expect(other.executed[0]).toBe("1.c2");
  expect(one.outcome).toEqual(straight.outcome);
  expect(other.outcome).toEqual(straight.outcome);
});

test("a stored outcome is the end", () => {
  const outcome = { v: 1, taskId: "t1", attempt: 1, ...straight.outcome } as const;
  const entry: TaskEntry = { v: 1, id: "e", at: "2026-01-01T00:00:00.000Z", type: "outcome", outcome };
  expect(foldTask(agent, task, [...straight.journal, entry])).toEqual({ type: "ended", outcome });
});

test.each([
  ["a tool that was never called", [straight.journal[1]]],
  ["a turn out of its order", [straight.journal[3]]],
  ["a result recorded twice", [straight.journal[0], straight.journal[1], straight.journal[1]]],
])("%s in the journal stops the fold", (_, entries) => {
  expect(() => foldTask(agent, task, entries as TaskEntry[])).toThrow(TaskFoldError);
});

test("a journal that the agent as it is now cannot have written stops the fold", () => {
  const { tools: _, ...rest } = agent;
  const without = defineAgent({ ...rest, tools: [], handoffs: [] } as never);
  expect(() => foldTask(without, task, straight.journal.slice(0, 2))).toThrow(/cannot_fold|expects none/);
});
