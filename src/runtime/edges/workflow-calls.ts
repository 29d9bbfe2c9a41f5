/** What a client can ask about workflows, and do with those that are stored. */
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import type { ApiCaller } from "./api-call.ts";
import type { WorkflowListing, WorkflowPut, WorkflowSource, WorkflowVersion } from "./workflow-api.ts";

/** The sections of a configuration file that can be put; `exportDefinition` makes them of what TypeScript has defined. */
export type DefinitionsToPut = {
  agents?: { readonly [name: string]: unknown };
  workflows: { readonly [name: string]: unknown };
};

export type PutOptions = {
  /** The number of each workflow's last change as it was known, 0 where there was none. @default whatever it is */
  expected?: { readonly [workflow: string]: number };
  /** Who is recorded as having asked for it. */
  by?: string;
};

export type WorkflowCalls = {
  workflows(): Promise<WorkflowListing[]>;
  /** A definition, of a version by its label, hash or number as in `#3`. @throws NotFoundError `unknown_workflow`, `unknown_version`. */
  workflow(name: string, version?: string): Promise<WorkflowDefinition>;
  /** What a workflow was written as, with the agents it names. Throws what `workflow` throws. */
  workflowSource(name: string, version?: string): Promise<WorkflowSource>;
  /** All versions that are kept, newest first. @throws NotFoundError `unknown_workflow`. */
  workflowVersions(name: string): Promise<WorkflowVersion[]>;
  /**
   * Stores workflows, and the agents they name, for every daemon of the troupe. What differs from what is there is a new version.
   * `unused` are agents that no workflow names; they are not kept.
   *
   * @throws DefinitionError with everything that is wrong; TroupeError `version_conflict` where it was changed meanwhile.
   */
  putWorkflows(
    definitions: DefinitionsToPut,
    options?: PutOptions,
  ): Promise<{ workflows: WorkflowPut[]; unused?: string[] }>;
  /**
   * Deletes a stored workflow: no run begins any more, those there are go on.
   *
   * @throws NotFoundError `unknown_workflow`; TroupeError `not_stored` where it stands in a configuration only, `version_conflict`.
   */
  deleteWorkflow(name: string, options?: { expected?: number; by?: string }): Promise<void>;
};

/** Makes the calls about workflows. */
export function workflowCalls(call: ApiCaller): WorkflowCalls {
  const about = (workflow: string, version: string | undefined) => ({
    workflow,
    ...(version !== undefined && { version }),
  });
  return {
    workflows: async () => (await call<{ workflows: WorkflowListing[] }>("workflows.list", {})).workflows,
    workflow: (name, version) => call<WorkflowDefinition>("workflows.get", about(name, version)),
    workflowSource: (name, version) => call<WorkflowSource>("workflows.source", about(name, version)),
    async workflowVersions(workflow) {
      return (await call<{ versions: WorkflowVersion[] }>("workflows.versions", { workflow })).versions;
    },
    putWorkflows: ({ agents, workflows }, options = {}) =>
      call("workflows.put", { ...(agents && { agents }), workflows, ...options }),
    async deleteWorkflow(workflow, options = {}) {
      await call("workflows.delete", { workflow, ...options });
    },
  };
}
