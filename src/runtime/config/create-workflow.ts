/** One way to a workflow, whatever it is made of. */
import type { Agent } from "../../actors/agent.ts";
import { UsageError } from "../../errors.ts";
import { defineWorkflow } from "../../workflows/define-workflow.ts";
import { agentsNamedIn, writtenOf } from "../../workflows/written-workflow.ts";
import { loadDefinitionFile } from "./load-definition-file.ts";
import { type CreatedWorkflow, makeRegistered } from "./workflow-registry.ts";

export type CreateWorkflowOptions = {
  /** What it is called; of a file with several the one that is meant. @default the agents' names with dashes; the only one of a file */
  name?: string;
  /** What the factory of a registered workflow gets. */
  with?: unknown;
  /** Where a relative path starts. @default the working directory */
  dir?: string;
};

const FILE = /\.(ya?ml|json|m?[jt]s)$/;
const LONGEST_NAME = 64;

/**
 * Makes a workflow: a registered one by its name, a chain of agents, or one of a file. It comes with the agents that it needs
 * and that are known with it.
 *
 * @throws UsageError `unknown_workflow` where there is none; DefinitionError with everything that is wrong.
 */
export async function createWorkflow(
  source: string | readonly (Agent | string)[],
  options: CreateWorkflowOptions = {},
): Promise<CreatedWorkflow> {
  if (typeof source !== "string") return chainOf(source, options.name);
  if (FILE.test(source)) return fromFile(source, options);
  return makeRegistered(source, options.with);
}

function chainOf(agents: readonly (Agent | string)[], name: string | undefined): CreatedWorkflow {
  const names = agents.map((agent) => (typeof agent === "string" ? agent : agent.name));
  const joined = name ?? names.join("-");
  if (joined.length > LONGEST_NAME) {
    throw new UsageError(`createWorkflow: expected \`name\` for a list of so many agents, got nothing`);
  }
  const known = agents.filter((agent) => typeof agent !== "string");
  return { workflow: defineWorkflow({ name: joined, agents }), agents: [...new Set(known)] };
}

async function fromFile(path: string, { name, dir = process.cwd() }: CreateWorkflowOptions): Promise<CreatedWorkflow> {
  const { agents, workflows } = await loadDefinitionFile(path, dir);
  const [only] = workflows.size === 1 ? workflows.values() : [];
  const workflow = name === undefined ? only : workflows.get(name);
  if (!workflow) {
    const known = [...workflows.keys()].join(", ") || "none";
    const expected = name === undefined ? "a file with one workflow, or `name`" : "the name of a workflow of the file";
    throw new UsageError(
      `createWorkflow: ${path}: expected ${expected}, got ${name ?? known} (it has ${known})`,
      "unknown_workflow",
    );
  }
  const named = agentsNamedIn(writtenOf(workflow) ?? {});
  return { workflow, agents: named.flatMap((agent) => agents.get(agent) ?? []) };
}
