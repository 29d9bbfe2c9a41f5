/** The section `workflows`. */
import type { Agent } from "../../actors/agent.ts";
import { type Place, placeAt } from "../../actors/schema-problems.ts";
import type { Problem } from "../../errors.ts";
import { agentsIn, toolsIn } from "../../workflows/agents-in.ts";
import { withNames } from "../../workflows/define-workflow.ts";
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import { splitHooks } from "../../workflows/hooks.ts";
import { parseWorkflow } from "../../workflows/parse-definition.ts";
import { unknownAgent, unknownTool, type WorkflowSources } from "../../workflows/workflow-sources.ts";
import { namedEntries } from "./named-entries.ts";

type WorkflowsContext = {
  file: string;
  agents: ReadonlyMap<string, Agent>;
  /** The tools of the file, beside those of its agents. */
  tools: readonly string[];
  problems: Problem[];
};

/** The workflows by name, resolved. */
export function readWorkflows(
  section: { readonly [name: string]: unknown } | readonly unknown[],
  context: WorkflowsContext,
): Map<string, WorkflowDefinition> {
  const workflows = new Map<string, WorkflowDefinition>();
  const sources = { agents: context.agents, tools: context.tools };
  for (const { name, raw, path } of namedEntries(section, "workflows", context)) {
    const place = { file: context.file, path };
    if (isDefinition(raw)) {
      context.problems.push(...unknownAgents(raw, { ...place, ...sources }));
      workflows.set(name, raw);
      continue;
    }
    // In TypeScript an agent may stand where a file has its name.
    const hooks = splitHooks(raw);
    const plain = withNames(hooks.plain, () => undefined);
    const { definition, problems } = parseWorkflow(name, plain, { ...place, ...sources });
    context.problems.push(...problems);
    if (!definition) continue;
    hooks.attach(definition);
    workflows.set(name, definition);
  }
  return workflows;
}

/** Only what `defineWorkflow` made has a hash. */
function isDefinition(raw: unknown): raw is WorkflowDefinition {
  return typeof raw === "object" && raw !== null && "hash" in raw && "kind" in raw;
}

/** `defineWorkflow` takes agents and tools by name without knowing them; here they have to exist. */
function unknownAgents(definition: WorkflowDefinition, sources: WorkflowSources & Place): Problem[] {
  switch (definition.kind) {
    case "deterministic":
      return [
        ...agentsIn(definition).flatMap(({ agent, at }) => unknownAgent(agent, sources, placeAt(sources, ...at))),
        ...toolsIn(definition).flatMap(({ tool, at }) => unknownTool(tool, sources, placeAt(sources, ...at))),
      ];
    case "handoff":
      return Object.keys(definition.agents).flatMap((agent) =>
        unknownAgent(agent, sources, placeAt(sources, "agents", agent)),
      );
  }
}
