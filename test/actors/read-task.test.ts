import { expect, test } from "vitest";
import { readTask } from "../../src/actors/read-task.ts";
import { taskFor } from "../helpers/task-driver.ts";

test("a task is read as it was written, and what a foreign owner leaves out gets its default", () => {
  const task = taskFor("writer", { messages: [{ role: "user", content: "hi" }], deadline: "2026-01-01T00:00:00.000Z" });
  expect(readTask(JSON.stringify(task), "writer")).toEqual({ ok: true, task });
  const { handoffs: _h, hops: _o, limits: _l, ...least } = taskFor("writer");
  expect(readTask(JSON.stringify(least), "writer")).toEqual({ ok: true, task: taskFor("writer") });
});

test.each([
  ["v", 2, "task.v: expected 1, got 2"],
  ["runId", "a.b", 'task.runId: expected letters, digits, "-" or "_", got "a.b"'],
  ["workflow", "", "task.workflow"],
  ["agent", "editor", 'task.agent: expected "writer", got "editor"'],
  ["attempt", 0, "task.attempt: expected a whole number from 1, got 0"],
  ["delivery", 1.5, "task.delivery"],
  ["input", undefined, "task.input: expected a value, got nothing"],
  ["messages", [{ role: "system", content: "x" }], "task.messages"],
  ["handoffs", ["billing"], "task.handoffs"],
  ["hops", {}, "task.hops"],
  ["limits", 3, "task.limits"],
  ["timeoutMs", -1, "task.timeoutMs"],
  ["deadline", "soon", "task.deadline"],
])("a task with a wrong %s is refused with where, expected and got", (key, value, problem) => {
  const read = readTask(JSON.stringify({ ...taskFor("writer"), [key]: value }), "writer");
  expect(read).toMatchObject({ ok: false, problem: expect.stringContaining(problem) });
});

test.each(["hello", "[]", "null", '"task"'])("%s is no task", (text) => {
  expect(readTask(text, "writer")).toMatchObject({ ok: false, problem: expect.stringContaining("expected") });
});
