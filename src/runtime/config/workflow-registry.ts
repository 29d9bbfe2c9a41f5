/** Workflows by name that are made when they are asked for, by functions of one's own. */
import type { Agent } from "../../actors/agent.ts";
import { UsageError } from "../../errors.ts";
import { defineWorkflow, type WorkflowOptions } from "../../workflows/define-workflow.ts";
import type { WorkflowDefinition } from "../../workflows/definition.ts";

/** Options without the name, which the registry gives; of each of their forms. */
type Nameless<Options> = Options extends unknown ? Omit<Options, "name"> & { name?: string } : never;

/** What a factory gives: what `defineWorkflow` takes or made. */
export type FactoryResult = WorkflowDefinition | Nameless<WorkflowOptions>;

/** Makes a workflow from options of its own, which are undefined where none are given. */
export type WorkflowFactory<Options = unknown> = (options?: Options) => FactoryResult | Promise<FactoryResult>;

export type WorkflowMeta = {
  description?: string;
  /** The agents the workflow needs, as far as it does not name them itself. */
  agents?: readonly Agent[];
};

export type RegisteredWorkflow = WorkflowMeta & { name: string };

/** A workflow, and the agents it needs that came with it. */
export type CreatedWorkflow = { workflow: WorkflowDefinition; agents: readonly Agent[] };

type Entry = { factory: WorkflowFactory; meta: WorkflowMeta };

/** One list for all copies of this module: a configuration may be made with another one than the daemon's. */
const ENTRIES = Symbol.for("troupe.workflows");
const holder = globalThis as { [ENTRIES]?: Map<string, Entry> };
holder[ENTRIES] ??= new Map();
const entries = holder[ENTRIES];

/**
 * Registers a workflow under a name; `createWorkflow(name)` makes it. One that was registered before is replaced: a module that
 * is loaded again registers again.
 */
export function registerWorkflow<Options = unknown>(
  name: string,
  factory: WorkflowFactory<Options>,
  meta: WorkflowMeta = {},
): void {
  entries.set(name, { factory: factory as WorkflowFactory, meta });
}

/** The workflows that are registered, by name. */
export function registeredWorkflows(): RegisteredWorkflow[] {
  return [...entries].map(([name, { meta }]) => ({ name, ...meta }));
}

/** The names whose registration was made while `work` was done. */
export async function registeredDuring(work: () => Promise<unknown>): Promise<string[]> {
  const before = new Map(entries);
  await work();
  return [...entries].flatMap(([name, entry]) => (before.get(name) === entry ? [] : [name]));
}

/**
 * Makes a registered workflow.
 *
 * @throws UsageError `unknown_workflow`; DefinitionError with everything that is wrong with what the factory gave.
 */
export async function makeRegistered(name: string, options?: unknown): Promise<CreatedWorkflow> {
  const entry = entries.get(name);
  if (!entry) {
    const known = [...entries.keys()].join(", ") || "none";
    throw new UsageError(
      `createWorkflow: expected a registered workflow (${known}) or a file, got "${name}"`,
      "unknown_workflow",
    );
  }
  const made = await entry.factory(options);
  const described = { ...(entry.meta.description !== undefined && { description: entry.meta.description }) };
  const workflow = "hash" in made ? made : defineWorkflow({ name, ...described, ...made } as WorkflowOptions);
  return { workflow, agents: entry.meta.agents ?? [] };
}
