/** Reading a task off the wire: cheap checks of what the rest relies on, because a worker does this thousands of times a second. */
import { showValue } from "./schema-problems.ts";
import type { Task } from "./task.ts";
import { isReferred } from "./value-ref.ts";

export type ReadTask = { ok: true; task: Task } | { ok: false; problem: string; taskId?: string };

/** They become tokens of NATS subjects. */
const TOKEN = /^[A-Za-z0-9_-]{1,128}$/;

/** A task's id names the path of its step: it may have slashes, and be longer. */
const TASK_ID = /^[A-Za-z0-9_/-]{1,1024}$/;

/** Whether a value can be a task's id. */
export function isTaskId(value: unknown): value is string {
  return typeof value === "string" && TASK_ID.test(value);
}

/** Reads a message in the mailbox of an agent, or with `kind` of a tool; what is left out of the optional parts gets its default. */
export function readTask(text: string, agent: string, kind?: "tool"): ReadTask {
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch {
    return { ok: false, problem: `task: expected JSON, got ${showValue(text)}` };
  }
  if (!isRecord(raw)) return { ok: false, problem: `task: expected a JSON object, got ${showValue(raw)}` };
  const problem = problemOfTask(raw, agent, kind);
  if (problem) return { ok: false, problem, ...(isTaskId(raw.taskId) && { taskId: raw.taskId }) };
  raw.handoffs ??= [];
  raw.hops ??= [];
  raw.limits ??= {};
  // Checked above, field by field.
  return { ok: true, task: raw as Task };
}

/** What is wrong with a task for `agent`, in words; undefined where nothing is. */
export function problemOfTask(raw: { [key: string]: unknown }, agent: string, kind?: Task["kind"]): string | undefined {
  if (raw.v !== 1) return wrong("v", "1", raw.v);
  if (!isTaskId(raw.taskId)) return wrong("taskId", 'letters, digits, "-", "_" or "/"', raw.taskId);
  for (const key of ["runId", "workflow"] as const) {
    if (!isTokenText(raw[key])) return wrong(key, 'letters, digits, "-" or "_"', raw[key]);
  }
  if (raw.kind !== kind) return wrong("kind", kind === undefined ? "none" : JSON.stringify(kind), raw.kind);
  if (raw.agent !== agent) return wrong("agent", JSON.stringify(agent), raw.agent);
  for (const key of ["attempt", "delivery"] as const) {
    if (!isCount(raw[key])) return wrong(key, "a whole number from 1", raw[key]);
  }
  if (!("input" in raw || isReferred(raw, "/input"))) return wrong("input", "a value", undefined);
  if (raw.messages !== undefined && !(Array.isArray(raw.messages) && raw.messages.every(isMessage))) {
    return wrong("messages", "a list of messages", raw.messages);
  }
  for (const key of ["handoffs", "hops"] as const) {
    const value = raw[key];
    if (
      value !== undefined &&
      !(Array.isArray(value) && value.every((entry) => isRecord(entry) && typeof entry.to === "string"))
    ) {
      return wrong(key, "a list of objects with `to`", value);
    }
  }
  if (raw.limits !== undefined && !isRecord(raw.limits)) return wrong("limits", "an object", raw.limits);
  if (raw.timeoutMs !== undefined && !isCount(raw.timeoutMs)) return wrong("timeoutMs", "milliseconds", raw.timeoutMs);
  if (raw.deadline !== undefined && Number.isNaN(Date.parse(String(raw.deadline)))) {
    return wrong("deadline", "an ISO 8601 instant", raw.deadline);
  }
  return undefined;
}

function wrong(key: string, expected: string, got: unknown): string {
  return `task.${key}: expected ${expected}, got ${showValue(got)}`;
}

function isMessage(value: unknown): boolean {
  if (!isRecord(value)) return false;
  switch (value.role) {
    case "user":
      return typeof value.content === "string";
    case "assistant":
      return value.content === null || typeof value.content === "string";
    case "tool":
      return typeof value.toolCallId === "string" && typeof value.content === "string";
    default:
      return false;
  }
}

function isTokenText(value: unknown): value is string {
  return typeof value === "string" && TOKEN.test(value);
}

function isCount(value: unknown): boolean {
  return typeof value === "number" && Number.isInteger(value) && value >= 1;
}

function isRecord(value: unknown): value is { [key: string]: unknown } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
