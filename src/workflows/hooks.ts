/**
 * Functions of a workflow that is defined in TypeScript: called when something of a run fails. They stand beside the definition,
 * which is plain data, and decide nothing: a definition has the same hash with them as without.
 */
import type { ErrorRecord } from "../errors.ts";
import type { WorkflowDefinition } from "./definition.ts";

type Failure = {
  runId: string;
  workflow: string;
  error: ErrorRecord;
  /** When it was recorded, ISO 8601. */
  at: string;
};

/** An attempt that failed: of a step, of what undoes one, or of an agent that others hand over to. */
export type TaskFailure = Failure & {
  taskId: string;
  agent: string;
  /** The path of the step; absent in handoff runs. */
  step?: string;
  /** Whether it is tried again. */
  retrying: boolean;
};

/** A run that failed. */
export type RunFailure = Failure;

export type WorkflowHooks = {
  /**
   * An attempt failed, and that is on record. Called in the daemon that owns the run, at least once: after a crash perhaps
   * again. What it throws is logged, and the run does not wait for it.
   */
  onTaskFailure?: (failure: TaskFailure) => unknown;
  /** A run failed, and that is on record. Called as `onTaskFailure` is. */
  onError?: (failure: RunFailure) => unknown;
};

const NAMES = ["onTaskFailure", "onError"] as const;

const hooksByDefinition = new WeakMap<WorkflowDefinition, WorkflowHooks>();

/** The hooks of a definition; undefined where it has none, and can be written down whole. */
export function hooksOf(definition: WorkflowDefinition): WorkflowHooks | undefined {
  return hooksByDefinition.get(definition);
}

/** Takes the functions out of what somebody wrote as a workflow; `attach` puts them beside its definition. */
export function splitHooks(raw: unknown): { plain: unknown; attach(definition: WorkflowDefinition): void } {
  if (typeof raw !== "object" || raw === null) return { plain: raw, attach() {} };
  const own = raw as { [name: string]: unknown };
  // What is no function stays, and is told as wrong.
  const names = NAMES.filter((name) => typeof own[name] === "function");
  if (names.length === 0) return { plain: raw, attach() {} };
  const hooks: WorkflowHooks = Object.fromEntries(names.map((name) => [name, own[name]]));
  const plain = Object.fromEntries(Object.entries(own).filter(([name]) => !names.some((hook) => hook === name)));
  return { plain, attach: (definition) => void hooksByDefinition.set(definition, hooks) };
}
