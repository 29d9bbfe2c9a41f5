/** From definitions made in TypeScript to a file that any daemon runs, without their source. */
import type { Agent } from "../actors/agent.ts";
import { type WrittenAgent, writeAgent } from "../actors/write-agent.ts";
import { DefinitionError, type Problem } from "../errors.ts";
import type { WorkflowDefinition } from "./definition.ts";
import { writeWorkflow } from "./write-workflow.ts";
import { agentsNamedIn, type WrittenWorkflow } from "./written-workflow.ts";

/** What a configuration file says of agents and workflows, as data. */
export type DefinitionFile = {
  agents: { [name: string]: WrittenAgent };
  workflows: { [name: string]: WrittenWorkflow };
};

/**
 * Gives the file of some workflows and of those `agents` that they name. Read again it comes to the same definitions, by their
 * hashes too.
 *
 * @throws DefinitionError naming every function, and every part of a zod schema that JSON Schema cannot say.
 */
export function exportDefinition(
  workflows: WorkflowDefinition | readonly WorkflowDefinition[],
  agents: readonly Agent[] = [],
): DefinitionFile {
  const problems: Problem[] = [];
  const file = writeDefinitions(
    Array.isArray(workflows) ? workflows : [workflows as WorkflowDefinition],
    agents,
    problems,
  );
  if (problems.length > 0) throw new DefinitionError(problems);
  return file;
}

/** The same as far as a file can hold it; the rest goes into `problems`. */
export function writeDefinitions(
  workflows: readonly WorkflowDefinition[],
  agents: readonly Agent[],
  problems: Problem[],
): DefinitionFile {
  const written = workflows.map((workflow) => {
    return [workflow.name, writeWorkflow(workflow, { path: `workflows.${workflow.name}` }, problems)] as const;
  });
  const named = new Set(written.flatMap(([, workflow]) => agentsNamedIn(workflow)));
  const known = new Map(agents.map((agent) => [agent.name, agent]));
  const needed = [...named].flatMap((name) => {
    const agent = known.get(name);
    return agent ? [[name, writeAgent(within(agent, named), { path: `agents.${name}` }, problems)] as const] : [];
  });
  return { agents: Object.fromEntries(needed), workflows: Object.fromEntries(written) };
}

/** Whom it may hand over to outside of these workflows means nothing in them, and would not be in the file. */
function within(agent: Agent, names: ReadonlySet<string>): Agent {
  return { ...agent, handoffs: agent.handoffs.filter(({ to }) => names.has(to)) };
}
